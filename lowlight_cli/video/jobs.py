"""Decide before any work what to read and what to write: files, image sequences, addresses, pipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.errors import InputError, OutputError, UsageError
from lowlight_cli.pictures.formats import FORMATS, READ_ONLY, suffixes
from lowlight_cli.targets import PIPE, Job, exists, is_dir, landing, lit_folder, plan, same
from lowlight_cli.video.addresses import Address, address, local
from lowlight_cli.video.formats import CONTAINERS
from lowlight_cli.video.numbered import Pattern, in_folder, pattern

__all__ = ["ClipJob", "clip_job", "refuse_picture"]


@dataclass(frozen=True)
class ClipJob:
    """One clip or image sequence to make; like `targets.Job`, with more kinds of sources and targets.

    `begun` says that `--exist skip` met a sequence that an earlier run left unfinished: it is resumed.
    """

    source: Path | Pattern | Address
    target: Path | Pattern
    skip: bool = False
    error: InputError | OutputError | None = None
    begun: bool = False


def clip_job(
    clip: str,
    output: Path | None,
    *,
    exist: str = "error",
    resume: bool = False,
    sheet: bool = False,
    options: Mapping[str, str] | None = None,
) -> ClipJob | Job:
    """Decide the source and the target.

    Args:
        clip: a file, a folder of numbered pictures, `frames/%05d.png`, an address, a camera, or `-`.
        output: the value of `-o`; None chooses a name beside the clip.
        exist: one of `targets.EXIST`.
        resume: pictures that exist may be those of a run that was interrupted.
        sheet: write one picture: `--preview`.
        options: FFmpeg options for an address.

    Raises:
        UsageError: source and target do not fit together.
        InputError: the folder does not hold exactly one image sequence.
    """
    source = _source(clip, options or {})
    if sheet:
        return ClipJob(source, *landing(_sheet(source, output), exist, set()))
    target = pattern(output) if output else None
    if target:
        return _into_pictures(source, target, exist, resume)
    if output:
        refuse_picture(output)
    if isinstance(source, Path):
        job = plan([source], output, formats=CONTAINERS, exist=exist)[0]
        if PIPE not in (job.source, job.target) and job.target.suffix.lower() not in CONTAINERS and not job.error:
            why = "a picture: `lowlight enhance`" if source.suffix.lower() in FORMATS else "no clip has that suffix"
            raise UsageError(f"{source} gives no name for a clip ({why}): name a file with -o, such as -o night.mp4")
        return job
    if isinstance(source, Pattern) and (output is None or is_dir(output) or not output.suffix) and output != PIPE:
        suffix = READ_ONLY.get(source.suffix)
        after = source.after if suffix is None else str(Path(source.after).with_suffix(suffix))
        folder = lit_folder(source.folder) if output is None else output
        return _into_pictures(source, Pattern(folder, source.before, source.digits, after), exist, resume)
    if output is None:
        named = Path(source.name)
        if named.suffix.lower() not in CONTAINERS:
            raise UsageError(f"{source} gives no name for the result: name a file with -o, such as -o night.mp4")
        output = Path(f"{named.stem}_lit{named.suffix}")
    if output != PIPE and output.suffix.lower() not in CONTAINERS:
        raise UsageError(f"cannot write {output}: no clip has that suffix; there are {', '.join(CONTAINERS)}")
    return ClipJob(source, output) if output == PIPE else ClipJob(source, *landing(output, exist, set()))


def refuse_picture(output: Path) -> None:
    """Refuse the name of a single picture as the result of a clip.

    Raises:
        UsageError: `output` has the suffix of a picture, and is no folder.
    """
    if output.suffix.lower() in FORMATS and not is_dir(output):
        raise UsageError(
            f"-o {output} names one picture: name a clip, such as {output.with_suffix('.mp4')}; "
            f"`lowlight video` also writes frames (-o {output.with_name('%05d.png')}) or a sheet of some (--preview 8)"
        )


def _source(clip: str, options: Mapping[str, str]) -> Path | Pattern | Address:
    named = local(clip)
    if found := address(named, options):
        return found
    path = Path(named)
    return in_folder(path, suffixes()) if is_dir(path) else pattern(path) or path


def _sheet(source: Path | Pattern | Address, output: Path | None) -> Path:
    """Where `--preview` writes its picture.

    Raises:
        UsageError: `-o` does not name a picture, or names one of the frames.
    """
    name = source.folder.name if isinstance(source, Pattern) else source.name
    named = f"{Path(name).stem or 'frames'}_lit.jpg"
    if output is None:
        return _beside(source).with_name(named)
    if output == PIPE:
        return output
    if is_dir(output) or not output.suffix:
        return output / named
    if output.suffix.lower() not in FORMATS:
        raise UsageError(f"--preview writes a picture, and -o {output} names none: there are {', '.join(FORMATS)}")
    if isinstance(source, Pattern) and any(same(output, frame) for frame in source.found().values()):
        raise UsageError(f"output {output} is one of the frames: give another name or folder with -o")
    return output


def _beside(source: Path | Pattern | Address) -> Path:
    """A path in whose folder the sheet goes."""
    return source.folder if isinstance(source, Pattern) else source if isinstance(source, Path) else Path("frames")


def _replaces(source: Pattern, target: Pattern) -> bool:
    """Whether a result would replace an input frame, however the names are spelt."""
    if not is_dir(source.folder) or not is_dir(target.folder):
        return False
    frames = source.found()
    results = (target.path(number) for number in frames)
    inputs = {(status.st_dev, status.st_ino) for status in map(Path.stat, frames.values())}
    return any((status.st_dev, status.st_ino) in inputs for status in map(Path.stat, filter(exists, results)))


def _into_pictures(source: Path | Pattern | Address, target: Pattern, exist: str, resume: bool) -> ClipJob:
    if target.suffix not in FORMATS:
        raise UsageError(f"cannot write {target}: frames are pictures: {', '.join(sorted(FORMATS))}")
    if exist == "number":
        raise UsageError("--exist number is not for frames: choose another folder with -o")
    if isinstance(source, Pattern) and _replaces(source, target):
        raise UsageError(f"output {target} is its own input: give another name or folder with -o")
    if source != PIPE and isinstance(source, Path) and not exists(source):
        return ClipJob(source, target, error=InputError(f"{source}: no such file or folder"))
    there = target.found() if is_dir(target.folder) else {}
    begun = exists(target.mark)
    if not there or exist == "overwrite" or (resume and begun):
        return ClipJob(source, target)
    if exist == "skip":
        return ClipJob(source, target, skip=not begun, begun=begun)
    found = f"{next(iter(there.values()))} exists{', and no run was cut short there' if resume else ''}"
    choice = f"choose --exist skip or overwrite{', or --resume' if begun else ''}"
    return ClipJob(source, target, error=OutputError(f"{found}: {choice}"))
