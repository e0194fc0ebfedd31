"""How do tables of evaluations become scores? Rows -> curves per system and task -> aligned scores.

Two schemas are read, as .csv or .csv.gz:

    eval.csv of a run         exp_name, env_name, seed, metric, env_step, value
    published results         algorithm [, utd], task, seed, metric, env_step, value [, primary]

In the second, algorithm and utd together name the system (`SimBa UTD 2`), task is the environment, and rows
whose `primary` is not 1 are left out, since they repeat a system from another source. Other columns are
ignored.
"""

import contextlib
import csv
import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossq_wn.environments.suites import suite_of
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.statistics import Array
from crossq_wn.runs.config import read_identity
from crossq_wn.runs.directory import find
from crossq_wn.runs.protocol import read_protocols, remember_suite

Steps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Curves:
    """One system's runs on one task."""

    env_steps: Steps  # [points] environment frames
    seeds: tuple[str, ...]  # [runs], the sources' labels
    values: Array  # [runs, points]; NaN where a run has no evaluation


Results = dict[str, dict[str, Curves]]  # system -> task -> its runs
Row = tuple[str, str, str, int, float]  # system, task, seed, environment frames, value
Rows = Callable[[Path], Iterator[Row]]


def sound(paths: Iterable[Path], warn: Callable[[str], None]) -> list[Path]:
    """Of what is given, what counts: run directories that are whole, and tables, in the order given.

    A run counts wholly or not at all, whatever is read of it.

    Args:
        paths: run directories, folders of them, or tidy CSV files, which are taken as they are.
        warn: told of every run that is left out: one that `load` refuses, or has a seed that a run before it
            has already.

    Raises:
        UserError: there are folders, and no run in them counts.
    """
    given = dict.fromkeys(paths)
    there = dict.fromkeys(each for path in given for each in (find(path) if path.is_dir() else [path]))
    kept: list[Path] = []
    lost: list[str] = []
    owners: dict[tuple[str, str, str], Path] = {}
    for path in there:
        try:
            seeds = _seeds(path) if path.is_dir() else []
            for system, task, seed in seeds:
                if other := owners.get((system, task, seed)):
                    raise UserError(f"{other} holds seed {seed} of {system} already")
        except UserError as reason:
            lost.append(f"{path} is skipped: {one_line(reason)}")
        else:
            owners |= dict.fromkeys(seeds, path)
            kept.append(path)
    if given and not kept:
        lost = lost or ["give run directories, or CSV files such as RUN/eval.csv"]
        raise UserError(f"no evaluations there: {'; '.join(lost)}")
    for line in lost:
        warn(line)
    return kept


def _seeds(run: Path) -> list[tuple[str, str, str]]:
    """System, task and seed of each seed of a run directory. Raises UserError as `load` does."""
    system, task, curves = load(run)
    return [(system, task, seed) for seed in curves.seeds]


def load(path: Path) -> tuple[str, str, Curves]:
    """A run directory's system, as its evaluations name it, its task, and its scores.

    Raises UserError if its configuration, protocol or scores are lacking or damaged.
    """
    task = read_identity(path).task
    read_protocols(path)
    file = path / "eval.csv"
    if not file.exists():
        raise UserError("there is no eval.csv: nothing has been evaluated yet")
    results = read([file])
    if [list(tasks) for tasks in results.values()] != [[task]]:
        raise UserError(f"eval.csv is not of one system on {task} alone")
    ((system, tasks),) = results.items()
    if np.isnan(tasks[task].values).all(axis=1).any():
        raise UserError("all scores of a seed are missing")
    return system, task, tasks[task]


def read(
    paths: Iterable[Path], warn: Callable[[str], None] | None = None, metric: str | None = None
) -> Results:
    """The scores in CSV files, run directories, or folders of these.

    A score is what the paper plots: the metric of the task's suite, divided by the suite's scale. On DeepMind
    Control it is the return / 1000, on MyoSuite the success rate, elsewhere the return.

    Args:
        paths: where to look.
        warn: told of files found in folders that cannot be read, which are then left out; without it, and
            for files given by name, they raise.
        metric: instead of the scores, evaluations of this name as they were logged, such as `return` or
            `q_bias_std`; there may be none.

    Raises:
        UserError: no scores there, an unknown schema, a value that is not a number, an infinite score, or two
            values for one system, task, seed and step.
    """
    results = _gather(_files(paths, "eval.csv", partial(_evaluations, metric), warn))
    if metric is not None:
        return results
    if not results:
        raise UserError("no evaluations there: give run directories, or CSV files such as RUN/eval.csv")
    return {
        system: {
            task: replace(curves, values=curves.values / suite_of(task).scale)
            for task, curves in tasks.items()
        }
        for system, tasks in results.items()
    }


def read_metric(paths: Iterable[Path], column: str, warn: Callable[[str], None] | None = None) -> Results:
    """A column of the runs' metrics.csv, such as a diagnostic, as it was logged in training.

    Runs without that column, or without a value in it, are left out.

    Args:
        paths: run directories, or folders of them; other files have no such columns.
        column: such as `critic_norm`.
        warn: as for `read`.

    Raises UserError as `read` does.
    """
    return _gather(_files(filter(Path.is_dir, paths), "metrics.csv", partial(_logged, column), warn))


def read_speed(
    paths: Iterable[Path], warn: Callable[[str], None] | None = None
) -> dict[str, dict[str, tuple[float, ...]]]:
    """How fast runs trained: system -> task -> environment frames per second, one number per run directory.

    It is the median over the run's rows of timing.csv in which gradient updates were made, and counts the
    frames of all seeds that trained side by side. Runs without such rows are left out.

    Args:
        paths: as for `read_metric`.
        warn: as for `read`.

    Raises UserError as `read` does.
    """
    rates: dict[Path, list[float]] = defaultdict(list)
    of: dict[Path, tuple[str, str]] = {}
    for file, (system, task, _, _, rate) in _files(filter(Path.is_dir, paths), "timing.csv", _timed, warn):
        of[file] = system, task
        rates[file].append(rate)
    speeds: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    for file, (system, task) in of.items():
        speeds[system][task] = (*speeds[system].get(task, ()), float(np.median(rates[file])))
    return dict(speeds)


def _gather(rows: Iterable[tuple[Path, Row]]) -> Results:
    """Rows -> curves. Raises UserError if two contradict each other."""
    runs: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    first: dict[tuple[str, str, str], Path] = {}  # the file that began with a seed
    for file, (system, task, seed, step, value) in rows:
        points, begun = runs[system, task][seed], first.setdefault((system, task, seed), file)
        if points.setdefault(step, value) != value and not np.isnan([points[step], value]).all():
            beside = f" beside {begun}" if begun != file else ""
            raise UserError(
                f"{file}: {system} on {task}, seed {seed} has a second, different value at step {step}"
                f"{beside}: read one of the two runs, or give them different names"
            )
    results: Results = defaultdict(dict)
    for (system, task), seeds in runs.items():
        results[system][task] = _curves(seeds)
    return dict(results)


def align(curves: Sequence[Curves]) -> tuple[Steps, list[Array]]:
    """Environment frames at which all curves have evaluations [points], and the scores, each [runs, points].

    A task's curve ends with its longest run, the aligned ones with the curve that ends first. To compare
    two systems, align the curves of both at once.

    Raises UserError if there are none.
    """
    if not curves:
        raise UserError("no curves to align: the system has none of these tasks")
    common = curves[0].env_steps
    for curve in curves[1:]:
        common = np.intersect1d(common, curve.env_steps)
    if not len(common):
        raise UserError("the tasks were never evaluated at the same environment frame")
    return common, [curve.values[:, np.isin(curve.env_steps, common)] for curve in curves]


def reached_by_most(scores: Iterable[Array]) -> npt.NDArray[np.bool_]:
    """Where more than half of each task's runs have a score [points]; scores are per task [runs, points].

    There they stand for their system: the longest run alone would not, and one that died early is no reason
    to stop.
    """
    return np.asarray(np.all([np.mean(~np.isnan(runs), axis=0) > 0.5 for runs in scores], axis=0))


def short_names(systems: Iterable[str], published: Iterable[str] = ()) -> dict[str, str]:
    """What to call systems side by side: without the settings in brackets that all of ours have.

    `a UTD 1 (x=1, y=2)` and `b UTD 5 (x=1, y=3)` become `a UTD 1 (y=2)` and `b UTD 5 (y=3)`. Names stay as
    they are if there is only one of ours, or if two would be called alike.

    Args:
        systems: their names, as `read` gives them.
        published: those that are not ours; they keep their names.
    """
    names = {system: system for system in systems}
    others = set(published)
    ours = {system: _settings(system) for system in names if system not in others}
    shared = set.intersection(*(set(settings) for _, settings in ours.values())) if len(ours) > 1 else set()
    for system, (name, settings) in ours.items():
        kept = ", ".join(setting for setting in settings if setting not in shared)
        names[system] = f"{name} ({kept})" if kept else name
    return names if len({*names.values()}) == len(names) else {system: system for system in names}


def dropped(names: Mapping[str, str]) -> str:
    """The settings that `short_names` left out of these, as `x=1, y=2`; to be told once."""
    for system, short in names.items():
        if short != system:
            kept = _settings(short)[1]
            return ", ".join(setting for setting in _settings(system)[1] if setting not in kept)
    return ""


def _settings(system: str) -> tuple[str, list[str]]:
    """`a UTD 1 (x=1, y=(2, 3))` -> `a UTD 1` and [`x=1`, `y=(2, 3)`]; any other form has no settings."""
    found = re.fullmatch(r"(.*?) \((\w+=.*)\)", system)
    inside = found[2] if found else ""
    depths = [*accumulate((letter in "([{") - (letter in ")]}") for letter in inside)]
    if found is None or min(depths) < 0 or depths[-1] != 0:
        return system, []
    # A comma inside a value is in brackets, or no new name follows.
    starts = [i for i, depth in enumerate(depths) if depth == 0 and re.match(r", \w+=", inside[i:])]
    return found[1], [inside[i + 2 : j] for i, j in pairwise([-2, *starts, len(inside)])]


def _files(
    paths: Iterable[Path], name: str, rows: Rows, warn: Callable[[str], None] | None
) -> Iterator[tuple[Path, Row]]:
    """The rows of files given by name, and of those called `name` below the folders given; each file once."""
    given = {path: path for path in paths}
    found = {file: path for path in given for file in (sorted(path.rglob(name)) if path.is_dir() else [path])}
    for file, path in found.items():
        try:
            if not file.exists():
                raise UserError(f"{file} is not a run directory or a CSV file: it does not exist")
            done = list(rows(file))
        except UserError as error:
            wrong = error
        except (OSError, EOFError, ValueError, KeyError, csv.Error, zlib.error) as error:
            wrong = UserError(f"{file} cannot be read: {one_line(error)}")
        else:
            yield from ((file, row) for row in done)
            continue
        if warn is None or file == path:
            raise wrong
        warn(f"{file} is skipped: {one_line(wrong)}")


def _evaluations(metric: str | None, path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        published = "algorithm" in columns
        name, place = ("algorithm", "task") if published else ("exp_name", "env_name")
        if lacking := {name, place, "seed", "metric", "env_step", "value"} - columns:
            raise UserError(
                f"{path} lacks the columns {', '.join(sorted(lacking))}: see Published curves in README.md"
            )
        if not published:
            remember_suite(path.parent)
        wanted: dict[str, str] = {}  # task -> metric
        for line, row in _complete(path, reader):
            task = row[place]
            if task not in wanted:
                wanted[task] = metric or suite_of(task).metric
            if row["metric"] != wanted[task] or row.get("primary", "1") != "1":
                continue
            system = row[name] + (f" UTD {row['utd']}" if published and row.get("utd") else "")
            frames, value = _numbers(path, line, row, "env_step", "value")
            if metric is None and np.isinf(value):
                raise UserError(
                    f"{path}, line {line}: a score is infinite: take the row out, or leave this out"
                )
            yield system, task, row["seed"], frames, _finite(value)


def _logged(column: str, path: Path) -> Iterator[Row]:
    system, task, _ = read_identity(path.parent)
    with open(path, newline="") as file:
        for line, row in _complete(path, csv.DictReader(file)):
            if row.get(column):
                frames, value = _numbers(path, line, row, "frames", column)
                yield system.label, task, row["seed"], frames, _finite(value)


def _timed(path: Path) -> Iterator[Row]:
    system, task, _ = read_identity(path.parent)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            # A killed run may leave half a row: resuming cuts the other tables back, not the clock's.
            with contextlib.suppress(ValueError, TypeError):
                if float(row["updates_per_second"]) > 0:  # the warm-up is over
                    rate = float(row["frames_per_second"])
                    yield system.label, task, "all", int(row["frames"]), rate


def _complete(path: Path, reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with their lines, without the last one if a killed run left half of it."""
    for row in reader:
        line = reader.line_num
        if None not in row.values():
            yield line, row
        elif next(reader, None) is not None:
            raise UserError(f"{path}, line {line} is cut short: complete it, or take it out")


def _numbers(path: Path, line: int, row: dict[str, str], step: str, value: str) -> tuple[int, float]:
    try:
        return int(float(row[step])), float(row[value])
    except (ValueError, TypeError, OverflowError):
        raise UserError(
            f"{path}, line {line}: {step} {row[step]!r} or {value} {row[value]!r} is not a number"
        ) from None


def _finite(value: float) -> float:
    """A diagnostic that ran away is missing: it says nothing of the runs beside it."""
    return value if np.isfinite(value) else np.nan


def _curves(seeds: Mapping[str, Mapping[int, float]]) -> Curves:
    steps = sorted({step for points in seeds.values() for step in points})
    values = np.array([[points.get(step, np.nan) for step in steps] for points in seeds.values()])
    return Curves(np.array(steps, np.int64), tuple(seeds), values)
