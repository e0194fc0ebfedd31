"""The look of all figures: colours for any colour vision, text that is legible at half width."""

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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from crossq_wn.environments import suite_of

# Okabe & Ito: distinguishable with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # the second round of colours has the next marker
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
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": MARK,  # the same picture is the same file
    "text.parse_math": False,  # a name with dollar signs is a name
    "text.usetex": False,
}

# The end of an axis of scores from 0 to 1: from where on it is 1, else room above the data, and the least.
_NEAR, _ROOM, _LEAST = 0.5, 1.15, 0.01

_LETTER, _HANDLE = 0.075, 0.55  # inches in a legend, about: a letter, the mark before a label
_TITLE_LETTER = 0.095  # inches of a letter in a title, about

_MARGIN, _BELOW = 0.08, 0.5  # inches around a single panel: at its edges, and for numbers and label below it

Key = TypeVar("Key")  # what is drawn: a system, or a family of them

styled = mpl.rc_context(STYLE)  # decorates what draws

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
    dash: Literal["-", "--"]  # dashed: not our own runs


def looks(systems: Iterable[Key], published: Iterable[Key] = ()) -> dict[Key, Look]:
    """Gives each system a look, in order, so that equal systems in equal order look the same.

    Args:
        systems: all that are drawn.
        published: those of them that others ran.
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
    # Inches beside and below the panels: the labels of the axes stand there.
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.3), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def single(width: float, height: float) -> tuple[Figure, Axes]:
    """Makes an empty figure of one panel; `place` makes room for its labels once it is drawn.

    Args:
        width: of the figure, in inches.
        height: of the figure, in inches.
    """
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def place(figure: Figure, axes: Axes) -> None:
    """Makes room for the labels of the only panel of a figure.

    Constrained layout does the same for any number of panels and takes four times as long, which counts where
    a report has a hundred pictures.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    dots = figure.dpi
    width, height = figure.get_size_inches() * dots
    beside = axes.yaxis.get_tightbbox(renderer)  # ticks and label, in dots
    left = _MARGIN * dots + (axes.bbox.x0 - beside.x0 if beside else 0)
    below = _BELOW * dots
    right, above = width - 2 * _MARGIN * dots, height - _MARGIN * dots  # half a number may stand out there
    axes.set_position((left / width, below / height, (right - left) / width, (above - below) / height))


def wrapped(titles: Sequence[str], most: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Does as `grid`, for panels with these titles, in rows of at most `most`; a single panel is larger."""
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
    figure.set_figheight(figure.get_figheight() + 0.15 * max(0, lines - 2) * rows)  # two have room as it is
    return figure, axes[:panels]


def heading(title: str, width: float) -> str:
    """Breaks a title over lines, within words too if it must be, so that a panel is as wide.

    Args:
        title: one line or several.
        width: of the panel, in inches.
    """
    letters = int(width / _TITLE_LETTER)
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in title.split("\n"))


def x_axes(axes: Sequence[Axes], label: str) -> None:
    """Makes x axes of what curves run over, from 0 on, and labels those with no panel below."""
    for each in axes:
        each.set_xlim(left=0)
        each.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        each.xaxis.set_major_formatter(short)
    for each in lowest(axes):
        each.set_xlabel(label)


def first_in_row(axes: Axes) -> bool:
    """Says whether no panel stands to the left of this one."""
    spec = axes.get_subplotspec()
    return spec is None or spec.is_first_col()


def score_axes(axes: Sequence[Axes], tasks: Iterable[Sequence[str]], statistic: str = "IQM") -> None:
    """Makes the y axes those of scores, once they are drawn; the unit stands where it changes.

    Scores with a largest value begin at 0 and end where `end_of_scores` says; others are as the data are.

    Args:
        axes: of the panels, row after row.
        tasks: per panel.
        statistic: what is drawn of the scores.
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

    That is at 1 if a score comes near it, so that pictures can be laid side by side; a short run, whose
    scores are far below, would leave such a picture empty.

    Args:
        highest: the highest value that is drawn, with its interval.
    """
    return max(_ROOM * highest, _LEAST) if highest <= _NEAR else 1.05


def lowest(axes: Sequence[Axes]) -> list[Axes]:
    """Returns those panels that have none below; they fill row after row."""
    spec = axes[0].get_subplotspec()
    return list(axes) if spec is None else list(axes[-spec.get_gridspec().ncols :])


def ratio_ticks(axis: Axis, low: float, high: float) -> None:
    """Sets plain numbers as the ticks of a logarithmic axis that ranges from low to high."""
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
    """Names what a score of these tasks is: `return / 1000`, `success rate`, `return`, or `score`."""
    units = {suite_of(task).unit for task in tasks}
    return units.pop() if len(units) == 1 else "score"


def bounded(tasks: Iterable[str]) -> bool:
    """Says whether no score of these tasks can exceed 1."""
    return all(suite_of(task).bounded for task in tasks)


def legend(figure: Figure, names: Mapping[str, Artist]) -> None:
    """Draws one legend above all panels; `names` maps each label to what it looks like."""
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
    """About how many inches wide, and how many lines high, a legend of these wrapped labels is."""
    width, height = 0.0, 0
    for part in np.array_split(np.arange(len(labels)), columns):  # a legend is filled column after column
        lines = list(chain.from_iterable(labels[part[0] : part[-1] + 1]))
        width += _LETTER * max(map(len, lines)) + _HANDLE
        height = max(height, len(lines))
    return width, height


def note(figure: Figure, texts: Sequence[str]) -> None:
    """Draws small print below all panels, a paragraph per text."""
    width = int(figure.get_figwidth() / 0.062)  # inches that a small letter takes, about
    small: list[str] = []
    for text in texts:
        small += textwrap.wrap(text, width, break_on_hyphens=False)
    if small:
        figure.set_figheight(figure.get_figheight() + 0.14 * len(small))
        figure.supxlabel("\n".join(small), x=0.01, ha="left", fontsize=8, color="0.3")
