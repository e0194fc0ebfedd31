"""The configuration that a run goes on with, whatever became of its config.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError
from crossq_wn.runs.checkpoints import newest_common
from crossq_wn.runs.config import RunConfig, config_of, extend, load_json, present, read_json, signed


def recover_config(path: Path, warn: Callable[[str], None]) -> RunConfig:
    """Reads a run's configuration and compares it with the one that its newest checkpoint keeps.

    The checkpoint's counts where the two differ, except in a total of frames that `resume --frames` wrote.

    Args:
        path: the run directory.
        warn: told in one line if config.json is lost or altered.

    Raises:
        UserError: no configuration can be read, neither from config.json nor from a checkpoint.
    """
    kept = newest_common(path / "checkpoints").get("config")  # earlier versions kept none
    if kept is None:
        return config_of(read_json(path), path)
    trained = config_of(present(kept, path), path)
    try:
        values = load_json(path)
        written = config_of(present(values, path), path)
    except UserError:
        warn(f"{path / 'config.json'} is lost or damaged: restored from the checkpoint")
        return trained
    if values == signed(values) and extend(written, trained.options.frames) == trained:
        return written
    differences = _differences(trained, written) or "its checksum"
    warn(
        f"{path / 'config.json'} has been altered ({differences}): restored from the checkpoint; "
        "--frames changes the frames, and any other change takes a new run"
    )
    return trained


def _differences(before: RunConfig, now: RunConfig) -> str:
    found, old = [], _flat(before.to_json())
    for name, value in _flat(now.to_json()).items():
        if value != old.get(name):
            found.append(f"{name} {value}, was {old.get(name)}")
    return "; ".join(found)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat
