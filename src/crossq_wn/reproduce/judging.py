"""When does a claim hold? When every number it asks for lies where it must, interval and all.

A claim asks that numbers lie above or below thresholds. It holds if the whole interval of each does, does not
hold if the whole interval of one lies on the other side, and cannot be told otherwise. Numbers are IQMs over
runs and tasks with stratified bootstrap intervals (paper v2, section 5.1).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from crossq_wn.results.reading import Curves
from crossq_wn.results.statistics import Array, Estimate, difference, estimate, iqm

Verdict = Literal["holds", "does not hold", "cannot be told"]
Labelled = Mapping[str, Mapping[str, Curves]]  # a system's label in `studies` -> task -> its runs
Summary = Callable[[Curves], Array]  # curves -> one number per run [runs]; NaN where a run has none

FEWEST = 3  # runs per task; an interval of fewer says nothing


class Number(NamedTuple):
    """One measured number with its interval, and where the claim wants it."""

    what: str
    value: float
    low: float
    high: float
    above: bool  # or below
    threshold: float

    @property
    def verdict(self) -> Verdict:
        """Whether the whole interval lies where the claim wants it, or the whole of it does not."""
        if not all(map(math.isfinite, self[1:4])):
            return "cannot be told"
        sign = 1 if self.above else -1
        worst, best = sorted(sign * (end - self.threshold) for end in (self.low, self.high))
        return "holds" if worst > 0 else "does not hold" if best <= 0 else "cannot be told"


class Finding(NamedTuple):
    """What became of a claim on one group of tasks."""

    verdict: Verdict
    why: str  # it cannot be told; empty otherwise
    numbers: tuple[Number, ...]


class UntoldError(Exception):
    """A claim's numbers cannot be computed; the message says what is lacking."""


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by; systems go by the labels of `studies`."""

    scores: Labelled
    metric: Callable[[str], Labelled]  # a column of metrics.csv
    tasks: tuple[str, ...]  # over which is aggregated
    planned: Mapping[str, tuple[str, ...]]  # system -> tasks; a claim needs all of these
    confidence: float = 0.9

    def of(self, results: Labelled, label: str) -> dict[str, Curves]:
        """A system's curves by task. Raises UntoldError if any of them is lacking."""
        tasks = [task for task in self.planned.get(label, ()) if task in self.tasks]
        if not tasks:
            raise UntoldError(f"{label} is not run here at this scale")
        there = results.get(label, {})
        if missing := [task for task in tasks if task not in there]:
            raise UntoldError(f"{label} has not finished on {', '.join(missing)}, or has not logged this")
        return {task: there[task] for task in tasks}


def judge(measure: Callable[[Evidence], list[Number]], evidence: Evidence) -> Finding:
    """Whether a claim holds in the evidence."""
    try:
        numbers = tuple(measure(evidence))
    except UntoldError as reason:
        return Finding("cannot be told", str(reason), ())
    verdicts = [number.verdict for number in numbers]
    if "does not hold" in verdicts:
        return Finding("does not hold", "", numbers)
    if "cannot be told" in verdicts:
        return Finding("cannot be told", "an interval includes its threshold", numbers)
    return Finding("holds", "", numbers)


def typical(evidence: Evidence, results: Labelled, label: str, summary: Summary) -> Estimate:
    """The IQM of what runs of one system have. Raises UntoldError if there are too few."""
    scores = [summary(curves) for curves in evidence.of(results, label).values()]
    return estimate(iqm, _enough(scores, label), confidence=evidence.confidence)


def gap(evidence: Evidence, results: Labelled, label: str, other: str, summary: Summary) -> Estimate:
    """By how much the IQM of one exceeds that of the other, on tasks and at frames that both have.

    Raises UntoldError if these, or runs, are too few.
    """
    x, y = evidence.of(results, label), evidence.of(results, other)
    pairs = [_shared(x[task], y[task]) for task in x if task in y]
    left, right = (
        _enough([summary(pair[side]) for pair in pairs], f"{label} beside {other}") for side in (0, 1)
    )
    return estimate(difference(iqm), left, right, confidence=evidence.confidence)


def number(what: str, found: Estimate, threshold: float, *, above: bool = True, log: bool = False) -> Number:
    """A number from an estimate; with `log`, from that of its logarithm."""
    value, low, high = (float(np.exp(x) if log else x) for x in found)
    return Number(what, value, low, high, above, threshold)


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
    """log of the last value."""
    return _log(curves.values[:, -1])


def log_growth(curves: Curves) -> Array:
    """log(last value / first)."""
    return np.asarray(_log(curves.values[:, -1]) - _log(curves.values[:, 0]))


def log_trend(curves: Curves) -> Array:
    """log(mean of the last tenth of the values / mean of the second tenth), for what is noisy.

    Not of the first: gradients right after initialisation are large and fall, whatever the algorithm.
    """
    tenth = max(1, curves.values.shape[1] // 10)
    second, last = curves.values[:, tenth : 2 * tenth], curves.values[:, -tenth:]
    return np.asarray(_log(last.mean(axis=1)) - _log(second.mean(axis=1)))


def _log(values: Array) -> Array:
    return np.asarray(np.log(np.where(values > 0, values, np.nan)))


def _shared(x: Curves, y: Curves) -> tuple[Curves, Curves]:
    common = np.intersect1d(x.env_steps, y.env_steps)
    if not len(common):
        raise UntoldError("the two have no frames in common")
    left, right = (Curves(common, c.seeds, c.values[:, np.isin(c.env_steps, common)]) for c in (x, y))
    return left, right


def _enough(scores: Iterable[Array], what: str) -> list[Array]:
    scores = list(scores)
    fewest = min((int((~np.isnan(task)).sum()) for task in scores), default=0)
    if fewest < FEWEST:
        raise UntoldError(f"{what}: {fewest} runs per task, and an interval needs at least {FEWEST}")
    return scores
