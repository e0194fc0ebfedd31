"""Recordings out of the replay that earlier runs kept; nothing that a run names is imported."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting.interface import Interface
from crossq_wn.data.recording import Recording, UnusableError, joined, require_room
from crossq_wn.learning.replay import Replay
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.manifests import malformed


def read(path: Path, seed: int | None = None, warn: Callable[[str], None] = lambda text: None) -> Recording:
    """Reads the transitions that a run's newest checkpoint keeps.

    Args:
        path: the run directory.
        seed: one of its training seeds; None: all of them, one behind the other.
        warn: is told of damaged checkpoints that are passed over.

    Raises:
        UserError: there is no usable checkpoint, or no such seed.
    """
    config = read_config(path)
    saved = checkpoints.newest(path / "checkpoints", warn)
    seeds = saved.seeds if seed is None else [seed]
    if seed is not None and seed not in saved.seeds:
        raise UnusableError(f"it has no seed {seed}: its seeds are {', '.join(map(str, saved.seeds))}")
    with malformed(saved.path):
        return _recording(path, config, saved, seeds)


def _recording(path: Path, config: RunConfig, saved: Checkpoint, seeds: Sequence[int]) -> Recording:
    """The transitions of some seeds, one behind the other, in a checkpoint of a run."""
    interface = Interface(saved.training["interface"])
    rows = 0
    for each in seeds:
        rows += sum(segment["last"] - segment["first"] for segment in saved.segments(each))
        rows += (saved.pinned(each) or {"last": 0})["last"]
    stored = config.options.frame_stack * interface.size  # numbers in a row's observation
    require_room(path, rows * 4 * (2 * stored + 4 * int(interface.low.size)))
    parts = []
    for each in seeds:
        parts.append(_of(saved, each, interface, stored, first=each == seeds[0]))
    recording = joined(parts)
    rate = config.options.real_time
    return recording._replace(
        action_low=np.asarray(interface.low, np.float64),
        action_high=np.asarray(interface.high, np.float64),
        frames_per_decision=config.action_repeat,
        decision_seconds=None if rate is None else 1 / rate,
        task=config.task,
    )


def _of(saved: Checkpoint, seed: int, interface: Interface, stored: int, *, first: bool) -> Recording:
    """The transitions of one seed; the rows that all seeds began with are only the first seed's.

    Args:
        saved: the checkpoint.
        seed: the training seed.
        interface: of the environment.
        stored: numbers in an observation as replay has it; where these are stacked, the last is the newest.
        first: whether it is the first seed.
    """
    segments, pinned = saved.segments(seed), saved.pinned(seed)
    capacity = segments[-1]["last"] - segments[0]["first"] if segments else 1
    sizes = stored, int(interface.low.size)
    replay = Replay(max(capacity, 1), *sizes, pinned=0 if pinned is None else pinned["last"])
    saved.fill(seed, replay)
    begin = replay.begin
    if not first and segments and segments[0]["file"].startswith("prefill-"):
        begin = max(begin, segments[0]["last"])
    rows = replay.read(begin, replay.end)
    kept = np.flatnonzero(~rows.final)
    newest = rows.observation[:, -interface.size :]
    after = np.concatenate([newest[1:], replay.pending()[None, -interface.size :]])[kept]
    over = np.concatenate([rows.final[1:], [False]])[kept]
    terminated = rows.mask[kept] == 0
    action = rows.action[kept]
    columns: dict[str, Any] = {
        "observation": newest[kept],
        "action": interface.in_units(action),
        "reward": rows.reward[kept],
        "terminated": terminated,
        "truncated": over & ~terminated,
        "next_observation": after,
        "agent_action": action,
    }
    return Recording(**columns)
