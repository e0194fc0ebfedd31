"""What curves run over: environment frames, gradient updates, or hours of training.

Scores are logged at environment frames. How many updates or hours had gone by then is read off metrics.csv or
timing.csv, as if they grew evenly from row to row. Published tables do not tell it.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from crossq_wn.results.curves import Curves
from crossq_wn.results.sheets import Steps
from crossq_wn.results.statistics import Array

Along = Literal["frames", "updates", "hours"]

LABELS: dict[Along, str] = {
    "frames": "environment frames",
    "updates": "gradient updates",
    "hours": "hours of training",
}


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
