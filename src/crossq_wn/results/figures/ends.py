"""Who stands where in the end? All systems' scores at one environment frame, per group of tasks."""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import groups_and_all
from crossq_wn.errors import UserError
from crossq_wn.results.figures.captions import remarks, title
from crossq_wn.results.figures.points import SCORE, Panels, Point, aligned, points_at, systems_with
from crossq_wn.results.figures.source import Source
from crossq_wn.results.reading import Curves, Results, Steps, reached_by_most
from crossq_wn.results.statistics import Array


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
    panels = groups_and_all(source.tasks)
    points, scores = [], {}
    for panel, tasks in panels.items():
        for system, steps, values in _ends(systems_with(results, tasks), source.frames):
            points += points_at((panel, SCORE, system), steps, values, source.confidence)
            scores[panel, system] = [task[:, 0] for task in values]
    if not points:
        there = [aligned(of)[0] for tasks in panels.values() for _, of in systems_with(results, tasks)]
        raise UserError(_nothing(source.frames, [*map(int, np.unique(np.concatenate(there)))]))
    frames = {point.panel: point.frames for point in points}
    drawn = {panel: those for panel, those in panels.items() if panel in frames}
    titles = [title(panel, those, frames[panel]) for panel, those in drawn.items()]
    return End(drawn, points, scores, titles, remarks(source, panels, points))


def _ends(
    there: Iterable[tuple[str, list[Curves]]], frames: int | None
) -> Iterator[tuple[str, Steps, list[Array]]]:
    """System, frame [1] and per task scores [runs, 1]: at the last frame that most runs of each reached.

    If frames were asked for, it is those. Systems that have no score there are left out; with the default,
    those most of whose runs did not reach it.
    """
    curves = {system: aligned(of) for system, of in there}
    choices = {system: _choice(frames, *curve) for system, curve in curves.items()}
    shared = reduce(_shared, choices.values(), np.array([], np.int64))
    for system, (steps, scores) in curves.items():
        end = np.intersect1d(choices[system], shared[-1:])
        if len(end):
            yield system, end, [task[:, steps == end] for task in scores]


def _choice(frames: int | None, steps: Steps, scores: Sequence[Array]) -> Steps:
    return steps[(steps > 0) & reached_by_most(scores) if frames is None else steps == frames]


def _shared(first: Steps, second: Steps) -> Steps:
    both = np.intersect1d(first, second)
    return both if len(both) else first if len(first) else second


def _nothing(frames: int | None, there: Sequence[int]) -> str:
    """Why there is nothing to show, and which frames may be asked for, if any."""
    later = [str(frame) for frame in there if frame > 0]
    if not later:
        return "no system was evaluated after frame 0, on all its tasks at once: train longer"
    lacking = (
        "no environment frame was reached by more than half of a system's runs"
        if frames is None
        else f"no run was evaluated at {frames} environment frames"
    )
    return f"{lacking}: --frames may be {', '.join(later[-5:])}"
