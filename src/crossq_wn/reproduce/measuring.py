"""What claims measure: numbers of the runs, and where the claim wants each of them.

Whether a number lies there is decided by `results.verdicts`.
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

Courses = dict[PlannedSystem, dict[str, Curves]]  # of one quantity: system -> task -> its runs
Summary = Callable[[Curves], Array]  # curves -> one number per run [runs]; NaN where a run has none


class LackingError(Exception):
    """A claim's numbers cannot be computed; the message says what is lacking."""


class Number(NamedTuple):
    """A measured number with the interval that judges it, and where the claim wants it."""

    what: str
    effect: Effect  # of logarithms, if `log`
    threshold: float  # in the unit of `value`
    above: bool  # or below
    log: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether the number lies where the claim wants it."""
        threshold = float(np.log(self.threshold)) if self.log else self.threshold
        return verdict(self.effect, threshold, above=self.above)

    @property
    def interval(self) -> tuple[float, float, float]:
        """The number and the ends of its interval; ratios, if logarithms were judged."""
        found = self.effect[:3]
        value, low, high = map(float, map(np.exp, found) if self.log else found)
        return value, low, high


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by."""

    scores: Courses
    metric: Callable[[str], Courses]  # a column of metrics.csv
    tasks: tuple[str, ...]  # over which is aggregated
    planned: Mapping[PlannedSystem, tuple[str, ...]]  # system -> its tasks; a claim needs all of these
    confidence: float = 0.9

    def of(self, courses: Courses, system: PlannedSystem) -> dict[str, Curves]:
        """Returns a system's curves by task.

        Raises:
            LackingError: some of them are not there.
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
    """Measures the number that runs of one system typically have.

    Args:
        evidence: whose tasks count.
        courses: of the quantity, such as `evidence.scores`.
        system: whose runs.
        summary: makes one number of each run.

    Raises:
        LackingError: there are too few runs.
    """
    scores = list(map(summary, evidence.of(courses, system).values()))  # per task [runs]
    return _measured(system.label, evidence.confidence, scores)


def gap(
    evidence: Evidence, courses: Courses, system: PlannedSystem, other: PlannedSystem, summary: Summary
) -> Effect:
    """Measures by how much one system exceeds another, on tasks and at frames that both have.

    Args:
        evidence: whose tasks count.
        courses: of the quantity, such as `evidence.scores`.
        system: the first.
        other: the second.
        summary: makes one number of each run.

    Raises:
        LackingError: these, or the runs, are too few.
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
    """The mean over training: the area under the curve, which is sample efficiency."""
    return np.asarray(curves.values.mean(axis=1))


def rise(curves: Curves) -> Array:
    """The last value minus the first."""
    return np.asarray(curves.values[:, -1] - curves.values[:, 0])


def log_end(curves: Curves) -> Array:
    """The logarithm of the last value."""
    return _log(curves.values[:, -1])


def log_growth(curves: Curves) -> Array:
    """log(last value / first)."""
    return np.asarray(_log(curves.values[:, -1]) - _log(curves.values[:, 0]))


def log_trend(curves: Curves) -> Array:
    """log(mean of the last tenth of the values / mean of the second tenth), for noisy quantities.

    The first tenth does not count: gradients right after initialisation are large and fall, whatever the
    algorithm.
    """
    tenth = max(1, curves.values.shape[1] // 10)
    second, last = curves.values[:, tenth : 2 * tenth], curves.values[:, -tenth:]
    return np.asarray(_log(last.mean(axis=1)) - _log(second.mean(axis=1)))


def _log(values: Array) -> Array:
    return np.asarray(np.log(np.where(values > 0, values, np.nan)))


def _shared(x: Curves, y: Curves) -> tuple[Curves, Curves]:
    """Both at the environment frames that both have."""
    common = np.intersect1d(x.env_steps, y.env_steps)
    if not len(common):
        raise LackingError("the two have no frames in common")
    return _at(x, common), _at(y, common)


def _at(curves: Curves, steps: Steps) -> Curves:
    """The curves at some of their environment frames."""
    return Curves(steps, curves.seeds, curves.values[:, np.isin(curves.env_steps, steps)])


def _measured(what: str, confidence: float, *scores: Sequence[Array]) -> Effect:
    """The effect of one system's numbers, or of the difference between two: each per task [runs]."""
    if not all(scores):
        raise LackingError(f"{what}: no task in common")
    lacking = too_few(*scores)
    if lacking:
        raise LackingError(f"{what}: {lacking}")
    return effect(*scores, confidence=confidence)
