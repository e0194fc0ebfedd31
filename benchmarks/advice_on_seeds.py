"""How often the report is right that so many seeds would tell, on published curves.

    python benchmarks/advice_on_seeds.py CURVES.csv.gz [PAIRS]

CURVES is a table of published results (see `crossq_wn.results.reading`). Pairs of systems that share a task
with at least five seeds each are drawn and compared at 200,000 and at 1,000,000 environment frames, on one
task or over one of the paper's groups. Their published seeds are taken for the whole truth: an experiment
draws few of them, with replacement, and where its verdict is inconclusive, new experiments draw as many seeds
as the advice says. It prints the table of docs/statistics.md, in some minutes on one core with the default of
300 pairs per row.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import by_group
from crossq_wn.results import duplicates, reading
from crossq_wn.results.curves import Curves, Results
from crossq_wn.results.verdicts import MOST, POWER, effect, lies_above, lies_below, seeds_needed

Array = np.ndarray
SEEDS = (3, 5)  # of either system in the first experiment
FRAMES = (200_000, 1_000_000)
FEWEST = 5  # published seeds of a system that may stand for the truth
EXPERIMENTS = 5  # first experiments per pair of systems
TRIALS = 40  # new experiments that follow an advice


class Case(NamedTuple):
    """Two systems whose published seeds are the truth, per task [seeds]."""

    ours: list[Array]
    theirs: list[Array]

    @property
    def difference(self) -> float:
        """The true difference of the means."""
        return float(np.mean([x.mean() for x in self.ours]) - np.mean([y.mean() for y in self.theirs]))


class Advice(NamedTuple):
    """What became of one advice."""

    needed: int | None  # seeds, as advised; None: more than `MOST`
    told: float  # fraction of new experiments with so many seeds, or with `MOST`, that told
    right: float  # and said what is true


def cases(results: Results, frames: int, wide: bool) -> Iterator[Case]:
    """Yields every two systems on each task, or over each group of tasks (`wide`)."""
    for (_, ours), (_, theirs) in combinations(results.items(), 2):
        x, y = at(ours, frames), at(theirs, frames)
        shared = [task for task in x if task in y]
        for tasks in by_group(shared).values() if wide else ([task] for task in shared):
            if (len(tasks) > 1) == wide:
                yield Case([x[task] for task in tasks], [y[task] for task in tasks])


def at(tasks: dict[str, Curves], frames: int) -> dict[str, Array]:
    """The scores of each task at the evaluation nearest to a frame, where enough seeds have one."""
    found = {}
    for task, curves in tasks.items():
        nearest = int(np.argmin(np.abs(curves.env_steps - frames)))
        scores = curves.values[:, nearest]
        scores = scores[~np.isnan(scores)]
        if len(scores) >= FEWEST and abs(int(curves.env_steps[nearest]) - frames) <= frames / 10:
            found[task] = scores
    return found


def draw(generator: np.random.Generator, case: Case, seeds: int, experiments: int) -> tuple[list[Array], ...]:
    """Draws seeds of either system for several experiments: per task [seeds, experiments]."""
    drawn: list[list[Array]] = []
    for tasks in case:
        drawn.append([generator.choice(task, (seeds, experiments)) for task in tasks])
    return tuple(drawn)


def told(ours: Sequence[Array], theirs: Sequence[Array]) -> tuple[Array, Array]:
    """Whether each experiment calls the first or the second system better [experiments]."""
    found = effect(ours, theirs)
    return lies_above(found), lies_below(found)


def advices(generator: np.random.Generator, case: Case, seeds: int, power: float) -> list[Advice]:
    """Follows the advice of each experiment whose verdict is inconclusive."""
    ours, theirs = draw(generator, case, seeds, EXPERIMENTS)
    above, below = told(ours, theirs)
    known: dict[int, tuple[float, float]] = {}
    found = []
    for i in np.flatnonzero(~(above | below)):
        few = [task[:, i] for task in ours], [task[:, i] for task in theirs]
        needed = seeds_needed(*few, power=power)
        if needed is not None:
            needed = max(needed, seeds + 1)  # as the report says it
        following = needed or MOST
        if following not in known:
            known[following] = outcome(generator, case, following)
        found.append(Advice(needed, *known[following]))
    return found


def outcome(generator: np.random.Generator, case: Case, seeds: int) -> tuple[float, float]:
    """The fractions of experiments with so many seeds that tell, and that tell the truth."""
    above, below = told(*draw(generator, case, seeds, TRIALS))
    right = above if case.difference > 0 else below
    return float(np.mean(above | below)), float(np.mean(right))


def row(name: str, found: Sequence[Advice]) -> str:
    """A row of the table."""
    advised = [each for each in found if each.needed is not None]
    rightly = [each.told < 0.5 for each in found if each.needed is None]
    cells = (
        f"{len(advised) / len(found):.0%}",
        f"{np.median([each.needed or 0 for each in advised]):.0f}",
        f"{np.mean([each.right for each in advised]):.0%}",
        f"{np.mean([each.told - each.right for each in advised]):.1%}",
        f"{np.mean(rightly):.0%}" if rightly else "–",
    )
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    path, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300
    results = reading.scores(duplicates.usable([path], print))
    print(
        "| first experiment, share meant to tell | a number is advised | its median | new experiments tell "
        f"the truth | the contrary | more than {MOST} is right |\n|---|---|---|---|---|---|"
    )
    for wide, seeds, power in product((False, True), SEEDS, (0.5, POWER)):
        generator = np.random.default_rng(0)
        there = [case for frames in FRAMES for case in cases(results, frames, wide)]
        found: list[Advice] = []
        for i in generator.permutation(len(there))[:most]:
            found += advices(generator, there[i], seeds, power)
        where = "a group of tasks" if wide else "one task"
        print(row(f"{seeds} seeds on {where}, {power:.0%}", found), flush=True)


if __name__ == "__main__":
    main()
