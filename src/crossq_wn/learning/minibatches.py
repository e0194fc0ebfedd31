"""How do minibatches reach the updates? Gathered on the host, or by place from replay's copy on the device.

Either way the host draws the places, so that every device trains on the same minibatches, and the replay of
record is the host's. Where it fits, the copy makes a decision's traffic a few rows and the places.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.replay import Replay, Rows, look_up
from crossq_wn.types import Array, Batch, Tree

Put = Callable[[Sequence[Tree]], Any]  # one host tree per seed -> joined on the device

# A decision writes two rows at most and the observation after them; rewriting one more changes nothing.
_NEWEST = 4
_CHUNK = 1 << 16  # rows per seed that are uploaded at once


class Feed(NamedTuple):
    """A way from replay to the updates of one decision.

    pack:    (one Replay per seed, places [U, B] per seed) -> what is sent, still on the host
    load:    (the feed before or None, what is sent) -> feed, joined over seeds
    batches: one seed's feed -> (what a scan over updates runs over, one of these -> Batch)
    """

    pack: Callable[[Sequence[Replay], Sequence[np.ndarray]], Any]
    load: Callable[[Any, Any], Any]
    batches: Callable[[Any], tuple[Tree, Callable[[Tree], Batch]]]


def gathered(put: Put, horizon: int) -> Feed:
    """Minibatches are gathered on the host; a feed is a Batch [U, B, ...]."""

    def pack(replays: Sequence[Replay], places: Sequence[np.ndarray]) -> list[Batch]:
        return [replay.take(each, horizon) for replay, each in zip(replays, places, strict=True)]

    return Feed(pack, lambda before, packed: put(packed), lambda feed: (feed, lambda batch: batch))


class Resident(NamedTuple):
    """A copy of replay on the device and where to look in it."""

    rows: Rows  # [capacity + 1, ...]
    places: Array  # [U, B]


def resident(put: Put, zeros: Callable[[int, Tree], Any], horizon: int) -> Feed:
    """Minibatches are gathered on the device, inside the call that computes the updates.

    Args:
        put: see `Put`.
        zeros: (seeds, one seed's arrays) -> as many zeros on the device, joined.
        horizon: transitions per sample.
    """

    def write(rows: Rows, places: Array, values: Rows) -> Rows:
        return jax.tree.map(lambda column, new: column.at[places].set(new), rows, values)  # type: ignore[no-any-return]

    write_all = jax.jit(jax.vmap(write), donate_argnums=0)

    def copy(rows: Any, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> Any:
        values = [replay.at(each) for replay, each in zip(replays, places, strict=True)]
        return write_all(rows, put(list(places)), put(values))

    def upload(replays: Sequence[Replay]) -> Any:
        rows = zeros(len(replays), replays[0].at(slice(None)))
        filled = max(replay.filled for replay in replays)
        for first in range(0, filled, _CHUNK):
            places = np.minimum(np.arange(first, first + _CHUNK, dtype=np.int32), replays[0].capacity)
            rows = copy(rows, replays, [places] * len(replays))
        return rows

    def pack(replays: Sequence[Replay], places: Sequence[np.ndarray]) -> Any:
        return replays, places

    def load(before: Any, packed: Any) -> Any:
        replays, places = packed
        rows = upload(replays) if before is None else before.rows
        rows = copy(rows, replays, [replay.newest(_NEWEST) for replay in replays])
        return Resident(rows, put(list(places)))

    def batches(feed: Resident) -> tuple[Array, Callable[[Array], Batch]]:
        return feed.places, lambda places: look_up(feed.rows, places, horizon)

    return Feed(pack, load, batches)


def sharing(seeds: int, devices: int) -> int:
    """How many of the devices share so many seeds: the most that get equally many each."""
    return max(n for n in range(1, devices + 1) if seeds % n == 0)


def fits(replay_bytes: int, seeds: int, devices: Sequence[jax.Device]) -> bool:
    """Whether replays of so many bytes each leave every device a third of its free memory.

    Also when seeds have failed and those left are shared by fewer devices.
    """
    if any(device.platform == "cpu" for device in devices):
        return False  # the host's memory is the device's
    known: list[dict[str, int]] = [device.memory_stats() or {} for device in devices]
    free = min(stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0) for stats in known)
    most = max(left // sharing(left, len(devices)) for left in range(1, seeds + 1))
    return 3 * most * replay_bytes < 2 * free


def zeros_like(tree: Tree, seeds: int) -> Tree:
    """Zeros with a leading seed axis."""
    return jax.tree.map(lambda leaf: jnp.zeros((seeds, *leaf.shape), leaf.dtype), tree)
