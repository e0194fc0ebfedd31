"""Reproducing the paper: plan its runs, train the missing ones, draw its figures and judge its claims."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from crossq_wn.machine import processors
from crossq_wn.reproduce import cost as costs
from crossq_wn.reproduce import values
from crossq_wn.reproduce.drawing import draw
from crossq_wn.reproduce.findings import Finding, damaged, ended_early, judge_all
from crossq_wn.reproduce.pages import Context, check_out, write
from crossq_wn.reproduce.studies import PlannedRun, PlannedSystem, Scale, plan, scale_called, unlike
from crossq_wn.reproduce.workers import TrainingResult, look, remaining, train
from crossq_wn.runs.protocol import read_terms, simulator_conflicts


class BillRow(NamedTuple):
    """The cost of all runs of one system."""

    system: str  # its label
    runs: int
    seeds: int  # per run
    frames: tuple[int, ...]  # environment frames per seed; several if tasks differ in them
    updates: int  # gradient updates
    milliseconds: float  # per gradient update
    core_hours: float
    gigabytes: float  # on disk
    finished: int  # runs that have finished


class Bill(NamedTuple):
    """The cost of a plan."""

    rows: list[BillRow]
    core_hours: float  # remaining
    longest: float  # remaining core-hours of the longest run
    hours: float  # remaining wall-clock hours, with `jobs` runs side by side
    unfinished: int  # runs that have not finished
    disk: float  # GB once everything is trained
    how: str  # how these figures were estimated


def bill(runs: Sequence[PlannedRun], jobs: int) -> Bill:
    """Estimates what a plan costs, before anything is trained.

    Args:
        runs: the planned runs.
        jobs: number of runs that train side by side.

    Raises:
        UserError: a run directory holds something else.
    """
    by_system: dict[PlannedSystem, list[PlannedRun]] = {}
    left: list[float] = []  # core-hours of each unfinished run
    disk = 0.0
    for run in runs:
        by_system.setdefault(run.system, []).append(run)
        disk += costs.cost(run.config).disk / 1e9
        if look(run).kind != "finished":
            left.append(remaining(run) / 3600)
    rows = [_row(system, some) for system, some in by_system.items()]
    total, longest = sum(left), max(left, default=0.0)
    return Bill(rows, total, longest, max(total / jobs, longest), len(left), disk, costs.explain())


def _row(system: PlannedSystem, runs: Sequence[PlannedRun]) -> BillRow:
    """One row of the bill."""
    total, frames, finished = costs.Cost(0, 0.0, 0.0, 0), set(), 0
    for run in runs:
        total = total.plus(costs.cost(run.config))
        frames.add(run.config.options.frames)
        finished += look(run).kind == "finished"
    return BillRow(
        system=system.label,
        runs=len(runs),
        seeds=len(runs[0].config.options.seeds),
        frames=tuple(sorted(frames)),
        updates=total.updates,
        milliseconds=1e3 * total.update_seconds,
        core_hours=total.core_seconds / 3600,
        gigabytes=total.disk / 1e9,
        finished=finished,
    )


def default_jobs() -> int:
    """The number of runs to train side by side: one per processor, or one on a GPU, which seeds share."""
    return 1 if importlib.util.find_spec("jax_cuda12_plugin") else processors()


def conclude(
    scale: Scale,
    figures: Sequence[str],
    runs: Sequence[PlannedRun],
    failed: dict[Path, str],
    out: Path,
    warn: Callable[[str], None],
) -> tuple[list[Finding], list[Path]]:
    """Judges and draws the runs that have finished, and writes the values that this is based on.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        runs: all planned runs.
        failed: the reason of each failure, by run directory.
        out: the folder for verdicts, values and pictures.
        warn: is told of what cannot be read or drawn, and of differences between runs that should be alike.

    Returns:
        The findings, and the files written.
    """
    ended = [run for run in runs if look(run).kind == "finished"]
    lost = damaged(ended)  # they have finished, but cannot serve as evidence
    finished = [run for run in ended if run.path not in lost]
    notes = _conflicts(runs, finished)
    for path, why in lost.items():
        notes.append(f"{path} does not count: {why}; move it away, and the same command trains it again")
    measured = values.of_runs(finished, notes.append)
    findings = judge_all(scale, figures, measured)
    for note in notes:
        warn(note)
    notes += ended_early(finished, measured)
    if len(ended) < len(runs):
        notes.append(f"{len(runs) - len(ended)} of {len(runs)} runs have not finished and do not count")
    for run in runs:
        if run.path in failed:
            notes.append(f"{run.name}: {failed[run.path]}")
    command = f"crossq-wn reproduce {' '.join(figures)} --scale {scale.name}"
    written = write(findings, Context(scale, runs, notes, command), out)
    if finished:
        values.write(out / values.FILE, measured)
        written.append(out / values.FILE)
    return findings, [*written, *draw(scale, figures, finished, out, warn)]


def conclude_again(
    scale: Scale, figures: Sequence[str], runs: Sequence[PlannedRun], file: Path, out: Path
) -> tuple[list[Finding], list[Path]]:
    """Judges again from the values that an earlier reproduction wrote; the runs are not needed.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        runs: all planned runs.
        file: the values.
        out: the folder for verdicts.

    Returns:
        The findings, and the files written.

    Raises:
        UserError: the file cannot be read, or a file in the folder is not ours.
    """
    findings = judge_all(scale, figures, values.of_file(file, scale))
    command = f"crossq-wn reproduce {' '.join(figures)} --scale {scale.name} --values {file}"
    return findings, write(findings, Context(scale, runs, unlike(runs), command), out)


def _conflicts(runs: Sequence[PlannedRun], finished: Sequence[PlannedRun]) -> list[str]:
    """Differences between runs that should be alike."""
    found = []
    for line in simulator_conflicts(read_terms(run.path for run in finished)):
        found.append(f"different simulators, so runs may not be comparable: {line}")
    return found + unlike(runs)


__all__ = [
    "Bill", "BillRow", "Context", "Finding", "PlannedRun", "Scale", "TrainingResult",
    "bill", "check_out", "conclude", "conclude_again", "default_jobs", "plan", "scale_called", "train",
]  # fmt: skip
