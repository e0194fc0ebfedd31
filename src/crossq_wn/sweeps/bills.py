"""What a plan costs, before anything is trained."""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crossq_wn.errors import counted
from crossq_wn.machine import gpus, processors
from crossq_wn.sweeps import cost as costs
from crossq_wn.sweeps import places
from crossq_wn.sweeps.plans import Planned
from crossq_wn.sweeps.scheduling import Need
from crossq_wn.sweeps.states import State

DAY = 24  # hours
_NAMED = 5  # tasks that a line names at most
_SOONER = 0.8  # of the hours, from which it is worth a line


class BillRow(NamedTuple):
    """The cost of all runs of one system."""

    system: str  # its label
    runs: int
    seeds: int  # per run
    frames: tuple[int, ...]  # environment frames per seed; several if tasks differ in them
    # None where every run of the plan has finished, for which nothing is estimated.
    updates: int | None  # gradient updates
    milliseconds: float | None  # per gradient update
    core_hours: float | None
    gigabytes: float | None  # on disk
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
    idle: int = 0  # runs among the unfinished that end within their warm-up


def bill(
    runs: Sequence[Planned], states: Sequence[State], jobs: int, label: Callable[[Planned], str]
) -> Bill:
    """Estimates what a plan costs.

    Args:
        runs: the planned runs.
        states: how far each has come.
        jobs: number of runs that train side by side.
        label: the name of a run's system; each gets a row.
    """
    left = [(run, state) for run, state in zip(runs, states, strict=True) if state.kind != "finished"]
    rows = _rows(runs, states, label, _row if left else _finished_row)
    if not left:
        return Bill(rows, 0.0, 0.0, 0.0, 0, 0.0, "")
    hours = [_remaining(run, state) / 3600 for run, state in left]
    disk = sum(costs.cost(run.config).disk for run in runs) / 1e9
    total, longest = sum(hours), max(hours)
    idle = sum(not run.config.learns for run, _ in left)
    return Bill(rows, total, longest, max(total / jobs, longest), len(left), disk, costs.explain(), idle)


def _rows(
    runs: Sequence[Planned],
    states: Sequence[State],
    label: Callable[[Planned], str],
    row: Callable[[str, Sequence[Planned], int], BillRow],
) -> list[BillRow]:
    """A row per system."""
    by_system: dict[str, list[Planned]] = {}
    finished: dict[str, int] = {}
    for run, state in zip(runs, states, strict=True):
        name = label(run)
        by_system.setdefault(name, []).append(run)
        finished[name] = finished.get(name, 0) + (state.kind == "finished")
    return [row(name, some, finished[name]) for name, some in by_system.items()]


def in_words(bill: Bill, runs: int, jobs: int | None, out: Path) -> list[str]:
    """What a bill says, as lines below its table; without `jobs` nobody knows how many run side by side."""
    if not bill.unfinished:
        return [f"0 of {counted(runs, 'run')} to train: nothing is left to do"]
    days = f" ({bill.hours / DAY:,.1f} days)" if bill.hours > DAY else ""
    time = f"{spent(bill.hours)}{days} with {jobs} side by side" if jobs else "as the cluster has room"
    lines = [
        f"{bill.unfinished} of {counted(runs, 'run')} to train: about {spent(bill.core_hours, 'core-')}, "
        f"{time} (the longest run {spent(bill.longest)}); in the end {_on_disk(bill.disk)} in {out}",
        f"({bill.how})",
    ]
    if bill.idle:
        lines.append(f"learning nothing, since they end within their warm-up: {counted(bill.idle, 'run')}")
    return lines


def spent(hours: float, what: str = "") -> str:
    """A time in the unit that suits it; `what` stands before the unit, as in `3.5 core-hours`."""
    if hours >= 1:
        return f"{hours:,.1f} {what}hours"
    minutes = round(60 * hours)
    return counted(minutes, f"{what}minute") if minutes else counted(round(3600 * hours), f"{what}second")


def _on_disk(gigabytes: float) -> str:
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{1e3 * gigabytes:.0f} MB"


def _remaining(run: Planned, state: State) -> float:
    """Estimates the core-seconds that a run still needs."""
    return costs.cost(run.config).core_seconds * _share_left(run, state)


def _share_left(run: Planned, state: State) -> float:
    return max(0.0, 1 - state.frames / run.config.options.frames)


def untimed(runs: Sequence[Planned], states: Sequence[State]) -> list[str]:
    """Says in a line, if there is a reason, of which tasks the bill leaves the simulation out."""
    tasks = {run.config.task for run, state in zip(runs, states, strict=True) if state.kind != "finished"}
    found = [f"{task} ({why})" for task, why in costs.untimed(tasks).items()]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    named = ", ".join(found[:_NAMED])
    left_out = f"the simulation of tasks that failed when it was timed is not counted: {named}{more}"
    return [left_out] if found else []


def crowded(runs: Sequence[Planned], states: Sequence[State], out: Path) -> str:
    """Says in words if a folder's disk has no room for what is left to train; empty if it has."""
    more, free = 0.0, places.free(out)
    for run, state in zip(runs, states, strict=True):
        if state.kind != "finished":
            more += costs.cost(run.config).disk * _share_left(run, state)
    if free is None or more <= free:
        return ""
    return f"these runs take about {more / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free in {out}"


def sooner_apart(
    runs: Sequence[Planned],
    states: Sequence[State],
    bill: Bill,
    jobs: int,
    how: str = "--seeds-per-process 1",
) -> str:
    """Says how much sooner a plan would be done on a CPU if each seed had a process of its own.

    Empty where that gains little, or comes too late: what has begun stays as it is.

    Args:
        runs: the planned runs.
        states: how far each has come.
        bill: of the plan.
        jobs: number of runs that train side by side.
        how: what to give the command for that.
    """
    if any(state.kind not in ("missing", "finished") for state in states):
        return ""
    longest, most = 0.0, 1
    for run, state in zip(runs, states, strict=True):
        if state.kind != "finished":
            count = len(run.config.options.seeds)
            longest, most = max(longest, _remaining(run, state) / 3600 / count), max(most, count)
    hours = max(bill.core_hours / jobs, longest)
    if most == 1 or hours > _SOONER * bill.hours:
        return ""
    return (
        f"up to {most} seeds share a process, which takes one core for all of them: "
        f"with {how} it would be {spent(hours)}"
    )


def need(run: Planned, cpus: int = 1) -> Need:
    """Estimates what a run takes from beginning to end, with so many processors."""
    found = costs.cost(run.config)
    return Need(found.core_seconds, found.memory + costs.memory_of_workers(run.config, cpus))


def processors_each(jobs: int) -> int:
    """The number of processors that each of so many runs side by side has here."""
    return max(1, processors() // jobs)


def default_jobs() -> int:
    """The number of runs to train side by side: one per GPU, which seeds share, or else one per processor."""
    return len(accelerators(os.environ)) or processors()


def accelerators(environment: Mapping[str, str]) -> list[str]:
    """The GPUs to train on; none if JAX cannot use them."""
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        return []
    found = gpus(environment)
    return found if "CUDA_VISIBLE_DEVICES" in environment else found or ["0"]


def _finished_row(system: str, runs: Sequence[Planned], finished: int) -> BillRow:
    return BillRow(system, len(runs), _most_seeds(runs), _lengths(runs), None, None, None, None, finished)


def _row(system: str, runs: Sequence[Planned], finished: int) -> BillRow:
    total = costs.Cost(0, 0.0, 0.0, 0, 0)
    for run in runs:
        total = total.plus(costs.cost(run.config))
    return BillRow(
        system=system,
        runs=len(runs),
        seeds=_most_seeds(runs),
        frames=_lengths(runs),
        updates=total.updates,
        milliseconds=1e3 * total.update_seconds,
        core_hours=total.core_seconds / 3600,
        gigabytes=total.disk / 1e9,
        finished=finished,
    )


def _most_seeds(runs: Sequence[Planned]) -> int:
    return max(len(run.config.options.seeds) for run in runs)


def _lengths(runs: Sequence[Planned]) -> tuple[int, ...]:
    return tuple(sorted({run.config.options.frames for run in runs}))
