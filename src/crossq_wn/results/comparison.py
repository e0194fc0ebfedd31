"""Compares two systems' curves on the tasks that both have.

result = compare(results["crossq-wn UTD 5"], results["crossq-wn UTD 2"])
print(sentence("crossq-wn UTD 5", "crossq-wn UTD 2", result))  # of results.wording
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crossq_wn.environments.groups import by_suite, paper_together
from crossq_wn.errors import UserError
from crossq_wn.results.curves import Curves, align, reached_by_most
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import (
    USUAL,
    Aggregation,
    Array,
    Estimate,
    Scores,
    estimate,
    iqm,
    point_estimate,
    probability_of_improvement,
)
from crossq_wn.results.verdicts import Effect, effect, lies_above, lies_below, seeds_needed, too_few


@dataclass(frozen=True)
class Comparison:
    """Two systems compared on the tasks that both have, at the last frame that most of their runs reached."""

    tasks: tuple[str, ...]
    frames: int  # environment frames
    seeds: tuple[tuple[int, ...], tuple[int, ...]]  # of the first and of the second system, per task
    iqms: tuple[float, float]
    probability: Estimate  # that a run of the first beats one of the second
    gain: Effect  # by how much the first exceeds the second
    needed: int | None  # about how many seeds per task would tell; None: more than `verdicts.MOST`
    too_few: str  # why no verdict is possible with these seeds; empty if one is

    @property
    def fewest(self) -> int:
        """The number of seeds on the task that has the fewest."""
        return min(min(each) for each in self.seeds)

    @property
    def decided(self) -> bool:
        """Whether one of the two is better: the first if the gain is positive, else the second."""
        return bool(lies_above(self.gain) or lies_below(self.gain))

    def swapped(self) -> "Comparison":
        """The same comparison, seen from the other system."""
        odds = self.probability
        return replace(
            self,
            seeds=self.seeds[::-1],
            iqms=self.iqms[::-1],
            probability=Estimate(1 - odds.value, 1 - odds.high, 1 - odds.low),
            gain=self.gain.swapped(),
        )


def compare(
    ours: Mapping[str, Curves], theirs: Mapping[str, Curves], *, how: Aggregation = USUAL
) -> Comparison:
    """Compares two systems on the tasks that both have.

    Args:
        ours: the curves of the first system, by task.
        theirs: the curves of the second.
        how: confidence, and what counts alike in the IQMs; in a verdict tasks always do.

    Raises:
        UserError: they have no task, or no environment frame, in common.
    """
    tasks = tuple(task for task in ours if task in theirs)
    if not tasks:
        raise UserError(
            f"no task in common: {', '.join(ours) or 'none'} there, {', '.join(theirs) or 'none'} here"
        )
    frames, scores = last_scores([system[task] for system in (ours, theirs) for task in tasks])
    x, y = scores[: len(tasks)], scores[len(tasks) :]
    alone = min(map(len, scores)) < 2  # a single seed has no spread
    return Comparison(
        tasks=tasks,
        frames=frames,
        seeds=(tuple(map(len, x)), tuple(map(len, y))),
        iqms=(_iqm(x, how), _iqm(y, how)),
        probability=estimate(probability_of_improvement, x, y, confidence=how.confidence),
        gain=effect(x, y, confidence=how.confidence),
        needed=None if alone else seeds_needed(x, y, confidence=how.confidence),
        too_few=too_few(x, y),
    )


def _iqm(scores: Scores, how: Aggregation) -> float:
    return float(point_estimate(iqm, scores, weighting=how.weighting))


def last_scores(curves: Sequence[Curves], among: Steps | None = None) -> tuple[int, list[Array]]:
    """Finds the last environment frame that more than half of the runs of each curve reached.

    At the end of the longest run, that run alone would stand for its system; the shortest run may have died
    early. Frame 0 does not count, since nothing has been learned by then.

    Args:
        curves: one per system and task.
        among: environment frames [points] to prefer, if any of them qualifies.

    Returns:
        The frame, and each curve's scores there [runs], without the runs that did not get that far.

    Raises:
        UserError: there is no such frame.
    """
    frames, scores = align(curves)
    there = (frames > 0) & reached_by_most(scores)
    if not there.any():
        raise UserError("there is no frame after 0 at which more than half of the runs were evaluated")
    preferred = there & np.isin(frames, frames if among is None else among)
    last = np.flatnonzero(preferred if preferred.any() else there)[-1]
    return int(frames[last]), [runs[:, last][~np.isnan(runs[:, last])] for runs in scores]


def scopes(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Splits tasks into those whose scores may be averaged.

    These are the paper's tasks, the tasks that another suite groups, and each other task by itself.
    """
    together = paper_together(tasks)
    others = by_suite(task for task in tasks if task not in together)
    return [*([together] if together else []), *others.values()]
