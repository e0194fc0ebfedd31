"""Recordings as .npz files of NumPy, with the names that `NAMES` lists."""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crossq_wn import files
from crossq_wn.data.recording import (
    Recording,
    UnusableError,
    bytes_of,
    column,
    number,
    require,
    require_room,
)
from crossq_wn.errors import UserError, one_line
from crossq_wn.machine import resolved

FILE = "transitions.npz"
NAMES = {
    "observation": "[n, ...], on which an action was chosen",
    "action": "[n, ...], in the environment's own units",
    "reward": "[n]",
    "terminated": "[n], true where the task truly ended",
    "truncated": "[n], true where an episode ended otherwise, as by a time limit",
    "next_observation": "[n, ...], from before any reset; may be left out",
}
# What reading an archive that is damaged, encrypted or no archive at all raises.
_UNSOUND = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, ArithmeticError, RuntimeError,
    TypeError, ValueError, SyntaxError,
)  # fmt: skip
_EXTRAS = ("agent_action", "action_low", "action_high", "frames_per_decision", "decision_seconds", "task")


def read(path: Path) -> Recording:
    """Reads a recording. Nothing in the file is run: arrays of Python objects are refused.

    Raises:
        UserError: it is none, or lacks something.
        OSError: it cannot be read.
    """
    with files.opened(resolved(path)) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                require_room(path, sum(_size(archive, name) for name in archive.namelist() if _is_read(name)))
            # `np.load` reads from where the file stands.
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return _recording(arrays)
        except UserError:
            raise
        except _UNSOUND as error:
            raise UnusableError(f"it is no sound .npz file of plain arrays ({one_line(error)})") from None


def _is_read(name: str) -> bool:
    return name.removesuffix(".npy") in {*NAMES, *_EXTRAS}


def _size(archive: zipfile.ZipFile, name: str) -> int:
    """The memory in bytes that one of the arrays takes once it is read, as its header says."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(file)
    if dtype.kind in "US":  # the name of the task
        return math.prod(shape) * dtype.itemsize
    column = name.removesuffix(".npy")
    return bytes_of(math.prod(shape), dtype, column, 8 if "action" in column else 4)


def _recording(arrays: Any) -> Recording:
    require(arrays.files, [name for name in NAMES if name != "next_observation"])
    known = {name: arrays[name] for name in _EXTRAS if name in arrays.files}
    after = number(arrays["next_observation"], "next_observation") if "next_observation" in arrays else None
    low, high = (_floats(known.get(name)) for name in ("action_low", "action_high"))
    return Recording(
        number(arrays["observation"], "observation"),
        number(arrays["action"], "action", np.float64),
        column(arrays["reward"], "reward"),
        column(arrays["terminated"], "terminated", bool),
        column(arrays["truncated"], "truncated", bool),
        after,
        number(known["agent_action"], "agent_action") if "agent_action" in known else None,
        low,
        high,
        int(_single(known, "frames_per_decision", np.int64)) if "frames_per_decision" in known else None,
        float(_single(known, "decision_seconds", np.float64)) if "decision_seconds" in known else None,
        str(known["task"]) if "task" in known else None,
    )


def _single(known: dict[str, Any], name: str, kind: Any) -> Any:
    found = number(known[name], name, kind)
    if found.size != 1:
        raise UnusableError(f"{name} has the shape {list(found.shape)}: it must be a single number")
    return found.item()


def _floats(values: Any) -> np.ndarray | None:
    return None if values is None else number(values, "a bound of the actions", np.float64)


def write(recording: Recording, file: BinaryIO) -> None:
    """Writes a recording with an array of observations to a file."""
    arrays: dict[str, Any] = {}
    for name, value in recording._asdict().items():
        if value is not None:
            arrays[name] = value
    np.savez(file, **arrays)
