"""Reads the CSV files that training writes, column by column."""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from crossq_wn.errors import UserError, one_line
from crossq_wn.files import MOST_TABLE, RefusedError, read, read_named
from crossq_wn.results.statistics import Array
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.schema import Position

_GZIP = b"\x1f\x8b"  # the first bytes of a compressed file
_MOST_FRAMES = 2.0**53  # beyond, numbers of frames are not exact
Steps = npt.NDArray[np.int64]
T = TypeVar("T")

# Errors that reading a damaged CSV file may raise.
_UNREADABLE = (OSError, EOFError, ValueError, csv.Error, zlib.error)


class Series(NamedTuple):
    """One seed's values of one quantity, in the order of the file."""

    seed: str
    frames: Steps  # [points] environment frames
    values: Array  # [points]
    lines: list[int]  # [points] their line numbers in the file


@dataclass(frozen=True)
class Sheet:
    """A CSV file, column by column."""

    path: Path
    lines: list[int]  # [rows] the line number of each row in the file
    columns: dict[str, list[str]]  # name -> cells [rows]
    _parsed: dict[str, Array | None] = field(default_factory=dict, repr=False, compare=False)  # see `_whole`

    def column(self, name: str) -> list[str]:
        """Returns the cells of a column. Raises UserError if there is no such column."""
        if name not in self.columns:
            raise UserError(f"{self.path} cannot be read: it has no column {name!r}")
        return self.columns[name]

    def grouped(self, names: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
        """Groups the rows by their cells in these columns."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(zip(*map(self.column, names), strict=True)):
            groups.setdefault(key, []).append(row)
        for key, rows in groups.items():
            self._require_printable(rows[0], names, key)
        return groups

    def series(self, rows: Iterable[int], step: str, value: str) -> list[Series]:
        """Returns the numbers in some of the rows, seed by seed.

        Args:
            rows: their numbers, counted from 0.
            step: the column of environment frames.
            value: the column of values.

        Raises:
            UserError: there is no such column, or a cell is not a number.
        """
        seeds = self.column("seed")
        by_seed: dict[str, list[int]] = {}
        for row in rows:
            by_seed.setdefault(seeds[row], []).append(row)
        found = []
        for seed, own in by_seed.items():
            self._require_printable(own[0], ("seed",), (seed,))
            frames, values = self._numbers(own, step), self._numbers(own, value)
            whole = np.abs(frames) < _MOST_FRAMES  # not NaN either
            if not whole.all():
                raise self._no_number(own[int(whole.argmin())], step)
            found.append(Series(seed, frames.astype(np.int64), values, [self.lines[row] for row in own]))
        return found

    def _require_printable(self, row: int, names: Sequence[str], cells: Sequence[str]) -> None:
        for name, cell in zip(names, cells, strict=True):
            if not cell.isprintable():
                raise UserError(
                    f"{self.path}, line {self.lines[row]}: {name} {cell!r} has letters that cannot be printed"
                )

    def _numbers(self, rows: Sequence[int], name: str) -> Array:
        whole = self._whole(name)
        if whole is not None:
            return whole[rows]
        cells, numbers = self.columns[name], []
        for row in rows:
            try:
                numbers.append(float(cells[row]))
            except ValueError:
                raise self._no_number(row, name) from None
        return np.array(numbers)

    def _whole(self, name: str) -> Array | None:
        """Returns a whole column as numbers, parsed once; None if not all of its cells are numbers."""
        if name not in self._parsed:
            cells = self.column(name)
            # Until all of its cells have proved to be numbers.
            self._parsed[name] = None
            with contextlib.suppress(ValueError):
                self._parsed[name] = np.array(list(map(float, cells)))
        return self._parsed[name]

    def _no_number(self, row: int, name: str) -> UserError:
        cell = self.columns[name][row]
        return UserError(f"{self.path}, line {self.lines[row]}: {name} {cell!r} is not a number")


def attempt(read: Callable[[Path], T], path: Path) -> T | UserError:
    """Reads a file; returns the error, if there is one, so that it can be remembered."""
    try:
        return read(path)
    except UserError as error:
        return error
    except _UNREADABLE as error:
        why = getattr(error, "strerror", None) or one_line(error)
        return UserError(f"{path} cannot be read: {why}")


def value_of(found: T | UserError) -> T:
    """Returns what `attempt` has read, or raises the error that it returned."""
    if isinstance(found, UserError):
        raise UserError(str(found))
    return found


def _rows(
    path: Path, end: Position | None = None, *, named: bool = False
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Reads the header of a CSV file, and its rows with their line numbers.

    Args:
        path: of the file.
        end: see `strict_sheet`.
        named: whether the user named it, who may name links and the shell's pipes too.
    """
    content = read_named(path, MOST_TABLE) if named else read(path, MOST_TABLE)
    if end is not None and end["sha256"] not in (None, checksum_of(content[: end["size"]])):
        raise UserError(
            f"{path} does not fit the checksum that training left, so some of it was changed: put it back "
            f"as it was, or let `crossq-wn resume {path.parent}` write it again"
        )
    if content.startswith(_GZIP):
        with gzip.open(io.BytesIO(content)) as packed:
            content = packed.read(MOST_TABLE + 1)
        if len(content) > MOST_TABLE:
            raise RefusedError(path, f"unpacks to more than {MOST_TABLE / 2**20:,.0f} MiB")
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    header = next(reader, [])
    return header, [(reader.line_num, cells) for cells in reader if cells]


def _sheet(path: Path, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> Sheet:
    """Turns rows, which may be longer than the header, into columns."""
    columns: dict[str, list[str]] = {}
    for i, name in enumerate(header):
        columns[name] = [cells[i] for _, cells in rows]
    return Sheet(path, [line for line, _ in rows], columns)


def strict_sheet(
    path: Path, end: Position | None = None, *, named: bool = False, whole: bool = False
) -> Sheet:
    """Reads a table that a resumed run cuts back to whole rows, so that only its last row may be cut short.

    Args:
        path: of the file.
        end: the position up to which training vouches for it; later rows are taken as they are.
        named: whether the user named the file; it may be a link or a pipe of the shell's then.
        whole: whether the file was written at once, so that its last row, too, must be complete.

    Raises:
        UserError: another row is cut short, or rows were changed after training wrote them.
    """
    header, rows = _rows(path, end, named=named)
    if rows and not whole and len(rows[-1][1]) < len(header):
        rows.pop()  # the run was killed while it wrote this row
    for line, cells in rows:
        if len(cells) < len(header):
            raise UserError(f"{path}, line {line} is cut short: complete it, or take it out")
    return _sheet(path, header, rows)


def lenient_sheet(path: Path, end: Position | None = None) -> Sheet:
    """Reads timing.csv, which is never cut back: there is half a row wherever the run was killed.

    Args:
        path: of timing.csv.
        end: see `strict_sheet`.
    """
    header, rows = _rows(path, end)
    return _sheet(path, header, [row for row in rows if len(row[1]) >= len(header)])
