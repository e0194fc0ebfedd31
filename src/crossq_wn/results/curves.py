"""Curves: the scores, or another quantity, of one system's runs on one task over environment frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossq_wn.errors import UserError
from crossq_wn.results.sheets import Series, Steps
from crossq_wn.results.statistics import Array
from crossq_wn.runs.system import System


@dataclass(frozen=True)
class Curves:
    """One system's runs on one task."""

    env_steps: Steps  # [points] environment frames
    seeds: tuple[str, ...]  # [runs] the sources' labels
    values: Array  # [runs, points]; NaN where a run has no value


Results = dict[System, dict[str, Curves]]  # system -> task -> its runs


class Piece(NamedTuple):
    """A seed's series in one file."""

    file: Path
    system: System
    task: str
    series: Series


def joined(pieces: Iterable[Piece]) -> Results:
    """Joins the pieces of each system, task and seed into curves.

    Raises:
        UserError: two of them have different values at one environment frame.
    """
    runs: dict[tuple[System, str], dict[str, list[Piece]]] = {}
    for piece in pieces:
        seeds = runs.setdefault((piece.system, piece.task), {})
        seeds.setdefault(piece.series.seed, []).append(piece)
    results: Results = {}
    for (system, task), seeds in runs.items():
        results.setdefault(system, {})[task] = _curves(seeds)
    return results


def _course(pieces: Sequence[Piece]) -> tuple[Steps, Array]:
    """Returns the environment frames and values of one seed, in order, with each frame once."""
    frames = np.concatenate([piece.series.frames for piece in pieces])
    values = np.concatenate([piece.series.values for piece in pieces])
    order = np.argsort(frames, kind="stable")
    frames, values = frames[order], values[order]
    again = frames[1:] == frames[:-1]
    agree = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    # A frame may be there twice, as in a run and in a copy of its table, but not with two values.
    clashes = np.flatnonzero(again & ~agree)
    if len(clashes):
        owners = np.repeat(np.arange(len(pieces)), [len(piece.series.frames) for piece in pieces])[order]
        raise _contradiction(pieces[0], pieces[owners[clashes[0] + 1]], int(frames[clashes[0]]))
    first = np.concatenate([[True], ~again])
    return frames[first], values[first]


def _contradiction(first: Piece, second: Piece, frame: int) -> UserError:
    beside = f" beside {first.file}" if first.file != second.file else ""
    return UserError(
        f"{second.file}: {second.system.label} on {second.task}, seed {second.series.seed} has a second, "
        f"different value at step {frame}{beside}: read one of the two runs, or give them different names"
    )


def _curves(seeds: Mapping[str, Sequence[Piece]]) -> Curves:
    courses = list(map(_course, seeds.values()))
    steps = np.unique(np.concatenate([frames for frames, _ in courses]))
    values = np.full((len(seeds), len(steps)), np.nan)
    for row, (frames, numbers) in zip(values, courses, strict=True):
        row[np.searchsorted(steps, frames)] = numbers
    return Curves(steps, tuple(seeds), values)


def early_ends(curves: Curves, until: int) -> list[tuple[str, int]]:
    """Finds the seeds that end before the others.

    Args:
        curves: of one system on one task.
        until: an environment frame; seeds that get there, or as far as any other, are not early.

    Returns:
        Their labels, and their last environment frames.
    """
    last = min(until, int(curves.env_steps[-1]))
    found = []
    for seed, values in zip(curves.seeds, curves.values, strict=True):
        reached = curves.env_steps[~np.isnan(values)]
        if len(reached) and reached[-1] < last:
            found.append((seed, int(reached[-1])))
    return found


def shared_steps(curves: Sequence[Curves]) -> Steps:
    """Returns the environment frames [points] at which each of these curves (at least one) has a value."""
    return reduce(np.intersect1d, [curve.env_steps for curve in curves])


def align(curves: Sequence[Curves]) -> tuple[Steps, list[Array]]:
    """Cuts curves down to the environment frames at which all of them have values.

    A single curve ends with its longest run; aligned curves end with the one that ends first. To compare two
    systems, align the curves of both in one call.

    Args:
        curves: one per task, or per system and task.

    Returns:
        The frames [points], and the values of each curve there [runs, points].

    Raises:
        UserError: there are no such frames, or no curves.
    """
    if not curves:
        raise UserError("no curves to align: the system has none of these tasks")
    common = shared_steps(curves)
    if not len(common):
        raise UserError("the tasks were never evaluated at the same environment frame")
    return common, [curve.values[:, np.isin(curve.env_steps, common)] for curve in curves]


def reached_by_most(scores: Iterable[Array]) -> npt.NDArray[np.bool_]:
    """Says where more than half of each task's runs have a score: [points].

    There the runs stand for their system. The longest run alone would not, and one run that died early is no
    reason to stop the comparison.

    Args:
        scores: per task [runs, points]; NaN where a run has none.
    """
    return np.asarray(np.all([np.mean(~np.isnan(runs), axis=0) > 0.5 for runs in scores], axis=0))
