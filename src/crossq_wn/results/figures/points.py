"""The numbers that figures show: the IQM of a system's runs over a panel's tasks, with its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossq_wn.results.curves import Curves, Results, align, shared_steps
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import Aggregation, Array, Weighting, estimate, iqm
from crossq_wn.runs.system import System

Panels = Mapping[str, tuple[str, ...]]  # name -> its tasks

SCORE = "score"
_MOST = 50  # points of a curve: more cannot be told apart


class Point(NamedTuple):
    """One number of a figure."""

    panel: str  # a group of tasks, or a task
    quantity: str  # the score, a column of metrics.csv, or another metric of eval.csv
    system: System
    frames: int  # environment frames
    value: float  # IQM over the tasks' runs
    low: float  # NaN if no task has a second run: nothing is known of the spread then
    high: float
    confidence: float  # of the interval
    weighting: Weighting  # what counts alike where the tasks have unequally many seeds
    tasks: int  # how many of the panel's tasks the system has
    fewest_seeds: int  # of any of these tasks
    most_seeds: int
    along: tuple[str, float] | None = None  # what the x axis has instead of frames, and how much of it

    @property
    def x(self) -> float:
        """Where the point lies on the x axis."""
        return self.frames if self.along is None else self.along[1]

    def row(self) -> dict[str, Any]:
        """Returns the point as a row of the CSV file behind the figure."""
        columns = self._asdict() | {"system": self.system.label}
        del columns["along"]
        return columns if self.along is None else columns | {self.along[0]: self.along[1]}


def curves(
    results: Results,
    panels: Panels,
    how: Aggregation,
    quantity: str = SCORE,
    until: int | None = None,
) -> list[Point]:
    """Aggregates every system's curve in every panel, where all its tasks have a value.

    Nothing is interpolated: where runs were evaluated at different frames, only shared ones are drawn.

    Args:
        results: of one quantity.
        panels: the tasks to aggregate.
        how: it is done.
        quantity: how the points name it.
        until: the last environment frame to draw; None: the last there is.

    Returns:
        The points panel after panel, and there system after system.
    """
    found = []
    for panel, tasks in panels.items():
        for system, there in systems_with(results, tasks).items():
            steps, scores = aligned([_in_step(curve) for curve in there])
            if until is not None:
                steps = steps[steps <= until]
            kept = _thinned_out(steps)
            columns = np.searchsorted(steps, kept)
            about = (panel, quantity, system)
            found += points_at(about, kept, [task[:, columns] for task in scores], how)
    return found


def rows(points: Iterable[Point]) -> list[dict[str, Any]]:
    """The points as rows of the CSV file behind the figure."""
    return [point.row() for point in points]


def numbers(points: Iterable[Point]) -> Array:
    """The values of points, and the lower and upper ends of their intervals: [3, points]."""
    return np.array([(point.value, point.low, point.high) for point in points]).reshape(-1, 3).T


def spread(points: Iterable[Point]) -> Array:
    """Returns how far intervals reach below and above their values [2, points]; NaN where there is none."""
    value, low, high = numbers(points)
    return np.abs([value - low, high - value])


def lines(points: Iterable[Point], panel: str, quantity: str = SCORE) -> dict[System, list[Point]]:
    """Returns the points of one panel and quantity, by system.

    Args:
        points: of any panels and quantities.
        panel: a group of tasks, or a task.
        quantity: the score, a column of metrics.csv, or another metric of eval.csv.
    """
    found: dict[System, list[Point]] = {}
    for point in points:
        if (point.panel, point.quantity) == (panel, quantity):
            found.setdefault(point.system, []).append(point)
    return found


def systems_with(results: Results, tasks: Sequence[str]) -> dict[System, list[Curves]]:
    """Returns each system's curves on those of the tasks that it has; systems without any are left out."""
    found = {}
    for system, there in results.items():
        curves = [there[task] for task in tasks if task in there]
        if curves:
            found[system] = curves
    return found


def aligned(there: Sequence[Curves]) -> tuple[Steps, list[Array]]:
    """Does as `curves.align`, but returns no points if the tasks share no frame."""
    shared = shared_steps(there)
    return align(there) if len(shared) else (shared, [curve.values[:, :0] for curve in there])


def _in_step(curves: Curves) -> Curves:
    """Keeps the frames at which all runs under way have a value; elsewhere a curve would leap."""
    steps, there = curves.env_steps, ~np.isnan(curves.values)  # [points], [runs, points]
    kept = there.any(axis=0)
    for own in there:
        kept &= own | ~_under_way(steps, steps[own])
    return replace(curves, env_steps=steps[kept], values=curves.values[:, kept])


def _under_way(steps: Steps, own: Steps) -> npt.NDArray[np.bool_]:
    """Says which steps lie between a run's first and last, or so near that its next was not due yet."""
    if not len(own):
        return np.zeros(len(steps), bool)
    # A run's first two and last two steps tell how far apart its evaluations are.
    return np.asarray((steps > own[0] - np.ptp(own[:2])) & (steps < own[-1] + np.ptp(own[-2:])))


def _thinned_out(steps: Steps) -> Steps:
    where = np.linspace(0, len(steps) - 1, min(len(steps), _MOST)).round().astype(int)
    return np.asarray(steps[where])


def points_at(
    about: tuple[str, str, System], steps: Steps, scores: Sequence[Array], how: Aggregation
) -> list[Point]:
    """Computes the IQM and its interval at each of the steps.

    Args:
        about: panel, quantity and system.
        steps: [points] environment frames.
        scores: per task [runs, points].
        how: they are aggregated.

    Returns:
        A point per step; without an interval where each task has a single run.
    """
    if not len(steps):
        return []
    ends = np.array(estimate(iqm, scores, **how._asdict()))  # [3, points]: value, low, high
    seeds = np.array([np.count_nonzero(~np.isnan(task), axis=0) for task in scores])  # [tasks, points]
    fewest, most = seeds.min(axis=0), seeds.max(axis=0)
    ends[1:, most < 2] = np.nan
    found = []
    columns = steps.tolist(), *ends.tolist(), fewest.tolist(), most.tolist()
    for step, value, low, high, least, greatest in zip(*columns, strict=True):
        found.append(Point(*about, step, value, low, high, *how, len(scores), least, greatest))
    return found
