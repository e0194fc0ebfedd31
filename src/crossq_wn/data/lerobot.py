"""Recordings as LeRobot keeps them, in parquet files, where they have rewards and ends of episodes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.data.minari import needs
from crossq_wn.data.recording import Recording, UnusableError, column, joined, number, require, require_room
from crossq_wn.errors import one_line
from crossq_wn.machine import resolved

_COLUMNS = ("observation.state", "action", "episode_index", "next.reward", "next.done")
_OPTIONAL = ("timestamp", "next.success")


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds a data set."""
    return (folder / "meta" / "info.json").exists()


def read(path: Path) -> Recording:
    """Reads a parquet file, or all of those in a data set's folder.

    An end counts as a time limit unless `next.success` says that the task was solved; what followed the last
    row of an episode is not recorded, so that row starts no transition then.

    Raises:
        UserError: it is none, or lacks something.
        OSError: it cannot be read.
    """
    there = [resolved(path)]
    if path.is_dir():
        # Files are numbered in the order of their episodes.
        there = sorted((there[0] / "data").rglob("*.parquet"))
    if not there:
        raise UnusableError("it has no parquet files in data/")
    require_room(path, sum(map(_size, there)))
    return joined([_file(each) for each in there])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A parquet file; what is wrong with it is raised as UnusableError."""
    parquet = needs("pyarrow.parquet", "reading parquet")
    arrow = needs("pyarrow", "reading parquet")
    with files.opened(path) as file:
        try:
            yield parquet.ParquetFile(file)
        except (arrow.ArrowException, OSError) as error:
            raise UnusableError(f"{path.name} is no sound parquet file: {one_line(error)}") from None


def _wanted(content: Any) -> list[str]:
    """The columns of a file that are read."""
    names = content.schema_arrow.names
    require(names, _COLUMNS)
    return [*_COLUMNS, *(name for name in _OPTIONAL if name in names)]


def _size(path: Path) -> int:
    """The memory in bytes that a file's columns take once they are read, however small they are packed."""
    with _opened(path) as content:
        wanted, size = _wanted(content), 0
        for group in range(content.metadata.num_row_groups):
            here = content.metadata.row_group(group)
            for number_of_column in range(here.num_columns):
                # A column of lists is stored as NAME.list.ELEMENT.
                chunk = here.column(number_of_column)
                if chunk.path_in_schema in wanted or chunk.path_in_schema.rpartition(".list.")[0] in wanted:
                    # The most that a number takes, in the file or as it is read.
                    size += 8 * chunk.num_values
        return size


def _file(path: Path) -> Recording:
    with _opened(path) as content:
        table = content.read(_wanted(content))
    found = {name: _array(table, name) for name in table.column_names}
    over = _ends(found)
    solved = column(found["next.success"], "next.success", bool) if "next.success" in found else ~over
    return Recording(
        number(found["observation.state"], "observation.state"),
        number(found["action"], "action", np.float64),
        column(found["next.reward"], "next.reward"),
        over & solved,
        over & ~solved,
        None,
        decision_seconds=_seconds(found),
    )


def _array(table: Any, name: str) -> np.ndarray:
    """A column as an array [n] or, of lists of equal length, [n, length]."""
    values = table.column(name).combine_chunks()
    if values.null_count:
        raise UnusableError(f"{name} lacks values in {values.null_count} rows")
    # Lists of one length and lists of any length are different types of Arrow's.
    if "list" not in str(values.type):
        return np.asarray(values)
    lengths = np.unique(np.asarray(needs("pyarrow.compute", "reading parquet").list_value_length(values)))
    if len(lengths) > 1:
        raise UnusableError(f"{name} has lists of different lengths")
    return np.asarray(values.flatten()).reshape(len(values), -1)


def _ends(found: dict[str, np.ndarray]) -> np.ndarray:
    """Where episodes end: where a row says so, and before each row with another episode's number."""
    over = column(found["next.done"], "next.done", bool).copy()
    episode = column(found["episode_index"], "episode_index", np.int64)
    over[:-1] |= episode[1:] != episode[:-1]
    return over


def _seconds(found: dict[str, np.ndarray]) -> float | None:
    """The usual time between two rows of an episode; None if it is not recorded, as where all are 0."""
    if "timestamp" not in found or len(found["timestamp"]) < 2:
        return None
    episode = found["episode_index"]
    steps = np.diff(column(found["timestamp"], "timestamp", np.float64))[episode[1:] == episode[:-1]]
    usual = float(np.median(steps)) if len(steps) and np.isfinite(steps).all() else 0.0
    return usual or None
