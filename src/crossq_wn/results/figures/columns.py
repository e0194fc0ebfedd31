"""Figures on the health of training: scores beside, or above, the critics' diagnostics."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from crossq_wn.environments.groups import ALL, groups_and_all
from crossq_wn.errors import UserError, option
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results.along import LABELS
from crossq_wn.results.figures.captions import remarks, title
from crossq_wn.results.figures.curves import band, bands, key, placed, score_curves
from crossq_wn.results.figures.points import SCORE, Panels, Point, curves, lines, rows
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Picture,
    bounded,
    end_of_scores,
    grid,
    legend,
    looks,
    note,
    ratio_ticks,
    styled,
    unit,
    x_axes,
)
from crossq_wn.results.practice import unlogged
from crossq_wn.runs.system import System

_TALL = 17  # letters that fit beside a panel in one line


class Cell(NamedTuple):
    """What one panel of the grid shows."""

    panel: str
    tasks: tuple[str, ...]
    quantity: str

    @property
    def name(self) -> str:
        """The label of its y axis."""
        return f"IQM {unit(self.tasks)}" if self.quantity == SCORE else DIAGNOSTICS[self.quantity].label


@styled
def training_health(source: Source) -> Picture:
    """Paper v2, figure 3: score, and the critics' norms, effective learning rates and dead neurons, by group.

    Raises:
        UserError: no run has any of these diagnostics.
    """
    panels = groups_and_all(source.tasks)
    panels.pop(ALL, None)  # each group has its own row; there is none for all tasks together
    points = score_curves(source, panels)
    columns = [diagnostic.name for diagnostic in DIAGNOSTICS.values() if diagnostic.in_figure_3]
    quantities = [SCORE]
    for name in columns:
        found = _logged(source, panels, name)
        if found:
            quantities.append(name)
            points += found
    if len(quantities) == 1:
        raise unlogged(source.ours) or UserError(
            f"fig3 needs {', '.join(columns)} in metrics.csv, which has them after the warm-up: train "
            f"longer, and with {option('diagnostics', True)}"
        )
    cells = []
    for panel, tasks in panels.items():
        cells += [Cell(panel, tasks, quantity) for quantity in quantities]
    return _picture(source, points, cells, len(quantities))


@styled
def q_bias(source: Source) -> Picture:
    """Paper v1, figure 2: score, spread of the critics' normalised bias, and their norm, by task.

    Raises:
        UserError: the bias was not measured.
    """
    measured = source.evaluations("q_bias_std")
    if not measured:
        raise UserError(f"q-bias needs q_bias_std in eval.csv: train with {option('q_bias', True)}")
    there = set[str]().union(*measured.values())
    panels = {task: (task,) for task in source.tasks if task in there}
    bias = placed(source, panels, curves(measured, panels, source.how, "q_bias_std", source.last))
    norms = _logged(source, panels, "critic_norm")
    quantities = [SCORE, "q_bias_std"]
    if norms:
        quantities.append("critic_norm")
    cells = []
    for quantity in quantities:
        cells += [Cell(panel, tasks, quantity) for panel, tasks in panels.items()]
    return _picture(source, [*score_curves(source, panels), *bias, *norms], cells, len(panels))


def _logged(source: Source, panels: Panels, column: str) -> list[Point]:
    """Returns the curves of a diagnostic; empty if no system recorded it."""
    found = source.diagnostic(DIAGNOSTICS[column])
    return placed(source, panels, curves(found, panels, source.how, column, source.last))


def _picture(source: Source, points: Sequence[Point], cells: Sequence[Cell], columns: int) -> Picture:
    """Draws the cells row after row [rows * columns]."""
    scores = [point for point in points if point.quantity == SCORE]
    looked = looks(source.scores, source.published)
    figure, axes = grid(len(cells) // columns, columns, 2.3, 1.9)
    for cell, each in zip(cells, axes, strict=True):
        drawn = lines(points, cell.panel, cell.quantity)
        for system, line in drawn.items():
            band(each, line, looked[system])
        if drawn:
            _limit(each, cell)
        else:
            each.text(0.5, 0.5, "not recorded", transform=each.transAxes, ha="center", color="0.5")
            each.set_yticks([])
    _label(cells, axes, columns)
    x_axes(axes, LABELS[source.along])
    legend(figure, key(scores, looked, source.names))
    panels = {cell.panel: cell.tasks for cell in cells}
    gaps = [*remarks(source, panels, scores), *_without(source, points, cells)]
    note(figure, source.footnotes(bands(source, points), gaps))
    return Picture(figure, rows(points))


def _label(cells: Sequence[Cell], axes: Sequence[Axes], columns: int) -> None:
    """Writes titles and y labels where they differ from the neighbour's."""
    for i, (cell, each) in enumerate(zip(cells, axes, strict=True)):
        left = cells[i - 1] if i % columns else None
        above = cells[i - columns] if i >= columns else None
        # In a grid of groups by quantities each row gets one title; in one of quantities by tasks, each
        # column.
        if cell.panel not in [other.panel for other in (left, above) if other]:
            each.set_title(title(cell.panel, cell.tasks).replace("\n", ", "), loc="left")
        if left is None or cell.name != left.name:
            each.set_ylabel(textwrap.fill(cell.name, _TALL))


def _limit(axes: Axes, cell: Cell) -> None:
    """Sets the range of a panel's y axis, once its curves are drawn."""
    diagnostic = DIAGNOSTICS.get(cell.quantity)
    lowest = min((np.min(line.get_ydata()) for line in axes.lines), default=0)
    if diagnostic is None:  # the score
        if bounded(cell.tasks):
            axes.set_ylim(0, end_of_scores(axes.dataLim.ymax))
    elif diagnostic.logarithmic and lowest > 0:
        axes.set_yscale("log")  # which also finds limits
        low, high = axes.get_ylim()
        room = 1 if high > 2 * low else 2
        axes.set_ylim(low / room, high * room)
        ratio_ticks(axes.yaxis, low / room, high * room)
    elif diagnostic.signed:
        axes.margins(y=0.05)
    else:
        # Without this the limits of a flat line would be tight around it.
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * axes.dataLim.ymax))


def _without(source: Source, points: Sequence[Point], cells: Sequence[Cell]) -> list[str]:
    """Says which of our systems lack which quantity, and where; published systems have only scores."""
    drawn: dict[tuple[System, str], dict[str, None]] = {}  # system and quantity -> panels
    for point in points:
        drawn.setdefault((point.system, point.quantity), {})[point.panel] = None
    told = []
    for quantity in dict.fromkeys(cell.quantity for cell in cells):
        lacking = []
        for system in source.own_systems:
            scored, there = drawn.get((system, SCORE), {}), drawn.get((system, quantity), {})
            parts = [panel for panel in scored if panel not in there]
            if parts:
                where = f" ({', '.join(parts)})" if len(parts) < len(scored) else ""
                lacking.append(f"{source.names[system]}{where}")
        if lacking:
            told.append(f"without {DIAGNOSTICS[quantity].label}: {', '.join(lacking)}")
    return told
