"""`lowlight train`: train a network on pairs of dark and well-lit pictures."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from lowlight_cli.cli import report
from lowlight_cli.cli.options import Debug, Json, Quiet, Verbose
from lowlight_cli.errors import UsageError

__all__ = ["train"]


def train(
    model: Annotated[str, typer.Option("-m", "--model", metavar="NAME", help="Network to train.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="KIND:PATH[@WEIGHT]", show_default="lol:$LOWLIGHT_DATA/lol",
            help="Training data; may be given several times, each with its share of the batches as @WEIGHT. "
            "lol:PATH, sice:PATH, pairs:LOW,HIGH (two folders), bright:PATH (photographs to be darkened), dark:PATH "
            "(night photographs without references, for dgaf's paper recipe).",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output folder of the run.", show_default="runs/MODEL")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="best|paper", show_default="best",
            help="best: our own, the same losses for every network. paper: losses, stages and schedule as published.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps, unless --minutes ends the run first.")] = 10_000,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Time limit; the learning-rate schedule ends by then.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe; may be given several times."),
    ] = None,
    tag: Annotated[str, typer.Option(help="Name of the checkpoint: MODEL.TAG.safetensors.")] = "own",
    init: Annotated[
        str | None, typer.Option(metavar="TAG|FILE", help="Start from these weights instead of random ones.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --output with its data, recipe and seed.")
    ] = False,
    exist: Annotated[
        Literal["error", "overwrite"], typer.Option(help="What to do if --output already holds a run; see --resume.")
    ] = "error",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto uses a GPU if there is one.")] = "auto",
    precision: Annotated[
        Literal["bf16", "fp32"] | None,
        typer.Option(show_default="bf16; fp32 for --recipe paper", help="Number format of the networks."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, show_default="0", help="Random seed; the same seed repeats the run."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads that prepare batches.")] = 2,
    every: Annotated[
        int | None, typer.Option(min=1, show_default="500", help="Steps between validations and saved states.")
    ] = None,
    validate: Annotated[
        int | None, typer.Option(min=0, show_default="8", help="Number of held-out pictures to validate on.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write a log for TensorBoard.")] = False,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile: takes a minute to start, then is faster on a GPU.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Train a network on your own pairs, or on LOL.

    Prints the path of the finished checkpoint, which `lowlight enhance -w` takes. One line per measurement goes to
    log.jsonl in the run's folder. Ctrl-C saves; --resume goes on. Under torchrun several processes train one network.
    """
    from lowlight_cli import heap
    from lowlight_cli.disk import sha256
    from lowlight_cli.engines.pytorch import choose_device
    from lowlight_cli.networks import descriptor
    from lowlight_cli.training import loop, sources
    from lowlight_cli.training import recipe as recipes
    from lowlight_cli.training.ranks import first
    from lowlight_cli.training.resume import settings
    from lowlight_cli.weights import fetch
    from lowlight_cli.weights.catalog import check_tag

    if resume and exist == "overwrite":
        raise UsageError("--resume and --exist overwrite exclude each other: one continues the run, one deletes it")
    check_tag(tag)
    descriptor(model)
    if not first():  # of torchrun's processes only the first one reports
        report.set_level(report.Level.QUIET)
    output = output or Path("runs") / model
    had = settings(output / "state.safetensors") if resume else {}
    had = had if had.get("model") == model else {}  # the state of another network is refused later, by its content
    before = had.get("recipe", {})
    recipe = recipe or before.get("kind", "best")
    given = tuple(sources.parse(text) for text in data or [])
    if not given:
        given = had.get("sources", ()) if resume else (sources.parse(_default_data()),)
    run = loop.Run(
        model=model,
        sources=given,
        output=output,
        cache=fetch.decoded_folder(),
        recipe=recipes.load(model, tuple(set_ or ()), recipe, before if before.get("kind") == recipe else None),
        steps=steps,
        minutes=minutes or math.inf,
        tag=tag,
        seed=had.get("seed", 0) if seed is None else seed,
        device=choose_device(device),
        bf16=had.get("bf16", recipe != "paper") if precision is None else precision == "bf16",
        resume=resume,
        overwrite=exist == "overwrite",
        threads=threads,
        every=had.get("every", 500) if every is None else every,
        validate=had.get("validate", 8) if validate is None else validate,
        tensorboard=tensorboard,
        compiled=compile_,
    )
    if init:
        with report.transfer(f"weights of {model}") as moved:
            found = fetch.resolve(model, init, on_message=report.note, on_progress=moved)
        run = replace(run, init=found.path)
    if run.device == "cpu":
        heap.keep()
    measured = False
    with report.training(model) as show:

        def seen(progress: loop.Progress) -> None:
            nonlocal measured
            measured = True
            if progress.note:
                report.warning(progress.note)
            show(progress)
            if json and first():
                report.event("measured", progress.fields())

        try:
            path = loop.train(run, seen, report.warning)
        except (KeyboardInterrupt, SystemExit):
            if run.state.exists():
                report.note(f"--resume{' in place of --exist overwrite' * run.overwrite} goes on")
            raise
    if measured:
        report.note(f"trained; try `lowlight enhance PHOTO -m {model} -w {path}`")
    if first() and json:
        report.event("trained", {"output": path, "model": model, "sha256": sha256(path)})
    elif first():
        report.path(path)


def _default_data() -> str:
    root = os.environ.get("LOWLIGHT_DATA", "data")
    if not (Path(root) / "lol").is_dir():
        raise UsageError(
            f"no data to train on: {Path(root) / 'lol'} is not there; give --data lol:PATH (a folder with "
            "our485/low and our485/high), --data pairs:LOW,HIGH, or set LOWLIGHT_DATA"
        )
    return f"lol:{root}/lol"
