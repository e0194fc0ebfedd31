"""The words in figures: titles, legends, and what a reader must know about gaps."""

import math
from collections.abc import Iterable, Mapping, Sequence

from crossq_wn.environments import groups
from crossq_wn.results.curves import early_ends
from crossq_wn.results.figures.points import Panels, Point
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import short
from crossq_wn.results.statistics import Weighting
from crossq_wn.runs.system import System

_NAMED = 6  # seeds that a remark names at most


def remarks(source: Source, panels: Panels, points: Sequence[Point]) -> list[str]:
    """Says what a reader of the figure must know: what is missing, and what has no interval.

    Args:
        source: the systems that could be drawn.
        panels: all panels that the figure could have.
        points: those that are drawn.

    Returns:
        A line for each kind of gap, with the systems that have it.
    """
    drawn: dict[System, dict[str, int]] = {}  # system -> panel -> how many of its tasks
    for point in points:
        drawn.setdefault(point.system, {})[point.panel] = point.tasks
    unplaced = source.unplaced
    gaps: dict[str, list[str]] = {}  # what is missing -> names of the systems without
    for system, there in source.scores.items():
        missing = "not drawn, since there are no values here"
        if system in unplaced:
            missing = f"not drawn, since only their environment frames are known, not their {source.along}"
        if system in drawn:
            missing = _incomplete(there, panels, drawn[system])
        if missing:
            gaps.setdefault(missing, []).append(source.names[system])
    gaps |= _seeds_of_note(source, points)
    gaps |= _ended_early(source, panels, points)
    return [f"{missing}: {', '.join(names)}" for missing, names in gaps.items()]


def meaning(marks: str, ends: str, source: Source, points: Sequence[Point]) -> str:
    """Says what the marks of a figure mean, and its intervals where it has any, for a footnote.

    Args:
        marks: what stands for a score, such as `bars`.
        ends: what shows intervals, such as `whiskers`.
        source: gives the intervals.
        points: those that are drawn.
    """
    several = any(point.tasks * point.most_seeds > 1 for point in points)
    found = [f"{marks}: {'IQM over runs' if several else 'the score of a single run'}"]
    if has_intervals(points):
        found.append(f"{ends} {source.interval}")
    return "; ".join(found)


def has_intervals(points: Iterable[Point]) -> bool:
    """Whether any point has an interval, which takes a task with several seeds."""
    return any(math.isfinite(point.low) for point in points)


def _ended_early(source: Source, panels: Panels, points: Iterable[Point]) -> dict[str, list[str]]:
    """Which seeds of ours end before the last frame that is drawn of them, by what is done about it."""
    until: dict[tuple[System, str], int] = {}  # system and task -> the last environment frame drawn
    for point in points:
        for task in panels[point.panel]:
            until[point.system, task] = max(point.frames, until.get((point.system, task), 0))
    ended: list[str] = []
    for system in source.own_systems:
        for task, curves in source.scores[system].items():
            for seed, frames in early_ends(curves, until.get((system, task), 0)):
                ended.append(f"{source.names[system]} on {task}, seed {seed} at {frames:,} frames")
    if len(ended) > _NAMED:
        ended[_NAMED:] = [f"and {len(ended) - _NAMED} more"]
    return {"these seeds ended early, and from there on only the others count": ended} if ended else {}


def _seeds_of_note(source: Source, points: Iterable[Point]) -> dict[str, list[str]]:
    """What a reader must know about numbers of seeds -> the names of the systems that it concerns."""
    alone: dict[str, None] = {}  # the keys are an ordered set
    unequal: dict[str, None] = {}
    for point in points:
        if point.most_seeds == 1:
            alone[source.names[point.system]] = None
        if point.fewest_seeds < point.most_seeds:
            unequal[source.names[point.system]] = None
    found = {"no interval where there is a single seed": alone, weighed(source.how.weighting): unequal}
    return {what: list(names) for what, names in found.items() if names}


def weighed(weighting: Weighting) -> str:
    """Says what counts alike where tasks have unequally many seeds."""
    if weighting == "tasks":
        return "where tasks have unequally many seeds, tasks count alike"
    return "where tasks have unequally many seeds, all runs are pooled and tasks with more seeds weigh more"


def _incomplete(there: Iterable[str], panels: Panels, drawn: Mapping[str, int]) -> str:
    """Says in which panels a system has some of the tasks but not all; `drawn` counts those it has."""
    parts = []
    for panel, tasks in panels.items():
        count = drawn.get(panel, 0)
        if count < len(tasks) and not set(tasks).isdisjoint(there):
            parts.append(f"{count} of {len(tasks)} tasks in {panel}")
    return ", ".join(parts)


def labels(points: Iterable[Point], names: Mapping[System, str]) -> dict[System, str]:
    """Names systems for a legend, in the order of `names`: the short name and the number of seeds.

    Args:
        points: of all panels; they say how many seeds a system has.
        names: what the figure calls each system.
    """
    counts: dict[System, list[int]] = {}
    for point in points:
        counts.setdefault(point.system, []).extend((point.fewest_seeds, point.most_seeds))
    found = {}
    for system, name in names.items():
        if system in counts:
            found[system] = f"{name} ({seeds(min(counts[system]), max(counts[system]))})"
    return found


def seeds(fewest: int, most: int) -> str:
    """Writes a number of seeds: `1 seed`, `3 seeds`, `3–10 seeds`, with a space at which no line breaks."""
    number = f"{fewest}" if fewest == most else f"{fewest}–{most}"
    return f"{number}\N{NO-BREAK SPACE}seed{'s' if most != 1 else ''}"


def title(panel: str, tasks: Sequence[str], frames: int | None = None) -> str:
    """Writes a panel's title.

    Below the panel's name it says how many of a group's tasks there are, if not all, and at which frame.

    Args:
        panel: the name of a group of tasks, or of a task.
        tasks: those of the group's tasks that there are.
        frames: the environment frame that is shown; None if a whole curve is.
    """
    size = groups.size(panel) or len(tasks)
    below = []
    if len(tasks) < size or panel == groups.ALL:
        below.append(f"{len(tasks)}/{size} tasks")
    if frames is not None:
        below.append(f"{short(frames)} frames")
    return f"{panel}\n{', '.join(below)}" if below else panel
