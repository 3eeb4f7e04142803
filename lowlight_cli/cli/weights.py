"""`lowlight weights`: list, check, fetch, convert, publish and delete trained weights."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from lowlight_cli import __version__, disk
from lowlight_cli.cli import report
from lowlight_cli.cli.helping import Command, Group
from lowlight_cli.cli.options import Debug, Json, Offline, Quiet, ReplaceChoice, Verbose
from lowlight_cli.cli.ready import left_alone
from lowlight_cli.errors import LowlightError, UsageError, WeightsError

if TYPE_CHECKING:
    from lowlight_cli.weights.catalog import Checkpoint

__all__ = ["app"]

app = typer.Typer(name="weights", add_completion=False, cls=Group)
command = functools.partial(app.command, cls=Command)

FOREIGN: Final = (".pth", ".pt")
"""Suffixes of files that only `convert` reads."""

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="MODEL.TAG, or MODEL for its default.", show_default=False),
]


@app.callback(invoke_without_command=True)
def weights(context: typer.Context) -> None:
    """Trained weights: list, check, fetch, convert, publish. A name is MODEL.TAG; MODEL alone is its default."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# ---------------------------------------------------------------------------------------------------------- looking


@command("list")
def list_(json: Json = False, quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False) -> None:
    """What weights there are, and which of them are on this machine."""
    from lowlight_cli.weights.catalog import catalog, degradations

    table = (*catalog(), *degradations())
    if json:
        for checkpoint in table:
            report.event("checkpoint", _fields(checkpoint))
        return
    rows = [
        (c.name, _size(c.bytes), f"{c.parameters / 1e6:.2f} M", _state(c), _figures(c), c.training_data, _short(c))
        for c in table
    ]
    columns = ("name", "size", "parameters", "where", "measured", "trained on", "licence")
    report.table(columns, rows, piped=("parameters", "trained on"))


@command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="MODEL.TAG, MODEL, or a .safetensors file.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print a block for weights.toml that describes FILE.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """All that is known of one checkpoint, or what a file says of itself."""
    from lowlight_cli.weights import catalog, header

    if toml:
        if not (file := _file(name)):
            raise UsageError(f"--toml describes a .safetensors file, not {name!r}")
        for line in catalog.block(file).split("\n"):
            report.data(line)
        return
    if file := _file(name):
        read = header.inspect(file)
        fields: dict[str, Any] = {
            "file": str(file),
            "bytes": read.bytes,
            "sha256": disk.sha256(file),
            "tensors": len(read.shapes),
            "dtypes": ", ".join(sorted(set(read.dtypes.values()))),
            **read.metadata,
        }
    else:
        fields = _fields(catalog.named(name))
    if json:
        report.event("checkpoint", fields)
        return
    report.table(("field", "value"), [(key, text) for key, value in fields.items() for text in _lines(value)])


@command()
def path(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="MODEL.TAG or MODEL; without it, the folder of the cache.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Where weights are on this machine; fetches nothing."""
    from lowlight_cli.weights import fetch
    from lowlight_cli.weights.catalog import named

    if name is None:
        report.path(fetch.cache_folder())
        return
    checkpoint = named(name)
    if (found := fetch.local(checkpoint)) is None:
        full = checkpoint.name
        raise WeightsError(f"{full} is not on this machine; `lowlight weights pull {full}` fetches it")
    report.path(found)


@command()
def verify(
    names: Names = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Check hash, size, names, shapes and values of all weights on this machine, or of those named (also FILE).

    Ends with 5 where one is damaged, or where one that was named is missing or unknown.
    """
    from lowlight_cli.weights.catalog import catalog, degradations

    faults = 0
    for name in names or [checkpoint.name for checkpoint in (*catalog(), *degradations())]:
        found, fault = _verified(name, must=bool(names))
        faults += bool(fault)
        if json:
            ok = None if found is None and not fault else not fault
            report.event("verify", {"name": name, "path": found, "ok": ok, "error": fault or None})
        elif fault:
            report.error(fault)
        elif found:
            report.data(f"{name}\tok\t{found}")
        else:
            report.note(f"{name}: not on this machine")
    if faults:
        raise typer.Exit(WeightsError.exit_code)


# --------------------------------------------------------------------------------------------------------- fetching


@command()
def pull(
    names: Names = None,
    all_: Annotated[bool, typer.Option("--all", help="Fetch everything in `lowlight weights list`.")] = False,
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="MODEL", help="For an address: the network it belongs to.")
    ] = None,
    offline: Offline = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Fetch weights now, so that they are there without a network later; prints where they are.

    Besides names it takes hf://ORG/REPO/FILE@REVISION and https://...#sha256=..., with --model.
    """
    from lowlight_cli.weights import fetch
    from lowlight_cli.weights.catalog import catalog, degradations, named

    if all_ == bool(names):
        raise UsageError("name what to fetch, or say --all")
    if all_:
        wanted = [(checkpoint.network, checkpoint.name) for checkpoint in (*catalog(), *degradations())]
    elif any("://" in name for name in names or ()):
        if model is None:
            raise UsageError("an address needs --model: which network is it for?")
        wanted = [(model, name) for name in names or ()]
    else:
        wanted = [(checkpoint.network, checkpoint.name) for checkpoint in map(named, names or ())]
    for network, name in wanted:
        with report.transfer(name) as moved:
            got = fetch.resolve(network, name, offline=offline, on_progress=moved, on_message=report.note)
        if json:
            report.event("pulled", {"name": name, "path": got.path, "sha256": got.sha256})
        else:
            report.path(got.path)


@command("rm")
def remove(
    names: Names = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Delete lowlight's own cache: weights, graphs, decoded training sets."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Delete fetched weights; those shipped with the program stay."""
    from lowlight_cli.engines import cache
    from lowlight_cli.weights import fetch
    from lowlight_cli.weights.catalog import named

    if all_ == bool(names):
        raise UsageError("name what to delete, or say --all")
    if all_:
        size = fetch.clear() + cache.clear()
        folders = (fetch.cache_folder(), cache.folder(), fetch.decoded_folder())
        report.note(f"deleted {size / 1e6:.1f} MB in {', '.join(map(str, folders))}")
        if json:
            for folder in folders:
                report.event("deleted", {"name": None, "path": folder})
        return
    for checkpoint in [named(name) for name in names or ()]:
        gone = fetch.remove(checkpoint)
        if json:
            report.event("deleted", {"name": checkpoint.name, "path": gone})
        report.note(f"deleted {gone}" if gone else f"{checkpoint.name}: nothing to delete")


# ----------------------------------------------------------------------------------------------- making, publishing


def _kept(else_: str) -> str:
    """Return the default to show in --help for a value that a source file may state itself."""
    return f"SOURCE's, else {else_}"


@command()
def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help=".pth, .pt or .safetensors; several are merged into one.")
    ],
    model: Annotated[str, typer.Option("-m", "--model", metavar="MODEL", help="The network they belong to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    tag: Annotated[
        str | None, typer.Option(help="Tag of the weights, as in MODEL.TAG.", show_default=_kept("converted"))
    ] = None,
    input_: Annotated[
        Literal["exposed", "as-is"] | None,
        typer.Option(
            "--input", help="Input that the network expects; exposed is after one gain.", show_default=_kept("as-is")
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence of the weights.", show_default=_kept("unknown"))
    ] = None,
    data: Annotated[str | None, typer.Option(help="What they were trained on.", show_default=_kept("unknown"))] = None,
    exist: Annotated[ReplaceChoice, typer.Option(help="What to do if OUTPUT already exists.")] = "error",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Turn foreign weights into safetensors. Pickles are read without running code that they hold."""
    from lowlight_cli.weights import catalog, files

    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the name must end in .safetensors")
    if any(output.resolve() == source.resolve() for source in sources):
        raise UsageError(f"{output} is one of the sources")
    if left_alone(output, exist, "converted", json):
        return
    if tag is not None:
        catalog.check_tag(tag)
    typed = {"tag": tag, "input": input_, "licence": licence, "data": data}
    about = {key: text for key, text in typed.items() if text is not None}
    files.convert(sources, model, output, about, {"tag": "converted", "licence": "unknown", "data": "unknown"})
    if json:
        report.event("converted", {"status": "done", "output": output, "sha256": disk.sha256(output)})
    else:
        report.path(output)


@command()
def push(
    repo: Annotated[
        str, typer.Argument(metavar="ORG/REPO", help="Repository on the Hugging Face Hub; created if missing.")
    ],
    names: Names = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(help="Commit message.")] = f"Weights of lowlight-cli {__version__}",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the model card; send nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Publish the shipped weights with a model card (HF_TOKEN, HF_ENDPOINT); prints their pinned addresses."""
    from lowlight_cli.weights import publish

    checkpoints = publish.publishable(names or ())
    if dry_run:
        for line in publish.card(repo, checkpoints).split("\n"):
            report.data(line)
        return
    pushed = publish.push(repo, checkpoints, private=private, message=message, on_message=report.note)
    report.note(f"published as {pushed.url} at {pushed.revision}")
    for name, address in pushed.addresses.items():
        if json:
            report.event("pushed", {"name": name, "address": address, "revision": pushed.revision})
        else:
            report.data(address)


# ----------------------------------------------------------------------------------------------------------- inside


def _file(name: str) -> Path | None:
    """Return `name` as a path if it looks like a file; None if it is the name of a checkpoint."""
    path = Path(name).expanduser()
    return path if path.suffix in (".safetensors", *FOREIGN) or len(path.parts) > 1 else None


def _verified(name: str, *, must: bool) -> tuple[Path | None, str]:
    """Return the path of a checkpoint or file, and its fault or `""`; unfetched weights are faulty only with `must`."""
    from lowlight_cli.weights import fetch, files, header
    from lowlight_cli.weights.catalog import named

    found = _file(name)
    try:
        if found and found.suffix in FOREIGN and found.is_file():
            return found, (
                f"{found}: only .safetensors files are verified; `lowlight weights convert {found} -m MODEL "
                "-o FILE.safetensors` makes one of it"
            )
        if found:
            files.load(found, header.inspect(found).metadata.get("network", ""))
            return found, ""
        checkpoint = named(name)
        found = fetch.local(checkpoint)
        if must and not found and not checkpoint.file:
            return (
                None,
                f"{checkpoint.name} is not on this machine: `lowlight weights pull {checkpoint.name}` fetches it",
            )
        if found or must or checkpoint.file:
            got = fetch.resolve(checkpoint.network, checkpoint.name, offline=True)
            files.load(got.path, checkpoint.network)
            if checkpoint.bytes not in (None, size := got.path.stat().st_size):
                return found, f"{got.path} has {size} bytes, wanted {checkpoint.bytes}"
    except LowlightError as error:  # of any kind, so that the next one is still checked
        return found, str(error)
    return found, ""


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the catalogue entry of a checkpoint and where it is, for --json and `info`."""
    from lowlight_cli.weights import fetch

    block = checkpoint.model_dump(mode="json", exclude_none=True)
    return {"name": checkpoint.name, **block, "where": _state(checkpoint), "path": str(fetch.local(checkpoint) or "")}


def _state(checkpoint: Checkpoint) -> str:
    from lowlight_cli.weights import fetch

    if fetch.local(checkpoint) is None:
        return "missing" if checkpoint.file else "to be fetched"
    return "shipped" if checkpoint.file else "fetched"


def _figures(checkpoint: Checkpoint) -> str:
    """Return the PSNR and SSIM of the first measurement, those that exist."""
    if not checkpoint.metrics:
        return ""
    first = checkpoint.metrics[0]
    psnr = "" if first.psnr is None else f"{first.psnr:.2f} dB"
    ssim = "" if first.ssim is None else f"{first.ssim:.3f}"
    return " / ".join(part for part in (psnr, ssim) if part) + f" ({first.dataset})"


def _lines(value: Any) -> list[str]:
    """Return the value of a field as one line, or as one line per row if it is a list of tables."""
    if isinstance(value, list):
        return [", ".join(f"{key} {item}" for key, item in row.items() if key != "network") for row in value]
    return [str(value)]


def _short(checkpoint: Checkpoint) -> str:
    """The licence without its explanation, which `info` shows: `none stated by its authors: ...`."""
    return checkpoint.licence.partition(":")[0]


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"
