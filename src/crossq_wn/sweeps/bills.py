"""What a plan costs, before anything is trained."""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crossq_wn.machine import gpus, processors
from crossq_wn.sweeps import cost as costs
from crossq_wn.sweeps import places
from crossq_wn.sweeps.driver import Need
from crossq_wn.sweeps.plans import Planned
from crossq_wn.sweeps.states import State

_NAMED = 5  # tasks that a line names at most


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
    by_system: dict[str, list[int]] = {}
    left: list[float] = []  # core-hours of each unfinished run
    disk = 0.0
    for number, (run, state) in enumerate(zip(runs, states, strict=True)):
        by_system.setdefault(label(run), []).append(number)
        disk += costs.cost(run.config).disk / 1e9
        if state.kind != "finished":
            left.append(_remaining(run, state) / 3600)
    rows = []
    for name, numbers in by_system.items():
        finished = sum(states[number].kind == "finished" for number in numbers)
        rows.append(_row(name, [runs[number] for number in numbers], finished))
    total, longest = sum(left), max(left, default=0.0)
    return Bill(rows, total, longest, max(total / jobs, longest), len(left), disk, costs.explain())


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
    return [f"without the simulation of tasks that failed when it was timed: {named}{more}"] if found else []


def crowded(runs: Sequence[Planned], states: Sequence[State], out: Path) -> str:
    """Says in words if a folder's disk has no room for what is left to train; empty if it has."""
    more, free = 0.0, places.free(out)
    for run, state in zip(runs, states, strict=True):
        if state.kind != "finished":
            more += costs.cost(run.config).disk * _share_left(run, state)
    if free is None or more <= free:
        return ""
    return f"these runs take about {more / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free in {out}"


def need(run: Planned) -> Need:
    """Estimates what a run takes from beginning to end."""
    found = costs.cost(run.config)
    return Need(found.core_seconds, found.memory)


def default_jobs() -> int:
    """The number of runs to train side by side: one per GPU, which seeds share, or else one per processor."""
    return len(accelerators(os.environ)) or processors()


def accelerators(environment: Mapping[str, str]) -> list[str]:
    """The GPUs to train on; none if JAX cannot use them."""
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        return []
    found = gpus(environment)
    return found if "CUDA_VISIBLE_DEVICES" in environment else found or ["0"]


def _row(system: str, runs: Sequence[Planned], finished: int) -> BillRow:
    total, frames = costs.Cost(0, 0.0, 0.0, 0, 0), set()
    for run in runs:
        total = total.plus(costs.cost(run.config))
        frames.add(run.config.options.frames)
    return BillRow(
        system=system,
        runs=len(runs),
        seeds=max(len(run.config.options.seeds) for run in runs),
        frames=tuple(sorted(frames)),
        updates=total.updates,
        milliseconds=1e3 * total.update_seconds,
        core_hours=total.core_seconds / 3600,
        gigabytes=total.disk / 1e9,
        finished=finished,
    )
