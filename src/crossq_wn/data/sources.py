"""Sources: finds out of what kind a file or folder is, and reads it."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from crossq_wn.data import fitting, lerobot, minari, npz, replays
from crossq_wn.data.fitting import Problem
from crossq_wn.data.recording import Recording, UnusableError, checked, count_rows, digest
from crossq_wn.errors import OUT_OF_MEMORY, UserError, explained, option
from crossq_wn.learning.rows import Rows
from crossq_wn.runs.sources import Source

KINDS: dict[str, Callable[[Path], Recording]] = {
    "npz": npz.read,
    "minari": minari.read,
    "lerobot": lerobot.read,
    "run": replays.read,
}
_KNOWN = (
    "a .npz or .parquet file, a run directory, a folder of `crossq-wn data`, LeRobot or Minari, or a Minari "
    "data set's name"
)


def describe_all(names: Sequence[str]) -> tuple[Source, ...]:
    """What some names of sources hold at present.

    Args:
        names: of files, folders and Minari data sets.

    Raises:
        UserError: one of them cannot be used.
    """
    found = []
    for name in names:
        path, kind = find(name)
        found.append(_described(name, path, kind, _state(path)))
    return tuple(found)


@lru_cache(maxsize=64)
def _described(name: str, path: Path, kind: str, state: tuple[object, ...]) -> Source:
    """Describes a source; is remembered, because the plans of a sweep describe the same files many times."""
    recording = read(name, path, kind)
    shown = name if kind == "minari" and not Path(name).exists() else path.resolve().name
    return Source(name=shown, kind=kind, sha256=digest(recording), rows=count_rows(recording))


def _state(path: Path) -> tuple[object, ...]:
    """What changes when a file, or a file in a folder, is written."""
    found: list[object] = []
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        status = file.lstat()
        found.append((file, status.st_mtime_ns, status.st_size))
    return tuple(found)


def rows_of(
    name: str, source: Source, problem: Problem, tell: Callable[[str], None] = lambda text: None
) -> Rows:
    """Reads a source as rows of replay for a task.

    Args:
        name: of the file, folder or Minari data set.
        source: what it held when the run was configured.
        problem: the task.
        tell: is told if no episode ends in it.

    Raises:
        UserError: it does not fit the task, or holds something else by now.
    """
    path, kind = find(name)
    recording = read(name, path, kind)
    if digest(recording) != source.sha256:
        raise _refused(name, UnusableError("it has changed since the run was configured: start a new run"))
    if not (recording.terminated | recording.truncated).any():
        tell(
            f"no episode ends in {source.name}: unless all of it is one episode, mark the last transition of "
            "each as terminated or truncated, or what comes after is taken for what followed"
        )
    try:
        return fitting.rows(recording, problem)
    except UnusableError as error:
        raise _refused(name, error) from None


def find(name: str) -> tuple[Path, str]:
    """The path and the kind of a source.

    Raises:
        UserError: there is nothing of this name, or it is of no known kind.
    """
    path = Path(name)
    if not name or not path.exists():
        folder = minari.folder_of(name)
        if folder is not None and folder.is_dir():
            return folder, "minari"
        hint = f"give {_KNOWN}"
        if folder is not None:
            hint = f"`minari download {name}` would fetch a data set of that name"
        raise UserError(f"{option('prefill', name)} does not exist: {hint}")
    if (path / npz.FILE).exists():  # a folder as `crossq-wn data` writes it
        path = path / npz.FILE
    kind = _kind(path)
    if kind is None:
        one = next(path.glob("*.npz"), None) if path.is_dir() else None
        fix = f"give {_KNOWN}" if one is None else f"name the .npz files in it, such as {one}"
        raise UserError(f"{option('prefill', name)} is of no known kind: {fix}")
    return path, kind


def _kind(path: Path) -> str | None:
    """The kind of a file or folder; None if it is none of them."""
    if not path.is_dir():
        return {".npz": "npz", ".parquet": "lerobot"}.get(path.suffix)
    if (path / "config.json").exists():
        return "run"
    if minari.is_dataset(path):
        return "minari"
    return "lerobot" if lerobot.is_dataset(path) else None


def read(name: str, path: Path, kind: str) -> Recording:
    """Reads a source and checks it.

    Args:
        name: as the user gave it, for messages.
        path: of the file or folder.
        kind: a key of `KINDS`.

    Raises:
        UserError: it cannot be read or used; the message has its name.
    """
    try:
        return checked(KINDS[kind](path))
    except UnusableError as error:
        raise _refused(name, error) from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{option('prefill', name)} cannot be read: {explained(error)}") from None
    except MemoryError:
        why = f"{option('prefill', name)} cannot be read, {OUT_OF_MEMORY}"
        raise UserError(f"{why}: free some memory, or use part of the data") from None


def _refused(name: str, error: UnusableError) -> UserError:
    return UserError(f"{option('prefill', name)} cannot be used: {error}")
