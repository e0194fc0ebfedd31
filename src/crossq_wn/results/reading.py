"""Reads run directories and CSV tables into curves per system and task.

Two kinds of CSV files are read, as .csv or .csv.gz:

    eval.csv of a run         exp_name, env_name, seed, metric, env_step, value
    published results         algorithm [, utd], task, seed, metric, env_step, value [, primary]

A run's system comes from its config.json. In published results, `algorithm` and `utd` name the system. Rows
whose `primary` is not 1 are left out, since they repeat a system from another source; columns that are not
named here are ignored, but for those that `results.practice` reads.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from crossq_wn.environments.suites import suite_of
from crossq_wn.errors import UserError, one_line, option
from crossq_wn.machine import expanded
from crossq_wn.results.curves import Curves, Piece, Results, joined
from crossq_wn.results.practice import unevaluated
from crossq_wn.results.records import CurveTable, Input, RunRecord
from crossq_wn.results.sheets import Series
from crossq_wn.results.timing import Speed
from crossq_wn.runs.folders import find
from crossq_wn.runs.manifests import way_back
from crossq_wn.runs.protocol import is_described
from crossq_wn.runs.system import System

Warn = Callable[[str], None]  # called with a line that says what is left out, and why
T = TypeVar("T", bound=Input)


def inputs(paths: Iterable[Path]) -> list[Input]:
    """Lists the run directories in these folders, even damaged ones, and these files, in the order given."""
    found: dict[Input, None] = {}
    for path in map(expanded, paths):
        if path.is_dir():
            found |= dict.fromkeys(RunRecord(run) for run in find(path))
        else:
            own = path.name == "eval.csv" and is_described(path.parent)
            found[CurveTable(path, RunRecord(path.parent) if own else None)] = None
    return list(found)


def require_folders(paths: Iterable[Path]) -> None:
    """Raises UserError unless all paths are folders: runs, or folders of them, but no published curves."""
    for path in paths:
        if not path.is_dir():
            to = f"is a file: give published curves to {option('reference')}"
            state = to if path.exists() else "does not exist"
            raise UserError(f"{path} is not a run directory or a folder of them: it {state}")


def complete(paths: Iterable[Path], warn: Warn) -> list[Input]:
    """Returns the complete runs and the tables in these paths, in input order.

    A run counts as a whole or not at all: it is left out if `check` refuses it. Tables are taken as they are.

    Args:
        paths: run directories, folders of them, or CSV files.
        warn: called with a line for each run that is left out.

    Raises:
        UserError: there are paths, but nothing usable in them.
    """
    given = list(paths)
    lost: list[str] = []
    found = checked(inputs(given), lost.append)
    refusal = "" if found or not given else nothing_left(lost, warn)
    if refusal:
        raise UserError(f"no evaluations there: {refusal}")
    for line in lost:
        warn(line)
    return found


def nothing_left(lost: Sequence[str], warn: Warn) -> str:
    """Says why nothing is left, for the last line that a user reads; lines before it go to `warn`.

    Args:
        lost: a line for each run that is left out.
        warn: called with each of these lines if there are several.
    """
    if not lost:
        return "give run directories, or CSV files such as RUN/eval.csv"
    if len(lost) == 1:
        return lost[0]
    for line in lost:
        warn(line)
    return f"all {len(lost)} runs are skipped, such as {lost[0].replace(' is skipped: ', ': ', 1)}"


def checked(inputs: Iterable[Input], warn: Warn) -> list[Input]:
    """Returns the tables, and the runs that `check` accepts; `warn` gets a line on each of the others."""
    return kept(inputs, check, warn)


def kept(inputs: Iterable[Input], work: Callable[[RunRecord], object], warn: Warn) -> list[Input]:
    """Calls `work` with each run, and returns the inputs without the runs for which it raises UserError.

    `warn` gets a line on each of these.
    """
    found: list[Input] = []
    for each in inputs:
        try:
            if isinstance(each, RunRecord):
                work(each)
            found.append(each)
        except UserError as reason:
            warn(f"{each.path} is skipped: {one_line(reason)}")
    return found


def check(run: RunRecord) -> Curves:
    """Returns the scores of a run, if the run is complete.

    Raises:
        UserError: its configuration, protocol or scores are missing or damaged.
    """
    task = run.identity.task
    _ = run.protocols  # raises if manifest.json does not say
    if not run.evaluations.path.exists():
        raise UserError(f"there is no eval.csv{way_back(run.path) or ': nothing has been evaluated yet'}")
    metrics = {metric for _, _, metric in run.evaluations.contents}
    if not metrics:
        raise unevaluated(run)
    run.remember_suite()
    if suite_of(task).metric not in metrics:
        raise UserError(f"eval.csv has no {suite_of(task).metric}, which is the score of {task}")
    found = scores([run])
    tasks, *others = found.values()  # of each system in the file
    if others or list(tasks) != [task]:
        raise UserError(f"eval.csv does not hold one system on {task} alone")
    curves = tasks[task]
    if np.isnan(curves.values).all(axis=1).any():
        raise UserError("all scores of a seed are missing")
    return curves


def scores(inputs: Iterable[Input], warn: Warn | None = None) -> Results:
    """Reads the scores in run directories and tables.

    A score is what the paper plots: the metric of the task's suite, divided by the suite's scale. On DeepMind
    Control it is the return / 1000, on MyoSuite the success rate, elsewhere the return.

    Args:
        inputs: what to read.
        warn: called with a line for each run directory that cannot be read, which is then left out. Without
            it such a run raises an error, as a table always does.

    Raises:
        UserError: there are no scores, the table is of an unknown kind, a value is not a number, a score is
            infinite, or a system, task, seed and frame has two different values.
    """
    found = _evaluated(inputs, None, warn)
    if not found:
        raise UserError("no evaluations there: give run directories, or CSV files such as RUN/eval.csv")
    for tasks in found.values():
        for task, curves in tasks.items():
            tasks[task] = replace(curves, values=curves.values / suite_of(task).scale)
    return found


def evaluations(inputs: Iterable[Input], metric: str, warn: Warn | None = None) -> Results:
    """Reads evaluations of one metric as they were logged, such as `q_bias_std`; there may be none.

    Args:
        inputs: as for `scores`.
        metric: its name in the tables; values that are not finite count as missing.
        warn: as for `scores`.

    Raises:
        UserError: as for `scores`; infinite values raise none.
    """
    return _evaluated(inputs, metric, warn)


def logged(inputs: Iterable[Input], column: str, warn: Warn | None = None) -> Results:
    """Reads a column of the runs' metrics.csv, such as a diagnostic, as it was logged during training.

    Args:
        inputs: as for `scores`; tables have no such columns.
        column: such as `critic_norm`. Runs without a value in it are left out; values that are not finite
            count as missing.
        warn: as for `scores`.

    Raises:
        UserError: as for `scores`.
    """
    runs = [each for each in inputs if isinstance(each, RunRecord)]
    return joined(_found(runs, lambda run: _column_of(run, column), "metrics.csv", warn))


def hours(inputs: Iterable[Input], warn: Warn | None = None) -> Results:
    """Reads how many hours runs had trained at each environment frame, a curve per run directory.

    Args:
        inputs: as for `scores`; tables do not say.
        warn: as for `scores`.

    Raises:
        UserError: as for `scores`.
    """
    runs = [each for each in inputs if isinstance(each, RunRecord)]
    return joined(_found(runs, _hours_of, "timing.csv", warn))


def speed_of(run: RunRecord, warn: Warn | None = None) -> Speed | None:
    """Returns how fast a run trained, or None if its timing.csv does not say.

    Raises:
        UserError: timing.csv cannot be read, and there is no `warn`.
    """
    try:
        return run.speed
    except UserError as error:
        if warn is None:
            raise
        warn(f"{run.path / 'timing.csv'} is skipped: {one_line(error)}")
        return None


def speeds(inputs: Iterable[Input], warn: Warn | None = None) -> dict[System, dict[str, tuple[float, ...]]]:
    """Reads how fast runs trained.

    Args:
        inputs: as for `scores`; tables do not say.
        warn: as for `scores`.

    Returns:
        System -> task -> environment frames per second, a number per run directory, for all
        seeds that trained side by side together. Runs without gradient updates in timing.csv are left out.

    Raises:
        UserError: as for `speed_of`.
    """
    found: dict[System, dict[str, tuple[float, ...]]] = {}
    for run in inputs:
        if isinstance(run, RunRecord) and (speed := speed_of(run, warn)) is not None:
            tasks = found.setdefault(run.identity.system, {})
            tasks[run.identity.task] = (*tasks.get(run.identity.task, ()), speed.frames)
    return found


def _evaluated(inputs: Iterable[Input], metric: str | None, warn: Warn | None) -> Results:
    """Reads one metric, or, if it is None, each task's score; neither is scaled."""
    there = list(inputs)
    # A table that has only labels, such as an eval.csv from another machine, may hold more seeds of our runs.
    known = {each.system.label: each.system for each in there if isinstance(each, RunRecord) and each.system}
    return joined(_found(there, lambda each: _evaluations_of(each, metric, known), "eval.csv", warn))


def _found(
    inputs: Iterable[T], pieces: Callable[[T], list[Piece]], file: str, warn: Warn | None
) -> Iterator[Piece]:
    """Yields the pieces of all inputs, and warns of run directories in which `file` is damaged."""
    for each in inputs:
        try:
            found = pieces(each)
        except UserError as error:
            if warn is None or isinstance(each, CurveTable):
                raise
            warn(f"{each.path / file} is skipped: {one_line(error)}")
        else:
            yield from found


def _evaluations_of(each: Input, metric: str | None, known: Mapping[str, System]) -> list[Piece]:
    """Returns the evaluations in a run or a table; `known` has the runs' systems by label."""
    if isinstance(each, CurveTable):
        return _pieces_of(each, metric, known)
    return _pieces_of(each.evaluations, metric, {}) if each.evaluations.path.exists() else []


def _pieces_of(table: CurveTable, metric: str | None, known: Mapping[str, System]) -> list[Piece]:
    if table.run is not None:
        table.run.remember_suite()  # which knows the metric of the task's scores
    # Scores decide verdicts, so an infinite one is refused and not counted as missing.
    clean = _score if metric is None else _finite
    found = []
    for system, task, name in table.contents:
        if name == (metric or suite_of(task).metric):
            called = known.get(system.label, system)
            for series in table.series(system, task, name):
                found.append(Piece(table.path, called, task, clean(series, table.path)))
    return found


def _score(series: Series, file: Path) -> Series:
    """Returns the scores unchanged; raises UserError if one is infinite."""
    infinite = np.flatnonzero(np.isinf(series.values))
    if len(infinite):
        line = series.lines[infinite[0]]
        raise UserError(f"{file}, line {line}: a score is infinite: take the row out, or leave this out")
    return series


def _finite(series: Series, file: Path) -> Series:
    """Counts values that are not finite as missing; the other runs keep theirs."""
    return series._replace(values=np.where(np.isfinite(series.values), series.values, np.nan))


def _hours_of(run: RunRecord) -> list[Piece]:
    series, (system, task, _) = run.hours, run.identity
    return [] if series is None else [Piece(run.path / "timing.csv", system, task, series)]


def _column_of(run: RunRecord, column: str) -> list[Piece]:
    series = run.logged(column)
    if not series:
        return []
    file, (system, task, _) = run.path / "metrics.csv", run.identity
    return [Piece(file, system, task, _finite(each, file)) for each in series]
