"""Is one system better than another, and can these seeds tell? Two systems' curves -> numbers -> a sentence.

result = compare(results["crossq-wn UTD 5"], results["crossq-wn UTD 2"])
print(verdict("crossq-wn UTD 5", "crossq-wn UTD 2", result))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.results.reading import Curves, Steps, align, groups, reached_by_most
from crossq_wn.results.statistics import (
    Array,
    Estimate,
    difference,
    estimate,
    iqm,
    point_estimate,
    probability_of_improvement,
    seeds_to_separate,
)

FEWEST = 3  # seeds per task below which nothing is separated
MOST = 100  # seeds beyond which nobody would go
# Measured over hundreds of experiments with normal scores and intervals of 90 %.
EQUAL_SEPARATED = (
    "Few seeds mislead: of two equal systems with 3 seeds each on one task, about one experiment in six "
    "(with 5 seeds, one in eleven) would call one the better, at 90 %."
)


@dataclass(frozen=True)
class Comparison:
    """Two systems on the tasks that both have, at the last frame that most of their runs reached."""

    tasks: tuple[str, ...]
    frames: int  # environment frames
    seeds: tuple[tuple[int, ...], tuple[int, ...]]  # of either system, per task
    iqms: tuple[float, float]
    probability: Estimate  # that a run of the first beats one of the second; scalar
    gain: Estimate  # IQM of the first minus that of the second; scalar
    needed: int | None  # about how many seeds per task would tell them apart; None: more than `MOST`

    @property
    def fewest(self) -> int:
        """Seeds on the task with fewest."""
        return min(min(each) for each in self.seeds)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference does, and the probability of improvement says the same.

        One seed has no interval.
        """
        apart = self.gain.low > 0 or self.gain.high < 0
        return bool(self.fewest > 1 and apart and self.gain.value * self._odds > 0)

    @property
    def separated(self) -> bool:
        """Whether that also holds for the wider interval that so few seeds need; never with two.

        The bootstrap's interval is too narrow for a few seeds: of two equal systems with 3 seeds each it
        would call one better in a quarter of the experiments, not in a tenth; the wider one, in a sixth.
        """
        enough = self.fewest >= FEWEST and self.needed is not None and self.needed <= self.fewest
        return self.excludes_zero and enough

    @property
    def _odds(self) -> float:
        return float(self.probability.value) - 0.5

    def swapped(self) -> "Comparison":
        """The same, seen from the other system."""
        p, d = self.probability, self.gain
        return replace(
            self,
            seeds=self.seeds[::-1],
            iqms=self.iqms[::-1],
            probability=Estimate(1 - p.value, 1 - p.high, 1 - p.low),
            gain=Estimate(-d.value, -d.high, -d.low),
        )


def last_scores(curves: Sequence[Curves], among: Steps | None = None) -> tuple[int, list[Array]]:
    """The last environment frame that more than half of the runs of each curve reached, and the scores there.

    Not the longest run's: it would stand for its system alone. Not the shortest's: it may have died early.
    Nor frame 0: nothing is learned there.

    Args:
        curves: one per system and task.
        among: environment frames to prefer, if any of them will do.

    Returns:
        The frame, and per curve [runs], without those that did not get there.

    Raises:
        UserError: no such frame.
    """
    frames, scores = align(curves)
    there = (frames > 0) & reached_by_most(scores)
    if not there.any():
        raise UserError("after frame 0 there is none at which more than half of the runs were evaluated")
    preferred = there & np.isin(frames, frames if among is None else among)
    last = np.flatnonzero(preferred if preferred.any() else there)[-1]
    return int(frames[last]), [runs[:, last][~np.isnan(runs[:, last])] for runs in scores]


def scopes(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Tasks whose scores may be averaged: those of the paper together, each other one alone."""
    together = groups(tasks).get("all", ())
    return [*([together] if together else []), *((task,) for task in tasks if task not in together)]


def compare(
    ours: Mapping[str, Curves], theirs: Mapping[str, Curves], *, confidence: float = 0.9
) -> Comparison:
    """What the runs tell about two systems, each task -> curves, on the tasks that both have.

    Raises:
        UserError: no task, or no environment frame, in common.
    """
    tasks = tuple(task for task in ours if task in theirs)
    if not tasks:
        raise UserError(
            f"no task in common: {', '.join(ours) or 'none'} there, {', '.join(theirs) or 'none'} here"
        )
    frames, scores = last_scores([system[task] for system in (ours, theirs) for task in tasks])
    x, y = scores[: len(tasks)], scores[len(tasks) :]
    seeds = (tuple(map(len, x)), tuple(map(len, y)))
    alone = min(map(len, scores)) < 2
    return Comparison(
        tasks,
        frames,
        seeds,
        (float(point_estimate(iqm, x)), float(point_estimate(iqm, y))),
        estimate(probability_of_improvement, x, y, confidence=confidence),
        estimate(difference(iqm), x, y, confidence=confidence),
        None if alone else seeds_to_separate(iqm, x, y, confidence=confidence, most=MOST),
    )


def verdict(ours: str, theirs: str, result: Comparison) -> str:
    """One or two sentences on two systems by name; `result` is theirs, in this order."""
    if result.gain.value < 0:
        return verdict(theirs, ours, result.swapped())
    where, both = place(result), _both_seeds(result)
    first, second = map(number, result.iqms)
    if result.fewest < 2:
        return (
            f"One seed separates nothing: {where}, {ours} has an IQM of {first} "
            f"({seeds_of(result.seeds[0])}), {theirs} of {second} "
            f"({seeds_of(result.seeds[1])}). Train at least {FEWEST} seeds of each."
        )
    odds = f"probability {fraction(result.probability.value)} ({span(result.probability, fraction)})"
    chance = f"run of {ours} beats one of {theirs} with {odds}"
    numbers = (
        f"IQM {first} against {second}, a difference of {number(result.gain.value)} ({span(result.gain)})"
    )
    if result.separated:
        return f"A {chance} {where}: {numbers}. With {both} they are separated."
    if result.excludes_zero:
        return (
            f"{ours} is ahead of {theirs} {where}, {numbers}, and a {chance}; but {both} are too few to be "
            f"sure: {_needed(ours, theirs, result)}."
        )
    if result.gain.low == result.gain.high == 0:
        return f"With {both} nothing separates {ours} from {theirs} {where}: both have an IQM of {first}."
    return (
        f"With {both} you cannot separate {ours} from {theirs} {where}: {numbers}, and a {chance}; "
        f"{_needed(ours, theirs, result)}."
    )


def place(result: Comparison, group: str | None = None) -> str:
    """On which tasks, called `group` together if that is given, and at which environment frame."""
    where = f"over {group}, {len(result.tasks)} tasks" if group else on(result.tasks)
    return f"{where} at {result.frames:,} frames"


def on(tasks: Sequence[str]) -> str:
    """`on dog-run`, `over 15 tasks`."""
    return f"on {' and '.join(tasks)}" if len(tasks) < 3 else f"over {len(tasks)} tasks"


def number(score: float | Array) -> str:
    """A score: three decimals where it is a fraction, whole where it is a large return."""
    value = float(score)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def span(interval: Estimate, form: Callable[[float], str] | None = None) -> str:
    """The ends of an interval, `form` says how each is written."""
    return " to ".join((form or number)(float(end)) for end in (interval.low, interval.high))


def fraction(probability: float | Array) -> str:
    """A probability."""
    return f"{probability:.2f}"


def _needed(ours: str, theirs: str, result: Comparison) -> str:
    """How many seeds would do, of the system that has fewer or of both."""
    if result.needed is None:
        return f"more than {MOST} seeds of each would be needed"
    enough = max(result.needed, result.fewest + 1)
    short = [name for name, has in zip((ours, theirs), result.seeds, strict=True) if min(has) < enough]
    return f"about {enough} seeds of {'each' if len(short) > 1 else short[0]} would tell"


def seeds_of(per_task: Sequence[int], unit: str = "seed") -> str:
    """`3 seeds`, `2 to 5 seeds per task`; only the number if the unit is empty."""
    fewest, most = min(per_task), max(per_task)
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    if not unit:
        return count
    return f"{count} {unit}{'' if most == 1 else 's'}" + (" per task" if len(per_task) > 1 else "")


def _both_seeds(result: Comparison) -> str:
    ours, theirs = result.seeds
    if seeds_of(ours) == seeds_of(theirs):
        return seeds_of(ours)
    if len(set(ours)) == len(set(theirs)) == 1:
        return f"{ours[0]} and {seeds_of(theirs)}"
    return seeds_of([*ours, *theirs])
