"""How do all figures look? Colours for any colour vision, text that is legible at half width, files."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
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
}

_LETTER, _HANDLE = 0.075, 0.55  # inches in a legend, about: a letter, the mark before a label

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


def looks(systems: Iterable[str], published: Iterable[str] = ()) -> dict[str, Look]:
    """A look for each system, in order; equal systems in equal order look the same."""
    others, rounds = set(published), len(COLOURS)
    return {
        system: Look(
            COLOURS[i % rounds],
            MARKERS[i // rounds % len(MARKERS)],
            HATCHES[i // rounds % len(HATCHES)],
            "--" if system in others else "-",
        )
        for i, system in enumerate(systems)
    }


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure in the house's style and its axes [rows][columns]; a panel's size is in inches."""
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.3), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def wrapped(titles: Sequence[str], most: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """As `grid`, for panels with these titles, in rows of at most `most`; a single panel is larger."""
    panels = len(titles)
    columns = panels if panels <= min(3, most) else min(most, math.ceil(math.sqrt(panels)))
    size = (width, height) if panels > 1 else (5.2, 3.4)
    figure, rows = grid(math.ceil(panels / columns), columns, *size)
    axes = [each for row in rows for each in row]
    for unused in axes[panels:]:
        unused.remove()
    for each, title in zip(axes, titles, strict=False):
        each.set_title(title)
    return figure, axes[:panels]


def frames_axes(axes: Sequence[Axes]) -> None:
    """X axes of environment frames; those with no panel below are labelled."""
    for each in axes:
        each.set_xlim(left=0)
        each.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        each.xaxis.set_major_formatter(short)
    for each in lowest(axes):
        each.set_xlabel("environment frames")


def score_axes(axes: Sequence[Axes], tasks: Iterable[Sequence[str]], statistic: str = "IQM") -> None:
    """Y axes of these tasks' scores, to 1 where that is the most; the unit stands where it changes."""
    before = ""
    for each, those in zip(axes, tasks, strict=True):
        here = unit(those)
        if bounded(those):
            each.set_ylim(0, 1.05)
        spec = each.get_subplotspec()
        if here != before or spec is None or spec.is_first_col():
            each.set_ylabel(f"{statistic} {here}")
        before = here


def lowest(axes: Sequence[Axes]) -> list[Axes]:
    """Of panels that fill row after row, those with none below."""
    spec = axes[0].get_subplotspec()
    return list(axes) if spec is None else list(axes[-spec.get_gridspec().ncols :])


def ratio_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers as the ticks of a logarithmic axis that ranges over these."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1, 2, 5) if len(decades) < 6 else (1,)
    ticks = [m * 10.0**e for e in decades for m in multiples if low <= m * 10.0**e <= high]
    if len(ticks) < 2:
        ticks = [tick for tick in MaxNLocator(3).tick_values(low, high) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / 5)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(short)


def short(number: float, position: object = None) -> str:
    """1500 -> 1.5k, 2000000 -> 2M, 2000000000 -> 2e+09."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if size <= abs(number) < 1e9:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def unit(tasks: Iterable[str]) -> str:
    """What a score of these tasks is: `return / 1000`, `success rate`, `return`, or a mixture."""
    units = {suite_of(task).unit for task in tasks}
    return units.pop() if len(units) == 1 else "score"


def bounded(tasks: Iterable[str]) -> bool:
    """Whether no score of these tasks exceeds 1."""
    return all(suite_of(task).bounded for task in tasks)


def legend(figure: Figure, names: Mapping[str, Artist]) -> None:
    """One legend above all panels: label -> what it looks like."""
    room = figure.get_figwidth()
    labels = [textwrap.wrap(name, int((room - _HANDLE) / _LETTER), break_on_hyphens=False) for name in names]
    columns = max(n for n in range(1, len(names) + 1) if n == 1 or _width(labels, n) < room)
    lines = max(sum(map(len, column)) for column in _columns(labels, columns))
    figure.set_figheight(figure.get_figheight() + 0.2 * lines)
    figure.legend(
        list(names.values()), ["\n".join(label) for label in labels], loc="outside upper center",
        ncols=columns, frameon=False, handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip


def _columns(labels: Sequence[list[str]], columns: int) -> list[list[list[str]]]:
    """A legend is filled column after column."""
    return [[labels[i] for i in part] for part in np.array_split(range(len(labels)), columns)]


def _width(labels: Sequence[list[str]], columns: int) -> float:
    """About how many inches a legend of these wrapped labels takes."""
    longest = [max(len(line) for label in part for line in label) for part in _columns(labels, columns)]
    return sum(_LETTER * most + _HANDLE for most in longest)


def note(figure: Figure, texts: Sequence[str]) -> None:
    """Small print below all panels."""
    width = int(figure.get_figwidth() / 0.062)
    small = [line for text in texts for line in textwrap.wrap(text, width, break_on_hyphens=False)]
    if small:
        figure.set_figheight(figure.get_figheight() + 0.14 * len(small))
        figure.supxlabel("\n".join(small), x=0.01, ha="left", fontsize=8, color="0.3")
