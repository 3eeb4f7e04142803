"""Validation of the averaged network on whole pictures of held-out scenes: scores and contact sheets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from lowlight_cli.disk import replaced
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.metrics import gt_mean, psnr, ssim
from lowlight_cli.networks import build
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.data import Bytes, Pair
from lowlight_cli.training.decoded import eight_bits
from lowlight_cli.training.plan import Mixed
from lowlight_cli.training.run import SHEETS, Run, Scores

__all__ = ["contact_sheet", "validate"]

SHEET = 4
"""Number of pictures on a contact sheet."""
HEIGHT = 200
KEPT = 64
"""Most sheets kept in `validation/`, some 60 kB each; with more, every second one is deleted."""


@torch.inference_mode()
def validate(run: Run, state: State, pairs: list[Pair], mixed: Mixed) -> Scores:
    """Score the averaged network on whole pictures; the first few are also shown in `validation.jpg` of the run.

    The sheets of all steps are kept in `validation/`, thinned out evenly when there are many.
    """
    network = build(run.model)
    network.load_state_dict(state.average)
    network = network.to(run.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    rows: list[tuple[float, float, float]] = []
    shown: list[tuple[Bytes, Bytes, Bytes]] = []
    for pair in pairs:
        assert pair.low is not None
        low, high = (np.divide(picture, 255, dtype=np.float32) for picture in (pair.low, pair.high))
        if run.recipe.input == "exposed":
            low = apply_gain(low, auto_gain(low))
        x = torch.from_numpy(low).permute(2, 0, 1)[None].to(run.device, memory_format=torch.channels_last)
        with mixed():
            y = network(x)
        output = np.rint(y[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255) / np.float32(255)
        rows.append((psnr(output, high), psnr(gt_mean(output, high), high), ssim(output, high)))
        if len(shown) < SHEET:
            shown.append((pair.low, eight_bits(output), pair.high))
    history = run.output / "validation"
    for path in (run.output / "validation.jpg", history / f"{state.step:08}.jpg"):
        contact_sheet(shown, path)
    if len(sheets := sorted(history.glob(SHEETS))) > KEPT:
        for sheet in sheets[1:-1:2]:
            sheet.unlink()
    means = np.mean(rows, 0)
    return Scores(float(means[0]), float(means[1]), float(means[2]), len(rows))


def contact_sheet(rows: list[tuple[Bytes, Bytes, Bytes]], path: Path) -> None:
    """Write a sheet with a row for each picture: dark, result, reference; each (H, W, 3) uint8, shown `HEIGHT` high.

    Raises:
        OutputError: the folder cannot be written.
        ResourceError: the disk is full.
    """
    strips = []
    for row in rows:
        height, width = row[0].shape[:2]
        size = (max(1, round(width * HEIGHT / height)), HEIGHT)
        strips.append(np.hstack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in row]))
    widest = max(strip.shape[1] for strip in strips)
    sheet = np.vstack([np.pad(strip, ((0, 4), (0, widest - strip.shape[1]), (0, 0))) for strip in strips])
    with replaced(path) as part:
        Image.fromarray(sheet.astype(np.uint8)).save(part, "JPEG", quality=88)
