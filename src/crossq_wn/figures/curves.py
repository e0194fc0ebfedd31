"""What does learning look like? The score over environment frames: of one task, many tasks, or a group."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crossq_wn import tidy
from crossq_wn.environments import PAPER_TASKS
from crossq_wn.errors import UserError
from crossq_wn.figures.points import SCORE, Panels, Point, curves, lines, remarks, suites
from crossq_wn.figures.source import Source
from crossq_wn.figures.style import (
    Look,
    Picture,
    columns_of,
    frames_axis,
    grid,
    legend,
    looks,
    note,
    save,
    score_axis,
    styled,
    unit,
    wrapped,
)
from crossq_wn.runs import EVAL_COLUMNS
from crossq_wn.tidy import Results


@styled
def per_task(source: Source) -> Picture:
    """Paper v2, figure 7: a learning curve for every task."""
    panels = {task: (task,) for task in source.tasks}
    points = curves(source.scores, panels, source.confidence, until=source.until)
    figure = _figure(panels, points, looks(source.scores, source.published), most=5)
    note(figure, source.tell(remarks(source, panels, points)))
    return Picture(figure, [point._asdict() for point in points])


@styled
def per_group(source: Source) -> Picture:
    """Paper v2, figure 6: learning curves aggregated over suites, for any UTD ratios."""
    panels = suites(source.tasks)
    points = curves(source.scores, panels, source.confidence, until=source.until)
    figure = _figure(panels, points, looks(source.scores, source.published), most=3)
    note(figure, source.tell(remarks(source, panels, points)))
    return Picture(figure, [point._asdict() for point in points])


@styled
def task_grid(results: Results, confidence: float = 0.9, published: Iterable[str] = ()) -> Figure:
    """Learning curves per task: IQM over seeds with its interval, one line per system.

    Args:
        results: scores, as `tidy.read` gives them.
        confidence: of the intervals.
        published: systems to draw dashed, because they are not our own runs.
    """
    there = dict.fromkeys(task for of in results.values() for task in of)
    ordered = dict.fromkeys([*(task for task in PAPER_TASKS if task in there), *there])
    panels = {task: (task,) for task in ordered}
    return _figure(panels, curves(results, panels, confidence), looks(results, published), most=5)


@styled
def learning_curve(paths: Sequence[Path], out: Path) -> list[Path]:
    """Draws runs of one task: thin lines for seeds, a thick one for their mean.

    Args:
        paths: run directories, folders of them, or tidy CSV files.
        out: where to write, without suffix.

    Returns:
        The files written: PNG, SVG and the CSV behind them.

    Raises:
        UserError: several tasks, or no evaluations.
    """
    tasks = sorted({task for of in tidy.read(paths).values() for task in of})
    if len(tasks) > 1:
        raise UserError(f"the runs are of several tasks ({', '.join(tasks)}): plot one task at a time")
    (task,) = tasks
    metric = tidy.score_metric(task)
    results = {system: of[task] for system, of in tidy.read(paths, metric=metric).items()}
    figure, ((axes,),) = grid(1, 1, 5.2, 3.4)
    rows: list[Mapping[str, object]] = []
    for (system, runs), look in zip(results.items(), looks(results).values(), strict=True):
        for seed, values in zip(runs.seeds, runs.values, strict=True):
            reached = ~np.isnan(values)
            steps, scores = runs.env_steps[reached], values[reached]
            axes.plot(steps, scores, color=look.colour, alpha=0.35, linewidth=1)
            rows += [
                dict(zip(EVAL_COLUMNS, (system, task, seed, metric, int(x), float(y)), strict=True))
                for x, y in zip(steps, scores, strict=True)
            ]
        shared = ~np.isnan(runs.values).any(axis=0)
        mean = runs.values[:, shared].mean(axis=0)
        label = f"{system} ({_seeds(len(runs.seeds), len(runs.seeds))})"
        marker = look.marker if len(mean) == 1 else ""
        axes.plot(runs.env_steps[shared], mean, color=look.colour, linewidth=2.5, marker=marker, label=label)
    axes.set(title=task, ylabel=f"{metric.replace('_', ' ')} (deterministic policy)")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=1.03 if metric == "success_rate" else None)
    frames_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    legend(figure, dict(zip(labels, handles, strict=True)))
    return save(figure, rows, out)


def band(axes: Axes, points: Sequence[Point], look: Look) -> None:
    """One system's curve with its interval."""
    x = [point.frames for point in points]
    # A curve of one point is invisible without a marker; further rounds of colours need them anyway.
    marker = look.marker if len(x) == 1 or look.marker != "o" else ""
    axes.plot(
        x, [point.value for point in points], color=look.colour, linestyle=look.dash, linewidth=1.8,
        marker=marker, markersize=4, markevery=max(1, len(x) // 6),
    )  # fmt: skip
    axes.fill_between(
        x, [p.low for p in points], [p.high for p in points], color=look.colour, alpha=0.18, linewidth=0
    )


def key(points: Iterable[Point], shown: Mapping[str, Look]) -> dict[str, Line2D]:
    """The legend of curves: system and how many seeds each task has -> its line."""
    seeds: dict[str, list[Point]] = {}
    for point in points:
        seeds.setdefault(point.system, []).append(point)
    return {
        f"{system} ({_seeds(min(p.fewest for p in of), max(p.most for p in of))})": Line2D(
            [], [], color=shown[system].colour, linestyle=shown[system].dash, linewidth=1.8,
            marker=shown[system].marker if shown[system].marker != "o" else "", markersize=4,
        )
        for system, of in seeds.items()
    }  # fmt: skip


def _figure(panels: Panels, points: Sequence[Point], shown: Mapping[str, Look], most: int) -> Figure:
    """A panel per task or group."""
    alone = len(panels) == 1
    columns, names = columns_of(len(panels), most), list(panels)
    figure, axes = wrapped(len(panels), columns, *((5.2, 3.4) if alone else (2.2, 1.9)))
    for i, (here, (panel, tasks)) in enumerate(zip(axes, panels.items(), strict=True)):
        here.set_title(panel)
        for system, line in lines(points, panel, SCORE).items():
            band(here, line, shown[system])
        score_axis(here.set_ylim, tasks)
        frames_axis(here, label=i + columns >= len(names))
        # A row may hold tasks of several suites: name the unit where it changes.
        if i % columns == 0 or unit(tasks) != unit(panels[names[i - 1]]):
            here.set_ylabel(unit(tasks))
    if points:
        legend(figure, key(points, shown))
    return figure


def _seeds(fewest: int, most: int) -> str:
    number = f"{fewest}" if fewest == most else f"{fewest}–{most}"
    return f"{number} seed{'s' if most != 1 else ''}"
