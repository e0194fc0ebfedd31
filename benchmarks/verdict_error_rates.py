"""Error rates and power of verdicts, in simulated experiments that the package's own rule judges.

    python benchmarks/verdict_error_rates.py [PAIRS]

It prints the tables of docs/statistics.md. With the default of 2,000 simulated pairs of systems per cell it
takes some minutes on one core.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.results.verdicts import effect, lies_above, lies_below

Array = np.ndarray
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]  # scores of mean 0 and standard deviation 1
CONFIDENCE = 0.9
SEEDS = ((2, 2), (3, 3), (5, 5), (10, 10), (3, 10))  # of the first and of the second system, on each task
TASKS = (1, 8)
EFFECTS = {1: (1.0, 2.0, 4.0), 8: (0.5, 1.0, 2.0)}  # tasks -> true differences, in standard deviations


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return generator.standard_normal(shape)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return generator.exponential(1.0, shape) - 1


def failing(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One seed in three fails."""
    fails = generator.random(shape) < 1 / 3
    return np.where(fails, -np.sqrt(2), np.sqrt(0.5)) + 0.1 * generator.standard_normal(shape)


def two_groups(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Half of the seeds learn and the others do not."""
    return np.where(generator.random(shape) < 0.5, -1.0, 1.0) + 0.05 * generator.standard_normal(shape)


def success(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Success rates over five episodes, among which many are equal."""
    return (generator.binomial(5, 0.2, shape) - 1) / np.sqrt(0.8)


class Scores(NamedTuple):
    """How both systems' scores are distributed."""

    name: str
    draw: Draw
    ratio: float = 1.0  # standard deviation of the second system over that of the first


SHAPES = (
    Scores("normal", normal),
    Scores("skewed (exponential)", skewed),
    Scores("one seed in three fails", failing),
    Scores("two groups of seeds", two_groups),
    Scores("success rates of 5 episodes", success),
    Scores("normal, spread 1 to 4", normal, 4.0),
    Scores("normal, spread 4 to 1", normal, 0.25),
    Scores("skewed, spread 1 to 4", skewed, 4.0),
    Scores("skewed, spread 4 to 1", skewed, 0.25),
)


def systems(shape: Scores, tasks: int, seeds: tuple[int, int], pairs: int) -> tuple[list[Array], list[Array]]:
    """Scores of two systems that are equal in expectation; per task [runs, pairs].

    Tasks differ in level and spread, as they do in practice.
    """
    generator = np.random.default_rng([tasks, *seeds, SHAPES.index(shape)])
    levels = np.linspace(-2, 2, tasks) if tasks > 1 else np.zeros(1)
    spreads = np.geomspace(0.5, 2, tasks) if tasks > 1 else np.ones(1)
    ours, theirs = [], []
    for level, spread in zip(levels, spreads, strict=True):
        ours.append(level + spread * shape.draw(generator, (seeds[0], pairs)))
        theirs.append(level + spread * shape.ratio * shape.draw(generator, (seeds[1], pairs)))
    return ours, theirs


def decided(ours: list[Array], theirs: list[Array] | None) -> tuple[float, float]:
    """The fractions of experiments in which the first system, and the second, is called better."""
    found = effect(ours, theirs, confidence=CONFIDENCE)
    return float(lies_above(found).mean()), float(lies_below(found).mean())


def rate(shape: Scores, tasks: int, seeds: tuple[int, int], pairs: int) -> float:
    """How often one of two systems is called better although their expected scores are equal."""
    return sum(decided(*systems(shape, tasks, seeds, pairs)))


def power(shape: Scores, tasks: int, seeds: tuple[int, int], pairs: int, difference: float) -> float:
    """How often the better system is called better, if it is better by `difference` standard deviations."""
    ours, theirs = systems(shape, tasks, seeds, pairs)
    return decided([task + difference for task in ours], theirs)[0]


def rate_alone(shape: Scores, tasks: int, seeds: int, pairs: int) -> float:
    """How often a system's number is put on one side of a threshold although it equals it in expectation."""
    ours, _ = systems(shape, tasks, (seeds, 2), pairs)
    middle = -2 + 4 * np.arange(tasks) / (tasks - 1) if tasks > 1 else np.zeros(1)
    return sum(decided([task - level for task, level in zip(ours, middle, strict=True)], None))


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    columns = [(tasks, seeds) for tasks in TASKS for seeds in SEEDS]
    heads = [f"{tasks} task{'s' * (tasks > 1)}, {x} and {y}" for tasks, (x, y) in columns]
    print(f"Equal systems, called different at {CONFIDENCE:.0%}; seeds of either system\n")
    table(["scores", *heads], [[s.name, *(rate(s, t, n, pairs) for t, n in columns)] for s in SHAPES])
    for tasks, effects in EFFECTS.items():
        kinds = [(seeds, difference) for seeds in SEEDS for difference in effects]
        heads = [f"{x} and {y}, {difference:g}" for (x, y), difference in kinds]
        print(f"\nThe better system found, {tasks} task{'s' * (tasks > 1)}; seeds, true difference\n")
        same = [shape for shape in SHAPES if shape.ratio == 1 or shape.ratio == 4]
        table(["scores", *heads], [[s.name, *(power(s, tasks, n, pairs, d) for n, d in kinds)] for s in same])
    alone = [shape for shape in SHAPES if shape.ratio == 1]
    columns_alone = [(tasks, seeds) for tasks in TASKS for seeds in (2, 3, 5, 10)]
    heads = [f"{tasks} task{'s' * (tasks > 1)}, {seeds}" for tasks, seeds in columns_alone]
    print("\nOne system's number beside a threshold that it equals; seeds\n")
    table(
        ["scores", *heads], [[s.name, *(rate_alone(s, t, n, pairs) for t, n in columns_alone)] for s in alone]
    )


def table(head: list[str], rows: list[list[str | float]]) -> None:
    """Prints a table in Markdown, with fractions in per cent."""
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        cells = [cell if isinstance(cell, str) else f"{100 * cell:.0f} %" for cell in row]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
