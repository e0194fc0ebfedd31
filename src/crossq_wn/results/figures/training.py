"""Returns of training episodes, of runs that were trained without evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossq_wn.errors import UserError
from crossq_wn.results import reading
from crossq_wn.results.along import LABELS
from crossq_wn.results.curves import Curves
from crossq_wn.results.figures.files import save
from crossq_wn.results.figures.style import Row, grid, heading, legend, looks, note, styled, x_axes
from crossq_wn.results.practice import unlogged
from crossq_wn.results.reading import Warn
from crossq_wn.results.records import Input
from crossq_wn.results.sheets import Steps
from crossq_wn.runs.tables import EVAL_COLUMNS

COLUMN = "episode_return"  # of metrics.csv


@styled
def training_curve(runs: Sequence[Input], out: Path, warn: Warn) -> list[Path]:
    """Draws the returns of the training episodes of one task's runs, a line per seed.

    Args:
        runs: to draw.
        out: where to write, without suffix.
        warn: called with a line for each run that cannot be read.

    Returns:
        The files written: PNG, SVG and the CSV behind them.

    Raises:
        UserError: several tasks, or no training episode is recorded.
    """
    found, ended = reading.logged(runs, COLUMN, warn), reading.logged(runs, "episodes", warn)
    tasks = sorted({task for curves in found.values() for task in curves})
    if not tasks:
        raise unlogged(runs) or UserError(
            f"nothing to draw: metrics.csv in {runs[0].path} has no training episode yet"
        )
    if len(tasks) > 1:
        raise UserError(f"the runs are of several tasks ({', '.join(tasks)}): plot one at a time")
    figure, (axes,) = grid(1, 1, 5.2, 3.4)
    table: list[Row] = []
    for system, look in looks(found).items():
        curves = found[system][tasks[0]]
        for seed, values in zip(curves.seeds, curves.values, strict=True):
            there = ~np.isnan(values)
            there[there] = _new(ended.get(system, {}).get(tasks[0]), seed, curves.env_steps[there])
            frames, returns = curves.env_steps[there].tolist(), values[there].tolist()
            marker = look.marker if len(frames) == 1 else ""
            axes.plot(frames, returns, look.colour, linewidth=1, marker=marker, label=system.label)
            for frame, value in zip(frames, returns, strict=True):
                about = (system.label, tasks[0], seed, COLUMN, frame, value)
                table.append(dict(zip(EVAL_COLUMNS, about, strict=True)))
    axes.set(title=heading(tasks[0], 5.2), ylabel="return of training episodes")
    x_axes([axes], LABELS["frames"])
    handles, names = axes.get_legend_handles_labels()
    legend(figure, dict(zip(names, handles, strict=True)))
    note(
        figure,
        ["each line is one seed, and shows training episodes, with exploration: there are no evaluations"],
    )
    return save(figure, table, out)


def _new(ended: Curves | None, seed: str, frames: Steps) -> npt.NDArray[np.bool_]:
    """Says at which of a seed's rows an episode has ended since the row before, whose return it else repeats.

    Args:
        ended: how many episodes have ended, in the rows of metrics.csv; None: that is not recorded.
        seed: which one.
        frames: of the rows that have a return.
    """
    if ended is None or seed not in ended.seeds:
        return np.ones(len(frames), bool)
    counts = ended.values[ended.seeds.index(seed), np.isin(ended.env_steps, frames)]
    return np.asarray(np.diff(counts, prepend=0) > 0)
