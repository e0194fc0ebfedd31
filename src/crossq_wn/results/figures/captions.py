"""The words of figures: titles, legends, and what a reader must know about gaps."""

from collections.abc import Iterable, Mapping, Sequence

from crossq_wn.environments import groups
from crossq_wn.results.figures.points import Panels, Point
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import short
from crossq_wn.runs.system import System


def remarks(source: Source, panels: Panels, points: Sequence[Point]) -> list[str]:
    """What a reader of the figure must know: what is missing, and what has no interval."""
    drawn = {(point.system, point.panel): point.tasks for point in points}
    gaps: dict[str, list[System]] = {}  # what is missing -> of which systems
    for system, there in source.scores.items():
        if any(point.system == system for point in points):
            missing = _incomplete(system, there, panels, drawn)
        else:
            missing = "not drawn, having no values here"
        if missing:
            gaps.setdefault(missing, []).append(system)
    alone = dict.fromkeys(point.system for point in points if point.most_seeds == 1)
    if alone:
        gaps["no interval where there is a single seed"] = list(alone)
    told = []
    for missing, systems in gaps.items():
        told.append(f"{missing}: {', '.join(source.names[system] for system in systems)}")
    return told


def _incomplete(
    system: System, there: Iterable[str], panels: Panels, drawn: Mapping[tuple[System, str], int]
) -> str:
    """In which panels a system lacks tasks, though it has some of them."""
    parts = []
    for panel, tasks in panels.items():
        count = drawn.get((system, panel), 0)
        if count < len(tasks) and not set(tasks).isdisjoint(there):
            parts.append(f"{count} of {len(tasks)} tasks in {panel}")
    return ", ".join(parts)


def labels(points: Iterable[Point], names: Mapping[System, str]) -> dict[System, str]:
    """What legends call each system, in the order of `names`: its short name, and its tasks' seeds."""
    counts: dict[System, list[int]] = {}
    for point in points:
        counts.setdefault(point.system, []).extend((point.fewest_seeds, point.most_seeds))
    found = {}
    for system, name in names.items():
        if system in counts:
            found[system] = f"{name} ({seeds(min(counts[system]), max(counts[system]))})"
    return found


def seeds(fewest: int, most: int) -> str:
    """1 seed, 3 seeds, 3–10 seeds; in one line."""
    number = f"{fewest}" if fewest == most else f"{fewest}–{most}"
    return f"{number}\N{NO-BREAK SPACE}seed{'s' if most != 1 else ''}"


def title(panel: str, tasks: Sequence[str], frames: int | None = None) -> str:
    """A panel's name; below it how much of an incomplete group is there, and the frame that is shown."""
    size = groups.size(panel) or len(tasks)
    below = []
    if len(tasks) < size or panel == groups.ALL:
        below.append(f"{len(tasks)}/{size} tasks")
    if frames is not None:
        below.append(f"{short(frames)} frames")
    return f"{panel}\n{', '.join(below)}" if below else panel
