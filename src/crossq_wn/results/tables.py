"""Numbers for the command line's tables: runs beside others, evaluation episodes, lists of runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.core import Episode
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.curves import Curves, Results
from crossq_wn.results.last import last_evaluation
from crossq_wn.results.records import RunRecord
from crossq_wn.results.sheets import Steps
from crossq_wn.results.standing import standing
from crossq_wn.runs.folders import find
from crossq_wn.runs.system import System


class Median(NamedTuple):
    """The median of the seeds at one frame; written `0.540 (1/3)` where only 1 of 3 seeds got that far."""

    value: float
    reached: int  # seeds
    seeds: int

    def __format__(self, form: str) -> str:
        few = f" ({self.reached}/{self.seeds})" if self.reached < self.seeds else ""
        return f"{self.value:{form}}{few}"


class Row(NamedTuple):
    """One system's row."""

    system: str  # its label
    seeds: int
    medians: list[Median | None]  # None where it was not evaluated at that frame


class Table(NamedTuple):
    """One task's table, with a row per system."""

    task: str
    env_steps: list[int]  # columns, environment frames
    rows: list[Row]


def compare(ours: Results, theirs: Results, most: int = 10) -> list[Table]:
    """Makes a table for each of our tasks: our systems first, then the others, best last score first.

    Args:
        ours: our systems; their tasks and frames are shown.
        theirs: other systems; a table leaves out those that lack its task or all its frames.
        most: the largest number of columns, which are spread over the curve.

    Raises:
        UserError: the two have no task and frame in common.
    """
    tasks = sorted(set[str]().union(*ours.values()))
    tables = []
    others = 0
    for task in tasks:
        mine, rest = _on(ours, task), _on(theirs, task)
        steps = _columns(list(mine.values()), list(rest.values()), most)
        rows = _rows(mine, steps)
        ranked = _ranked(_rows(rest, steps))
        others += len(ranked)
        tables.append(Table(task, steps.tolist(), rows + ranked))
    if theirs and not others:
        raise UserError(f"nothing to compare with on {', '.join(tasks)} at the frames evaluated")
    return tables


def _on(results: Results, task: str) -> dict[System, Curves]:
    return {system: tasks[task] for system, tasks in results.items() if task in tasks}


def _columns(ours: Sequence[Curves], theirs: Sequence[Curves], most: int) -> Steps:
    """Chooses at most `most` of our frames, if possible among those at which others were evaluated too."""
    # Frames that one of our systems has; a system without a value there gets an empty cell.
    steps = np.unique(np.concatenate([curves.env_steps for curves in ours]))
    if theirs:
        shared = np.intersect1d(steps, np.concatenate([curves.env_steps for curves in theirs]))
        steps = shared if len(shared) else steps
    if len(steps) > most:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))]
    return steps


def _rows(systems: dict[System, Curves], steps: Steps) -> list[Row]:
    return [_row(system.label, curves, steps) for system, curves in systems.items()]


def _row(label: str, curves: Curves, steps: Steps) -> Row:
    seeds = len(curves.seeds)
    medians: list[Median | None] = []
    for step in steps:
        values = curves.values[:, curves.env_steps == step]
        reached = values[~np.isnan(values)]
        found = Median(float(np.median(reached)), len(reached), seeds) if len(reached) else None
        medians.append(found)
    return Row(label, seeds, medians)


def _ranked(rows: Iterable[Row]) -> list[Row]:
    """Sorts the rows that have a score by their last ones, the best first; ties by the scores before."""
    there = [row for row in rows if any(row.medians)]
    return sorted(there, key=_backwards)[::-1]


def _backwards(row: Row) -> list[float]:
    return [-np.inf if cell is None else cell.value for cell in reversed(row.medians)]


class EpisodeSummary(NamedTuple):
    """What some episodes of one policy came to."""

    mean: float  # return
    std: float | None  # of the returns (the sample's); None: a single episode has no spread
    success: float | None  # fraction of the episodes; None: the task does not say what success is
    frames: float  # environment frames per episode, on average


def episode_summary(episodes: Sequence[Episode]) -> EpisodeSummary:
    """Sums up some episodes, at least one."""
    returns = np.array([episode.total_reward for episode in episodes])
    said = any(episode.success is not None for episode in episodes)
    return EpisodeSummary(
        mean=float(returns.mean()),
        std=float(returns.std(ddof=1)) if len(returns) > 1 else None,
        success=float(np.mean([bool(episode.success) for episode in episodes])) if said else None,
        frames=float(np.mean([episode.frames for episode in episodes])),
    )


class RunRow(NamedTuple):
    """A run directory in a list of them."""

    run: Path
    task: str
    system: str
    state: str  # such as `done`
    seeds: tuple[int, ...]
    evaluated: int  # the last environment frame that was evaluated
    frames: int  # environment frames to train
    scored: int  # seeds that were evaluated there; those that failed before are not in the score
    score: float  # mean of these seeds' evaluations, as they were logged; NaN before the first one


def runs_table(root: Path, warn: Callable[[str], None]) -> Iterator[RunRow]:
    """Yields the runs below a folder, without damaged ones; `warn` is called with a line on each of those.

    Args:
        root: the folder.
        warn: called with a line for each run that is left out.
    """
    for path in find(root):
        record = RunRecord(path)
        try:
            identity, last = record.identity, last_evaluation(record)
            (seeds, frames), state = record.planned, standing(record, last)
        except UserError as error:
            warn(f"{path} is skipped: {one_line(error)}")
            continue
        yield RunRow(
            run=path,
            task=identity.task,
            system=identity.system.label,
            state=state,
            seeds=seeds,
            evaluated=last.frames,
            frames=frames,
            scored=last.scored,
            score=last.score,
        )
