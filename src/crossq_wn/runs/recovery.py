"""Recovery of a run's configuration when its config.json is lost or altered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError, option
from crossq_wn.runs.config import RunConfig, config_of, extend, load_whole, present, read_json
from crossq_wn.runs.manifests import malformed, newest_common, trained_frames
from crossq_wn.runs.seals import is_sound


def recover_config(path: Path, warn: Callable[[str], None]) -> RunConfig:
    """Reads a run's configuration and compares it with the copy in its newest checkpoint.

    Where the two differ the checkpoint's copy is right, except for a total of frames that `resume --frames`
    wrote.

    Args:
        path: the run directory.
        warn: is told in one line if config.json is lost or altered.

    Raises:
        UserError: neither config.json nor a checkpoint holds a readable configuration.
    """
    kept = newest_common(path / "checkpoints").get("config")  # missing in checkpoints of earlier versions
    if kept is None:
        return config_of(read_json(path), path)
    with malformed(path / "checkpoints"):
        trained = config_of(present(kept, path), path)
    try:
        values, content = load_whole(path)
        written = config_of(present(values, path), path)
    except UserError:
        warn(f"{path / 'config.json'} is lost or damaged: restored from the checkpoint")
        return trained
    # `resume --frames` signs what it writes; a file without a sound checksum was changed by hand.
    if is_sound(values, content) and extend(written, trained.options.frames) == trained:
        return written
    differences = _differences(trained, written) or "its checksum"
    warn(
        f"{path / 'config.json'} has been altered ({differences}): restored from the checkpoint; "
        f"only the frames of a run can be changed, with {option('frames')}; for anything else start a new run"
    )
    return trained


def of_length(path: Path, planned: RunConfig, frames: int | None, tell: Callable[[str], None]) -> RunConfig:
    """The configuration with another total of environment frames.

    Args:
        path: the run directory.
        planned: its configuration so far.
        frames: per seed; None: the total so far.
        tell: is told in one line if they are fewer than were planned.

    Raises:
        UserError: they are fewer than are trained.
    """
    config, trained = extend(planned, frames), trained_frames(path / "checkpoints")
    before, now = planned.options.frames, config.options.frames
    if now < trained:
        raise UserError(
            f"{option('frames')} is {now}: {path} is already trained for {trained} frames; ask for more"
        )
    if now < before:
        tell(f"{path} was to train for {before:,} frames, and now ends at {now:,}")
    return config


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
