"""What does performance cost? The IQM at the end against speed, and against the UTD ratio."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from crossq_wn.errors import UserError
from crossq_wn.results.figures.captions import labels
from crossq_wn.results.figures.ends import at_end
from crossq_wn.results.figures.points import Point, lines, spread
from crossq_wn.results.figures.source import Source, family, utd
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    legend,
    looks,
    lowest,
    note,
    ratio_ticks,
    score_axes,
    styled,
    wrapped,
)


@styled
def performance_and_speed(source: Source) -> Picture:
    """Paper v2, figure 2: the score at the end against environment frames per second; right is faster.

    A system's speed in a panel is the median over its runs there; whiskers reach to the slowest and fastest.

    Raises UserError if no run was timed.
    """
    timed = {
        system: {task: curves for task, curves in of.items() if task in source.speeds.get(system, {})}
        for system, of in source.scores.items()
    }
    if not any(timed.values()):
        raise UserError("fig2 needs run directories whose timing.csv has gradient updates: none of these has")
    end = at_end(source, timed)
    looked = looks(source.scores, source.published)
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    rows = []
    for each, (panel, tasks) in zip(axes, end.panels.items(), strict=True):
        seen: list[float] = []
        for system, points in lines(end.points, panel).items():
            rates = [rate for task in tasks for rate in source.speeds[system].get(task, ())]
            middle, low, high = float(np.median(rates)), min(rates), max(rates)
            _draw(each, [middle], points, looked[system], "", xerr=[[middle - low], [high - middle]])
            speed = {"frames_per_second": middle, "slowest": low, "fastest": high}
            rows.append(points[0]._asdict() | speed)
            seen += rates
        _ratio_axis(each, seen)
    for each in lowest(axes):
        each.set_xlabel("environment frames / s")
    score_axes(axes, end.panels.values())
    names = labels(end.points, source.names)
    legend(figure, {label: _key(looked[system], "") for system, label in names.items()})
    along = "frames / s: of all seeds that trained side by side, on the machine where they did"
    across = f"whiskers upright: {source.interval} of the IQM over runs; across: slowest and fastest run"
    note(figure, [along, *source.footnotes(across, end.remarks)])
    return Picture(figure, rows)


@styled
def utd_scaling(source: Source) -> Picture:
    """Paper v2, figure 4: the score at the end against the UTD ratio, a line per family of systems.

    Raises UserError if no system's name says its UTD ratio.
    """
    rated = {system: of for system, of in source.scores.items() if utd(system) is not None}
    if not rated:
        raise UserError(f"fig4 needs names such as `crossq-wn UTD 5`: there are {', '.join(source.scores)}")
    end = at_end(source, rated)
    families = dict.fromkeys(family(point.system) for point in end.points)
    others = {family(system) for system in source.published}
    looked = looks(families, others)
    names = {family(system): family(short) for system, short in source.names.items()}
    figure, axes = wrapped(end.titles, 3, 2.2, 2.0)
    for each, panel in zip(axes, end.panels, strict=True):
        points = [point for of in lines(end.points, panel).values() for point in of]
        for i, (name, look) in enumerate(looked.items()):
            here = [point for point in points if family(point.system) == name]
            # Side by side around their ratio, so that all intervals are seen.
            aside = 1.1 ** ((i + 0.5) / len(looked) - 0.5)
            _draw(each, [aside * (utd(point.system) or 1) for point in here], here, look, look.dash)
        _ratio_axis(each, [utd(point.system) or 1 for point in points])
    for each in lowest(axes):
        each.set_xlabel("UTD (updates / decision)")
    score_axes(axes, end.panels.values())
    legend(figure, {names[name]: _key(look, look.dash) for name, look in looked.items()})
    note(figure, source.footnotes(f"points: IQM over runs; whiskers: {source.interval}", end.remarks))
    rows = [
        point._asdict() | {"family": family(point.system), "utd": utd(point.system)} for point in end.points
    ]
    return Picture(figure, rows)


def _draw(
    axes: Axes, x: Sequence[float], points: Sequence[Point], look: Look, line: str, **errors: Any
) -> None:
    axes.errorbar(
        x, [point.value for point in points], yerr=spread(points), **errors, color=look.colour,
        marker=look.marker, markersize=5.5, markerfacecolor=_face(look), linestyle=line, linewidth=1.6,
        elinewidth=1.2, capsize=2.5,
    )  # fmt: skip


def _key(look: Look, line: Literal["", "-", "--"]) -> Line2D:
    return Line2D(
        [], [], color=look.colour, marker=look.marker, markerfacecolor=_face(look), linestyle=line,
        linewidth=1.6,
    )  # fmt: skip


def _face(look: Look) -> str:
    return "white" if look.dash == "--" else look.colour


def _ratio_axis(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    room = 1.5 if high > 2 * low else 2
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    ratio_ticks(axes.xaxis, low / room, high * room)
