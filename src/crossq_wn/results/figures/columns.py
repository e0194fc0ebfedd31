"""Whether training stays healthy: scores above, or beside, the critics' diagnostics on the way."""

import textwrap
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from crossq_wn.environments.groups import ALL, groups_and_all
from crossq_wn.errors import UserError
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results.figures.captions import remarks, title
from crossq_wn.results.figures.curves import band, bands, key
from crossq_wn.results.figures.points import SCORE, Panels, Point, curves, lines
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Picture,
    bounded,
    frames_axes,
    grid,
    legend,
    looks,
    note,
    ratio_ticks,
    styled,
    unit,
)

_TALL = 17  # letters that stand beside a panel: more would reach into the titles


class Cell(NamedTuple):
    """What one panel of the grid shows."""

    panel: str
    tasks: tuple[str, ...]
    quantity: str

    @property
    def name(self) -> str:
        """What its axis says."""
        return f"IQM {unit(self.tasks)}" if self.quantity == SCORE else DIAGNOSTICS[self.quantity].label


Cells = Sequence[Sequence[Cell]]  # [row][column]


@styled
def training_health(source: Source) -> Picture:
    """Paper v2, figure 3: per group of tasks the score, and the critics' norms, ELR and dead neurons.

    Raises:
        UserError: no run has any of these diagnostics.
    """
    panels = groups_and_all(source.tasks)
    panels.pop(ALL, None)
    points = _scores(source, panels)
    columns = [diagnostic.name for diagnostic in DIAGNOSTICS.values() if diagnostic.in_figure_3]
    quantities = [SCORE]
    for name in columns:
        found = _logged(source, panels, name)
        if found:
            quantities.append(name)
            points += found
    if len(quantities) == 1:
        raise UserError(f"fig3 needs {', '.join(columns)} in metrics.csv: train with --diagnostics")
    rows = []
    for panel, tasks in panels.items():
        rows.append([Cell(panel, tasks, quantity) for quantity in quantities])
    return _picture(source, points, rows)


@styled
def q_bias(source: Source) -> Picture:
    """Paper v1, figure 2: per task the score, the spread of the critics' normalised bias, and their norm.

    Raises:
        UserError: the bias was not measured.
    """
    measured = source.evaluations("q_bias_std")
    if not measured:
        raise UserError("q-bias needs q_bias_std in eval.csv: train with --q-bias")
    there = {task for tasks in measured.values() for task in tasks}
    panels = {task: (task,) for task in source.tasks if task in there}
    bias = curves(measured, panels, source.confidence, "q_bias_std", source.until)
    norms = _logged(source, panels, "critic_norm")
    rows = []
    for quantity in (SCORE, "q_bias_std", *(["critic_norm"] if norms else [])):
        rows.append([Cell(panel, tasks, quantity) for panel, tasks in panels.items()])
    return _picture(source, [*_scores(source, panels), *bias, *norms], rows)


def _scores(source: Source, panels: Panels) -> list[Point]:
    return curves(source.scores, panels, source.confidence, until=source.until)


def _logged(source: Source, panels: Panels, column: str) -> list[Point]:
    return curves(source.diagnostic(DIAGNOSTICS[column]), panels, source.confidence, column, source.until)


def _picture(source: Source, points: Sequence[Point], cells: Cells) -> Picture:
    scores = [point for point in points if point.quantity == SCORE]
    if not scores:
        raise UserError(
            f"no system was evaluated with all its runs in the first {source.until} environment frames"
        )
    looked = looks(source.scores, source.published)
    figure, axes = grid(len(cells), len(cells[0]), 2.3, 1.9)
    every = list(chain.from_iterable(axes))
    for cell, each in zip(chain.from_iterable(cells), every, strict=True):
        drawn = lines(points, cell.panel, cell.quantity)
        for system, line in drawn.items():
            band(each, line, looked[system])
        if not drawn:
            each.text(0.5, 0.5, "not recorded", transform=each.transAxes, ha="center", color="0.5")
            each.set_yticks([])
        _limit(each, cell)
    _label(cells, axes)
    frames_axes(every)
    legend(figure, key(scores, looked, source.names))
    panels = {cell.panel: cell.tasks for cell in chain.from_iterable(cells)}
    gaps = [*remarks(source, panels, scores), *_without(source, points, cells)]
    note(figure, source.footnotes(bands(source), gaps))
    return Picture(figure, [*map(Point.row, points)])


def _label(cells: Cells, axes: Sequence[Sequence[Axes]]) -> None:
    """Names panels and quantities where they change."""
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            left = row[j - 1] if j else None
            above = cells[i - 1][j] if i else None
            if not any(other and other.panel == cell.panel for other in (left, above)):
                axes[i][j].set_title(title(cell.panel, cell.tasks).replace("\n", ", "), loc="left")
            if left is None or cell.name != left.name:
                axes[i][j].set_ylabel(textwrap.fill(cell.name, _TALL))


def _limit(axes: Axes, cell: Cell) -> None:
    """Sets the limits and the scale of a panel's y axis."""
    diagnostic = DIAGNOSTICS.get(cell.quantity)
    if diagnostic is None:
        if bounded(cell.tasks):
            axes.set_ylim(0, 1.05)
    elif diagnostic.logarithmic and _lowest(axes) > 0:
        axes.set_yscale("log")  # finds its limits
        low, high = axes.get_ylim()
        room = 1 if high > 2 * low else 2
        axes.set_ylim(low / room, high * room)
        ratio_ticks(axes.yaxis, low / room, high * room)
    elif diagnostic.signed:
        axes.margins(y=0.05)
    else:
        # The limits of a flat line are tight around it.
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * axes.dataLim.ymax))


def _lowest(axes: Axes) -> float:
    """The lowest value of any line; 0 if there are none."""
    values = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    return float(np.concatenate(values).min()) if values else 0.0


def _without(source: Source, points: Sequence[Point], cells: Cells) -> list[str]:
    """Says which of our systems lack which quantity, and where; others publish scores alone."""
    panels: dict[str, None] = {}
    quantities: dict[str, None] = {}
    for cell in chain.from_iterable(cells):
        panels[cell.panel] = None
        quantities[cell.quantity] = None
    drawn = {(point.system, point.panel, point.quantity) for point in points}
    told = []
    for quantity in quantities:
        lacking = []
        for system in source.own_systems:
            scored = [panel for panel in panels if (system, panel, SCORE) in drawn]
            parts = [panel for panel in scored if (system, panel, quantity) not in drawn]
            if parts:
                where = f" ({', '.join(parts)})" if parts != scored else ""
                lacking.append(f"{source.names[system]}{where}")
        if lacking:
            told.append(f"without {DIAGNOSTICS[quantity].label}: {', '.join(lacking)}")
    return told
