"""Who stands where in the end? All systems' scores at one environment frame, per group of tasks."""

from functools import reduce
from typing import NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.figures.captions import remarks, title
from crossq_wn.figures.points import SCORE, Panels, Point, aligned, groups, points_at, systems_with
from crossq_wn.figures.source import Source
from crossq_wn.tidy import Results, Steps


class End(NamedTuple):
    """Scores at the end of training, for the figures that show only that."""

    panels: Panels  # those in which something is drawn
    points: list[Point]
    titles: list[str]  # of the panels
    remarks: list[str]


def at_end(source: Source, results: Results) -> End:
    """The scores of all groups at their last frames, and what there is to say about them.

    Args:
        source: what is drawn.
        results: those of its scores that can be drawn.

    Raises:
        UserError: there are none.
    """
    panels = groups(source.tasks)
    points = _ends(source, panels, results)
    if not points:
        when = "after frame 0" if source.frames is None else f"at {source.frames} environment frames"
        there = sorted({int(x) for of in source.scores.values() for c in of.values() for x in c.env_steps})
        raise UserError(f"no run was evaluated {when}: --frames may be {', '.join(map(str, there[-5:]))}")
    frames = {point.panel: point.frames for point in points}
    drawn = {panel: tasks for panel, tasks in panels.items() if panel in frames}
    titles = [title(panel, tasks, frames[panel]) for panel, tasks in drawn.items()]
    return End(drawn, points, titles, remarks(source, panels, points))


def _ends(source: Source, panels: Panels, results: Results) -> list[Point]:
    """Every system's score in every panel at the same environment frame: the last that all of them have.

    If frames were asked for, it is those. Systems that have no score there are left out; with the default,
    those that were never evaluated at a frame at which the ones before were.
    """
    found = []
    for panel, tasks in panels.items():
        curves = {system: aligned(there) for system, there in systems_with(results, tasks)}
        start = np.array([] if source.frames is None else [source.frames], np.int64)
        shared = reduce(_shared, [steps[steps > 0] for steps, _ in curves.values()], start)
        for system, (steps, scores) in curves.items():
            where = steps == (shared[-1] if len(shared) else -1)
            if where.any():
                kept = [task[:, where] for task in scores]
                found += points_at((panel, SCORE, system), steps[where], kept, source.confidence)
    return found


def _shared(first: Steps, second: Steps) -> Steps:
    both = np.intersect1d(first, second)
    return both if len(both) else first if len(first) else second
