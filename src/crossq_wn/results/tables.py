"""How do runs stand beside others, frame by frame? Medians over seeds at the frames that both evaluated."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments import suite_of
from crossq_wn.environments.core import Episode
from crossq_wn.errors import UserError, one_line
from crossq_wn.results import reading
from crossq_wn.results.reading import Curves, Results
from crossq_wn.runs.config import read_config
from crossq_wn.runs.directory import find


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


class EpisodeSummary(NamedTuple):
    """Some episodes of one policy."""

    mean: float  # return
    std: float  # of the returns, from the sample; 0 of a single episode
    success: float  # fraction of the episodes
    frames: float  # environment frames per episode, on average


def episode_summary(episodes: Sequence[Episode]) -> EpisodeSummary:
    """Return, success and length of at least one episode."""
    returns = np.array([episode.total_reward for episode in episodes])
    return EpisodeSummary(
        mean=float(returns.mean()),
        std=float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        success=float(np.mean([episode.success for episode in episodes])),
        frames=float(np.mean([episode.frames for episode in episodes])),
    )


class RunRow(NamedTuple):
    """A run directory in a list of them."""

    run: Path
    task: str
    system: str
    seeds: str  # `0,1,2`
    evaluated: int  # the last environment frame that was evaluated
    frames: int  # environment frames to train
    score: float  # mean of the seeds' last evaluations, as they were logged


def runs_table(root: Path, warn: Callable[[str], None]) -> Iterator[RunRow]:
    """The runs in a folder; `warn` is told of damaged ones, which are left out."""
    for path in find(root):
        try:
            options, (system, task, curves) = read_config(path).options, reading.load(path)
        except UserError as error:
            warn(f"{path} is skipped: {one_line(error)}")
            continue
        last = [values[~np.isnan(values)][-1] for values in curves.values]  # a seed that failed ends sooner
        logged = float(np.mean(last)) * suite_of(task).scale
        seeds = ",".join(map(str, options.seeds))
        yield RunRow(path, task, system, seeds, int(curves.env_steps[-1]), options.frames, logged)
