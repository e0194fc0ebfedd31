"""Recordings out of the replay that earlier runs kept; nothing that a run names is imported."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import Interface
from crossq_wn.data.recording import Recording, UnusableError, joined, require_room
from crossq_wn.learning.replay import Replay
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.runs.manifests import malformed
from crossq_wn.runs.replay_files import Segment, fill


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


class Ends(NamedTuple):
    """The oldest and the newest transitions of a seed's replay."""

    first: Recording
    last: Recording  # the same object where it holds all of them
    from_start: bool  # whether `first` begins with the seed's first decision, and not with prefilled data


def ends(path: Path, most: int, warn: Callable[[str], None]) -> tuple[list[Ends], Interface]:
    """Reads either end of each seed's replay, so that a large replay takes no longer than a small one.

    Args:
        path: the run directory.
        most: transitions to read at each end, or slightly more: files are read whole.
        warn: is told of damaged checkpoints that are passed over.

    Returns:
        The ends by seed, without seeds that have no transitions, and the interface of the environment.

    Raises:
        UserError: there is no usable checkpoint.
    """
    config = read_config(path)
    saved = checkpoints.newest(path / "checkpoints", warn, with_replay=False)
    found = []
    with malformed(saved.path):
        interface = Interface(saved.training["interface"])
        stored = config.options.frame_stack * interface.size
        for seed in saved.seeds:
            segments = [each for each in saved.segments(seed) if each["last"] > each["first"]]
            first, last = _up_to(segments, most), _up_to(segments[::-1], most)[::-1]
            if len(first) + len(last) > len(segments):  # they overlap
                first = last = segments
            if segments:
                start = _part(path, saved, first, interface, stored)
                end = start if first is last else _part(path, saved, last, interface, stored)
                own = segments[0]["first"] == 0 and not segments[0]["file"].startswith("prefill-")
                found.append(Ends(start, end, own))
    return found, interface


def _up_to(segments: Iterable[Segment], most: int) -> list[Segment]:
    """The first files that hold so many rows together."""
    chosen: list[Segment] = []
    for segment in segments:
        if sum(each["last"] - each["first"] for each in chosen) >= most:
            break
        chosen.append(segment)
    return chosen


def _part(
    path: Path, saved: Checkpoint, segments: list[Segment], interface: Interface, stored: int
) -> Recording:
    """The transitions in consecutive files of a seed's replay."""
    rows = segments[-1]["last"] - segments[0]["first"]
    require_room(path, rows * 4 * (2 * stored + 4 * int(interface.low.size)))
    replay = Replay(rows, stored, int(interface.low.size))
    fill(replay, segments[-1]["last"], saved.path.parent / "replay", segments, [])
    return _transitions(replay, replay.begin, interface)


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
    return _transitions(replay, begin, interface)


def _transitions(replay: Replay, begin: int, interface: Interface) -> Recording:
    """The transitions in the rows of a replay from one of them on."""
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
