"""What performance costs: the IQM at the end against speed, and against the UTD ratio."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from crossq_wn.errors import UserError
from crossq_wn.results.curves import Results
from crossq_wn.results.figures.captions import has_intervals, labels, meaning
from crossq_wn.results.figures.ends import End, at_end
from crossq_wn.results.figures.points import Point, numbers, spread
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    Row,
    legend,
    looks,
    lowest,
    note,
    ratio_ticks,
    score_axes,
    styled,
    wrapped,
)
from crossq_wn.results.practice import unlogged
from crossq_wn.runs.system import System


@styled
def performance_and_speed(source: Source) -> Picture:
    """Paper v2, figure 2: the score at the end against environment frames per second; right is faster.

    A system's speed in a panel is the median over its runs there; whiskers reach to the slowest and fastest.

    Raises:
        UserError: no run was timed.
    """
    end = at_end(source, _timed(source))
    looked = looks(source.scores, source.published)
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    rows: list[Row] = []
    uneven = False  # whether runs of a system are unequally fast
    for each, (panel, tasks) in zip(axes, end.panels.items(), strict=True):
        seen: list[float] = []
        for point in end.within(panel):
            rates: list[float] = []
            for task in tasks:
                rates += source.speeds[point.system].get(task, ())
            middle, low, high = float(np.median(rates)), min(rates), max(rates)
            _draw(each, [middle], [point], looked[point.system], "", xerr=[[middle - low], [high - middle]])
            speed = {"frames_per_second": middle, "slowest": low, "fastest": high}
            rows.append(point.row() | speed)
            seen += rates
            uneven = uneven or low < high
        _ratio_axis(each, seen)
    for each in lowest(axes):
        each.set_xlabel("frames / s")
    score_axes(axes, end.panels.values())
    names = labels(end.points, source.names)
    legend(figure, {label: _key(looked[system], "") for system, label in names.items()})
    along = (
        "frames / s: environment frames of all seeds that trained side by side, on the machine where they did"
    )
    told = meaning("points", "whiskers upright:", source, end.points)
    if uneven:
        told += f"; whiskers{' across' if has_intervals(end.points) else ''}: slowest and fastest run"
    note(figure, [along, *_hardware(source, end.points), *source.footnotes(told, end.remarks)])
    return Picture(figure, rows)


def _hardware(source: Source, points: Sequence[Point]) -> list[str]:
    """Says on which hardware published speeds were measured."""
    found: dict[str, None] = {}  # the keys are an ordered set
    for point in points:
        for known in source.timed.get(point.system, {}).values():
            found[f"{source.names[point.system]}: on {known.hardware}, as published"] = None
    return list(found)


def _timed(source: Source) -> Results:
    """Returns the scores of systems on the tasks on which their speed is known."""
    found: Results = {}
    for system, tasks in source.scores.items():
        known = source.speeds.get(system, {})
        timed = {task: curves for task, curves in tasks.items() if task in known}
        if timed:
            found[system] = timed
    if not found:
        raise unlogged(source.ours) or UserError(
            "fig2 needs run directories whose timing.csv has gradient updates: none of these has"
        )
    return found


@styled
def utd_scaling(source: Source) -> Picture:
    """Paper v2, figure 4: the score at the end against the UTD ratio, a line per family of systems.

    Raises:
        UserError: no system's UTD ratio is known.
    """
    rated = {system: tasks for system, tasks in source.scores.items() if system.utd is not None}
    if not rated:
        there = ", ".join(system.label for system in source.scores)
        raise UserError(
            f"fig4 needs systems whose UTD ratio is known, of runs or by a column utd: there are {there}"
        )
    end = at_end(source, rated)
    families = dict.fromkeys(point.system.family for point in end.points)
    looked = looks(families, {system.family for system in source.published})
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    for each, panel in zip(axes, end.panels, strict=True):
        _families(each, end, panel, looked)
    for each in lowest(axes):
        each.set_xlabel("UTD ratio")
    score_axes(axes, end.panels.values())
    names = _family_names(source, families)
    told = meaning("UTD ratio: gradient updates per decision; points", "whiskers:", source, end.points)
    legend(figure, {names[family]: _key(look, look.dash) for family, look in looked.items()})
    note(figure, source.footnotes(told, end.remarks))
    rows = []
    for point in end.points:
        rows.append(point.row() | {"family": point.system.family.label, "utd": point.system.utd})
    return Picture(figure, rows)


def _families(axes: Axes, end: End, panel: str, looked: Mapping[System, Look]) -> None:
    """Draws a line per family over its UTD ratios."""
    ratios: list[int] = []
    for i, (family, look) in enumerate(looked.items()):
        points = [point for point in end.within(panel) if point.system.family == family]
        own = [point.system.utd or 1 for point in points]  # `rated` has no system without one
        # Side by side around their ratio, so that all intervals are seen.
        aside = 1.1 ** ((i + 0.5) / len(looked) - 0.5)
        _draw(axes, aside * np.array(own), points, look, look.dash)
        ratios += own
    _ratio_axis(axes, ratios)


def _family_names(source: Source, families: Mapping[System, None]) -> dict[System, str]:
    """Names each family as its systems are named, unless two families would then be called alike."""
    found = {}
    for system, short in source.shown.items():
        if system.family in families:
            found[system.family] = short.family.label
    distinct = len({*found.values()}) == len(found)
    return found if distinct else {family: family.label for family in families}


def _draw(axes: Axes, x: ArrayLike, points: Sequence[Point], look: Look, line: str, **across: Any) -> None:
    """Draws points with their intervals; `across` is xerr, how far whiskers go left and right [2, points]."""
    axes.errorbar(
        x, numbers(points)[0], yerr=spread(points), **across, color=look.colour,
        marker=look.marker, markersize=5.5, markerfacecolor=_face(look), linestyle=line, linewidth=1.6,
        elinewidth=1.2, capsize=2.5,
    )  # fmt: skip


def _key(look: Look, line: Literal["", "-", "--"]) -> Line2D:
    return Line2D(
        [], [], color=look.colour, marker=look.marker, markerfacecolor=_face(look), linestyle=line,
        linewidth=1.6,
    )  # fmt: skip


def _face(look: Look) -> str:
    return "white" if look.dash == "--" else look.colour  # open marks are published systems'


def _ratio_axis(axes: Axes, values: Sequence[float]) -> None:
    """Makes the x axis logarithmic, with room around these values."""
    low, high = min(values), max(values)
    room = 1.5 if high > 2 * low else 2
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    ratio_ticks(axes.xaxis, low / room, high * room)
