"""Which numbers does a figure show? The IQM of a system's runs over a panel's tasks, with its interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from crossq_wn import tidy
from crossq_wn.errors import UserError
from crossq_wn.figures.source import Source
from crossq_wn.figures.style import short
from crossq_wn.statistics import Array, estimate, iqm
from crossq_wn.tidy import Curves, Results, Steps

Panels = Mapping[str, tuple[str, ...]]  # name -> its tasks

SCORE = "score"
_SUITES = {"DMC": 15, "MyoSuite": 10, "all": 25}  # tasks of the paper
_MOST = 50  # points of a curve: more cannot be told apart


class Point(NamedTuple):
    """A row of the CSV behind a figure."""

    panel: str  # a group of tasks, or a task
    quantity: str  # the score, a column of metrics.csv, or another metric of eval.csv
    system: str
    frames: int  # environment frames
    value: float  # IQM over the tasks' runs
    low: float  # NaN if no task has a second run: nothing is known of the spread then
    high: float
    tasks: int  # of the panel's, those that the system has
    fewest: int  # runs (seeds) of the task with fewest
    most: int


def groups(tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The paper's groups as far as they are there, all of those together, and each other task alone."""
    known = tidy.groups(tasks)
    together = known.get("all", ())
    named = {name: known[name] for name in tidy.GROUPS if name in known}
    others = {name: part for name, part in known.items() if part == (name,) and name not in together}
    return named | ({"all": together} if len(named) > 1 else {}) | others


def suites(tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """As `groups`, but over whole suites: 15 tasks of DeepMind Control, 10 of MyoSuite (figure 6)."""
    known = groups(tasks)
    parts: dict[str, tuple[str, ...]] = {}
    for name, part in known.items():
        suite = {"DMC": "DMC", "Myo": "MyoSuite"}.get(name.split()[0], name) if name in tidy.GROUPS else name
        parts[suite] = (*parts.get(suite, ()), *part)
    return {name: part for name, part in parts.items() if name != "all"}


def curves(
    results: Results,
    panels: Panels,
    confidence: float,
    quantity: str = SCORE,
    until: int | None = None,
) -> list[Point]:
    """Every system's curve in every panel, over the environment frames at which all its tasks have a value.

    Args:
        results: of one quantity.
        panels: the tasks to aggregate.
        confidence: of the intervals.
        quantity: how the points name it.
        until: the last environment frame to draw.
    """
    found = []
    for panel, tasks in panels.items():
        for system, there in _systems(results, tasks):
            steps, scores = _aligned(there)
            kept = _thinned(steps[: np.searchsorted(steps, np.inf if until is None else until, "right")])
            where = np.isin(steps, kept)
            about = (panel, quantity, system)
            found += _points(about, kept, [task[:, where] for task in scores], confidence)
    return found


def ends(source: Source, panels: Panels, results: Results) -> list[Point]:
    """Every system's score in every panel at the same environment frame: the last that all of them have.

    If frames were asked for, it is those. Systems that have no score there are left out; with the default,
    those that were never evaluated at a frame at which the ones before were.
    """
    found = []
    for panel, tasks in panels.items():
        aligned = {system: _aligned(there) for system, there in _systems(results, tasks)}
        start = np.array([] if source.frames is None else [source.frames], np.int64)
        shared = reduce(_shared, [steps[steps > 0] for steps, _ in aligned.values()], start)
        for system, (steps, scores) in aligned.items():
            where = steps == (shared[-1] if len(shared) else -1)
            if where.any():
                kept = [task[:, where] for task in scores]
                found += _points((panel, SCORE, system), steps[where], kept, source.confidence)
    return found


class End(NamedTuple):
    """Scores at the end of training, for the figures that show only that."""

    panels: Panels  # those in which something is drawn
    points: list[Point]
    titles: list[str]  # of the panels
    remarks: list[str]


def at_end(source: Source, of: Callable[[str], bool] = lambda system: True) -> End:
    """The scores of all groups at their last frames, and what there is to say about them.

    Args:
        source: what to draw from.
        of: which systems can be drawn; the others are left out.

    Raises:
        UserError: there are none.
    """
    panels = groups(source.tasks)
    points = ends(source, panels, {system: tasks for system, tasks in source.scores.items() if of(system)})
    if not points:
        when = "after frame 0" if source.frames is None else f"at {source.frames} environment frames"
        there = sorted({int(x) for of in source.scores.values() for c in of.values() for x in c.env_steps})
        raise UserError(f"no run was evaluated {when}: --frames may be {', '.join(map(str, there[-5:]))}")
    frames = {point.panel: point.frames for point in points}
    drawn = {panel: tasks for panel, tasks in panels.items() if panel in frames}
    titles = [title(panel, tasks, frames[panel]) for panel, tasks in drawn.items()]
    return End(drawn, points, titles, remarks(source, panels, points))


def remarks(source: Source, panels: Panels, points: Sequence[Point]) -> list[str]:
    """What a reader of the figure must know: what is missing, and what has no interval."""
    drawn = {(point.system, point.panel): point.tasks for point in points}
    lacks: dict[str, list[str]] = {}  # what -> which systems
    for system, there in source.scores.items():
        parts = [
            f"{drawn.get((system, panel), 0)} of {len(tasks)} tasks in {panel}"
            for panel, tasks in panels.items()
            if drawn.get((system, panel), 0) < len(tasks) and any(task in there for task in tasks)
        ]
        if not any(name == system for name, _ in drawn):
            parts = ["not drawn, having no values here"]
        if parts:
            lacks.setdefault(", ".join(parts), []).append(system)
    alone = dict.fromkeys(point.system for point in points if point.most == 1)
    if alone:
        lacks["one seed, thus no interval"] = list(alone)
    return [f"{what}: {', '.join(systems)}" for what, systems in lacks.items()]


def labels(points: Iterable[Point]) -> dict[str, str]:
    """How legends call each system: its name, and how many seeds its tasks have."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.system, []).append(point)
    return {
        s: f"{s} ({seeds(min(p.fewest for p in of), max(p.most for p in of))})" for s, of in found.items()
    }


def seeds(fewest: int, most: int) -> str:
    """1 seed, 3 seeds, 3–10 seeds; in one line."""
    number = f"{fewest}" if fewest == most else f"{fewest}–{most}"
    return f"{number}\N{NO-BREAK SPACE}seed{'s' if most != 1 else ''}"


def title(panel: str, tasks: Sequence[str], frames: int | None = None) -> str:
    """A panel's name; of a group that is not complete how much is there, and when it was looked at."""
    size = ({name: len(part) for name, part in tidy.GROUPS.items()} | _SUITES).get(panel, len(tasks))
    part = [f"{len(tasks)} of {size} tasks"] if len(tasks) < size else []
    when = [f"{short(frames)} frames"] if frames is not None else []
    return "\n".join([panel, *([", ".join(part + when)] if part + when else [])])


def spread(points: Sequence[Point]) -> Array:
    """How far intervals reach below and above their values: [2, points]; 0 where there is none."""
    below, above = ([getattr(p, end) - p.value for p in points] for end in ("low", "high"))
    return np.nan_to_num(np.abs([below, above]))


def lines(points: Iterable[Point], panel: str, quantity: str = SCORE) -> dict[str, list[Point]]:
    """The points of one panel and quantity, by system."""
    found: dict[str, list[Point]] = {}
    for point in points:
        if (point.panel, point.quantity) == (panel, quantity):
            found.setdefault(point.system, []).append(point)
    return found


def _systems(results: Results, tasks: Sequence[str]) -> list[tuple[str, list[Curves]]]:
    there = [(name, [of[task] for task in tasks if task in of]) for name, of in results.items()]
    return [(name, curves) for name, curves in there if curves]


def _aligned(there: Sequence[Curves]) -> tuple[Steps, list[Array]]:
    """As `tidy.align`, but no points if the tasks share no frame."""
    shared = reduce(np.intersect1d, [curve.env_steps for curve in there])
    return tidy.align(there) if len(shared) else (shared, [curve.values[:, :0] for curve in there])


def _shared(first: Steps, second: Steps) -> Steps:
    both = np.intersect1d(first, second)
    return both if len(both) else first if len(first) else second


def _thinned(steps: Steps) -> Steps:
    where = np.linspace(0, len(steps) - 1, min(len(steps), _MOST)).round().astype(int)
    return np.asarray(steps[where])


def _points(
    about: tuple[str, str, str], steps: Steps, scores: Sequence[Array], confidence: float
) -> list[Point]:
    if not len(steps):
        return []
    counts = np.array([np.count_nonzero(~np.isnan(task), axis=0) for task in scores])  # [tasks, points]
    value, low, high = estimate(iqm, scores, confidence=confidence)
    alone = counts.max(axis=0) == 1
    low, high = np.where(alone, np.nan, low), np.where(alone, np.nan, high)
    numbers = zip(steps, value, low, high, strict=True)
    return [
        Point(*about, int(step), float(v), float(lo), float(hi), len(scores), int(n.min()), int(n.max()))
        for (step, v, lo, hi), n in zip(numbers, counts.T, strict=True)
    ]
