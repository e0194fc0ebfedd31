"""What curves run over: environment frames, gradient updates, or hours of training.

Scores are logged at environment frames. How many updates or hours had gone by then is read off metrics.csv or
timing.csv of a run, as if they grew evenly from row to row. Tables are not asked.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.results import reading
from crossq_wn.results.curves import Curves, Results
from crossq_wn.results.practice import unlogged
from crossq_wn.results.reading import Warn
from crossq_wn.results.records import Input
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import Array
from crossq_wn.runs.system import System

Along = Literal["frames", "updates", "hours"]

LABELS: dict[Along, str] = {
    "frames": "environment frames",
    "updates": "gradient updates",
    "hours": "hours of training",
}

# Marks are whole numbers of these: an hour has 3,600 of them.
PER_UNIT: dict[Along, int] = {"frames": 1, "updates": 1, "hours": 3600}
_MOST = 10  # marks


def clocks(inputs: Iterable[Input], along: Along, warn: Warn) -> Results:
    """Reads the gradient updates, or hours, that runs had behind them over environment frames.

    Args:
        inputs: runs; tables do not tell.
        along: what to read; for frames there is nothing to.
        warn: called with a line for each run that cannot be read.
    """
    if along == "hours":
        return reading.hours(inputs, warn)
    return reading.logged(inputs, "updates", warn) if along == "updates" else {}


def at_equal(
    along: Along, ours: Results, theirs: Results, known: tuple[Results, Results]
) -> tuple[Results, Results]:
    """Scores at equal updates, or hours, in place of equal frames.

    Between evaluations scores are interpolated linearly; systems whose clock is unknown are left out.

    Args:
        along: what the results shall run over: updates or hours.
        ours: our systems' scores; where they end, the marks do.
        theirs: the scores of others.
        known: the clocks of ours and of theirs; a system may stand on both sides.

    Returns:
        Both over whole updates, or whole seconds, in place of frames: at most ten of them, evenly spaced.
    """
    placed: list[Results] = [{}, {}]
    for task in sorted(set[str]().union(*ours.values())):
        clocked = [_clocked(*side, task) for side in zip((ours, theirs), known, strict=True)]
        ends = []
        for curves, clock in clocked[0].values():
            ends.append(float(positions([clock], curves.env_steps[-1:])[0]))
        marks = _marks(max(ends, default=0.0), PER_UNIT[along])
        for found, there in zip(placed, clocked, strict=True):
            for system, (curves, clock) in there.items():
                found.setdefault(system, {})[task] = _resampled(curves, clock, marks, PER_UNIT[along])
    return placed[0], placed[1]


def unknown(along: Along, inputs: Iterable[Input]) -> UserError:
    """The error that nothing of these inputs can be placed."""
    return unlogged(inputs) or UserError(
        f"none of these systems has known {LABELS[along]}: only run directories record them"
    )


Clocked = dict[System, tuple[Curves, Curves]]  # system -> its scores and its clock


def _clocked(results: Results, known: Results, task: str) -> Clocked:
    """The systems of a task whose clock is known."""
    found: Clocked = {}
    for system, tasks in results.items():
        clock = known.get(system, {}).get(task)
        if task in tasks and clock is not None:
            found[system] = tasks[task], clock
    return found


def _marks(end: float, per_unit: int) -> Steps:
    """At most ten round numbers up to an end, such as 20,000, 40,000 and so on; whole ones, `per_unit`."""
    if end <= 0:
        return np.zeros(0, np.int64)
    least = end / _MOST
    size = 10.0 ** np.floor(np.log10(least))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= least * (1 - 1e-9))
    marks = step * np.arange(1, int(end / step + 1e-9) + 1)
    return np.unique(np.maximum(np.round(per_unit * marks), 1).astype(np.int64))


def _resampled(curves: Curves, clock: Curves, marks: Steps, per_unit: int) -> Curves:
    values = []
    for seed, scores in zip(curves.seeds, curves.values, strict=True):
        there = ~np.isnan(scores)
        where = per_unit * positions([clock], curves.env_steps[there], seed)
        values.append(np.interp(marks, where, scores[there], left=np.nan, right=np.nan))
    return Curves(marks, curves.seeds, np.array(values).reshape(len(curves.seeds), len(marks)))


def positions(clocks: Iterable[Curves], frames: Steps, seed: str | None = None) -> Array:
    """Computes how many updates, or hours, runs had behind them at some environment frames, on average.

    Args:
        clocks: per task, the updates or hours that were logged over environment frames [runs, rows].
        frames: [points] environment frames.
        seed: the only run to read, if the clocks have one of that name; else all are averaged.

    Returns:
        The updates or hours [points]; NaN without any clock.
    """
    found: list[Array] = []
    for clock in clocks:
        known = [i for i, name in enumerate(clock.seeds) if name == seed]
        for values in clock.values[known] if known else clock.values:
            found.append(_reading(clock.env_steps, values, frames))
    return np.mean(found, axis=0) if found else np.full(len(frames), np.nan)


def _reading(steps: Steps, values: Array, frames: Sequence[int] | Steps) -> Array:
    """Reads one run's clock at these frames [points]; after its last row the clock keeps its pace."""
    there = ~np.isnan(values)
    x = np.concatenate([[0], steps[there]])
    y = np.concatenate([[0], values[there]])
    at = np.asarray(frames, float)
    read = np.interp(at, x, y)
    if len(x) > 1:
        slope = (y[-1] - y[-2]) / max(x[-1] - x[-2], 1)
        read = np.where(at > x[-1], y[-1] + slope * (at - x[-1]), read)
    return np.asarray(read)
