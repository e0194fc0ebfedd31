"""Which numbers does a figure show? The IQM of a system's runs over a panel's tasks, with its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossq_wn.results import reading
from crossq_wn.results.reading import Curves, Results, Steps
from crossq_wn.results.statistics import Array, estimate, iqm

Panels = Mapping[str, tuple[str, ...]]  # name -> its tasks

SCORE = "score"
_MOST = 50  # points of a curve: more cannot be told apart


class Point(NamedTuple):
    """A row of the CSV behind a figure."""

    panel: str  # a group of tasks, or a task
    quantity: str  # the score, a column of metrics.csv, or another metric of eval.csv
    system: str
    frames: int  # environment frames
    value: float  # IQM over the tasks' runs
    low: float  # NaN if no task has a second run: nothing is known of the spread then
    high: float
    confidence: float  # of the interval
    tasks: int  # of the panel's, those that the system has
    fewest_seeds: int  # of any of these tasks
    most_seeds: int


def curves(
    results: Results,
    panels: Panels,
    confidence: float,
    quantity: str = SCORE,
    until: int | None = None,
) -> list[Point]:
    """Every system's curve in every panel, over the environment frames at which all its tasks have a value.

    Of runs with different grids only what they share is drawn: nothing is interpolated.

    Args:
        results: of one quantity.
        panels: the tasks to aggregate.
        confidence: of the intervals.
        quantity: how the points name it.
        until: the last environment frame to draw.
    """
    found = []
    for panel, tasks in panels.items():
        for system, there in systems_with(results, tasks):
            steps, scores = aligned([_in_step(curve) for curve in there])
            kept = _thinned(steps[: np.searchsorted(steps, np.inf if until is None else until, "right")])
            where = np.isin(steps, kept)
            about = (panel, quantity, system)
            found += points_at(about, kept, [task[:, where] for task in scores], confidence)
    return found


def spread(points: Sequence[Point]) -> Array:
    """How far intervals reach below and above their values: [2, points]; NaN where there is none."""
    below, above = ([getattr(p, end) - p.value for p in points] for end in ("low", "high"))
    return np.abs([below, above])


def lines(points: Iterable[Point], panel: str, quantity: str = SCORE) -> dict[str, list[Point]]:
    """The points of one panel and quantity, by system."""
    found: dict[str, list[Point]] = {}
    for point in points:
        if (point.panel, point.quantity) == (panel, quantity):
            found.setdefault(point.system, []).append(point)
    return found


def systems_with(results: Results, tasks: Sequence[str]) -> list[tuple[str, list[Curves]]]:
    """Each system's curves on those of the tasks that it has."""
    there = [(name, [of[task] for task in tasks if task in of]) for name, of in results.items()]
    return [(name, curves) for name, curves in there if curves]


def aligned(there: Sequence[Curves]) -> tuple[Steps, list[Array]]:
    """As `reading.align`, but no points if the tasks share no frame."""
    shared = reduce(np.intersect1d, [curve.env_steps for curve in there])
    return reading.align(there) if len(shared) else (shared, [curve.values[:, :0] for curve in there])


def _in_step(curves: Curves) -> Curves:
    """Only the frames at which all runs under way have a value: where some lack theirs a curve would leap."""
    steps, there = curves.env_steps, ~np.isnan(curves.values)
    missed = [_under_way(steps, steps[own]) & ~own for own in there]
    kept = there.any(axis=0) & ~np.any(missed, axis=0)
    return replace(curves, env_steps=steps[kept], values=curves.values[:, kept])


def _under_way(steps: Steps, own: Steps) -> npt.NDArray[np.bool_]:
    """Which steps lie between the first and last of a run's own, or so near that its next was not due yet."""
    if not len(own):
        return np.zeros(len(steps), bool)
    return np.asarray((steps > own[0] - np.ptp(own[:2])) & (steps < own[-1] + np.ptp(own[-2:])))


def _thinned(steps: Steps) -> Steps:
    where = np.linspace(0, len(steps) - 1, min(len(steps), _MOST)).round().astype(int)
    return np.asarray(steps[where])


def points_at(
    about: tuple[str, str, str], steps: Steps, scores: Sequence[Array], confidence: float
) -> list[Point]:
    """IQM and interval at each of the steps; scores are per task [runs, steps]."""
    if not len(steps):
        return []
    counts = np.array([np.count_nonzero(~np.isnan(task), axis=0) for task in scores])  # [tasks, points]
    value, low, high = estimate(iqm, scores, confidence=confidence)
    alone = counts.max(axis=0) == 1
    low, high = np.where(alone, np.nan, low), np.where(alone, np.nan, high)
    numbers = zip(steps, value, low, high, strict=True)
    return [
        Point(
            *about, int(step), float(v), float(lo), float(hi), confidence,
            len(scores), int(n.min()), int(n.max()),
        )
        for (step, v, lo, hi), n in zip(numbers, counts.T, strict=True)
    ]  # fmt: skip
