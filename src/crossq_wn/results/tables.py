"""How do runs stand beside others, frame by frame? Medians over seeds at the frames that both evaluated."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.results.reading import Curves, Results


class Median(NamedTuple):
    """A cell; written with its seeds where not all of them got that far: `0.540 (1/3)`."""

    value: float
    reached: int  # seeds
    seeds: int

    def __format__(self, form: str) -> str:
        few = f" ({self.reached}/{self.seeds})" if self.reached < self.seeds else ""
        return f"{self.value:{form}}{few}"


class Table(NamedTuple):
    """One task: a row per system; a cell is None where a system was not evaluated at that frame."""

    task: str
    env_steps: list[int]  # columns, environment frames
    rows: list[tuple[str, int, list[Median | None]]]  # system, its seeds, medians


def compare(ours: Results, theirs: Results, most: int = 10) -> list[Table]:
    """A table per task of ours: our systems first, then the others by their last score.

    Args:
        ours: decides tasks and frames.
        theirs: other systems; those without one of the tasks or frames are left out there.
        most: columns at most, spread over the curve.

    Raises UserError if there is nothing in common.
    """
    tasks = sorted({task for system in ours.values() for task in system})
    tables = [_table(task, _on(ours, task), _on(theirs, task), most) for task in tasks]
    if theirs and not any(len(table.rows) > len(_on(ours, table.task)) for table in tables):
        raise UserError(f"nothing to compare with on {', '.join(tasks)} at the frames evaluated")
    return tables


def _on(results: Results, task: str) -> dict[str, Curves]:
    return {system: tasks[task] for system, tasks in results.items() if task in tasks}


def _table(task: str, ours: dict[str, Curves], theirs: dict[str, Curves], most: int) -> Table:
    own = np.unique(np.concatenate([curve.env_steps for curve in ours.values()]))
    others = [curve.env_steps for curve in theirs.values()]
    # Frames that someone else was evaluated at as well come first.
    shared = np.intersect1d(own, np.concatenate(others)) if others else own
    steps = shared if len(shared) else own
    if len(steps) > most:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))]
    mine = [_row(system, curve, steps) for system, curve in ours.items()]
    rest = [_row(system, curve, steps) for system, curve in theirs.items()]
    rest = [row for row in rest if any(cell is not None for cell in row[2])]
    rest.sort(key=lambda row: [-np.inf if cell is None else cell.value for cell in reversed(row[2])])
    return Table(task, [int(step) for step in steps], [*mine, *reversed(rest)])


def _row(
    system: str, curve: Curves, steps: Sequence[int] | np.ndarray
) -> tuple[str, int, list[Median | None]]:
    seeds = len(curve.seeds)
    medians: list[Median | None] = []
    for step in steps:
        values = curve.values[:, curve.env_steps == step]
        reached = values[~np.isnan(values)]
        found = Median(float(np.median(reached)), len(reached), seeds) if len(reached) else None
        medians.append(found)
    return system, seeds, medians
