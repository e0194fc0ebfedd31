"""Estimates over runs and tasks, with stratified bootstrap intervals.

The estimators are those of Agarwal et al. (2021), "Deep RL at the edge of the statistical precipice"; the
paper (v2, section 5.1) reports the IQM with 90 % stratified bootstrap intervals:

    steps, scores = curves.align([results["crossq-wn"][task] for task in tasks])
    curve = estimate(iqm, scores)  # .value, .low, .high: [points]

These intervals are for figures and tables. With few seeds they are too narrow to judge systems by;
verdicts.py has intervals for that.

Scores are one array per task, [runs] or [runs, points]; larger is better. Runs may be of unequal length:
NaN marks a point at which a run has no score, and each point counts only the runs that have one. (So a run
that died is missing, not bad.) Where a task has no run at all the value is NaN, and a replicate that drew no
run of a task is left out of the interval.

Where tasks have different numbers of runs, a `Weighting` says what has equal weight: tasks (the runs of a
task with fewer are weighted as if repeated until there are as many as in the task with the most), or runs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from crossq_wn.errors import UserError
from crossq_wn.results.resampling import draws, interval, known_draws

Array = npt.NDArray[np.float64]
Scores = Sequence[npt.ArrayLike]  # per task [runs] or [runs, points]

# Monte-Carlo error of an interval's end: 5 % of the estimate's standard error (1 % with 50,000 replicates).
REPLICATES = 2000

Weighting = Literal["tasks", "runs"]  # which count alike where tasks have unequally many runs


class Aggregation(NamedTuple):
    """How runs are summed up over tasks: what `estimate` takes besides the scores."""

    confidence: float = 0.9
    weighting: Weighting = "tasks"


USUAL = Aggregation()


@dataclass(frozen=True)
class Sample:
    """All runs at one point, and how each of many bootstrap replicates weights them."""

    values: Array  # [runs], task after task
    first: npt.NDArray[np.intp]  # [tasks]: each task's first run
    weights: Array  # [replicates, runs]; 0 without a score; whole if tasks have equally many runs
    task_sizes: Array  # [replicates, tasks], or [replicates, 1] if all are the same: sums of a task's weights
    size: Array  # [replicates]: sum of all weights

    def tasks(self) -> list[slice]:
        """Returns where each task's runs lie in `values`."""
        return [slice(start, end) for start, end in pairwise([*self.first, len(self.values)])]


Statistic = Callable[..., Array]  # one Sample per algorithm -> [replicates]


class Estimate(NamedTuple):
    """A value with its interval; each [points], or a scalar array if the scores have no points."""

    value: Array
    low: Array
    high: Array


def mean(sample: Sample) -> Array:
    """Computes the mean of the tasks' means, or of all runs if these count alike."""
    return sample.weights @ sample.values / sample.size


def median(sample: Sample) -> Array:
    """Computes the median of the tasks' means."""
    sums = np.add.reduceat(sample.weights * sample.values, sample.first, axis=1)
    return np.asarray(np.median(sums / sample.task_sizes, axis=1))


def iqm(sample: Sample) -> Array:
    """Computes the mean of all tasks' runs without the lowest and the highest quarter of them.

    Of n runs, floor(n / 4) are dropped at either end. Where tasks have equal weight but different numbers of
    runs, n is as if all had as many as the largest, and a run at the border counts in part.
    """
    # Values are sorted once, not in each replicate: the running sum of the weights says where a quarter ends.
    order = np.argsort(sample.values)
    rank = sample.weights.take(order, axis=1)
    np.cumsum(rank, axis=1, out=rank)
    low = np.floor(sample.size / 4)[:, None]
    high = sample.size[:, None] - low
    np.clip(rank, low, high, out=rank)
    values = sample.values[order]
    kept = (rank[:, 0] - low[:, 0]) * values[0] + (rank[:, 1:] - rank[:, :-1]) @ values[1:]
    return np.asarray(kept / (high - low)[:, 0])


def optimality_gap(sample: Sample, gamma: float = 1.0) -> Array:
    """Computes by how much scores fall short of `gamma` on average; scores above it count as `gamma`.

    Args:
        sample: the runs' scores, with the weights of each replicate.
        gamma: the score beyond which more does not count.

    Returns:
        [replicates].
    """
    return sample.weights @ np.maximum(gamma - sample.values, 0) / sample.size


def probability_of_improvement(x: Sample, y: Sample) -> Array:
    """Computes how likely a run of x is to beat one of y, averaged over tasks; a tie counts as half.

    Args:
        x: the runs of one system.
        y: those of the other one, on the same tasks.

    Returns:
        [replicates], each from 0 to 1.

    Raises:
        UserError: they have different numbers of tasks.
    """
    if len(x.first) != len(y.first):
        raise UserError(
            f"there are {len(x.first)} and {len(y.first)} tasks, but improvement is per task: "
            "keep those that both have"
        )
    wins = []  # per task [replicates]: weighted pairs that x wins
    for i, j in zip(x.tasks(), y.tasks(), strict=True):
        higher = (1 + np.sign(x.values[i, None] - y.values[j])) / 2
        wins.append(np.sum(x.weights[:, i] @ higher * y.weights[:, j], axis=1))
    return np.asarray(np.mean(np.stack(wins, axis=1) / (x.task_sizes * y.task_sizes), axis=1))


def difference(statistic: Statistic) -> Statistic:
    """Returns the statistic of one algorithm minus that of another; their runs are drawn separately."""
    return lambda x, y: statistic(x) - statistic(y)


def performance_profile(
    scores: Scores,
    taus: npt.ArrayLike,
    *,
    confidence: float = 0.9,
    weighting: Weighting = "tasks",
    replicates: int = REPLICATES,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Computes the fraction of runs that score above each of `taus`, with pointwise intervals, each [taus].

    Args:
        scores: per task [runs].
        taus: thresholds [taus], in the unit of the scores.
        confidence: as for `estimate`.
        weighting: as for `estimate`.
        replicates: as for `estimate`.
        seed: as for `estimate`.

    Raises:
        UserError: as for `estimate`.
    """
    above = []  # per task [runs, taus]: 1 or 0; NaN without a score
    for task in scores:
        column = np.asarray(task, float)[:, None]
        above.append(np.where(np.isnan(column), np.nan, column > np.asarray(taus)))
    return estimate(mean, above, confidence=confidence, weighting=weighting, replicates=replicates, seed=seed)


def estimate(
    statistic: Statistic,
    *scores: Scores,
    confidence: float = 0.9,
    weighting: Weighting = "tasks",
    replicates: int = REPLICATES,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Computes a statistic with its stratified bootstrap percentile interval, pointwise along curves.

    Args:
        statistic: such as `iqm`, or one of two algorithms such as `difference(iqm)`.
        scores: one system's, or two systems' for a statistic of two; each per task [runs] or [runs, points].
        confidence: the fraction of such intervals that should contain the true value, between 0 and 1.
        weighting: what has equal weight where tasks have different numbers of runs: "tasks" or "runs".
        replicates: the number of bootstrap samples; see `REPLICATES`.
        seed: of the random draws; equal seeds give equal intervals.

    Raises:
        UserError: scores do not fit together, confidence lies outside (0, 1), or there are no replicates.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence}: it must be between 0 and 1, such as 0.9")
    ways, which = _resampled(statistic, scores, weighting, replicates, seed)
    value = point_estimate(statistic, *scores, weighting=weighting)
    return Estimate(value, *interval(ways, which, confidence))


def point_estimate(statistic: Statistic, *scores: Scores, weighting: Weighting = "tasks") -> Array:
    """Computes a statistic of the runs themselves, without resampling: [points], or a scalar array.

    Args:
        statistic: such as `iqm`; of as many systems as there are scores.
        scores: of each system per task [runs] or [runs, points].
        weighting: what counts alike where tasks have unequally many runs.

    Raises:
        UserError: scores do not fit together.
    """
    strata = _together(scores)
    once = [np.ones((1, len(each.task))) for each in strata]
    return np.asarray(_evaluate(statistic, strata, once, weighting)[0])


def bootstrap(
    statistic: Statistic,
    *scores: Scores,
    weighting: Weighting = "tasks",
    replicates: int = REPLICATES,
    seed: int | np.random.Generator = 0,
) -> Array:
    """Computes a statistic of resampled runs: [replicates] or [replicates, points].

    Runs are drawn with replacement within their task; each keeps all its points.

    Args:
        statistic: as for `estimate`.
        scores: as for `estimate`.
        weighting: as for `estimate`.
        replicates: as for `estimate`.
        seed: as for `estimate`.

    Raises:
        UserError: as for `estimate`.
    """
    ways, which = _resampled(statistic, scores, weighting, replicates, seed)
    return np.asarray(ways[which])


def _resampled(
    statistic: Statistic,
    scores: Sequence[Scores],
    weighting: Weighting,
    replicates: int,
    seed: int | np.random.Generator,
) -> tuple[Array, npt.NDArray[np.intp]]:
    """Computes a statistic of every way in which runs are drawn: [ways] or [ways, points].

    Also returns the way of each replicate [replicates].
    """
    if replicates < 1:
        raise UserError(f"replicates is {replicates}: at least 1, such as {REPLICATES}")
    strata = _together(scores)
    counts = tuple(tuple(each.counts.tolist()) for each in strata)
    draw = known_draws if isinstance(seed, int) else draws
    blocks, which = draw(counts, replicates, seed)
    found = [_evaluate(statistic, strata, block, weighting) for block in blocks]
    return np.concatenate(found), which


@dataclass(frozen=True)
class _Strata:
    """All runs of all tasks stacked; the tasks are the strata of the bootstrap."""

    values: Array  # [runs, points]
    task: npt.NDArray[np.intp]  # [runs]
    first: npt.NDArray[np.intp]  # [tasks]
    counts: npt.NDArray[np.intp]  # [tasks]: how many runs each has
    curve: bool  # whether the scores had a points axis

    def samples(self, draws: Array, weighting: Weighting) -> Iterator[Sample]:
        """Yields a sample per point; neighbouring points share weights if the same runs have scores there."""
        reached = ~np.isnan(self.values.T)  # [points, runs]
        values = np.ascontiguousarray(np.where(reached, self.values.T, 0))
        other = np.ones(len(values), bool)  # [points]: whether other runs have a score than just before
        other[1:] = (reached[1:] != reached[:-1]).any(axis=1)
        for point in range(len(values)):
            if other[point]:
                drawn = draws * reached[point]
                per_task = np.add.reduceat(drawn, self.first, axis=1)
                sizes = per_task.max(axis=1, keepdims=True) if weighting == "tasks" else per_task
                # The weights of a task without any run become NaN.
                with np.errstate(divide="ignore", invalid="ignore"):
                    weights = drawn * (sizes / per_task)[:, self.task]
                size = np.sum(np.broadcast_to(sizes, per_task.shape), axis=1)
            yield Sample(values[point], self.first, weights, sizes, size)


def _stack(scores: Scores) -> _Strata:
    tasks = [np.asarray(task, float) for task in scores]
    shapes = {task.shape[1:] for task in tasks}
    if not tasks or any(task.ndim not in (1, 2) or task.size == 0 for task in tasks):
        raise UserError("scores are one array per task, [runs] or [runs, points], and none may be empty")
    if len(shapes) > 1:
        raise UserError(
            f"tasks have unequal points {sorted(shapes)}: crossq_wn.results.curves.align() aligns them"
        )
    stacked = np.concatenate(tasks).reshape(sum(map(len, tasks)), -1)
    if np.isinf(stacked).any():
        raise UserError("a score is infinite: leave the run out, or give NaN where it has no score")
    counts = np.array([len(task) for task in tasks])
    task = np.repeat(np.arange(len(tasks)), counts)
    return _Strata(stacked, task, np.cumsum(counts) - counts, counts, tasks[0].ndim == 2)


def _together(scores: Sequence[Scores]) -> list[_Strata]:
    """Stacks the scores of each system, which must have the same points."""
    strata = list(map(_stack, scores))
    points = [each.values.shape[1] for each in strata]
    if len(set(points)) != 1 or len({each.curve for each in strata}) != 1:
        raise UserError(f"the algorithms have {points} points: align them first")
    return strata


def _evaluate(
    statistic: Statistic, strata: Sequence[_Strata], draws: Sequence[Array], weighting: Weighting
) -> Array:
    """Computes a statistic point by point: [replicates, points], or [replicates] if scores have no points."""
    systems = [each.samples(drawn, weighting) for each, drawn in zip(strata, draws, strict=True)]
    points = zip(*systems, strict=True)  # of each system a sample
    result = np.stack([statistic(*samples) for samples in points], axis=1)
    return result if strata[0].curve else result[:, 0]
