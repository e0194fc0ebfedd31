"""Recordings as data sets of Minari, in HDF5.

They are read with h5py alone. Minari itself would make the environment that a data set names, and so run code
that a stranger's file chooses.
"""

import importlib
import importlib.metadata
import io
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.data.recording import (
    Recording,
    UnusableError,
    bytes_of,
    column,
    ends,
    joined,
    number,
    require,
    require_room,
)
from crossq_wn.errors import UserError, one_line
from crossq_wn.files import MOST_JSON
from crossq_wn.installation import install_command
from crossq_wn.machine import resolved

_NAME = re.compile(r"[\w-]+(/[\w-]+)*-v[0-9]+")
_FILE = "main_data.hdf5"
_COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")
_EXTRAS = ("frames_per_decision", "decision_seconds", "task")


def needs(module: str, purpose: str) -> Any:
    """Imports a module of the extra `data`.

    Args:
        module: its name.
        purpose: what it is needed for, to begin "... needs ..." with.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module} ({error}): install it with {install_command('data')}"
        ) from None


def folder_of(name: str) -> Path | None:
    """The folder of the data set of this name that has been downloaded; None if it is no such name."""
    if not _NAME.fullmatch(name):
        return None
    chosen = os.environ.get("MINARI_DATASETS_PATH")
    return (Path(chosen) if chosen else Path.home() / ".minari" / "datasets") / name


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds a data set."""
    return (_data(folder) / "metadata.json").exists()


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data" / "metadata.json").exists() else folder


def read(path: Path) -> Recording:
    """Reads a data set.

    Raises:
        UserError: it is none in HDF5, or lacks something.
        OSError: it cannot be read.
    """
    folder = _data(resolved(path))
    metadata = files.read_json(folder / "metadata.json", MOST_JSON, constants=True)
    if not isinstance(metadata, dict) or metadata.get("data_format", "hdf5") != "hdf5":
        raise UnusableError("it is not in HDF5, the only format of Minari that is read")
    h5py = needs("h5py", "reading a Minari data set")
    low, high = _bounds(metadata)
    with files.opened(folder / _FILE) as file:
        try:
            with h5py.File(file, "r") as content:
                recording = _episodes(h5py, path, content)
        except UserError:
            raise
        except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
            raise UnusableError(f"main_data.hdf5 cannot be read: {one_line(error)}") from None
    known: dict[str, Any] = {name: metadata.get(name) for name in _EXTRAS}
    for name, value in known.items():
        if value is not None and not isinstance(value, str if name == "task" else int | float):
            raise UnusableError(f"{name} in metadata.json is {value!r}")
    return recording._replace(action_low=low, action_high=high, **known)


def _episodes(h5py: Any, path: Path, content: Any) -> Recording:
    names = [name for name in content if re.fullmatch(r"episode_[0-9]+", name)]
    if not names:
        raise UnusableError("it holds no episodes")
    # In the order of the numbers behind `episode_`; HDF5 has them in the order of texts.
    groups = [_own(h5py, content, name) for name in sorted(names, key=lambda name: int(name[8:]))]
    for group in groups:
        require(group, _COLUMNS)
    # Before anything is read: the file says how large its arrays are.
    require_room(path, sum(_size(h5py, group, name) for group in groups for name in _COLUMNS))
    return joined([_episode(h5py, group) for group in groups])


def _episode(h5py: Any, group: Any) -> Recording:
    seen = _observations(h5py, group, "observations")
    actions, rewards, terminated, truncated = (_own(h5py, group, name)[()] for name in _COLUMNS[1:])
    return Recording(
        # An episode has one observation more than actions: the last is only a next one.
        _sliced(seen, slice(0, -1)),
        number(actions, "actions", np.float64),
        column(rewards, "rewards"),
        column(terminated, "terminations", bool),
        column(truncated, "truncations", bool),
        _sliced(seen, slice(1, None)),
    )


def _observations(h5py: Any, group: Any, name: str) -> Any:
    found = _own(h5py, group, name)
    if isinstance(found, h5py.Group):
        return {key: _observations(h5py, found, key) for key in found}
    return number(found[()], "observations")


def _sliced(observation: Any, part: slice) -> Any:
    if isinstance(observation, Mapping):
        return {key: _sliced(value, part) for key, value in observation.items()}
    return observation[part]


def _own(h5py: Any, group: Any, name: str) -> Any:
    """An entry that is in this very file: HDF5 knows links, and arrays kept elsewhere."""
    entry = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    elsewhere = isinstance(entry, h5py.Dataset) and (entry.is_virtual or entry.external is not None)
    if entry is None or elsewhere:
        raise UnusableError(f"{name} is a link to another place or file: links are not followed")
    return entry


def _size(h5py: Any, group: Any, name: str) -> int:
    entry = _own(h5py, group, name)
    if isinstance(entry, h5py.Group):
        return sum(_size(h5py, entry, key) for key in entry)
    return bytes_of(math.prod(entry.shape), entry.dtype, name, 8 if name == "actions" else 4)


def _bounds(metadata: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The bounds of the actions, if the metadata give them."""
    try:
        space = json.loads(metadata["action_space"])
        if space["type"] != "Box":
            raise UnusableError(f"it has the action space {space['type']}: actions must be a bounded Box")
        low, high = (np.broadcast_to(np.float64(space[name]), space["shape"]) for name in ("low", "high"))
    except (KeyError, TypeError, json.JSONDecodeError):
        return None, None
    return low, high


def require_writer() -> tuple[Any, Any]:
    """What writes a data set: Minari's storage, and h5py. Raises UserError if one is not installed."""
    purpose = "writing a Minari data set"
    return needs("minari.dataset.minari_storage", purpose).MinariStorage, needs("h5py", purpose)


class _Target(io.FileIO):
    """A file that keeps its first error: HDF5 crashes if it closes one that could not be written."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        """Writes everything, or nothing more once it has failed."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Sets the size, unless something has failed."""
        try:
            return super().truncate(size) if self.error is None else size or 0
        except OSError as error:
            self.error = error
            return size or 0


def write(recording: Recording, about: Mapping[str, Any], folder: Path) -> None:
    """Writes a recording with next observations as a data set.

    Args:
        recording: with an array of observations; only episodes that are whole are marked as ended.
        about: what Minari's metadata say of its making, by their names.
        folder: an empty one.
    """
    storage, h5py = require_writer()
    spaces: Any = importlib.import_module("gymnasium").spaces
    size, kind = recording.observation.shape[1:], recording.action.dtype
    low, high = np.asarray(recording.action_low, kind), np.asarray(recording.action_high, kind)
    made = storage.new(
        folder.absolute() / "data",  # Minari looks for its files below a relative path twice over
        # A recording does not say how large observations may be.
        observation_space=spaces.Box(np.float32(-np.inf), np.float32(np.inf), size, np.float32),
        action_space=spaces.Box(low, high, low.shape, kind),
        data_format="hdf5",
    )
    last = np.flatnonzero(ends(recording)) + 1
    with _Target(folder / "data" / _FILE, "w+b") as target:
        with h5py.File(target, "w", track_order=True) as file:
            for place, (first, end) in enumerate(zip([0, *last[:-1]], last, strict=True)):
                _write_episode(file.create_group(f"episode_{place}"), place, recording, int(first), int(end))
                if target.error is not None:
                    break
        if target.error is not None:
            raise target.error
    known = {name: getattr(recording, name) for name in _EXTRAS if getattr(recording, name) is not None}
    known |= {"minari_version": importlib.metadata.version("minari"), "dataset_size": made.get_size()}
    known |= {"total_steps": len(recording.reward), "total_episodes": len(last)}
    made.update_metadata(known | dict(about))


def _write_episode(group: Any, place: int, recording: Recording, first: int, end: int) -> None:
    """Writes the rows of an episode as Minari does; one that goes on elsewhere ends as by a time limit."""
    assert recording.next_observation is not None
    truncated = recording.truncated[first:end].copy()
    truncated[-1] |= not recording.terminated[end - 1]
    rows = [recording.observation[first:end], recording.next_observation[end - 1 : end]]
    group.attrs["id"], group.attrs["total_steps"] = place, end - first
    columns = (
        np.concatenate(rows),
        recording.action[first:end],
        recording.reward[first:end].astype(np.float64),
        recording.terminated[first:end],
        truncated,
    )
    for name, values in zip(_COLUMNS, columns, strict=True):
        # Such that Minari may add rows.
        group.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]))
