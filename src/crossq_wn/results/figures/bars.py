"""Bars of the IQM at one environment frame, with intervals, per group of tasks."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from crossq_wn.results.figures.captions import labels, meaning
from crossq_wn.results.figures.ends import End, at_end
from crossq_wn.results.figures.points import Point, numbers, rows, spread
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    bounded,
    end_of_scores,
    first_in_row,
    legend,
    looks,
    note,
    score_axes,
    short,
    styled,
    unit,
    wrapped,
)
from crossq_wn.runs.system import System


@styled
def aggregates(source: Source) -> Picture:
    """Paper v2, figure 1: systems side by side, per group of tasks and over all."""
    end = at_end(source, source.scores)
    looked = looks(source.scores, source.published)
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    for each, panel in zip(axes, end.panels, strict=True):
        bars = end.within(panel)
        if _as_points(bars):
            each.set_xlim(-0.5, len(bars) - 0.5)
        for i, point in enumerate(bars):
            if _as_points(bars):
                each.plot(i, point.value, **_dot(looked[point.system]))
            else:
                each.bar(i, point.value, width=0.8).patches[0].update(_fill(looked[point.system]))
        _whiskers(each, np.arange(len(bars)), numbers(bars)[0], yerr=spread(bars))
        each.set_xticks([])  # the legend names the bars
        each.grid(axis="x", visible=False)
    score_axes(axes, end.panels.values())
    legend(figure, _key(end, labels(end.points, source.names), looked))
    note(figure, source.footnotes(_meaning(source, end), end.remarks))
    return Picture(figure, rows(end.points))


@styled
def ablations(source: Source) -> Picture:
    """Paper v2, figure 5: a bar per variant with its name; the dotted line extends the first bar."""
    end = at_end(source, source.scores)
    looked = looks(source.scores, source.published)
    names = labels(end.points, source.names)
    beside: list[str] = []
    tallest = 1  # lines of a name
    for name in names.values():
        wrapped_name = textwrap.wrap(name, 30, break_on_hyphens=False)
        tallest = max(tallest, len(wrapped_name))
        beside.append("\n".join(wrapped_name))
    figure, axes = wrapped(end.titles, 3, 2.2, 0.8 + max(0.3, 0.17 * tallest) * len(names))
    figure.set_figwidth(figure.get_figwidth() + 1.8)  # for the names
    for each, (panel, tasks) in zip(axes, end.panels.items(), strict=True):
        _variants(each, end.within(panel), list(names), looked)
        each.set_yticks(range(len(names)), beside, fontsize=9)
        each.set_ylim(len(names) - 0.4, -0.6)  # the first system on top
        each.grid(axis="y", visible=False)
        each.tick_params(axis="y", length=0, labelleft=first_in_row(each))
        if bounded(tasks):
            each.set_xlim(0, end_of_scores(each.dataLim.xmax))
        each.set_xlabel(f"IQM {unit(tasks)}")
        each.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        each.xaxis.set_major_formatter(short)
    note(figure, source.footnotes(_meaning(source, end), end.remarks))
    return Picture(figure, rows(end.points))


def _variants(
    axes: Axes, bars: Sequence[Point], systems: Sequence[System], looked: Mapping[System, Look]
) -> None:
    """Draws a panel's bars, each in its system's row, and extends the first row's as a dotted line."""
    places = [systems.index(point.system) for point in bars]
    values = numbers(bars)[0]
    for place, point in zip(places, bars, strict=True):
        if _as_points(bars):
            axes.plot(point.value, place, **_dot(looked[point.system]))
        else:
            axes.barh(place, point.value, height=0.75).patches[0].update(_fill(looked[point.system]))
    _whiskers(axes, values, places, xerr=spread(bars))
    if 0 in places:  # the first system may have no bar in this panel
        axes.axvline(values[places.index(0)], color="0.3", linestyle=":", linewidth=1)


def _as_points(bars: Sequence[Point]) -> bool:
    """Whether a panel has points: where bars would have no length, or the longest be the worst."""
    return any(point.value < 0 for point in bars) or not any(point.value for point in bars)


def _meaning(source: Source, end: End) -> str:
    kinds = {_as_points(end.within(panel)): None for panel in end.panels}
    marks = " and ".join("points" if each else "bars" for each in kinds)
    return meaning(marks, "whiskers:", source, end.points)


def _key(end: End, names: Mapping[System, str], looked: Mapping[System, Look]) -> dict[str, Artist]:
    marks: dict[str, Artist] = {}
    without_bars = all(_as_points(end.within(panel)) for panel in end.panels)
    for system, label in names.items():
        if without_bars:
            marks[label] = Line2D([], [], **_dot(looked[system]))
        else:
            marks[label] = Patch()
            marks[label].update(_fill(looked[system]))
    return marks


def _dot(look: Look) -> Any:
    inside = "white" if look.dash == "--" else look.colour  # hollow: others' results
    return {
        "color": look.colour, "markerfacecolor": inside, "marker": look.marker, "markersize": 8,
        "linestyle": "none", "clip_on": False, "zorder": 3,
    }  # fmt: skip


def _fill(look: Look) -> dict[str, object]:
    if look.dash == "--":  # others' results
        return {"facecolor": f"{look.colour}66", "edgecolor": look.colour, "hatch": look.hatch}
    # The edge's colour, which has no width here, is the hatch's.
    return {"facecolor": look.colour, "edgecolor": "white", "linewidth": 0, "hatch": look.hatch}


def _whiskers(axes: Axes, x: ArrayLike, y: ArrayLike, **reach: Any) -> None:
    """Draws intervals around points; `reach` is xerr or yerr: how far they go down and up [2, points]."""
    axes.errorbar(x, y, **reach, fmt="none", ecolor="0.15", elinewidth=1.2, capsize=2.5)
