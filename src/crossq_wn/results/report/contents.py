"""What a report is about: runs, published curves, and what was left out, with reasons."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.errors import UserError, counted, one_line, option
from crossq_wn.learning.diagnostics import shown
from crossq_wn.results import reading
from crossq_wn.results.alike import groups
from crossq_wn.results.along import Along
from crossq_wn.results.curves import Curves, Results
from crossq_wn.results.figures import Source
from crossq_wn.results.figures.source import in_paper_order, silent
from crossq_wn.results.records import Input, RunRecord
from crossq_wn.results.report.html import Html, escape, section, tag
from crossq_wn.results.standing import failures
from crossq_wn.results.statistics import USUAL, Aggregation
from crossq_wn.results.timing import Speed
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.system import System

Tell = Callable[[str], None]  # called with a line on what is being done, which may take minutes

_NEEDED = ("commands", "versions", "device", "protocol", "protocol_sha256")  # of manifest.json


@dataclass(frozen=True)
class ReportedRun:
    """A run directory with all its seeds."""

    record: RunRecord
    curves: Curves  # scores
    speed: Speed | None  # None: unknown

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.record.path

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.record.config

    @property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json holds."""
        return self.record.manifest

    @property
    def system(self) -> System:
        """The system that was trained."""
        return self.record.identity.system

    @property
    def task(self) -> str:
        """The task it was trained on."""
        return self.record.identity.task

    @property
    def frames(self) -> int:
        """The last environment frame that was evaluated."""
        return int(self.curves.env_steps[-1])


@dataclass(frozen=True)
class Report:
    """Runs of one protocol, and published curves beside them."""

    runs: tuple[ReportedRun, ...]
    source: Source  # of the same runs, and of published curves
    diagnostics: dict[str, Results]  # by name; of our systems
    place: str = ""  # the name of its part of the page; empty if it fills the whole page

    def section(self, title: str, *children: object) -> Html:
        """Makes a section of this report's part of the page."""
        return section(title, *children, within=self.place)

    @property
    def scores(self) -> Results:
        """The scores of all systems, ours first."""
        return self.source.scores

    @property
    def ours(self) -> list[System]:
        """Our systems."""
        return self.source.own_systems

    @property
    def tasks(self) -> list[str]:
        """The tasks of our systems: the paper's in its order, then others."""
        there = dict.fromkeys(task for system in self.ours for task in self.scores[system])
        return in_paper_order(there)

    @property
    def names(self) -> dict[System, str]:
        """The name of each system on the page (see `names.displayed`); the list of runs has full labels."""
        return self.source.names

    def name(self, system: System) -> Html:
        """Writes a system's short name, with a mark if others published its curves."""
        name = escape(self.names[system])
        return Html(f"{name} {tag('small', 'published')}") if system in self.source.published else name

    def until(self, tasks: Iterable[str]) -> int:
        """Returns the last environment frame that a run of ours reached on every one of these tasks."""
        last: dict[str, int] = {}  # task -> the frame that its longest run reached
        for run in self.runs:
            last[run.task] = max(run.frames, last.get(run.task, 0))
        return min(last[task] for task in tasks)


class Contents(NamedTuple):
    """The contents of a page."""

    reports: list[Report]  # one for each protocol that the runs have
    skipped: tuple[str, ...]  # a line each: what is left out, and why


def gather(
    paths: Sequence[Path],
    reference: Sequence[Path] = (),
    systems: Sequence[str] = (),
    how: Aggregation = USUAL,
    tell: Tell = silent,
    *,
    force: bool = False,
    along: Along = "frames",
) -> Contents:
    """Gathers the runs in folders, and published curves on their tasks.

    All files are read here, so that errors in them are known before the page is written.

    Args:
        paths: run directories, or folders of them.
        reference: CSV files of others; see `crossq_wn.results.reading`.
        systems: which to keep, named as for `Source.of`; empty keeps all.
        how: how runs are summed up over tasks.
        tell: called with a line on what is being done.
        force: compares runs of different protocols all the same.
        along: what the curves run over.

    Raises:
        UserError: a path is not a folder, no run can be read, or `Source`, `alike.groups` or
            `reading.scores` raises it.
    """
    skipped: list[str] = []
    once = cache(skipped.append)  # several quantities are read from one file
    found = _inputs(paths)
    tell(f"reading {counted(len(found), 'run directory')}")
    runs = _complete(found, once)
    for line in failures(runs):  # what is said of the others has the cause already
        once(line)
    if not runs:
        there = ", ".join(map(str, paths))
        named = reading.nothing_left(skipped, tell) if skipped else f"there is none in {there}"
        raise UserError(f"no run can be reported: {named}")
    template = Source((), (), tuple(systems), None, how, once, along)
    theirs = reading.complete(reference, once)
    made = groups(runs, theirs, once, force=force, wanted=systems, tell=tell)
    reports: list[Report] = []
    refused: list[str] = []
    for number, group in enumerate(made, 1):
        place = f"protocol-{number}" if len(made) > 1 else ""
        try:
            reports.append(_report(template.of_group(group), place, tell))
        except UserError as error:
            refused.append(one_line(error))
    if refused and not reports:
        for line in (*skipped, *refused[:-1]):
            tell(line)
        raise UserError(refused[-1])
    skipped += refused
    return Contents(reports, tuple(skipped))


def _report(source: Source, place: str, tell: Tell) -> Report:
    """Gathers the contents of one protocol's part.

    Args:
        source: the runs and published curves.
        place: the name of its part of the page.
        tell: called with a line on what is being done.

    Raises:
        UserError: none of the chosen systems has runs here.
    """
    for line in source.elsewhere():
        source.warn(line)
    kept = []
    there: dict[str, None] = {}  # the keys are an ordered set
    for run in source.ours:
        if isinstance(run, RunRecord):
            there[run.identity.system.label] = None
            if run.identity.system in source.scores:
                kept.append(ReportedRun(run, reading.check(run), reading.speed_of(run, source.warn)))
    if not kept:
        raise UserError(f"{option('systems')} matches none of the runs: choose from {', '.join(there)}")
    tell("reading their diagnostics")
    diagnostics = {each.name: source.diagnostic(each) for each in shown()}
    return Report(tuple(kept), source, diagnostics, place)


def _complete(inputs: Sequence[Input], warn: Tell) -> list[RunRecord]:
    """Returns the runs of which everything is known that a report needs."""
    found = []
    for run in reading.checked(inputs, warn):
        try:
            if isinstance(run, RunRecord):
                _require(run)
                found.append(run)
        except UserError as error:
            warn(f"{run.path} is skipped: {one_line(error)}")
    return found


def _require(run: RunRecord) -> None:
    _ = run.config
    lacking = [name for name in _NEEDED if not run.manifest.get(name)]
    if lacking:
        raise UserError(f"manifest.json lacks {', '.join(lacking)}")


def _inputs(paths: Sequence[Path]) -> list[Input]:
    """Lists the folders that hold a run, even a damaged one."""
    reading.require_folders(paths)
    return sorted(reading.inputs(paths), key=lambda run: run.path)
