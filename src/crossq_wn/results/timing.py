"""How fast runs trained, from their timing.csv."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.results.sheets import Series, Sheet
from crossq_wn.results.statistics import Array

_TIMES = ("frames_per_second", "updates_per_second", "seconds")  # columns


class Speed(NamedTuple):
    """How fast all seeds of a run together trained: medians over the rows with gradient updates."""

    frames: float  # environment frames per second
    updates: float  # gradient updates per second
    hours: float  # of training so far


def _timed(sheet: Sheet, columns: Sequence[str]) -> Array:
    """Returns columns of timing.csv [columns, rows], without rows that are not numbers."""
    rows = []
    for cells in zip(*map(sheet.column, columns), strict=True):
        try:
            rows.append(tuple(map(float, cells)))
        except ValueError:
            continue  # the half of a row of a killed run, and the row that follows it
    return np.reshape(rows, (-1, len(columns))).T


def _total(clock: Array) -> Array:
    """Adds up a clock [rows] that starts again at 0 when a run is resumed."""
    before = np.where(clock[1:] < clock[:-1], clock[:-1], 0.0)  # what it showed before it started again
    return np.asarray(clock + np.concatenate([[0.0], np.cumsum(before)]))


def hours_of(sheet: Sheet, name: str) -> Series | None:
    """The hours that a run had trained at each environment frame.

    Args:
        sheet: the run's timing.csv.
        name: of the series.

    Returns:
        A series over environment frames; None without rows of both.
    """
    frames, clock = _timed(sheet, ("frames", "seconds"))  # each [rows]
    if not len(frames):
        return None
    total = _total(clock)
    steps, last = np.unique(frames[::-1], return_index=True)  # of each frame the row that came last
    hours = np.maximum.accumulate(total[::-1][last]) / 3600
    return Series(name, steps.astype(np.int64), hours, [])


def speed_of(sheet: Sheet) -> Speed | None:
    """How fast a run trained; None if it made no gradient updates.

    Args:
        sheet: the run's timing.csv.
    """
    frames, updates, clock = _timed(sheet, _TIMES)  # each [rows]
    trains = updates > 0
    if not trains.any():
        return None
    hours = float(_total(clock)[-1]) / 3600
    return Speed(float(np.median(frames[trains])), float(np.median(updates[trains])), hours)
