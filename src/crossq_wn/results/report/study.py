"""What does a report tell about? Runs and published curves, and what was skipped, with reasons."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from crossq_wn.environments import PAPER_TASKS
from crossq_wn.errors import UserError, one_line
from crossq_wn.learning.diagnostics import shown
from crossq_wn.results import reading
from crossq_wn.results.figures import Source
from crossq_wn.results.reading import Curves, Results
from crossq_wn.results.report.html import Html, escape, tag
from crossq_wn.runs.config import RunConfig, read_config

Tell = Callable[[str], None]  # is told what is being done, which may take minutes

_NEEDED = ("commands", "versions", "device", "protocol", "protocol_sha256")  # of manifest.json


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Run:
    """One run directory, with all its seeds."""

    path: Path
    config: RunConfig
    manifest: dict[str, Any]
    system: str  # as its evaluations name it
    curves: Curves  # scores

    @property
    def frames(self) -> int:
        """The last environment frame that was evaluated."""
        return int(self.curves.env_steps[-1])


class Speed(NamedTuple):
    """How fast a run trained, all seeds together; medians over the rows with gradient updates."""

    frames: float  # environment frames per second
    updates: float  # gradient updates per second
    hours: float  # of training so far


@dataclass(frozen=True)
class Study:
    """What is compared."""

    runs: tuple[Run, ...]
    source: Source  # of the same runs, and of published curves
    diagnostics: dict[str, Results]  # by name; of our systems
    skipped: tuple[str, ...]  # a line each: what, and why

    @property
    def scores(self) -> Results:
        """Of all systems, ours first."""
        return self.source.scores

    @property
    def ours(self) -> list[str]:
        """Systems that were trained here."""
        return [system for system in self.scores if system not in self.source.published]

    @property
    def tasks(self) -> list[str]:
        """Tasks of our systems: the paper's in its order, then others."""
        there = dict.fromkeys(task for system in self.ours for task in self.scores[system])
        return [*(task for task in PAPER_TASKS if task in there), *(t for t in there if t not in PAPER_TASKS)]

    @property
    def names(self) -> dict[str, str]:
        """What the page calls each system: see `reading.short_names`. The list of runs has the full names."""
        return self.source.names

    def name(self, system: str) -> Html:
        """A system's short name, marked if its curves were published by others."""
        mark = [" ", tag("small", "published")] if system in self.source.published else []
        return Html("".join(map(escape, [self.names[system], *mark])))

    def until(self, tasks: Iterable[str]) -> int:
        """The last environment frame up to which each of these tasks has a run of ours."""
        return min(max(run.frames for run in self.runs if run.config.task == task) for task in tasks)


def gather(
    paths: Sequence[Path],
    reference: Sequence[Path] = (),
    systems: Sequence[str] = (),
    confidence: float = 0.9,
    tell: Tell = silent,
) -> Study:
    """The runs in folders, and published curves on their tasks.

    Args:
        paths: run directories, or folders of them.
        reference: CSV files of others; see `crossq_wn.results.reading`.
        systems: which to keep, as `Source.of` names them; all by default.
        confidence: of the intervals.
        tell: what is being done.

    Raises:
        UserError: not a folder, no run that can be read, or what `Source.of` and `reading.read` refuse.
    """
    runs: list[Run] = []
    skipped: list[str] = []
    directories = _directories(paths)
    tell(f"reading {len(directories)} run directories")
    for path in reading.sound(directories, skipped.append):
        try:
            runs.append(_load(path))
        except UserError as error:
            skipped.append(f"{path} is skipped: {one_line(error)}")
    if not runs:
        named = skipped[0] if skipped else f"there is none in {', '.join(map(str, paths))}"
        raise UserError(f"no run can be reported: {named}")
    source = Source.of([run.path for run in runs], reference, systems, None, confidence, skipped.append)
    skipped += source.elsewhere()
    kept = [run for run in runs if run.system in source.scores]
    if not kept:
        raise UserError(f"--systems names none of the runs: there are {', '.join({r.system for r in runs})}")
    tell("reading their diagnostics")
    # All files are read here, so that what is wrong with any of them is known before the page is written.
    diagnostics = {each.name: source.diagnostic(each) for each in shown()}
    return Study(tuple(kept), source, diagnostics, _once(skipped))


def speed(run: Run) -> Speed | None:
    """How fast a run trained, or None if its timing.csv does not tell."""
    names, rows = ("frames_per_second", "updates_per_second", "seconds"), []
    try:
        with open(run.path / "timing.csv", newline="") as file:
            for row in csv.DictReader(file):
                with contextlib.suppress(TypeError, ValueError):  # a row cut off in writing
                    rows.append(tuple(float(row[name]) for name in names))
    except (OSError, KeyError, csv.Error):
        return None
    training = [row for row in rows if row[1] > 0]
    if not training:
        return None
    # The clock starts anew when a run is resumed.
    clock = [row[2] for row in rows]
    seconds = clock[-1] + sum(last for last, following in pairwise(clock) if following < last)
    return Speed(median(row[0] for row in training), median(row[1] for row in training), seconds / 3600)


def _once(skipped: Iterable[str]) -> tuple[str, ...]:
    """The first line on each file: a damaged one is met again for every column."""
    by_file: dict[str, str] = {}
    for line in skipped:
        by_file.setdefault(line.partition(" is skipped: ")[0], line)
    return tuple(by_file.values())


def _directories(paths: Sequence[Path]) -> list[Path]:
    """Folders that hold a run, or what is left of one."""
    for path in paths:
        if not path.is_dir():
            state = "is a file: give published curves to --reference" if path.exists() else "does not exist"
            raise UserError(f"{path} is not a run directory or a folder of them: it {state}")
    files = (file for path in paths for name in ("config.json", "eval.csv") for file in path.rglob(name))
    return sorted({file.parent for file in files})


def _load(path: Path) -> Run:
    config, (system, _, curves) = read_config(path), reading.load(path)
    manifest = json.loads((path / "manifest.json").read_text())
    if lacking := [name for name in _NEEDED if not manifest.get(name)]:
        raise UserError(f"manifest.json lacks {', '.join(lacking)}")
    return Run(path, config, manifest, system, curves)
