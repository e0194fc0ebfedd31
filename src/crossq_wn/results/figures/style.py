"""The look of all figures: colours for any colour vision, and text that is legible at half width."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from crossq_wn.environments import suite_of

# Okabe and Ito's colours, which can be told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # when colours repeat, the next marker is used
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")

MARK = "crossq-wn"  # in the pictures' metadata

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9.5,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,  # 93.66 and not 0.01 with a far +9.365e1
    "svg.fonttype": "none",  # text is kept as text
    "svg.hashsalt": MARK,  # equal pictures give equal files
    "text.parse_math": False,  # dollar signs in names are no formulas
    "text.usetex": False,
}

# An axis of scores ends at 1 if the highest exceeds _NEAR, else at _ROOM times the highest, _LEAST at least.
_NEAR, _ROOM, _LEAST = 0.5, 1.15, 0.01

_LETTER, _HANDLE = (
    0.075,
    0.55,
)  # width in a legend, in inches: about a letter's, and the mark's before a label
_TITLE_LETTER = 0.095  # about a letter's width in a title, in inches

# Inches around a single panel: at its edges, a tick, a digit beside it, the y label, and the x axis below.
_MARGIN, _TICK, _DIGIT, _BESIDE, _BELOW = 0.08, 0.1, 0.085, 0.2, 0.5

Key = TypeVar("Key")  # what is drawn: a system, or a family of them

styled = mpl.rc_context(STYLE)  # decorates functions that draw

Row = Mapping[str, object]


class Picture(NamedTuple):
    """A figure and the table behind it."""

    figure: Figure
    rows: Sequence[Row]


class Look(NamedTuple):
    """How one system is drawn, in every panel."""

    colour: str
    marker: str
    hatch: str
    dash: Literal["-", "--"]  # dashed: published by others


def looks(systems: Iterable[Key], published: Iterable[Key] = ()) -> dict[Key, Look]:
    """Gives each system a look; the same systems in the same order always look the same.

    Args:
        systems: all systems that are drawn.
        published: those whose curves others published.
    """
    others, colours = set(published), len(COLOURS)
    found = {}
    for i, system in enumerate(systems):
        colour = COLOURS[i % colours]
        marker = MARKERS[i // colours % len(MARKERS)]
        hatch = HATCHES[i // colours % len(HATCHES)]
        found[system] = Look(colour, marker, hatch, "--" if system in others else "-")
    return found


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Makes an empty figure in the house's style.

    Args:
        rows: of panels.
        columns: of panels.
        width: of a panel, in inches.
        height: of a panel, in inches.

    Returns:
        The figure, and its axes row after row [rows * columns].
    """
    # The labels of the axes need some inches beside and below the panels.
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.3), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def single(width: float, height: float) -> tuple[Figure, Axes]:
    """Makes an empty figure with one panel; call `place` once it is drawn, to make room for labels.

    Args:
        width: of the figure, in inches.
        height: of the figure, in inches.
    """
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def place(figure: Figure, axes: Axes) -> None:
    """Makes room for the labels of the only panel of a figure, judging by the number of their letters.

    Constrained layout would draw everything twice to find out, which takes longer than the drawing itself;
    that matters where a report has a hundred pictures.
    """
    width, height = figure.get_size_inches()
    axes.yaxis.set_major_formatter(short)  # the usual one writes powers of ten above the panel
    numbers = axes.yaxis.get_major_formatter().format_ticks(list(axes.yaxis.get_majorticklocs()))
    left = _MARGIN + _TICK + _DIGIT * max(map(len, numbers), default=0)
    left += _BESIDE if axes.get_ylabel() else 0
    right, above = width - 2 * _MARGIN, height - _MARGIN  # half of the last number may stick out there
    axes.set_position((left / width, _BELOW / height, (right - left) / width, (above - _BELOW) / height))


def wrapped(titles: Sequence[str], most: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Makes a grid of panels with these titles, at most `most` in a row; a single panel is larger.

    Args:
        titles: of the panels.
        most: the largest number of panels in a row.
        width: of a panel, in inches.
        height: of a panel, in inches.

    Returns:
        The figure, and its axes row after row [panels].
    """
    panels = len(titles)
    columns = panels if panels <= min(3, most) else min(most, math.ceil(math.sqrt(panels)))
    size = (width, height) if panels > 1 else (5.2, 3.4)
    figure, axes = grid(math.ceil(panels / columns), columns, *size)
    for unused in axes[panels:]:
        unused.remove()
    lines = 1
    for each, title in zip(axes, titles, strict=False):
        shown = heading(title, size[0])
        lines = max(lines, shown.count("\n") + 1)
        each.set_title(shown)
    rows = math.ceil(panels / columns)
    figure.set_figheight(
        figure.get_figheight() + 0.15 * max(0, lines - 2) * rows
    )  # two lines have room already
    return figure, axes[:panels]


def heading(title: str, width: float) -> str:
    """Breaks a title into lines that fit a panel, within words if need be.

    Args:
        title: one line or several.
        width: of the panel, in inches.
    """
    letters = int(width / _TITLE_LETTER)
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in title.split("\n"))


def x_axes(axes: Sequence[Axes], label: str) -> None:
    """Makes x axes that begin at 0, and labels those of panels with no panel below them."""
    for each in axes:
        each.set_xlim(left=0)
        each.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))  # 2.5: up to 800 or 900
        each.xaxis.set_major_formatter(short)
    for each in lowest(axes):
        each.set_xlabel(label)


def first_in_row(axes: Axes) -> bool:
    """Says whether a panel is the first in its row."""
    spec = axes.get_subplotspec()
    return spec is None or spec.is_first_col()


def score_axes(axes: Sequence[Axes], tasks: Iterable[Sequence[str]], statistic: str = "IQM") -> None:
    """Sets range and label of y axes of scores, once these are drawn; repeated labels are left out.

    Bounded scores begin at 0 and end where `end_of_scores` says; others follow the data.

    Args:
        axes: of the panels, row after row.
        tasks: each panel's tasks.
        statistic: the statistic that is drawn.
    """
    before = ""
    for each, those in zip(axes, tasks, strict=True):
        here = unit(those)
        if bounded(those):
            each.set_ylim(0, end_of_scores(each.dataLim.ymax))
        if here != before or first_in_row(each):
            each.set_ylabel(f"{statistic} {here}")
        before = here


def end_of_scores(highest: float) -> float:
    """Returns where an axis of scores from 0 to 1 ends.

    It ends at 1 if a score comes near that, so that pictures can be compared. Otherwise it follows the data,
    because a short run would leave an axis up to 1 empty.

    Args:
        highest: the highest value that is drawn, intervals included.
    """
    return max(_ROOM * highest, _LEAST) if highest <= _NEAR else 1.05


def lowest(axes: Sequence[Axes]) -> list[Axes]:
    """Returns the panels with no panel below them; panels fill row after row."""
    spec = axes[0].get_subplotspec()
    return list(axes) if spec is None else list(axes[-spec.get_gridspec().ncols :])


def ratio_ticks(axis: Axis, low: float, high: float) -> None:
    """Gives a logarithmic axis from low to high ticks with plain numbers.

    Args:
        axis: the x or the y axis of a panel.
        low: where it begins, above 0.
        high: where it ends.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    multiples = (1, 2, 5) if last - first < 5 else (1,)
    ticks = np.outer(10.0 ** np.arange(first, last + 1), multiples).ravel()
    ticks = ticks[(low <= ticks) & (ticks <= high)]
    if len(ticks) < 2:  # of a narrow range, such as 6 to 9
        ticks = np.asarray(MaxNLocator(3).tick_values(low, high))
        ticks = ticks[(low <= ticks) & (ticks <= high)]
    axis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / 5)].tolist()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(short)


def short(number: float, position: object = None) -> str:
    """Writes a number on an axis: 1500 as 1.5k, 2000000 as 2M, 2000000000 as 2e+09."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if size <= abs(number) < 1e9:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def unit(tasks: Iterable[str]) -> str:
    """Says what the scores of these tasks are: `return / 1000`, `success rate`, `return`, or `score`."""
    units = {suite_of(task).unit for task in tasks}
    return units.pop() if len(units) == 1 else "score"


def bounded(tasks: Iterable[str]) -> bool:
    """Says whether no score of these tasks can exceed 1."""
    return all(suite_of(task).bounded for task in tasks)


def legend(figure: Figure, names: Mapping[str, Artist]) -> None:
    """Draws one legend above all panels; `names` maps each label to the mark beside it."""
    room = figure.get_figwidth()
    letters = int((room - _HANDLE) / _LETTER)
    labels = [textwrap.wrap(name, letters, break_on_hyphens=False) for name in names]
    columns = len(labels)
    while columns > 1 and _size(labels, columns)[0] >= room:
        columns -= 1
    figure.set_figheight(figure.get_figheight() + 0.2 * _size(labels, columns)[1])
    figure.legend(
        list(names.values()), ["\n".join(label) for label in labels], loc="outside upper center",
        ncols=columns, frameon=False, handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip


def _size(labels: Sequence[list[str]], columns: int) -> tuple[float, int]:
    """Estimates the width in inches, and the height in lines, of a legend of these wrapped labels."""
    width, height = 0.0, 0
    for part in np.array_split(np.arange(len(labels)), columns):  # a legend is filled column after column
        lines = list(chain.from_iterable(labels[part[0] : part[-1] + 1]))
        width += _LETTER * max(map(len, lines)) + _HANDLE
        height = max(height, len(lines))
    return width, height


def note(figure: Figure, texts: Sequence[str]) -> None:
    """Writes small print below all panels, a paragraph per text."""
    width = int(figure.get_figwidth() / 0.062)  # about a small letter's width, in inches
    small: list[str] = []
    for text in texts:
        small += textwrap.wrap(text, width, break_on_hyphens=False)
    if small:
        figure.set_figheight(figure.get_figheight() + 0.14 * len(small))
        figure.supxlabel("\n".join(small), x=0.01, ha="left", fontsize=8, color="0.3")
