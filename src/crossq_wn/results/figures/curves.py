"""Learning curves: the score over environment frames, of one task, of many tasks, or of groups."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crossq_wn.environments.groups import by_suite
from crossq_wn.environments.suites import suite_of
from crossq_wn.errors import UserError
from crossq_wn.results.curves import Curves
from crossq_wn.results.figures.captions import labels, remarks, seeds, title
from crossq_wn.results.figures.files import save
from crossq_wn.results.figures.points import Panels, Point, column, curves, lines
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import (
    Look,
    Picture,
    Row,
    frames_axes,
    grid,
    legend,
    looks,
    note,
    score_axes,
    styled,
    wrapped,
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
    """Curves in panels, at most `most` of them side by side."""
    points = curves(source.scores, panels, source.confidence, until=source.until)
    if not points:
        raise UserError(
            f"no system was evaluated with all its runs in the first {source.until} environment frames"
        )
    shown = {panel: tasks for panel, tasks in panels.items() if lines(points, panel)}
    figure = _figure(shown, points, looks(source.scores, source.published), source.names, most)
    note(figure, source.footnotes(bands(source), remarks(source, panels, points)))
    return Picture(figure, [*map(Point.row, points)])


@styled
def learning_curve(source: Source, out: Path) -> list[Path]:
    """Draws runs of one task: thin lines for seeds, a thick one for their mean where all have a value.

    Args:
        source: whose systems and tasks are drawn.
        out: where to write, without suffix.

    Returns:
        The files written: PNG, SVG and the CSV behind them.

    Raises:
        UserError: several tasks, or no evaluations.
    """
    task, *others = source.tasks
    if others:
        raise UserError(f"the runs are of several tasks ({', '.join(source.tasks)}): plot one at a time")
    metric = suite_of(task).metric
    results = {system: of[task] for system, of in source.evaluations(metric).items()}
    figure, ((axes,),) = grid(1, 1, 5.2, 3.4)
    rows: list[Row] = []
    gaps: list[str] = []
    for (system, runs), look in zip(results.items(), looks(results).values(), strict=True):
        rows += _seeds(axes, runs, look, (system.label, task, metric))
        gaps += _mean(axes, runs, look, source.names[system])
    axes.set(title=task, ylabel=f"{metric.replace('_', ' ')} (deterministic policy)")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=1.05 if metric == "success_rate" else None)
    frames_axes([axes])
    handles, names = axes.get_legend_handles_labels()
    legend(figure, dict(zip(names, handles, strict=True)))
    several = any(len(runs.seeds) > 1 for runs in results.values())
    meaning = "thin: each seed; thick: their mean" if several else "each line is one seed"
    note(figure, source.footnotes(meaning, gaps))
    return save(figure, rows, out)


def _seeds(axes: Axes, runs: Curves, look: Look, about: tuple[str, str, str]) -> list[Row]:
    """Draws a thin line per seed. Returns the evaluations as rows; `about` is system, task and metric."""
    system, task, metric = about
    rows: list[Row] = []
    for seed, values in zip(runs.seeds, runs.values, strict=True):
        reached = ~np.isnan(values)
        steps, scores = runs.env_steps[reached].tolist(), values[reached].tolist()
        axes.plot(steps, scores, color=look.colour, alpha=0.35, linewidth=1)
        for step, score in zip(steps, scores, strict=True):
            rows.append(dict(zip(EVAL_COLUMNS, (system, task, seed, metric, step, score), strict=True)))
    return rows


def _mean(axes: Axes, runs: Curves, look: Look, name: str) -> list[str]:
    """Draws the seeds' mean where all have a value. Returns a remark if it ends early."""
    shared = np.asarray(~np.isnan(runs.values).any(axis=0))
    mean = runs.values[:, shared].mean(axis=0)
    label = f"{name} ({seeds(len(runs.seeds), len(runs.seeds))})"
    marker = look.marker if len(mean) == 1 else ""
    axes.plot(runs.env_steps[shared], mean, color=look.colour, linewidth=2.5, marker=marker, label=label)
    if shared[-1]:
        return []
    end = f"{runs.env_steps[shared][-1]:,} frames" if shared.any() else "its beginning"
    return [f"the mean of {name} ends at {end}: not all seeds have values beyond"]


def bands(source: Source) -> str:
    """What such curves show; for a footnote."""
    return f"lines: IQM over runs; bands: pointwise {source.interval}"


def band(axes: Axes, points: Sequence[Point], look: Look) -> None:
    """Draws one system's curve with its interval."""
    x = column(points, "frames")
    # A curve of one point is invisible without a marker; further rounds of colours need them anyway.
    marker = look.marker if len(x) == 1 or look.marker != "o" else ""
    axes.plot(
        x, column(points, "value"), color=look.colour, linestyle=look.dash, linewidth=1.8,
        marker=marker, markersize=4, markevery=max(1, len(x) // 6),
        zorder=2 if look.dash == "--" else 2.5,  # ours above published ones
    )  # fmt: skip
    low, high = column(points, "low"), column(points, "high")
    axes.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)


def key(
    points: Iterable[Point], shown: Mapping[System, Look], names: Mapping[System, str]
) -> dict[str, Line2D]:
    """The legend of curves: each system's name with its number of seeds -> its line."""
    found = {}
    for system, label in labels(points, names).items():
        look = shown[system]
        marker = look.marker if look.marker != "o" else ""
        found[label] = Line2D(
            [], [], color=look.colour, linestyle=look.dash, linewidth=1.8, marker=marker, markersize=4
        )
    return found


def _figure(
    panels: Panels,
    points: Sequence[Point],
    shown: Mapping[System, Look],
    names: Mapping[System, str],
    most: int,
) -> Figure:
    """A panel per task or group."""
    figure, axes = wrapped([title(panel, tasks) for panel, tasks in panels.items()], most, 2.2, 1.9)
    for each, panel in zip(axes, panels, strict=True):
        for system, line in lines(points, panel).items():
            band(each, line, shown[system])
    score_axes(axes, panels.values())
    frames_axes(axes)
    legend(figure, key(points, shown, names))
    return figure
