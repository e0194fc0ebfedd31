"""The systems' scores at the end of training, at one environment frame per group of tasks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import groups_and_all
from crossq_wn.errors import UserError, option
from crossq_wn.results.curves import Curves, Results, reached_by_most
from crossq_wn.results.figures.captions import remarks, title
from crossq_wn.results.figures.points import SCORE, Panels, Point, aligned, points_at, systems_with
from crossq_wn.results.figures.source import Source
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import Array
from crossq_wn.runs.system import System


class End(NamedTuple):
    """Scores at the end of training, for figures that show only those."""

    panels: Panels  # those in which something is drawn
    points: list[Point]
    scores: dict[tuple[str, System], list[Array]]  # by panel and system: per task [runs]
    frames: dict[str, int]  # panel -> the environment frame that it shows
    remarks: list[str]

    def within(self, panel: str) -> list[Point]:
        """The points of a panel, one per system."""
        return [point for point in self.points if point.panel == panel]

    @property
    def titles(self) -> list[str]:
        """The titles of the panels."""
        return [title(panel, tasks, self.frames[panel]) for panel, tasks in self.panels.items()]


def at_end(source: Source, results: Results) -> End:
    """Collects the scores of all groups at their last frames.

    Args:
        source: the runs, and the frame that was asked for.
        results: the scores to draw.

    Raises:
        UserError: there are none.
    """
    panels = groups_and_all(source.tasks)
    told: dict[str, list[str]] = {}  # what limits the frame -> the panels for which it does
    drawn: dict[str, tuple[str, ...]] = {}
    points: list[Point] = []
    scores: dict[tuple[str, System], list[Array]] = {}
    frames: dict[str, int] = {}
    for panel, tasks in panels.items():
        candidates = _candidates(systems_with(results, tasks), source.frames)
        for system, frame, values in _ends(candidates):
            columns = [task[:, None] for task in values]  # [runs, 1]: a curve of one point
            points += points_at((panel, SCORE, system), np.array([frame]), columns, source.how)
            scores[panel, system] = values
            drawn[panel], frames[panel] = tasks, frame
        if panel in frames and (limit := _limit(source, candidates, frames[panel])):
            told.setdefault(limit, []).append(panel)
    if not points:
        raise UserError(_nothing(source.frames, _frames_there(panels, results)))
    limits = [f"{limit} ({', '.join(names)})" for limit, names in told.items()]
    return End(drawn, points, scores, frames, [*limits, *remarks(source, panels, points)])


class Candidate(NamedTuple):
    """A system's scores on the tasks of a panel, and the frames at which it could be shown."""

    system: System
    steps: Steps  # [points]
    scores: list[Array]  # per task [runs, points]
    choice: Steps  # those of the steps at which it can be shown


def _candidates(there: Mapping[System, list[Curves]], frames: int | None) -> list[Candidate]:
    """Finds out where each system can be shown; `frames` is the frame that was asked for, if one was."""
    found = []
    for system, curves in there.items():
        steps, scores = aligned(curves)
        found.append(Candidate(system, steps, scores, _choice(frames, steps, scores)))
    return found


def _ends(candidates: Sequence[Candidate]) -> Iterator[tuple[System, int, list[Array]]]:
    """Yields each system, the frame that is shown and, per task, the system's scores there [runs].

    The frame is the one that was asked for, or else the last that most runs of each system reached. Systems
    without scores there are left out and, unless a frame was asked for, those with scores of a few runs only.
    """
    shared: Steps = np.array([], np.int64)
    for each in candidates:
        shared = _shared(shared, each.choice)
    if not len(shared):
        return
    end = int(shared[-1])
    for each in candidates:
        if end in each.choice:
            yield each.system, end, [task[:, each.steps == end][:, 0] for task in each.scores]


def _limit(source: Source, candidates: Sequence[Candidate], end: int) -> str:
    """Says why systems of ours that go on further are shown at this frame; empty if none does."""
    # The frame at which each could be shown if it were alone.
    lasts = {each.system: int(each.choice[-1]) for each in candidates if len(each.choice)}
    ours = [system for system in lasts if system not in source.published]
    longest = max(ours, key=lasts.__getitem__, default=None)
    if source.frames is not None or longest is None or lasts[longest] <= end:
        return ""
    first = min(lasts, key=lasts.__getitem__)
    why = f"most runs of {source.names[first]} reached" if lasts[first] == end else "all systems share"
    goes_on = f"{source.names[longest]} goes on to {lasts[longest]:,}"
    return f"shown at {end:,} frames, the last that {why}; {goes_on}"


def _choice(frames: int | None, steps: Steps, scores: Sequence[Array]) -> Steps:
    """Returns the frames at which a system can be shown."""
    return steps[(steps > 0) & reached_by_most(scores) if frames is None else steps == frames]


def _shared(first: Steps, second: Steps) -> Steps:
    """Returns the frames that both have; if there are none, the frames of the first that has any."""
    both = np.intersect1d(first, second)
    if len(both):
        return both
    return first if len(first) else second


def _frames_there(panels: Panels, results: Results) -> list[int]:
    found: set[int] = set()
    for tasks in panels.values():
        for curves in systems_with(results, tasks).values():
            found.update(aligned(curves)[0].tolist())
    return sorted(found)


def _nothing(frames: int | None, there: Sequence[int]) -> str:
    """Says why there is nothing to show, and which frames could be asked for."""
    later = [str(frame) for frame in there if frame > 0]  # nothing has been learned at frame 0
    if not later:
        return "no system was evaluated after frame 0, on all its tasks at once: train longer"
    lacking = (
        "no environment frame was reached by more than half of a system's runs"
        if frames is None
        else f"no run was evaluated at {frames} environment frames"
    )
    return f"{lacking}: {option('frames')} may be {', '.join(later[-5:])}"
