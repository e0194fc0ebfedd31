"""Recordings as .npz files of NumPy, with the names that `NAMES` lists."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.data.recording import Recording, UnusableError, column, number, require, require_room

NAMES = {
    "observation": "[n, ...], on which an action was chosen",
    "action": "[n, ...], in the environment's own units",
    "reward": "[n]",
    "terminated": "[n], true where the task truly ended",
    "truncated": "[n], true where an episode ended otherwise, as by a time limit",
    "next_observation": "[n, ...], from before any reset; may be left out",
}
_EXTRAS = ("agent_action", "action_low", "action_high", "frames_per_decision", "decision_seconds", "task")


def read(path: Path) -> Recording:
    """Reads a recording. Nothing in the file is run: arrays of Python objects are refused.

    Raises:
        UserError: it is none, or lacks something.
        OSError: it cannot be read.
    """
    with files.opened(path.resolve()) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                require_room(path, sum(each.file_size for each in archive.infolist()))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return _recording(arrays)
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError, SyntaxError) as error:
            if isinstance(error, UnusableError):
                raise
            raise UnusableError(f"it is no sound .npz file of plain arrays ({error})") from None


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
        int(known["frames_per_decision"]) if "frames_per_decision" in known else None,
        float(known["decision_seconds"]) if "decision_seconds" in known else None,
        str(known["task"]) if "task" in known else None,
    )


def _floats(values: Any) -> np.ndarray | None:
    return None if values is None else number(values, "a bound of the actions", np.float64)


def write(recording: Recording, folder: Path) -> Path:
    """Writes a recording with an array of observations as `transitions.npz` in a folder; returns the file."""
    arrays: dict[str, Any] = {}
    for name, value in recording._asdict().items():
        if value is not None:
            arrays[name] = value
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = folder / "transitions.npz"
    files.write_atomically(path, content.getvalue())
    return path
