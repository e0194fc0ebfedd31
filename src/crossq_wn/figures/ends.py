"""Who stands where in the end? All systems' scores at one environment frame, per group of tasks."""

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.figures.captions import remarks, title
from crossq_wn.figures.points import SCORE, Panels, Point, aligned, groups, points_at, systems_with
from crossq_wn.figures.source import Source
from crossq_wn.statistics import Array
from crossq_wn.tidy import Results, Steps


class End(NamedTuple):
    """Scores at the end of training, for the figures that show only that."""

    panels: Panels  # those in which something is drawn
    points: list[Point]
    scores: dict[tuple[str, str], list[Array]]  # (panel, system) -> per task [runs]
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
    points, scores = [], {}
    for panel, system, steps, tasks in _ends(source, panels, results):
        points += points_at((panel, SCORE, system), steps, tasks, source.confidence)
        scores[panel, system] = [task[:, 0] for task in tasks]
    if not points:
        when = "after frame 0" if source.frames is None else f"at {source.frames} environment frames"
        there = sorted({int(x) for of in source.scores.values() for c in of.values() for x in c.env_steps})
        raise UserError(f"no run was evaluated {when}: --frames may be {', '.join(map(str, there[-5:]))}")
    frames = {point.panel: point.frames for point in points}
    drawn = {panel: those for panel, those in panels.items() if panel in frames}
    titles = [title(panel, those, frames[panel]) for panel, those in drawn.items()]
    return End(drawn, points, scores, titles, remarks(source, panels, points))


def _ends(source: Source, panels: Panels, results: Results) -> Iterator[tuple[str, str, Steps, list[Array]]]:
    """Panel, system, frame [1] and per task scores [runs, 1]: at the last frame that all of a panel have.

    If frames were asked for, it is those. Systems that have no score there are left out; with the default,
    those that were never evaluated at a frame at which the ones before were.
    """
    for panel, tasks in panels.items():
        curves = {system: aligned(there) for system, there in systems_with(results, tasks)}
        start = np.array([] if source.frames is None else [source.frames], np.int64)
        shared = reduce(_shared, [steps[steps > 0] for steps, _ in curves.values()], start)
        for system, (steps, scores) in curves.items():
            where = steps == (shared[-1] if len(shared) else -1)
            if where.any():
                yield panel, system, steps[where], [task[:, where] for task in scores]


def _shared(first: Steps, second: Steps) -> Steps:
    both = np.intersect1d(first, second)
    return both if len(both) else first if len(first) else second
