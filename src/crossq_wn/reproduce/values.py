"""The values that claims and figures are based on: per system, task, seed and environment frame.

They are read from runs and written beside the verdicts in the format of published curves, so verdicts can be
made again without the runs, and `--reference` can read the scores.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.suites import suite_of
from crossq_wn.files import write_atomically
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.reproduce.measuring import Courses
from crossq_wn.reproduce.studies import PlannedRun, PlannedSystem, Scale
from crossq_wn.results import reading
from crossq_wn.results.curves import Curves, Results
from crossq_wn.results.records import CurveTable, RunRecord
from crossq_wn.runs.system import System
from crossq_wn.runs.tables import as_csv

FILE = "values.csv.gz"  # beside the verdicts
MOST = 200  # points of a curve that are written at most
COLUMNS = ("algorithm", "utd", "task", "seed", "metric", "env_step", "value")


class Values(NamedTuple):
    """What was measured."""

    scores: Courses
    metric: Callable[[str], Courses]  # name of a diagnostic -> its values over training


def of_runs(finished: Sequence[PlannedRun], warn: Callable[[str], None]) -> Values:
    """Reads what finished runs have logged.

    Args:
        finished: runs whose evaluations can be read.
        warn: is told once of each file of diagnostics that cannot be read.
    """
    records = []
    systems = {}  # a run's own system -> the planned one
    for run in finished:
        record = RunRecord(run.path)
        records.append(record)
        systems[record.identity.system] = run.system
    once = cache(warn)  # a file has several columns

    @cache
    def metric(column: str) -> Courses:
        return _planned(reading.logged(records, column, once), systems)

    return Values(_planned(reading.scores(records), systems) if records else {}, metric)


def of_file(path: Path, scale: Scale) -> Values:
    """Reads what `write` has written.

    Args:
        path: the file.
        scale: whose systems to read; others in the file are left out.

    Raises:
        UserError: the file cannot be read.
    """
    table = CurveTable(path)
    systems = {}
    for plan in scale.figures.values():
        for system in plan.systems:
            systems[System(_name(system), system.utd)] = system  # the way published systems are read

    @cache
    def metric(column: str) -> Courses:
        return _planned(reading.evaluations([table], column), systems)

    return Values(_planned(reading.scores([table]), systems), metric)


def write(path: Path, values: Values) -> None:
    """Writes scores and the diagnostics of figure 3, with at most `MOST` points per curve.

    Args:
        path: the file, whose name ends in .csv.gz.
        values: to write.
    """
    rows: list[Sequence[object]] = [COLUMNS]
    for system, task, curves in _each(values.scores):
        suite = suite_of(task)
        # As a run logs them, because whoever reads published curves scales them.
        raw = Curves(curves.env_steps, curves.seeds, curves.values * suite.scale)
        rows += _rows(system, task, suite.metric, raw)
    for diagnostic in DIAGNOSTICS.values():
        if diagnostic.in_figure_3:
            for system, task, curves in _each(values.metric(diagnostic.name)):
                rows += _rows(system, task, diagnostic.name, curves)
    # No time stamp in the file, so that equal values make equal files.
    write_atomically(path, gzip.compress(as_csv(rows).encode(), mtime=0))


def _each(courses: Courses) -> Iterator[tuple[PlannedSystem, str, Curves]]:
    for system, tasks in courses.items():
        for task, curves in tasks.items():
            yield system, task, curves


def _rows(system: PlannedSystem, task: str, metric: str, curves: Curves) -> Iterator[list[object]]:
    """Rows of one quantity of one system on one task, from the curve's first point to its last."""
    count = len(curves.env_steps)
    points = np.linspace(0, count - 1, min(count, MOST)).round().astype(int)  # evenly spaced indices
    for point in np.unique(points):
        for seed, value in zip(curves.seeds, curves.values[:, point], strict=True):
            if not np.isnan(value):
                step = int(curves.env_steps[point])
                yield [_name(system), system.utd, task, seed, metric, step, f"{value:.9g}"]


def _name(system: PlannedSystem) -> str:
    """The label without the UTD ratio, which has its own column."""
    return system.label.replace(f" UTD {system.utd}", "")


def _planned(results: Results, systems: Mapping[System, PlannedSystem]) -> Courses:
    """The results of planned systems, by those."""
    return {systems[system]: curves for system, curves in results.items() if system in systems}
