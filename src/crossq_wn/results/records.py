"""Run directories and tables of evaluations as values.

Each file is read when it is first needed, and never again; what is wrong with it is remembered as well.
"""

import contextlib
import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from crossq_wn.environments.suites import remember
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.statistics import Array
from crossq_wn.runs.config import DAMAGED, Identity, RunConfig, config_of, identity_of, read_json
from crossq_wn.runs.protocol import Terms, protocols_of, read_manifest, terms_of
from crossq_wn.runs.system import System

Steps = npt.NDArray[np.int64]
T = TypeVar("T")

# What reading a damaged CSV file may raise.
_UNREADABLE = (OSError, EOFError, ValueError, csv.Error, zlib.error)
_TIMES = ("frames_per_second", "updates_per_second", "seconds")  # columns of timing.csv


class Series(NamedTuple):
    """One seed's values of one quantity, in the order of the file."""

    seed: str
    frames: Steps  # [points] environment frames
    values: Array  # [points]
    lines: list[int]  # [points] where they stand in the file


class Speed(NamedTuple):
    """How fast a run trained, all its seeds together; medians over the rows with gradient updates."""

    frames: float  # environment frames per second
    updates: float  # gradient updates per second
    hours: float  # of training so far


@dataclass(frozen=True)
class Sheet:
    """A CSV file, column by column."""

    path: Path
    lines: list[int]  # [rows] where each row stands in the file
    columns: dict[str, list[str]]  # name -> cells [rows]

    def column(self, name: str) -> list[str]:
        """The cells of a column. Raises UserError if there is no such column."""
        if name not in self.columns:
            raise UserError(f"{self.path} cannot be read: it has no column {name!r}")
        return self.columns[name]

    def grouped(self, names: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
        """The rows that have the same cells in these columns."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(zip(*map(self.column, names), strict=True)):
            groups.setdefault(key, []).append(row)
        return groups

    def series(self, rows: Iterable[int], step: str, value: str) -> list[Series]:
        """The numbers in some of the rows, seed by seed.

        Args:
            rows: which.
            step: the column of environment frames.
            value: the column of values.

        Raises:
            UserError: there is no such column, or a cell is not a number.
        """
        seeds, steps, values = self.column("seed"), self.column(step), self.column(value)
        points: dict[str, tuple[list[int], list[float], list[int]]] = {}
        for row in rows:
            frames, numbers, lines = points.setdefault(seeds[row], ([], [], []))
            lines.append(self.lines[row])
            try:
                frames.append(int(float(steps[row])))
            except (ValueError, OverflowError):
                raise self._no_number(row, step) from None
            try:
                numbers.append(float(values[row]))
            except ValueError:
                raise self._no_number(row, value) from None
        found = []
        for seed, (frames, numbers, lines) in points.items():
            found.append(Series(seed, np.array(frames, np.int64), np.array(numbers), lines))
        return found

    def _no_number(self, row: int, name: str) -> UserError:
        cell = self.columns[name][row]
        return UserError(f"{self.path}, line {self.lines[row]}: {name} {cell!r} is not a number")


@dataclass(frozen=True)
class CurveTable:
    """A CSV file of evaluations: a run's eval.csv, or published results (see `reading` for the columns)."""

    path: Path
    run: "RunRecord | None" = None  # the run directory whose eval.csv this is

    @cached_property
    def _sheet(self) -> Sheet | UserError:
        return _attempt(_evaluation_sheet, self.path)

    @cached_property
    def _rows(self) -> dict[tuple[System, str, str], list[int]]:
        """Row numbers by system, task and metric."""
        sheet = _value(self._sheet)
        return _published_rows(sheet) if "algorithm" in sheet.columns else self._own_rows(sheet)

    def _own_rows(self, sheet: Sheet) -> dict[tuple[System, str, str], list[int]]:
        groups = sheet.grouped(("exp_name", "env_name", "metric"))
        # A run's table is of the run's system, whatever the label that was written at the time.
        known = self.run.system if self.run and len({name for name, _, _ in groups}) == 1 else None
        return {(known or System(name), task, metric): rows for (name, task, metric), rows in groups.items()}

    @property
    def contents(self) -> list[tuple[System, str, str]]:
        """The systems, tasks and metrics in the table. Raises UserError if it cannot be read."""
        return list(self._rows)

    def series(self, system: System, task: str, metric: str) -> list[Series]:
        """The evaluations of one metric, as they were logged. Raises UserError if any is not a number."""
        return _value(self._sheet).series(self._rows[system, task, metric], "env_step", "value")


@dataclass(frozen=True)
class RunRecord:
    """A run directory."""

    path: Path

    @cached_property
    def _json(self) -> dict[str, Any] | UserError:
        return _attempt(read_json, self.path)

    @cached_property
    def identity(self) -> Identity:
        """System, task and metric. Raises UserError if config.json does not tell them."""
        return identity_of(_value(self._json), self.path)

    @property
    def system(self) -> System | None:
        """The system, or None if config.json does not tell it."""
        try:
            return self.identity.system
        except UserError:
            return None

    @cached_property
    def config(self) -> RunConfig:
        """The configuration. Raises UserError if config.json is damaged or names unknown settings."""
        return config_of(_value(self._json), self.path)

    @cached_property
    def _manifest(self) -> dict[str, Any] | UserError:
        return _attempt(read_manifest, self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, device, commands and protocol. Raises UserError if manifest.json is damaged."""
        return _value(self._manifest)

    @cached_property
    def protocols(self) -> list[dict[str, Any]]:
        """The protocols that the run was trained under, the present one first.

        Raises UserError if manifest.json does not tell them.
        """
        return protocols_of(self.manifest, self.path)

    def remember_suite(self) -> None:
        """Makes the run's suite known from its manifest.json, in case the suite's module is not loaded."""
        with contextlib.suppress(*DAMAGED):  # UserError is among these
            if "suite" in self.manifest:
                remember(self.manifest["suite"])

    @cached_property
    def terms(self) -> Terms:
        """What must agree with other runs before this one may be compared with them."""
        config = None if isinstance(self._json, UserError) else self._json
        manifest = None if isinstance(self._manifest, UserError) else self._manifest
        return terms_of(self.path, config, manifest)

    @cached_property
    def evaluations(self) -> CurveTable:
        """The run's eval.csv."""
        return CurveTable(self.path / "eval.csv", self)

    @cached_property
    def _metrics(self) -> Sheet | UserError | None:
        file = self.path / "metrics.csv"
        return _attempt(_strict_sheet, file) if file.exists() else None

    def logged(self, column: str) -> list[Series]:
        """A column of metrics.csv; empty if there is none.

        Raises UserError if the file is damaged, or the column holds something else than numbers.
        """
        if self._metrics is None:
            return []
        sheet = _value(self._metrics)
        rows = [row for row, cell in enumerate(sheet.columns.get(column, [])) if cell]
        return sheet.series(rows, "frames", column) if rows else []

    @cached_property
    def _timing(self) -> Sheet | UserError | None:
        file = self.path / "timing.csv"
        return _attempt(_lenient_sheet, file) if file.exists() else None

    @cached_property
    def speed(self) -> Speed | None:
        """How fast the run trained, or None if no row of timing.csv has gradient updates.

        Raises UserError if timing.csv cannot be read.
        """
        return None if self._timing is None else _speed(_value(self._timing))


Input = RunRecord | CurveTable


def _attempt(read: Callable[[Path], T], path: Path) -> T | UserError:
    """What `read` returns, or what is wrong with the file."""
    try:
        return read(path)
    except UserError as error:
        return error
    except _UNREADABLE as error:
        return UserError(f"{path} cannot be read: {one_line(error)}")


def _value(found: T | UserError) -> T:
    if isinstance(found, UserError):
        raise UserError(str(found))
    return found


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file, and its rows with their lines."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        return header, [(reader.line_num, cells) for cells in reader if cells]


def _sheet(path: Path, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> Sheet:
    cells = list(zip(*(row[: len(header)] for _, row in rows), strict=True)) or [()] * len(header)
    columns = {name: list(column) for name, column in zip(header, cells, strict=True)}
    return Sheet(path, [line for line, _ in rows], columns)


def _strict_sheet(path: Path) -> Sheet:
    """A table that training cuts back to whole rows; only its last row may be half a one.

    Raises UserError if another row is cut short.
    """
    header, rows = _rows(path)
    if rows and len(rows[-1][1]) < len(header):
        rows.pop()  # of a run that was killed while it wrote
    for line, cells in rows:
        if len(cells) < len(header):
            raise UserError(f"{path}, line {line} is cut short: complete it, or take it out")
    return _sheet(path, header, rows)


def _lenient_sheet(path: Path) -> Sheet:
    """timing.csv, which nothing cuts back: after each kill it may hold half a row."""
    header, rows = _rows(path)
    return _sheet(path, header, [row for row in rows if len(row[1]) >= len(header)])


def _evaluation_sheet(path: Path) -> Sheet:
    if not path.exists():
        raise UserError(f"{path} is not a run directory or a CSV file: it does not exist")
    sheet = _strict_sheet(path)
    name, place = ("algorithm", "task") if "algorithm" in sheet.columns else ("exp_name", "env_name")
    lacking = {name, place, "seed", "metric", "env_step", "value"} - sheet.columns.keys()
    if lacking:
        missing = ", ".join(sorted(lacking))
        raise UserError(f"{path} lacks the columns {missing}: see Published curves in README.md")
    return sheet


def _published_rows(sheet: Sheet) -> dict[tuple[System, str, str], list[int]]:
    optional = [name for name in ("utd", "primary") if name in sheet.columns]
    names = ("algorithm", "task", "metric", *optional)
    found: dict[tuple[System, str, str], list[int]] = {}
    for cells, rows in sheet.grouped(names).items():
        row = dict(zip(names, cells, strict=True))
        if row.get("primary", "1") != "1":
            continue  # it repeats a system from another source
        system = System(row["algorithm"], _whole(sheet, rows[0], row.get("utd", "")))
        found.setdefault((system, row["task"], row["metric"]), []).extend(rows)
    return found


def _whole(sheet: Sheet, row: int, cell: str) -> int | None:
    """A UTD ratio; None if it is not given."""
    if not cell:
        return None
    try:
        if float(cell) == int(float(cell)):
            return int(float(cell))
    except (ValueError, OverflowError):
        pass
    raise UserError(
        f"{sheet.path}, line {sheet.lines[row]}: utd is {cell!r}: it must be a whole number, or empty"
    )


def _speed(sheet: Sheet) -> Speed | None:
    rows = []
    for cells in zip(*map(sheet.column, _TIMES), strict=True):
        try:
            rows.append(tuple(map(float, cells)))
        except ValueError:
            continue  # two halves of rows that make one
    training = [row for row in rows if row[1] > 0]
    if not training:
        return None
    # The clock starts anew when a run is resumed.
    clock = [row[2] for row in rows]
    seconds = clock[-1] + sum(last for last, following in pairwise(clock) if following < last)
    frames, updates, _ = np.median(training, axis=0)
    return Speed(float(frames), float(updates), seconds / 3600)
