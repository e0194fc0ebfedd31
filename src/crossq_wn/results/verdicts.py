"""The one rule that judges whether a number lies above or below a threshold.

    found = effect(ours, theirs)                 # the difference of two systems; effect(ours) is one system's
    verdict(found, threshold=-0.05, above=True)  # "holds", "does not hold" or "inconclusive"

The number is the mean of the tasks' means: the interquartile mean of a few runs drops too many of them to say
how uncertain it is. Its interval is Welch's: each task's variance is estimated from its own
seeds, and Student's t has the degrees of freedom that Satterthwaite's formula gives. Where two systems have
unequally many seeds, the variance is at least the one that pools both systems' seeds, because three seeds
that happen to agree say little about their spread. A verdict needs the whole interval on one side of the
threshold, the interquartile mean on the same side, and enough seeds (`too_few`).

benchmarks/verdict_error_rates.py simulates how often this rule errs; docs/statistics.md has the results.
"""

from bisect import bisect_left
from typing import Literal, NamedTuple

import numpy as np

from crossq_wn.errors import UserError, counted
from crossq_wn.results.statistics import Array, Scores, difference, iqm, point_estimate

Verdict = Literal["holds", "does not hold", "inconclusive"]

FEWEST = 3  # runs per task that a verdict needs
FEWEST_TASKS = 3  # with this many tasks or more, two runs of each are enough
MOST = 100  # seeds per task; nobody would train more
POWER = 0.8  # the share of experiments that should find the difference with as many seeds as are advised
# How many new experiments told what is true, with as many seeds as `seeds_needed` advises after 3 to 5:
# measured by benchmarks/advice_on_seeds.py, see docs/statistics.md.
ADVICE_CAME_TRUE = ("two of three", "half")  # on one task, and over a group of tasks
EQUAL_CALLED_BETTER = (
    "A verdict at 90 % still errs: of two equal systems, up to one comparison in nine calls one of them "
    "better, whatever the number of seeds."
)
# Relative to the largest score: equal scores have no spread, but their mean may be off by rounding.
_ROUNDING = 1e-12


class Effect(NamedTuple):
    """A number, or the difference of two systems' numbers, with the interval that judges it.

    Each is a scalar array, or [points] if the scores have points.
    """

    value: Array  # mean of the tasks' means
    low: Array  # of the interval; infinite where there are too few runs
    high: Array
    middle: Array  # the interquartile mean of all runs, or the difference of two

    def swapped(self) -> "Effect":
        """Returns the difference as seen from the other system."""
        return Effect(-self.value, -self.high, -self.low, -self.middle)


class _Tasks(NamedTuple):
    """What the rule needs of one system's scores, each [tasks] or [tasks, points]."""

    mean: Array
    variance: Array  # of single runs, unbiased; NaN for one run
    runs: Array


def effect(ours: Scores, theirs: Scores | None = None, *, confidence: float = 0.9) -> Effect:
    """Measures one system's number, or by how much it exceeds that of another system.

    Args:
        ours: per task [runs] or [runs, points]; NaN marks a run without a score.
        theirs: the other system's scores on the same tasks; None measures `ours` alone.
        confidence: of the two-sided interval, between 0 and 1.

    Raises:
        UserError: the two have different tasks, or scores do not fit together.
    """
    if theirs is not None and len(ours) != len(theirs):
        raise UserError(f"there are {len(ours)} and {len(theirs)} tasks: keep those that both have")
    x = _summarise(ours)
    if theirs is None:
        value, middle = x.mean.mean(axis=0), point_estimate(iqm, ours)
        variances, weights = _alone(x)
        few = _few(x.runs)
    else:
        y = _summarise(theirs)
        value = x.mean.mean(axis=0) - y.mean.mean(axis=0)
        middle = point_estimate(difference(iqm), ours, theirs)
        variances, weights = _welch(x, y)
        few = np.logical_or(_few(x.runs), _few(y.runs))
    rounding = _ROUNDING * _largest(ours, theirs or ())
    value, half = (
        np.where(np.abs(each) < rounding, 0.0, each)
        for each in (value, _half_width(variances, weights, confidence))
    )
    half = np.where(few, np.inf, half)
    return Effect(value, value - half, value + half, middle)


def lies_above(found: Effect, threshold: float = 0.0) -> Array:
    """Says whether the whole interval and the interquartile mean lie above the threshold.

    Args:
        found: from `effect`.
        threshold: in the unit of `found`.

    Returns:
        Booleans, scalar or [points].
    """
    return np.asarray((found.low > threshold) & (found.middle > threshold))


def lies_below(found: Effect, threshold: float = 0.0) -> Array:
    """Says whether the whole interval and the interquartile mean lie below the threshold."""
    return np.asarray((found.high < threshold) & (found.middle < threshold))


def verdict(found: Effect, threshold: float, *, above: bool) -> Verdict:
    """Judges the claim that a number lies above the threshold, or below it.

    A number without any spread that equals the threshold lies on neither side, so the claim does not hold.

    Args:
        found: scalars, from `effect`.
        threshold: in the unit of `found`.
        above: whether the claim is that the number lies above; if not, it is that it lies below.
    """
    beyond, opposite = (lies_above, lies_below) if above else (lies_below, lies_above)
    if beyond(found, threshold):
        return "holds"
    if opposite(found, threshold) or found.low == threshold == found.high:
        return "does not hold"
    return "inconclusive"


def too_few(*scores: Scores) -> str:
    """Says why these runs are too few for any verdict; empty if they are not."""
    fewest = min((_count(task) for each in scores for task in each), default=0)
    tasks = min(map(len, scores))
    if fewest >= FEWEST or (fewest == 2 and tasks >= FEWEST_TASKS):
        return ""
    runs = "run" if fewest == 1 else "runs"
    return f"{fewest} {runs} per task: a verdict needs {FEWEST}, or 2 on each of {FEWEST_TASKS} tasks or more"


def seeds_needed(
    ours: Scores, theirs: Scores, *, confidence: float = 0.9, most: int = MOST, power: float = POWER
) -> int | None:
    """Estimates how many seeds per task and system the rule would need to call one system better.

    The estimate takes the observed difference and variances for the true ones, and means a share of `power`
    of such experiments to find the difference. From few seeds it is a guess (docs/statistics.md).

    Args:
        ours: per task [runs].
        theirs: per task [runs].
        confidence: of the verdict.
        most: the largest number of seeds to consider.
        power: at least 0.5, with which the interval only just excludes 0.

    Returns:
        The number of seeds, or None if more than `most` would be needed.

    Raises:
        UserError: a task has fewer than 2 runs, whose spread is unknown.
    """
    x, y = _summarise(ours), _summarise(theirs)
    fewest = int(min(x.runs.min(), y.runs.min()))
    if fewest < 2:
        raise UserError(
            f"a task has {counted(fewest, 'run')}: the spread between seeds needs at least 2 of each task"
        )
    gap, tasks = abs(float(x.mean.mean() - y.mean.mean())), len(x.mean)

    def separates(runs: int) -> bool:
        counts = np.full(tasks, runs)
        enough = not _few(counts)
        spread = _welch(x._replace(runs=counts), y._replace(runs=counts))
        # The differences of such experiments scatter around this one; most must still exceed the half width.
        return bool(enough and gap > _half_width(*spread, confidence) + _deviation(*spread, power))

    numbers = range(2, most + 1)
    found = bisect_left(numbers, True, key=separates)
    return numbers[found] if found < len(numbers) else None


def _summarise(scores: Scores) -> _Tasks:
    means, variances, counts = [], [], []
    for task in scores:
        runs = np.asarray(task, float)
        count = np.sum(~np.isnan(runs), axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # no run has no mean, one run no variance
            mean = np.nansum(runs, axis=0) / count
            variance = np.nansum((runs - mean) ** 2, axis=0) / (count - 1)
        means.append(mean)
        variances.append(variance)
        counts.append(count)
    return _Tasks(np.array(means), np.array(variances), np.array(counts))


def _alone(x: _Tasks) -> tuple[Array, Array]:
    """Returns the variance of each task's mean, and that variance squared per degree of freedom."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = x.variance / x.runs
        return variance, variance**2 / (x.runs - 1)


def _welch(x: _Tasks, y: _Tasks) -> tuple[Array, Array]:
    """Returns the same for the difference of two systems: Welch's, or the pooled variance where it is larger.

    With equal numbers of seeds the two variances are equal, and Welch's has fewer degrees of freedom.
    """
    (ours, our_weight), (theirs, their_weight) = _alone(x), _alone(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = x.runs + y.runs - 2
        shared = ((x.runs - 1) * x.variance + (y.runs - 1) * y.variance) / freedom
        pooled = shared * (1 / x.runs + 1 / y.runs)
        separate, unequal = ours + theirs, x.runs != y.runs
        larger = unequal & (pooled > separate)
        return (
            np.where(larger, pooled, separate),
            np.where(larger, pooled**2 / freedom, our_weight + their_weight),
        )


def _half_width(variances: Array, weights: Array, confidence: float) -> Array:
    """Returns half the width of the interval around the mean over tasks, from `_alone` or `_welch`."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence}: it must be between 0 and 1, such as 0.9")
    return _deviation(variances, weights, (1 + confidence) / 2)


def _deviation(variances: Array, weights: Array, share: float) -> Array:
    """Returns the error of a mean over tasks that a share of all such errors stays below."""
    from scipy.special import stdtrit  # takes a tenth of a second to load

    total, weight = variances.sum(axis=0), weights.sum(axis=0)
    freedom = np.divide(total**2, weight, out=np.ones_like(total), where=weight > 0)
    return np.asarray(stdtrit(freedom, share) * np.sqrt(total) / len(variances))


def _few(runs: Array) -> Array:
    """Says where there are too few runs; `runs` is [tasks] or [tasks, points]."""
    fewest = runs.min(axis=0)
    return np.asarray((fewest < FEWEST) & ((fewest < 2) | (len(runs) < FEWEST_TASKS)))


def _count(task: object) -> int:
    return int(np.sum(~np.isnan(np.asarray(task, float)), axis=0).min())


def _largest(*systems: Scores) -> float:
    sizes = [np.nanmax(np.abs(np.asarray(task, float))) for scores in systems for task in scores]
    return float(max(sizes))
