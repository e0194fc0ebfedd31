"""What do a figure's words say? Titles, legends, and what the reader must know about gaps."""

from collections.abc import Iterable, Mapping, Sequence

from crossq_wn.environments import groups
from crossq_wn.results.figures.points import Panels, Point
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import short


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
    alone = dict.fromkeys(point.system for point in points if point.most_seeds == 1)
    if alone:
        lacks["no interval where there is a single seed"] = list(alone)
    return [f"{what}: {', '.join(source.names[s] for s in systems)}" for what, systems in lacks.items()]


def labels(points: Iterable[Point], names: Mapping[str, str]) -> dict[str, str]:
    """How legends call each system, in the order of `names`: its short name, and its tasks' seeds."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.system, []).append(point)
    return {
        s: f"{name} ({seeds(min(p.fewest_seeds for p in found[s]), max(p.most_seeds for p in found[s]))})"
        for s, name in names.items()
        if s in found
    }


def seeds(fewest: int, most: int) -> str:
    """1 seed, 3 seeds, 3–10 seeds; in one line."""
    number = f"{fewest}" if fewest == most else f"{fewest}–{most}"
    return f"{number}\N{NO-BREAK SPACE}seed{'s' if most != 1 else ''}"


def title(panel: str, tasks: Sequence[str], frames: int | None = None) -> str:
    """A panel's name; of a group that is not complete how much is there, and when it was looked at."""
    size = groups.size(panel) or len(tasks)
    part = [f"{len(tasks)}/{size} tasks"] if len(tasks) < size or panel == groups.ALL else []
    when = [f"{short(frames)} frames"] if frames is not None else []
    return "\n".join([panel, *([", ".join(part + when)] if part + when else [])])
