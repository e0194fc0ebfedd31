"""Measurements for claims: numbers of runs, and the side of a threshold on which a claim expects them.

`results.verdicts` decides whether a number lies on that side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crossq_wn.reproduce.studies import PlannedSystem
from crossq_wn.results.curves import Curves
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import Array
from crossq_wn.results.verdicts import Effect, Verdict, effect, too_few, verdict

Courses = dict[PlannedSystem, dict[str, Curves]]  # one quantity over training: system -> task -> its runs
Summary = Callable[[Curves], Array]  # curves -> one number per run [runs]; NaN for a run without one


class LackingError(Exception):
    """A claim's numbers cannot be computed; the message says what is missing."""


class Number(NamedTuple):
    """A measured number with its interval, and the side of a threshold on which the claim expects it."""

    what: str  # in words
    effect: Effect  # of logarithms, if `log`
    threshold: float  # not a logarithm, even if `log`
    above: bool  # whether the claim expects it above the threshold, or else below
    log: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether the number lies on the expected side."""
        threshold = float(np.log(self.threshold)) if self.log else self.threshold
        return verdict(self.effect, threshold, above=self.above)

    @property
    def interval(self) -> tuple[float, float, float]:
        """The number and the ends of its interval; as ratios, if logarithms were judged."""
        found = self.effect[:3]
        value, low, high = map(float, map(np.exp, found) if self.log else found)
        return value, low, high


@dataclass(frozen=True)
class Evidence:
    """The measurements by which claims are judged, on one group of tasks."""

    scores: Courses
    metric: Callable[[str], Courses]  # column of metrics.csv -> its values over training
    tasks: tuple[str, ...]  # the tasks to aggregate over
    planned: Mapping[PlannedSystem, tuple[str, ...]]  # system -> its tasks, all of which a claim needs
    confidence: float = 0.9

    def of(self, courses: Courses, system: PlannedSystem) -> dict[str, Curves]:
        """A system's curves by task.

        Args:
            courses: a quantity of all systems.
            system: as it is planned.

        Raises:
            LackingError: some of them are missing.
        """
        tasks = [task for task in self.planned.get(system, ()) if task in self.tasks]
        if not tasks:
            raise LackingError(f"{system.label} is not run here at this scale")
        there = courses.get(system, {})
        missing = [task for task in tasks if task not in there]
        if missing:
            absent = ", ".join(missing)
            raise LackingError(f"{system.label} has not finished on {absent}, or has not logged this")
        return {task: there[task] for task in tasks}


def typical(evidence: Evidence, courses: Courses, system: PlannedSystem, summary: Summary) -> Effect:
    """The typical number of one system's runs.

    Args:
        evidence: gives the tasks.
        courses: the quantity, such as `evidence.scores`.
        system: whose runs.
        summary: one number per run.

    Raises:
        LackingError: there are too few runs.
    """
    scores = list(map(summary, evidence.of(courses, system).values()))  # per task [runs]
    return _measured(system.label, evidence.confidence, scores)


def gap(
    evidence: Evidence, courses: Courses, system: PlannedSystem, other: PlannedSystem, summary: Summary
) -> Effect:
    """By how much one system exceeds another, on tasks and at frames that both have.

    Args:
        evidence: gives the tasks.
        courses: the quantity, such as `evidence.scores`.
        system: the first system.
        other: the second system, which is subtracted.
        summary: one number per run.

    Raises:
        LackingError: there are too few common tasks, frames or runs.
    """
    ours, theirs = evidence.of(courses, system), evidence.of(courses, other)
    left, right = [], []  # per task [runs]
    for task in ours:
        if task in theirs:
            x, y = _shared(ours[task], theirs[task])
            left.append(summary(x))
            right.append(summary(y))
    return _measured(f"{system.label} beside {other.label}", evidence.confidence, left, right)


def end(curves: Curves) -> Array:
    """The last value."""
    return curves.values[:, -1]


def whole(curves: Curves) -> Array:
    """The mean over training, which is the area under the curve and measures sample efficiency."""
    return np.asarray(curves.values.mean(axis=1))


def rise(curves: Curves) -> Array:
    """The last value minus the first."""
    return np.asarray(curves.values[:, -1] - curves.values[:, 0])


def log_end(curves: Curves) -> Array:
    """The logarithm of the last value."""
    return _log(curves.values[:, -1])


def log_growth(curves: Curves) -> Array:
    """log(last value / first value)."""
    return np.asarray(_log(curves.values[:, -1]) - _log(curves.values[:, 0]))


def log_trend(curves: Curves) -> Array:
    """log(mean of the last tenth of the values / mean of the second tenth), for noisy quantities.

    The first tenth is left out because gradients are large right after initialisation and then fall, whatever
    the algorithm.
    """
    tenth = max(1, curves.values.shape[1] // 10)
    second, last = curves.values[:, tenth : 2 * tenth], curves.values[:, -tenth:]
    return np.asarray(_log(last.mean(axis=1)) - _log(second.mean(axis=1)))


def _log(values: Array) -> Array:
    return np.asarray(np.log(np.where(values > 0, values, np.nan)))


def _shared(x: Curves, y: Curves) -> tuple[Curves, Curves]:
    """Both, at the environment frames that they have in common."""
    common = np.intersect1d(x.env_steps, y.env_steps)
    if not len(common):
        raise LackingError("the two have no frames in common")
    return _at(x, common), _at(y, common)


def _at(curves: Curves, steps: Steps) -> Curves:
    """The curves at the given environment frames, which they have."""
    return Curves(steps, curves.seeds, curves.values[:, np.isin(curves.env_steps, steps)])


def _measured(what: str, confidence: float, *scores: Sequence[Array]) -> Effect:
    """The effect of one system's numbers, or of the difference of two systems; each per task [runs]."""
    if not all(scores):
        raise LackingError(f"{what}: no task in common")
    lacking = too_few(*scores)
    if lacking:
        raise LackingError(f"{what}: {lacking}")
    return effect(*scores, confidence=confidence)
