"""NEID: brighten at half size, guided by features of the detail, and upscale by two.

"Bridge the Vision Gap from Field to Command: A Deep Learning Network Enhancing Illumination and Details", Jiang et al.,
2021, https://arxiv.org/abs/2101.08039. No code is public. The paper gives the parts (Sec. 2.2): a U-Net with sub-pixel
upsampling for light (LE), a second branch on the same encoder that super-resolves the dark picture and so learns its
detail (DR), and channel weights that mix the two (FF). Ours is, where the paper leaves it open or says otherwise:

- The widths; that DR's features are two convolutions of the encoder's; that its decoder is built like LE's.
- FF's weights come from a hidden layer of 64 and a softmax over the two branches, and from the means of both; in
  Sec. 2.2, DR's features alone guide them.
- Both decoders predict a correction of the bicubically upscaled input. So an untrained network starts near it, and
  short runs learn brightness from the first step.
- The picture is halved first in use too, as in training (Sec. 3.2), so that the result has its size.
- The initial weights, except in the paper's recipe.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.layers import Network, pad
from lowlight_cli.networks.statistics import whole

__all__ = ["NEID"]

WIDTHS: Final = (32, 64, 128, 256)
"""Channels by level of the U-Net, from its input size, half the picture's, down to an eighth of that."""

REDUCTION: Final = 8
"""The fusion's hidden layer has 2 * 256 / REDUCTION channels."""


class NEID(Network):
    """The whole network: halves the picture, encodes, fuses the branches, and decodes to full size."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            _two_convolutions(before, after) for before, after in zip((3, *WIDTHS), WIDTHS, strict=False)
        )
        self.detail = _two_convolutions(WIDTHS[-1], WIDTHS[-1])
        self.fusion = _Fusion(WIDTHS[-1])
        self.decoder = _Decoder()
        self.detail_decoder = _Decoder()
        """Used only in training: `forward` never calls it."""
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Enhance (N, 3, H, W) RGB in [0, 1] to the same shape; unclamped."""
        small = _half(x)
        levels = self._encode(small)
        return _cropped(self._brighten(small, levels, self.detail(levels[-1])), x)

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output`, as returned by `forward`, and `detail`, of the same shape: the dark picture reconstructed by DR."""
        small = _half(x)
        levels = self._encode(small)
        detail = self.detail(levels[-1])
        return {
            "output": _cropped(self._brighten(small, levels, detail), x),
            "detail": _cropped(_double(small) + self.detail_decoder([*levels[:-1], detail]), x),
        }

    def initialise_as_published(self) -> None:
        """Initialise as in the paper: weights normal(0, 0.02), biases 0 (Sec. 3.2). Trains slowly; for its recipe."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _initialise(self) -> None:
        """He initialisation, which keeps variance through ReLUs; a tenth of it at the outputs, so they start near 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                if isinstance(module, nn.ConvTranspose2d):  # one tap per channel for each value, and no ReLU follows
                    nn.init.normal_(module.weight, std=module.in_channels**-0.5)
                else:
                    nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for decoder in (self.decoder, self.detail_decoder):
            with torch.no_grad():
                decoder.output.weight.mul_(0.1)

    def _encode(self, small: Tensor) -> list[Tensor]:
        """The features of every level, from the largest to the smallest."""
        levels = [self.encoder[0](small)]
        for level in self.encoder[1:]:
            levels.append(level(F.max_pool2d(levels[-1], 2)))
        return levels

    def _brighten(self, small: Tensor, levels: list[Tensor], detail: Tensor) -> Tensor:
        correction: Tensor = self.decoder([*levels[:-1], self.fusion(levels[-1], detail)])
        return _double(small) + correction


class _Fusion(nn.Module):
    """FF: the weighted sum of the two branches' features; the weights per channel are ours, from the means of both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 2 * width // REDUCTION
        self.gate = nn.Sequential(nn.Conv2d(2 * width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 2 * width, 1))

    def forward(self, light: Tensor, detail: Tensor) -> Tensor:
        means = whole(lambda: torch.cat([light, detail], 1).mean((2, 3), keepdim=True))
        weights = self.gate(means).unflatten(1, (2, -1)).softmax(1)
        fused: Tensor = weights[:, 0] * light + weights[:, 1] * detail
        return fused


class _Decoder(nn.Module):
    """The decoder of the U-Net, from the lowest level up, then sub-pixel upsampling to a picture of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))  # (256, 128), (128, 64), (64, 32)
        self.up = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, stride=2) for low, high in pairs)
        self.merge = nn.ModuleList(_two_convolutions(2 * high, high) for _, high in pairs)
        self.subpixel = nn.Sequential(
            nn.Conv2d(WIDTHS[0], 4 * WIDTHS[0], 3, padding=1), nn.ReLU(inplace=True), nn.PixelShuffle(2)
        )
        self.output = nn.Conv2d(WIDTHS[0], 3, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[-1]
        for up, merge, skip in zip(self.up, self.merge, levels[-2::-1], strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        picture: Tensor = self.output(self.subpixel(x))
        return picture


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _half(x: Tensor) -> Tensor:
    """The U-Net's input: padded and halved, with sides that are multiples of 8."""
    return F.interpolate(pad(x, 16), scale_factor=0.5, mode="bicubic", antialias=True)


def _cropped(picture: Tensor, x: Tensor) -> Tensor:
    """Crop the padding that `_half` added."""
    return picture[..., : x.shape[-2], : x.shape[-1]]


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bicubic")
