"""What commands report of pictures: the plan, each file as it ends, and the counts."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lowlight_cli.cli import report
from lowlight_cli.cli.ready import exit_code, lit_by, ran
from lowlight_cli.errors import ResourceError, disk_full

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.files import Work
    from lowlight_cli.targets import Job
    from lowlight_cli.video.jobs import ClipJob

__all__ = ["Totals", "tell_plan"]

FULL: Final = 3
"""Give up after this many results in a row that failed because the disk is full."""

STAGES: Final = ("import", "weights", "read", "run", "write")
"""The stages that the time of a file consists of; only the first file has the first two."""


@dataclass
class Totals:
    """Counts of the files processed so far.

    Attributes:
        enhancer: brightens them.
        count: number of files in all.
        json: print a JSON line for each file, and one with the counts.
        begun: when the run began, by `time.perf_counter`.
        imported: seconds that the command's own imports took; they count for the first file.
        batch: they are of `lowlight batch`: skipped files are only counted, the counts are reported every
            `report.EVERY` seconds, and --resume goes on where it stopped.
        done: number of results, including those `left` unchanged because they were bright already.
        codes: exit codes of the errors.
        full: number of consecutive disk-full errors.
        start: when the first file that was not skipped began.
    """

    enhancer: Enhancer
    count: int
    json: bool
    begun: float
    imported: float = 0.0
    batch: bool = False
    done: int = 0
    left: int = 0
    skipped: int = 0
    failed: int = 0
    codes: set[int] = field(default_factory=set)
    full: int = 0
    start: float = field(default_factory=time.perf_counter)

    def follow(self, outcomes: Generator[Work, None, None]) -> None:
        """Consume the outcomes; report each file, the progress in a bar if there are several, and the counts.

        Raises:
            ResourceError: the disk is full, so that no other file will fare better.
        """
        model, last = self.enhancer.settings.model, time.perf_counter()
        bar = report.progress(model, self.count) if self.count > 1 else contextlib.nullcontext(lambda _: None)
        try:
            with bar as advance, contextlib.closing(outcomes):
                for outcome in outcomes:
                    self.tell(outcome)
                    advance(1)
                    if self.batch and time.perf_counter() - last > report.EVERY:
                        report.note(str(self))
                        last = time.perf_counter()
        except (KeyboardInterrupt, SystemExit):
            if self.batch:
                report.note(f"{self}; the same command with --resume goes on")
            raise
        self.tell_end()

    def tell(self, outcome: Work) -> None:
        """Count and report one file: its path (or the picture itself) to stdout, errors and notes to stderr.

        Raises:
            ResourceError: the disk is full, so that no other file will fare better.
        """
        self._add(outcome)
        seconds: dict[str, float] = {stage: outcome.seconds[stage] for stage in STAGES if stage in outcome.seconds}
        if "import" in seconds:
            seconds["import"] += self.imported
        if self.json:
            report.event("file", _fields(outcome, self.enhancer, seconds))
        if not (self.batch and outcome.job.skip):
            _tell(outcome, seconds, self.json)
        if self.full == FULL:
            again = "--resume" if self.batch else "--exist skip"
            raise ResourceError(f"the disk is full: {self}; make room, then the same with {again} goes on")

    def add(self, others: Totals) -> None:
        """Add what was done, left and failed after these, as in the next round of --watch."""
        self.done += others.done
        self.left += others.left
        self.failed += others.failed
        self.full = others.full

    def tell_end(self) -> None:
        """Report the counts.

        On stderr as `2 lit with dgaf.best on cpu in bf16 (no GPU found, the CPU has bf16), 1 failed, 2.13 s` and the
        like, on stdout as JSON.
        """
        taken = time.perf_counter() - self.begun
        if self.json:
            counts = {"done": self.done, "left_alone": self.left, "skipped": self.skipped, "failed": self.failed}
            report.event("summary", {**counts, "seconds": round(taken, 3), "exit_code": self.exit_code})
        if self.done or self.count > 1 or self.batch:
            lit = [f"{self.done - self.left} lit with {lit_by(self.enhancer)}"] if self.done > self.left else []
            others = (
                (self.left, "left alone (bright already)"), (self.skipped, "skipped"), (self.failed, "failed")
            )  # fmt: skip
            report.note(", ".join([*lit, *(f"{number} {what}" for number, what in others if number), f"{taken:.2f} s"]))

    def _add(self, outcome: Work) -> None:
        """Count one file. The clock starts once a file is not skipped."""
        if outcome.job.skip and not self.done + self.failed:
            self.start = time.perf_counter()
        self.skipped += outcome.job.skip
        self.failed += outcome.error is not None
        self.done += not (outcome.job.skip or outcome.error)
        self.left += outcome.left
        if outcome.error:
            self.codes.add(outcome.error.exit_code)
        self.full = self.full + 1 if disk_full(outcome.error) else 0

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, the common code of the errors if all files failed alike, else 1."""
        return exit_code(self.codes, self.failed == self.count)

    def __str__(self) -> str:
        """Return, for example, `312/1000, 1 failed, 4.10 pictures/s, 3 min left`."""
        seen = self.done + self.failed
        rate = seen / max(time.perf_counter() - self.start, 1e-3)
        parts = [f"{seen + self.skipped}/{self.count}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        if seen:
            parts += [f"{rate:.2f} pictures/s", report.time_left((self.count - seen - self.skipped) / rate)]
        return ", ".join(parts)


def tell_plan(jobs: Sequence[Job | ClipJob], json: bool) -> int:
    """Print what would be done, file by file, and return the exit code of the errors known so far."""
    for job in jobs:
        if json:
            status = "failed" if job.error else "skipped" if job.skip else "planned"
            report.event("plan", {"input": str(job.source), "output": str(job.target), "status": status})
        elif not job.error:
            report.data(f"{job.source} -> {job.target}{' (exists: skipped)' if job.skip else ''}")
        if job.error:
            report.error(str(job.error))
    return exit_code({job.error.exit_code for job in jobs if job.error}, all(job.error for job in jobs))


def _tell(outcome: Work, seconds: Mapping[str, float], json: bool) -> None:
    """Report one file; without `json`, its path too."""
    job = outcome.job
    if outcome.error:
        report.error(str(outcome.error))
    elif job.skip:
        found = "is the result of another input" if job.source == job.target else "exists"
        report.note(f"{job.target} {found}: skipped")
    elif outcome.data is not None:
        report.raw(outcome.data)
    elif not json:
        report.path(job.target)
    for each in outcome.notes:
        report.note(f"{job.source}: {each}")
    if outcome.size:
        spent = ", ".join(f"{stage} {value:.2f}" for stage, value in seconds.items())
        size = f"{outcome.size[0]}x{outcome.size[1]}" + (f" in {outcome.tiles} tiles" if outcome.tiles > 1 else "")
        report.detail(f"{job.source}: {size}, {sum(seconds.values()):.2f} s: {spent}")


def _fields(outcome: Work, enhancer: Enhancer, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the fields of the JSON line of a file."""
    from lowlight_cli.light import figures

    fields: dict[str, Any] = {
        "input": str(outcome.job.source),
        "output": str(outcome.job.target),
        "status": "failed" if outcome.error else "skipped" if outcome.job.skip else "done",
        "model": enhancer.settings.model,
    }
    if outcome.error:
        fields["error"] = {"code": outcome.error.exit_code, "message": str(outcome.error)}
    if outcome.size:
        fields |= {
            **ran(enhancer),
            "width": outcome.size[0],
            "height": outcome.size[1],
            "tiles": outcome.tiles,
            "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
            "notes": list(outcome.notes),
        }
    return fields | figures(outcome.before, outcome.after)
