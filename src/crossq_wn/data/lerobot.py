"""Recordings as LeRobot keeps them, in parquet files, where they have rewards and ends of episodes."""

from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.data.minari import needs
from crossq_wn.data.recording import Recording, UnusableError, column, joined, number, require, require_room
from crossq_wn.errors import one_line

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
    if not path.is_dir():
        return _file(path.resolve())
    there = sorted((path.resolve() / "data").rglob("*.parquet"))
    if not there:
        raise UnusableError("it has no parquet files in data/")
    return joined([_file(each) for each in there])


def _file(path: Path) -> Recording:
    parquet = needs("pyarrow.parquet", "reading parquet")
    arrow = needs("pyarrow", "reading parquet")
    with files.opened(path) as file:
        try:
            content = parquet.ParquetFile(file)
            groups = range(content.metadata.num_row_groups)
            require_room(path, sum(content.metadata.row_group(i).total_byte_size for i in groups))
            names = content.schema_arrow.names
            require(names, _COLUMNS)
            table = content.read([*_COLUMNS, *(name for name in _OPTIONAL if name in names)])
        except (arrow.ArrowException, OSError) as error:
            raise UnusableError(f"{path.name} is no sound parquet file: {one_line(error)}") from None
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
    if "list" not in str(values.type):
        return np.asarray(values)
    lengths = np.unique(np.asarray(needs("pyarrow.compute", "reading parquet").list_value_length(values)))
    if len(lengths) > 1:
        raise UnusableError(f"{name} has lists of different lengths")
    return np.asarray(values.flatten()).reshape(len(values), -1)


def _ends(found: dict[str, np.ndarray]) -> np.ndarray:
    """Where episodes end: where it says so, and where the number of the episode changes."""
    over = column(found["next.done"], "next.done", bool).copy()
    episode = column(found["episode_index"], "episode_index", np.int64)
    over[:-1] |= episode[1:] != episode[:-1]
    return over


def _seconds(found: dict[str, np.ndarray]) -> float | None:
    """The usual time between two rows of an episode."""
    if "timestamp" not in found or len(found["timestamp"]) < 2:
        return None
    episode = found["episode_index"]
    steps = np.diff(column(found["timestamp"], "timestamp", np.float64))[episode[1:] == episode[:-1]]
    return float(np.median(steps)) if len(steps) and np.isfinite(steps).all() else None
