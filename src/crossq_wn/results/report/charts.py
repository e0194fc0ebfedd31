"""What happened on the way? Learning curves and diagnostics, one picture each: a phone stacks them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from crossq_wn.environments.groups import groups_and_all
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results.figures import points, style
from crossq_wn.results.figures.curves import band
from crossq_wn.results.reading import Results
from crossq_wn.results.report.html import Html, details, join, section, tag
from crossq_wn.results.report.scores import title_of
from crossq_wn.results.report.study import Study, Tell
from crossq_wn.results.report.svg import picture
from crossq_wn.results.wording import number

_RIVALS = 3  # published systems that are drawn even if ours use up the colours
_ALONE = 4  # tasks up to which each has its own diagnostics; more are shown by the paper's groups


class Panel(NamedTuple):
    """One picture."""

    name: str  # of the task or group
    tasks: tuple[str, ...]
    quantity: str  # the score, or a diagnostic's name
    curves: dict[str, list[points.Point]]  # system -> its points


def curves(study: Study) -> Html:
    """A learning curve per group of tasks, and per task."""
    drawn = _drawn(study)
    together = {name: tasks for name, tasks in groups_and_all(study.tasks).items() if len(tasks) > 1}
    groups = together | {task: (task,) for task in study.tasks}
    named = {title_of(name, tasks): tasks for name, tasks in groups.items()}
    panels = _panels(study, {name: study.scores[name] for name in drawn}, named, points.SCORE)
    explained = (
        "Lines: IQM of the seeds; bands: its interval; a single seed has none. The policy acts without noise."
    )
    if absent := [study.names[system] for system in study.scores if system not in drawn]:
        explained += f" Not drawn, to keep it legible (choose with --systems): {', '.join(absent)}."
    parts = [_legend(study, panels), _gallery(study, panels, "curve")]
    return section("Learning curves", *parts, tag("p", explained, class_="note"))


def _drawn(study: Study) -> list[str]:
    """All of ours, and others as far as colours go: those with most tasks, then the best at the end."""
    if study.source.wanted:
        return list(study.scores)

    def worth(system: str) -> tuple[int, float]:
        ends = [
            np.nanmean(curve.values[:, curve.env_steps <= study.until([task])][:, -1:])
            for task, curve in study.scores[system].items()
            if curve.env_steps[0] <= study.until([task])
        ]
        return len(ends), float(np.mean(ends)) if ends else 0.0

    others = sorted((s for s in study.scores if s not in study.ours), key=worth, reverse=True)
    kept = {*study.ours, *others[: max(_RIVALS, len(style.COLOURS) - len(study.ours))]}
    return [system for system in study.scores if system in kept]


def diagnostics(study: Study, tell: Tell) -> Html:
    """What the runs logged about their networks, by task or group; nothing if they logged none.

    `tell` is told of each: over many tasks the intervals take a while.
    """
    groups: points.Panels = {task: (task,) for task in study.tasks}
    if len(groups) > _ALONE:
        groups = {title_of(name, tasks): tasks for name, tasks in groups_and_all(study.tasks).items()}
    known = {}
    for name, tasks in groups.items():
        tell(f"drawing the diagnostics on {name}")
        found = [
            panel
            for quantity, results in study.diagnostics.items()
            for panel in _panels(study, results, {name: tasks}, quantity)
        ]
        if found:
            known[name] = found
    if not known:
        return Html("")
    folded = [
        details(
            name,
            _legend(study, panels),
            _gallery(study, panels, f"diagnostic-{i}"),
            open_=i == 0,
        )
        for i, (name, panels) in enumerate(known.items())
    ]
    explained = "As logged in training. Lines: IQM of the runs, with intervals."
    return section("Diagnostics", tag("p", explained, class_="note"), join(folded))


def _panels(study: Study, results: Results, groups: points.Panels, quantity: str) -> list[Panel]:
    panels = []
    for name, tasks in groups.items():
        # A system that lacks a task would be the mean of other tasks than its neighbours.
        whole = {system: of for system, of in results.items() if all(task in of for task in tasks)}
        drawn = points.curves(whole, {name: tasks}, study.source.confidence, quantity, study.until(tasks))
        if drawn:
            panels.append(Panel(name, tasks, quantity, points.lines(drawn, name, quantity)))
    return panels


def _gallery(study: Study, panels: Sequence[Panel], name: str) -> Html:
    shown = _looks(study)
    figures = []
    for i, panel in enumerate(panels):
        score = panel.quantity == points.SCORE
        title = [panel.name] if score else [panel.quantity, DIAGNOSTICS[panel.quantity].description]
        words = tag("figcaption", tag("b", title[0]), *(f" {meaning}" for meaning in title[1:]))
        figures.append(
            tag("figure", words, picture(_drawing(panel, shown), f"{name}-{i}", _described(study, panel)))
        )
    return tag("div", join(figures), class_="gallery")


@style.styled
def _drawing(panel: Panel, shown: Mapping[str, style.Look]) -> Figure:
    figure, ((axes,),) = style.grid(1, 1, 3.1, 2.2)
    for system, line in panel.curves.items():
        band(axes, line, shown[system])
    if panel.quantity == points.SCORE:
        style.score_axes([axes], [panel.tasks])
    style.frames_axes([axes])
    return figure


def _described(study: Study, panel: Panel) -> str:
    ends = [
        f"{study.names[system]} ends at {number(line[-1].value)} at {line[-1].frames:,} frames"
        for system, line in panel.curves.items()
    ]
    return f"{panel.quantity} on {panel.name} over environment frames: {'; '.join(ends)}"


def _legend(study: Study, panels: Sequence[Panel]) -> Html:
    shown = _looks(study)
    there = dict.fromkeys(system for system in shown for panel in panels if system in panel.curves)
    items = [tag("li", _swatch(shown[system]), study.name(system)) for system in there]
    return tag("ul", join(items), class_="legend")


def _looks(study: Study) -> dict[str, style.Look]:
    return style.looks(_drawn(study), study.source.published)


def _swatch(look: style.Look) -> Html:
    colour = "currentColor" if look.colour == "#000000" else look.colour
    dash = "5 3" if look.dash == "--" else None
    line = tag(
        "line", x1="0", y1="5", x2="26", y2="5", stroke=colour, stroke_width="3", stroke_dasharray=dash
    )
    return tag("svg", line, viewBox="0 0 26 10", width="26", height="10", aria_hidden="true")
