"""Learning curves of one task, of many tasks, or of groups of tasks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from crossq_wn.environments.groups import by_suite
from crossq_wn.environments.suites import suite_of
from crossq_wn.errors import UserError
from crossq_wn.results.along import LABELS, unknown
from crossq_wn.results.curves import Curves
from crossq_wn.results.figures.captions import labels, meaning, remarks, seeds, title
from crossq_wn.results.figures.files import save
from crossq_wn.results.figures.points import Panels, Point, curves, lines, numbers, rows
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    Row,
    end_of_scores,
    grid,
    heading,
    legend,
    looks,
    note,
    score_axes,
    styled,
    wrapped,
    x_axes,
)
from crossq_wn.runs.system import System
from crossq_wn.runs.tables import EVAL_COLUMNS


def per_task(source: Source) -> Picture:
    """Paper v2, figure 7: a learning curve for every task."""
    return _picture(source, {task: (task,) for task in source.tasks}, most=5)


def per_group(source: Source) -> Picture:
    """Paper v2, figure 6: learning curves aggregated over suites, for any UTD ratios."""
    return _picture(source, by_suite(source.tasks), most=3)


@styled
def _picture(source: Source, panels: Panels, most: int) -> Picture:
    """Draws curves in panels, at most `most` of them side by side."""
    points = score_curves(source, panels)
    drawn = {point.panel for point in points}
    shown = {panel: tasks for panel, tasks in panels.items() if panel in drawn}
    looked = looks(source.scores, source.published)
    figure, axes = wrapped([title(*panel) for panel in shown.items()], most, 2.2, 1.9)
    for each, panel in zip(axes, shown, strict=True):
        for system, line in lines(points, panel).items():
            band(each, line, looked[system])
    score_axes(axes, shown.values())
    x_axes(axes, LABELS[source.along])
    legend(figure, key(points, looked, source.names))
    note(figure, source.footnotes(bands(source, points), remarks(source, panels, points)))
    return Picture(figure, rows(points))


def score_curves(source: Source, panels: Panels) -> list[Point]:
    """Computes the systems' learning curves, panel after panel.

    Raises:
        UserError: there are none.
    """
    points = placed(source, panels, curves(source.scores, panels, source.how, until=source.last))
    if not points and source.along != "frames":
        raise unknown(source.along, source.ours)
    if not points:
        raise UserError(
            f"no system was evaluated with all its runs in the first {source.until} environment frames"
        )
    return points


def placed(source: Source, panels: Panels, points: Sequence[Point]) -> list[Point]:
    """Gives points their places on the x axis, and leaves out those whose place is not known.

    Args:
        source: the runs, and what the x axis shows.
        panels: the tasks of each panel.
        points: as `curves` returns them.
    """
    if source.along == "frames":
        return list(points)
    of: dict[tuple[str, System], list[Point]] = {}
    for point in points:
        of.setdefault((point.panel, point.system), []).append(point)
    found: list[Point] = []
    for (panel, system), some in of.items():
        frames = np.array([point.frames for point in some])
        where = source.positions(system, panels[panel], frames).tolist()
        for point, x in zip(some, where, strict=True):
            if not np.isnan(x):
                found.append(point._replace(along=(source.along, x)))
    return found


@styled
def learning_curve(source: Source, out: Path) -> list[Path]:
    """Draws the runs of one task: a thin line per seed, and a thick one for their mean.

    The mean is drawn where all seeds have a value.

    Args:
        source: the runs to draw.
        out: where to write, without suffix.

    Returns:
        The files written: PNG, SVG and the CSV behind them.

    Raises:
        UserError: several tasks, no evaluations, or nothing has a place on the x axis.
    """
    task, *others = source.tasks
    if others:
        raise UserError(f"the runs are of several tasks ({', '.join(source.tasks)}): plot one at a time")
    metric = suite_of(task).metric
    results = source.evaluations(metric)
    unplaced = source.unplaced
    if unplaced and results.keys() <= set(unplaced):
        raise unknown(source.along, source.ours)
    figure, (axes,) = grid(1, 1, 5.2, 3.4)
    table: list[Row] = []
    gaps: list[str] = []
    most = 0  # seeds of a system
    for system, look in looks(results).items():
        if system in unplaced:
            told = f"not drawn, since only environment frames are known, not {source.along}"
            gaps.append(f"{told}: {source.names[system]}")
            continue
        runs = results[system][task]
        most = max(most, len(runs.seeds))
        table += _seeds(axes, runs, look, source, (system, task, metric))
        gaps += _mean(axes, runs, look, source, system)
    axes.set(title=heading(task, 5.2), ylabel=f"{metric.replace('_', ' ')} (deterministic policy)")
    highest = end_of_scores(axes.dataLim.ymax) if metric == "success_rate" else None
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=highest)
    x_axes([axes], LABELS[source.along])
    handles, names = axes.get_legend_handles_labels()
    legend(figure, dict(zip(names, handles, strict=True)))
    told = "thin: each seed; thick: their mean" if most > 1 else "each line is one seed"
    note(figure, source.footnotes(told, gaps))
    return save(figure, table, out)


def _seeds(axes: Axes, runs: Curves, look: Look, source: Source, about: tuple[System, str, str]) -> list[Row]:
    """Draws a thin line per seed; returns its evaluations as rows. `about` is system, task and metric."""
    system, task, metric = about
    table: list[Row] = []
    for seed, values in zip(runs.seeds, runs.values, strict=True):
        reached = ~np.isnan(values)
        steps, scores = runs.env_steps[reached], values[reached].tolist()
        where = source.positions(system, [task], steps, seed).tolist()
        axes.plot(where, scores, color=look.colour, alpha=0.35, linewidth=1)
        for step, score, x in zip(steps.tolist(), scores, where, strict=True):
            row = dict(zip(EVAL_COLUMNS, (system.label, task, seed, metric, step, score), strict=True))
            table.append(row if source.along == "frames" else row | {source.along: x})
    return table


def _mean(axes: Axes, runs: Curves, look: Look, source: Source, system: System) -> list[str]:
    """Draws the mean of the seeds where all have a value; returns a remark if it ends early."""
    shared = np.asarray(~np.isnan(runs.values).any(axis=0))  # [points]
    mean = runs.values[:, shared].mean(axis=0)
    name = source.names[system]
    label = f"{name} ({seeds(len(runs.seeds), len(runs.seeds))})"
    marker = look.marker if len(mean) == 1 else ""
    where = source.positions(system, source.tasks, runs.env_steps[shared])
    axes.plot(where, mean, color=look.colour, linewidth=2.5, marker=marker, label=label)
    if shared[-1]:
        return []
    end = f"{runs.env_steps[shared][-1]:,} frames" if shared.any() else "its beginning"
    return [f"the mean of {name} ends at {end}: not all seeds have values after that"]


def bands(source: Source, points: Sequence[Point]) -> str:
    """Says what curves and bands show, for a footnote."""
    return meaning("lines", "bands: pointwise", source, points)


def band(axes: Axes, points: Sequence[Point], look: Look) -> None:
    """Draws one system's curve with its interval.

    Args:
        axes: the panel.
        points: of one system there, by place on the x axis.
        look: how the system is drawn.
    """
    x = [point.x for point in points]
    values, lows, highs = numbers(points)
    # A curve of one point is invisible without a marker; colours that repeat need markers anyway.
    marker = look.marker if len(x) == 1 or look.marker != "o" else ""
    axes.plot(
        x, values, color=look.colour, linestyle=look.dash, linewidth=1.8,
        marker=marker, markersize=4, markevery=max(1, len(x) // 6),
        zorder=2 if look.dash == "--" else 2.5,  # ours above published ones
    )  # fmt: skip
    axes.fill_between(x, lows, highs, color=look.colour, alpha=0.18, linewidth=0)


def key(
    points: Iterable[Point], looked: Mapping[System, Look], names: Mapping[System, str]
) -> dict[str, Line2D]:
    """Makes the legend of curves.

    Args:
        points: of the curves; they say how many seeds a system has.
        looked: how each system is drawn.
        names: what the figure calls each system.

    Returns:
        A system's name with its number of seeds -> its line.
    """
    found = {}
    for system, label in labels(points, names).items():
        look = looked[system]
        marker = look.marker if look.marker != "o" else ""
        found[label] = Line2D(
            [], [], color=look.colour, linestyle=look.dash, linewidth=1.8, marker=marker, markersize=4
        )
    return found
