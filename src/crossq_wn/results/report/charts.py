"""The page's learning curves and diagnostics, each a picture of its own, so that phones can stack them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from crossq_wn.environments.groups import groups_and_all
from crossq_wn.errors import option
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results.along import LABELS, Along
from crossq_wn.results.curves import Results
from crossq_wn.results.figures import points, style
from crossq_wn.results.figures.curves import band, placed
from crossq_wn.results.report.contents import Report, Tell
from crossq_wn.results.report.html import Html, details, join, tag
from crossq_wn.results.report.scores import title_of
from crossq_wn.results.report.svg import picture
from crossq_wn.results.wording import number
from crossq_wn.runs.system import System

_RIVALS = 3  # published systems that are drawn even if ours use all colours
_ALONE = 4  # up to this many tasks, each has its own diagnostics; more are shown in groups


class Panel(NamedTuple):
    """One picture."""

    name: str  # of the task or group
    tasks: tuple[str, ...]
    quantity: str  # the score, or a diagnostic's name
    curves: dict[System, list[points.Point]]


def curves(report: Report) -> Html:
    """Draws learning curves for each group of tasks and each task."""
    drawn = _drawn(report)
    scores = {system: report.scores[system] for system in drawn}
    panels = []
    for name, tasks in groups_and_all(report.tasks).items():
        if len(tasks) > 1:
            panels += _panel(report, scores, title_of(name, tasks), tasks, points.SCORE)
    for task in report.tasks:
        panels += _panel(report, scores, task, (task,), points.SCORE)
    explained = (
        "Lines: IQM of the seeds; bands: its interval, which a single seed does not have. Where a seed ends "
        "early (see Left out), its line goes on with the others. The policy is evaluated without exploration "
        "noise."
    )
    unplaced = [report.names[system] for system in report.source.unplaced]
    if unplaced:
        only = "only their environment frames are known"
        explained += (
            f" Over {LABELS[report.source.along]} these are not drawn, since {only}: {', '.join(unplaced)}."
        )
    absent = [report.names[system] for system in report.scores if system not in drawn]
    if absent:
        explained += (
            f" Not drawn, to keep the pictures legible ({option('systems')} chooses): {', '.join(absent)}."
        )
    shown = style.looks(drawn, report.source.published)
    parts = [_legend(report, panels, shown), _gallery(report, panels, "curve", shown)]
    return report.section("Learning curves", *parts, tag("p", explained, class_="note"))


def _drawn(report: Report) -> list[System]:
    """Chooses what to draw: all of ours and, while colours last, the published ones with the best scores."""
    if report.source.wanted:
        return list(report.scores)
    ours = report.ours
    others = [system for system in report.scores if system not in ours]
    others.sort(key=lambda system: _worth(report, system), reverse=True)
    left = max(_RIVALS, len(style.COLOURS) - len(ours))
    dropped = others[left:]
    return [system for system in report.scores if system not in dropped]


def _worth(report: Report, system: System) -> tuple[int, float]:
    """Returns how many of our tasks a system has, and its mean score on them at the frame where ours end."""
    ends = []
    for task, curve in report.scores[system].items():
        before = curve.env_steps <= report.until([task])
        if before.any():
            ends.append(np.nanmean(curve.values[:, before][:, -1]))
    return len(ends), float(np.mean(ends)) if ends else 0.0


def diagnostics(report: Report, tell: Tell) -> Html:
    """Draws the diagnostics that the runs logged, by task or group; returns nothing if they logged none.

    `tell` is called for each task or group, since intervals over many tasks take a while.
    """
    groups: dict[str, tuple[str, ...]] = {}
    if len(report.tasks) <= _ALONE:
        for task in report.tasks:
            groups[task] = (task,)
    else:
        for name, tasks in groups_and_all(report.tasks).items():
            groups[title_of(name, tasks)] = tasks
    shown = style.looks(_drawn(report), report.source.published)
    folded: list[Html] = []
    for name, tasks in groups.items():
        tell(f"drawing the diagnostics on {name}")
        panels = []
        for quantity, results in report.diagnostics.items():
            panels += _panel(report, results, name, tasks, quantity)
        if panels:
            gallery = _gallery(report, panels, f"diagnostic-{len(folded)}", shown)
            folded.append(details(name, _legend(report, panels, shown), gallery, open_=not folded))
    if not folded:
        return Html("")
    explained = (
        "Logged during training. Lines: IQM of the runs; bands: its interval, which a single seed does not "
        "have."
    )
    return report.section("Diagnostics", tag("p", explained, class_="note"), join(folded))


def _panel(report: Report, results: Results, name: str, tasks: tuple[str, ...], quantity: str) -> list[Panel]:
    """Makes one picture, or none if there is nothing to draw."""
    # A system that lacks a task would be averaged over other tasks than its neighbours.
    whole = {system: there for system, there in results.items() if there.keys() >= set(tasks)}
    how, panels = report.source.how, {name: tasks}
    until = report.until(tasks) if report.source.along == "frames" else None
    drawn = placed(report.source, panels, points.curves(whole, panels, how, quantity, until))
    return [Panel(name, tasks, quantity, points.lines(drawn, name, quantity))] if drawn else []


def _gallery(report: Report, panels: Sequence[Panel], name: str, shown: Mapping[System, style.Look]) -> Html:
    figures = []
    for i, panel in enumerate(panels):
        drawn = picture(
            _drawing(panel, shown, report.source.along),
            f"{report.place or 'page'}-{name}-{i}",
            _described(report, panel),
        )
        figures.append(tag("figure", tag("figcaption", *_caption(panel)), drawn))
    return tag("div", join(figures), class_="gallery")


def _caption(panel: Panel) -> list[object]:
    if panel.quantity == points.SCORE:
        return [tag("b", panel.name)]
    return [tag("b", panel.quantity), f" {DIAGNOSTICS[panel.quantity].description}"]


@style.styled
def _drawing(panel: Panel, shown: Mapping[System, style.Look], along: Along) -> Figure:
    figure, axes = style.single(3.5, 2.5)  # inches
    for system, line in panel.curves.items():
        band(axes, line, shown[system])
    if panel.quantity == points.SCORE:
        style.score_axes([axes], [panel.tasks])
    style.x_axes([axes], LABELS[along])
    style.place(figure, axes)
    return figure


def _described(report: Report, panel: Panel) -> str:
    """Describes the picture for readers who cannot see it."""
    ends = []
    for system, line in panel.curves.items():
        last = line[-1]
        ends.append(f"{report.names[system]} ends at {number(last.value)} at {last.frames:,} frames")
    return f"{panel.quantity} on {panel.name} over {LABELS[report.source.along]}: {'; '.join(ends)}"


def _legend(report: Report, panels: Sequence[Panel], shown: Mapping[System, style.Look]) -> Html:
    items = []
    for system, look in shown.items():
        if any(system in panel.curves for panel in panels):
            items.append(tag("li", _swatch(look), report.name(system)))
    return tag("ul", join(items), class_="legend")


def _swatch(look: style.Look) -> Html:
    colour = "currentColor" if look.colour == "#000000" else look.colour
    dash = "5 3" if look.dash == "--" else None
    line = tag(
        "line", x1="0", y1="5", x2="26", y2="5", stroke=colour, stroke_width="3", stroke_dasharray=dash
    )
    return tag("svg", line, viewBox="0 0 26 10", width="26", height="10", aria_hidden="true")
