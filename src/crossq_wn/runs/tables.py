"""CSV files that grow by whole rows, and that a resumed run restores to the state of its checkpoint."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn import files
from crossq_wn.errors import UserError, explained
from crossq_wn.files import MOST_TABLE, to_disk, write_atomically
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.schema import Count, Position

EVAL_COLUMNS = ("exp_name", "env_name", "seed", "metric", "env_step", "value")


class Order(NamedTuple):
    """In which order the rows of a table are written: by frames, and at the same ones by seed."""

    frames: str  # its column
    seeds: Sequence[int]  # of column `seed`
    due: Callable[[int], bool] | None = None  # whether there are to be rows at these frames; None: at all


class _File:
    """A file that only grows; its checksum grows with it, so it never has to be read back."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self._checksum = path, 0, hashlib.sha256()

    def begin(self, content: bytes) -> None:
        """Replaces whatever is there with this content."""
        try:
            write_atomically(self.path, content)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.expect(content)

    def expect(self, content: bytes) -> None:
        """Takes this as the content, which `begin` may write later."""
        self.size, self._checksum = len(content), hashlib.sha256(content)

    def append(self, content: bytes) -> None:
        """Appends whole rows."""
        try:
            # Opened anew for each append, so that no row waits in a buffer when the process is killed.
            files.append(self.path, content)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.size += len(content)
        self._checksum.update(content)

    def position(self) -> Position:
        """The state of the file, once all of it is on disk."""
        to_disk(self.path)
        return {"size": Count(self.size), "sha256": self._checksum.hexdigest()}

    def read(self) -> bytes:
        """The content on disk; nothing if it cannot be read."""
        try:
            return files.read(self.path, MOST_TABLE)
        except OSError:
            return b""


class Table:
    """A CSV file that grows by whole rows; with `lines`, also a twin of JSON lines.

    Nothing is on disk before `begin`, `go_on` or `resume`.

    Args:
        path: of the CSV file.
        columns: its header.
        lines: whether the same rows also go to a .jsonl file beside it.
        kept: whether checkpoints keep the whole text; for small tables.
        order: of its rows, if it can be sorted.
    """

    def __init__(
        self,
        path: Path,
        columns: Iterable[str],
        *,
        lines: bool = False,
        kept: bool = False,
        order: Order | None = None,
    ) -> None:
        self.path, self.columns, self._order = path, tuple(columns), order
        self._csv, self._text = _File(path), [""] if kept else None
        self._json = _File(path.with_suffix(".jsonl")) if lines else None

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of their positions."""
        return [file.path for file in self._files()]

    def begin(self) -> None:
        """Starts the files anew; the CSV file gets its header."""
        self._begin(self._header())

    def go_on(self) -> None:
        """Continues after the last whole row on disk, or starts anew if there is no such table."""
        content = self._csv.read()
        whole = content[: content.rfind(b"\n") + 1]  # a killed process may have left half a row
        self._csv.begin(whole if whole.startswith(self._header()) else self._header())

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows; columns that a row lacks stay empty."""
        rows = list(rows)
        content = _lines(rows, self.columns)
        self._csv.append(content)
        if self._text is not None:
            self._text.append(content.decode())
        if self._json:
            self._json.append(_as_lines(rows, self.columns))

    def sort(self) -> Callable[[], None]:
        """Puts the rows that are due in order, for `position` at once, and on disk when the result is called.

        A checkpoint that is written in between remembers the sorted rows, and `resume` sorts them if need be.
        """
        content = self._sorted(self._csv.read())
        if content is None:  # it was damaged meanwhile, which `resume` tells
            return lambda: None
        lines = _as_lines(rows_of(content), self.columns)
        self._csv.expect(content)
        if self._text is not None:
            self._text = [content.decode()]
        if self._json:
            self._json.expect(lines)
        return lambda: self._begin(content, lines)

    def _sorted(self, content: bytes) -> bytes | None:
        """The due rows of a content in order; None if it is no such table."""
        if self._order is None:
            return None
        order = self._order
        try:
            header, *rows = csv.reader(io.StringIO(self._due(content).decode(errors="replace"), newline=""))
            frames, seed = header.index(order.frames), header.index("seed")
            rows.sort(key=lambda row: (int(row[frames]), order.seeds.index(int(row[seed]))))
        except (ValueError, IndexError, csv.Error):
            return None
        return as_csv([header, *rows]).encode()

    def _due(self, content: bytes) -> bytes:
        """A content without the rows that are not due; as it is if that cannot be told."""
        if self._order is None or self._order.due is None:
            return content
        try:
            header, *rows = csv.reader(io.StringIO(content.decode(errors="replace"), newline=""))
            frames = header.index(self._order.frames)
            due = [row for row in rows if self._order.due(int(row[frames]))]
        except (ValueError, IndexError, csv.Error):
            return content
        return content if len(due) == len(rows) else as_csv([header, *due]).encode()

    def position(self) -> list[Position]:
        """The state of the files, once all of them are on disk."""
        positions = [file.position() for file in self._files()]
        if self._text is not None:
            positions[0]["text"] = "".join(self._text)
        return positions

    def fits(self, positions: Sequence[Position | int], *, exactly: bool) -> bool:
        """Whether the files still hold what they held in an earlier state.

        Args:
            positions: what `position` returned; earlier versions stored only sizes.
            exactly: whether nothing may have come after it.
        """
        for file, at in zip(self._files(), map(_known, positions), strict=True):
            content = file.read()
            if _sound(content, at) is None or (exactly and len(content) > at["size"]):
                return False
        return True

    def resume(self, positions: Sequence[Position | int], warn: Callable[[str], None]) -> None:
        """Brings the files back to an earlier state, because later rows will be written again.

        Rows that are not due are left out. A file that does not fit is restored from its twin or set aside.

        Args:
            positions: what `position` returned; earlier versions stored only sizes.
            warn: is told in one line of each file that was restored or set aside.
        """
        survivors = self._survivors([_known(position) for position in positions], warn)
        for file, content in zip(self._files(), survivors, strict=True):
            if content is None and (aside := files.set_aside(file.path)):
                warn(f"{file.path} does not fit the checkpoint: set aside as {aside.name} and started anew")
        table, *lines = survivors
        self._begin(self._header() if table is None else self._due(table), *(each or b"" for each in lines))

    def _survivors(self, known: Sequence[Position], warn: Callable[[str], None]) -> list[bytes | None]:
        """What each file held in the given state, from its twin if it is damaged; None if that is lost."""
        table, lines = self._sound_files(known)
        if table is not None and not self._continues(table):
            return [None] * len(known)
        if table is None:
            table = self._mended(known[0], lines)
            if table is None or not self._csv.read().startswith(self._due(table)):  # else `resume` wrote that
                _tell(self._csv, table, warn)
        if self._json is None:
            return [table]
        if lines is None and table is not None:
            lines = _as_lines(rows_of(table), self.columns)
            _tell(self._json, lines, warn)
        return [table, lines]

    def _continues(self, table: bytes) -> bool:
        """Whether rows can be added to a file, perhaps one with further columns of an earlier version."""
        there = tuple(table.partition(b"\n")[0].decode(errors="replace").split(","))
        if {*self.columns} <= {*there}:
            self.columns = there
        return table.startswith(self._header())

    def _sound_files(self, known: Sequence[Position]) -> tuple[bytes | None, bytes | None]:
        """The CSV file and its twin as they were in the given state; None for one that is damaged."""
        sound = [_sound(file.read(), at) for file, at in zip(self._files(), known, strict=True)]
        lines = sound[1] if self._json else None
        if lines is not None and _json_rows(lines) is None:  # damage that a size alone does not reveal
            lines = None
        return sound[0], lines

    def _begin(self, content: bytes, lines: bytes = b"") -> None:
        self._csv.begin(content)
        if self._text is not None:
            self._text = [content.decode(errors="replace")]
        if self._json:
            self._json.begin(lines)

    def _mended(self, at: Position, lines: bytes | None) -> bytes | None:
        """What the CSV file held, from its rows as another program saved them, or from its sound twin."""
        candidates = [at.get("text", "").encode()]
        if rows := _json_rows(lines or b""):
            candidates.append(self._header() + _lines(rows, self.columns))
        text = self._csv.read().decode("utf-8-sig", errors="replace")  # spreadsheets add a byte order mark
        candidates.append(_rendered(csv.reader(io.StringIO(text, newline=""))))
        candidates.append(self._sorted(candidates[-1]) or b"")  # it was to be sorted
        for candidate in candidates:
            content = _sound(candidate, at)
            if content is not None:
                return content
        return None

    def _header(self) -> bytes:
        return (",".join(self.columns) + "\n").encode()

    def _files(self) -> list[_File]:
        return [self._csv, *([self._json] if self._json else [])]


def _tell(file: _File, content: bytes | None, warn: Callable[[str], None]) -> None:
    if content is not None:
        warn(f"{file.path} was missing or altered: written again as the checkpoint remembers it")


def _known(position: Position | int) -> Position:
    return {"size": Count(position), "sha256": None} if isinstance(position, int) else position


def _sound(content: bytes, at: Position) -> bytes | None:
    """The content up to a position; None unless it ends with a whole row there and its checksum is right."""
    cut = content[: at["size"]]
    # Other programs save files with other line ends, which the rows that follow would not have.
    if len(cut) < at["size"] or not (cut == b"" or cut.endswith(b"\n")) or b"\r\n" in cut:
        return None
    if at["sha256"] not in (None, checksum_of(cut)):
        return None
    return cut


def as_csv(rows: Iterable[Iterable[Any]]) -> str:
    """The text of a CSV file.

    Args:
        rows: of cells, the header included where there is one.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def records_as_csv(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The text of a CSV file with a header; what a record lacks, and NaN, becomes an empty cell.

    Args:
        records: a row each.
        columns: the header; what else a record has is left out.
    """
    rows: list[Iterable[Any]] = [columns]
    for record in records:
        cells = [record.get(name, "") for name in columns]
        rows.append(["" if cell != cell else cell for cell in cells])
    return as_csv(rows)


def _lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Rows without a header."""
    return as_csv([*map(row.get, columns)] for row in rows).encode()


def _rendered(rows: Iterable[list[str]]) -> bytes:
    try:
        return as_csv(rows).encode()
    except csv.Error:  # no table at all
        return b""


def _as_lines(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> bytes:
    lines = []
    for row in rows:
        ordered = {name: row[name] for name in columns if name in row}
        lines.append(json.dumps(ordered) + "\n")
    return "".join(lines).encode()


def _json_rows(lines: bytes) -> list[dict[str, Any]] | None:
    """The rows of JSON lines, or None if a line is not a JSON object."""
    try:
        rows = [json.loads(line) for line in lines.splitlines()]
    except (ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def rows_of(content: bytes) -> list[dict[str, Any]]:
    """The rows of a table of numbers; empty cells are left out, as they are in the JSON lines."""
    rows = []
    for row in csv.DictReader(io.StringIO(content.decode(errors="replace"))):
        rows.append({name: _number(cell) for name, cell in row.items() if cell})
    return rows


def _number(cell: str) -> Any:
    for kind in (int, float):  # seeds and frames stay whole numbers
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a file of a run that could not be written."""
    return UserError(f"cannot write {path}: {explained(error)}, then `crossq-wn resume`")
