"""Does training stay healthy? Scores above, or beside, what the critics' diagnostics say on the way."""

import textwrap
from collections.abc import Iterator, Sequence

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
_NOTHING = ("", "")
Cells = Sequence[Sequence[tuple[str, str]]]  # [row][column]: panel and quantity


@styled
def training_health(source: Source) -> Picture:
    """Paper v2, figure 3: per group of tasks the score, and the critics' norms, ELR and dead neurons.

    Raises UserError if no run has any of these diagnostics.
    """
    panels = {panel: tasks for panel, tasks in groups_and_all(source.tasks).items() if panel != ALL}
    points = _scores(source, panels)
    columns = [diagnostic.name for diagnostic in DIAGNOSTICS.values() if diagnostic.in_figure_3]
    logged = {name: _logged(source, panels, name) for name in columns}
    quantities = [SCORE, *(name for name, found in logged.items() if found)]
    if len(quantities) == 1:
        raise UserError(f"fig3 needs {', '.join(columns)} in metrics.csv: train with --diagnostics")
    points += [point for found in logged.values() for point in found]
    cells = [[(panel, quantity) for quantity in quantities] for panel in panels]
    return _picture(source, panels, points, cells)


@styled
def q_bias(source: Source) -> Picture:
    """Paper v1, figure 2: per task the score, the spread of the critics' normalised bias, and their norm.

    Raises UserError if the bias was not measured.
    """
    measured = source.evaluations("q_bias_std")
    if not measured:
        raise UserError("q-bias needs q_bias_std in eval.csv: train with --q-bias")
    panels = {task: (task,) for task in source.tasks if any(task in of for of in measured.values())}
    bias = curves(measured, panels, source.confidence, "q_bias_std", source.until)
    norms = _logged(source, panels, "critic_norm")
    quantities = [SCORE, "q_bias_std", *(["critic_norm"] if norms else [])]
    cells = [[(panel, quantity) for panel in panels] for quantity in quantities]
    points = [*_scores(source, panels), *bias, *norms]
    return _picture(source, panels, points, cells)


def _scores(source: Source, panels: Panels) -> list[Point]:
    return curves(source.scores, panels, source.confidence, until=source.until)


def _logged(source: Source, panels: Panels, column: str) -> list[Point]:
    return curves(source.diagnostic(DIAGNOSTICS[column]), panels, source.confidence, column, source.until)


def _picture(source: Source, panels: Panels, points: Sequence[Point], cells: Cells) -> Picture:
    scores = [point for point in points if point.quantity == SCORE]
    if not scores:
        raise UserError(
            f"no system was evaluated with all its runs in the first {source.until} environment frames"
        )
    looked = looks(source.scores, source.published)
    figure, axes = grid(len(cells), len(cells[0]), 2.3, 1.9)
    for cell, each, left, above in _neighbours(cells, axes):
        panel, quantity = cell
        drawn = lines(points, panel, quantity)
        for system, line in drawn.items():
            band(each, line, looked[system])
        if not drawn:
            each.text(0.5, 0.5, "not recorded", transform=each.transAxes, ha="center", color="0.5")
            each.set_yticks([])
        # Names stand where they change.
        if panel not in (left[0], above[0]):
            each.set_title(title(panel, panels[panel]).replace("\n", ", "), loc="left")
        _limit(each, quantity, panels[panel])
        name = _name(quantity, panels[panel])
        if left == _NOTHING or name != _name(left[1], panels[left[0]]):
            each.set_ylabel(textwrap.fill(name, _TALL))
    frames_axes([each for row in axes for each in row])
    legend(figure, key(scores, looked, source.names))
    gaps = [*remarks(source, panels, scores), *_without(source, points, cells)]
    note(figure, source.footnotes(bands(source), gaps))
    return Picture(figure, [point._asdict() for point in points])


def _neighbours(
    cells: Cells, axes: Sequence[Sequence[Axes]]
) -> Iterator[tuple[tuple[str, str], Axes, tuple[str, str], tuple[str, str]]]:
    """Each cell with its axes, the cell to its left and the one above."""
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            left = row[j - 1] if j else _NOTHING
            above = cells[i - 1][j] if i else _NOTHING
            yield cell, axes[i][j], left, above


def _name(quantity: str, tasks: Sequence[str]) -> str:
    return f"IQM {unit(tasks)}" if quantity == SCORE else DIAGNOSTICS[quantity].label


def _limit(axes: Axes, quantity: str, tasks: Sequence[str]) -> None:
    lowest = min((value for line in axes.lines for value in np.asarray(line.get_ydata())), default=0)
    diagnostic = DIAGNOSTICS.get(quantity)
    if diagnostic and diagnostic.logarithmic and lowest > 0:
        axes.set_yscale("log")  # finds its limits
        low, high = axes.get_ylim()
        room = 1 if high > 2 * low else 2
        axes.set_ylim(low / room, high * room)
        ratio_ticks(axes.yaxis, low / room, high * room)
    elif diagnostic and diagnostic.signed:
        axes.margins(y=0.05)
    elif diagnostic:
        # The limits of a flat line are tight around it.
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * axes.dataLim.ymax))
    elif bounded(tasks):
        axes.set_ylim(0, 1.05)


def _without(source: Source, points: Sequence[Point], cells: Cells) -> list[str]:
    """Which of our systems lack which quantity; others publish scores alone."""
    remarks = []
    panels = dict.fromkeys(panel for row in cells for panel, _ in row)
    for quantity in dict.fromkeys(quantity for row in cells for _, quantity in row):
        has, scored = ({(p.system, p.panel) for p in points if p.quantity == q} for q in (quantity, SCORE))
        lacking = []
        for system in source.scores:
            own = [panel for panel in panels if (system, panel) in scored]
            parts = [panel for panel in own if (system, panel) not in has]
            if parts and system not in source.published:
                where = f" ({', '.join(parts)})" if parts != own else ""
                lacking.append(f"{source.names[system]}{where}")
        if lacking:
            remarks.append(f"without {DIAGNOSTICS[quantity].label}: {', '.join(lacking)}")
    return remarks
