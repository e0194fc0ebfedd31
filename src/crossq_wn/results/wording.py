"""Comparisons in words, and how numbers are written."""

from collections.abc import Callable, Sequence
from typing import Protocol

from crossq_wn.results.comparison import Comparison
from crossq_wn.results.statistics import Array
from crossq_wn.results.verdicts import MOST


class Interval(Protocol):
    """Anything with two ends, such as an `Estimate` or an `Effect`."""

    @property
    def low(self) -> Array:
        """The lower end, a scalar array."""

    @property
    def high(self) -> Array:
        """The upper end, a scalar array."""


def sentence(ours: str, theirs: str, result: Comparison) -> str:
    """Writes the verdict on two systems in one or two sentences.

    Args:
        ours: the name of the first system.
        theirs: the name of the second.
        result: compares the first with the second.
    """
    if result.gain.value < 0:
        return sentence(theirs, ours, result.swapped())
    both, where = _both_seeds(result), place(result)
    first, second = map(number, result.iqms)
    numbers = f"IQMs are {first} and {second}"
    if result.fewest < 2:
        return (
            f"Inconclusive {where}: one seed tells nothing about the spread. {ours} has "
            f"{worth(first, result.seeds[0])} ({seeds_of(result.seeds[0])}), {theirs} "
            f"{worth(second, result.seeds[1])} ({seeds_of(result.seeds[1])})."
        )
    odds = f"a run of {ours} beats one of {theirs} with probability {fraction(result.probability.value)}"
    if result.too_few:
        return (
            f"Inconclusive {where} with {both}: {ours} has an IQM of {first} and {theirs} of {second}, and "
            f"{odds}. But there are only {result.too_few}. "
            f"{_needed(ours, theirs, result)}"
        )
    if result.gain.value == 0 and result.gain.low == result.gain.high:
        return f"Inconclusive {where} with {both}: {ours} and {theirs} have the same scores."
    gap = f"means differ by {number(result.gain.value)} ({span(result.gain)})"
    if result.decided:
        return f"{ours} is better than {theirs} {where} with {both}: the {gap}, the {numbers}, and {odds}."
    return (
        f"Inconclusive {where} with {both}: {ours} and {theirs} cannot be told apart: their {gap}, their "
        f"{numbers}, and {odds}. {_needed(ours, theirs, result)}"
    )


def worth(value: str, per_task: Sequence[int]) -> str:
    """Writes what a system is worth, by the number of its seeds on each task: `an IQM of 0.600`."""
    return f"a score of {value}" if sum(per_task) == 1 else f"an IQM of {value}"


def place(result: Comparison, group: str | None = None) -> str:
    """Says on which tasks, called `group` together if that is given, and at which environment frame.

    Args:
        result: the comparison.
        group: the name of its tasks together; None: they are named or counted.
    """
    where = f"over {group}, {len(result.tasks)} tasks" if group else on(result.tasks)
    return f"{where} at {result.frames:,} frames"


def on(tasks: Sequence[str]) -> str:
    """Writes on which tasks: `on dog-run`, `over 15 tasks`."""
    return f"on {' and '.join(tasks)}" if len(tasks) < 3 else f"over {len(tasks)} tasks"


def number(score: float | Array) -> str:
    """Writes a score: with three decimals if it is small, and rounded if it is a large return."""
    value = float(score)
    return f"{value:z,.0f}" if abs(value) >= 100 else f"{value:z.3f}" if abs(value) < 10 else f"{value:z.1f}"


def span(interval: Interval, form: Callable[[float], str] | None = None) -> str:
    """Writes the ends of an interval; `form` says how each is written.

    Args:
        interval: with finite ends.
        form: how each end is written; None: as `number` does.
    """
    return " to ".join((form or number)(float(end)) for end in (interval.low, interval.high))


def fraction(probability: float | Array) -> str:
    """Writes a probability."""
    return f"{probability:.2f}"


def seeds_of(per_task: Sequence[int], unit: str = "seed") -> str:
    """Writes how many seeds: `3 seeds`, `2 to 5 seeds per task`; just the number if the unit is empty.

    Args:
        per_task: numbers of seeds, one per task.
        unit: the noun after the number; empty: none.
    """
    fewest, most = min(per_task), max(per_task)
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    if not unit:
        return count
    return f"{count} {unit}{'' if most == 1 else 's'}" + (" per task" if len(per_task) > 1 else "")


def _needed(ours: str, theirs: str, result: Comparison) -> str:
    """Says how many seeds would be enough, of the system that has too few or of both."""
    if result.needed is None:
        return f"If the difference is as small as it looks, more than {MOST} seeds of each would be needed."
    enough = max(result.needed, result.fewest + 1)
    short = [name for name, has in zip((ours, theirs), result.seeds, strict=True) if min(has) < enough]
    whose = "each" if len(short) > 1 else short[0]
    return f"If the difference is as large as it looks, about {enough} seeds of {whose} would tell."


def _both_seeds(result: Comparison) -> str:
    ours, theirs = result.seeds
    if seeds_of(ours) == seeds_of(theirs):
        return seeds_of(ours)
    if len(set(ours)) == len(set(theirs)) == 1:
        return f"{ours[0]} and {seeds_of(theirs)}"
    return seeds_of([*ours, *theirs])
