"""The way of minibatches from replay to the updates: gathered on the host, or on the device from a copy.

Either way the host draws the places, so that every device trains on the same minibatches, and the host's
replay is the one that counts. Where it fits, the copy makes a decision's traffic a few rows and the places.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.learning.axis import Joined, Put, sharing
from crossq_wn.learning.replay import Replay, Rows, look_up
from crossq_wn.types import Array, Batch, Tree

# A decision writes two rows at most and the observation after them; rewriting one more changes nothing.
_NEWEST = 4
_CHUNK = 1 << 16  # rows per seed that are uploaded at once

Packed = Any  # what one decision's updates need, still on the host
Fed = Any  # the same on the device, joined over the seeds


class Zeros(Protocol):
    """Makes room on the device."""

    def __call__(self, seeds: int, like: Tree, /) -> Joined:
        """Returns zeros shaped like one seed's tree for each of so many seeds, joined."""


class Pack(Protocol):
    """Collects what one decision's updates need, on the host."""

    def __call__(self, replays: Sequence[Replay], places: Sequence[np.ndarray], /) -> Packed:
        """Takes each seed's replay and the places [U, B] of its minibatches there."""


class Load(Protocol):
    """Sends to the device what was packed."""

    def __call__(self, before: Fed | None, packed: Packed, /) -> Fed:
        """Takes also what was loaded for the decision before, if any, which is gone afterwards."""


class Batches(Protocol):
    """Takes one seed's part of what was loaded apart into minibatches; is traced."""

    def __call__(self, fed: Fed, /) -> tuple[Tree, Callable[[Tree], Batch]]:
        """Returns rows [U, ...] to scan over, and the function that makes a Batch [B, ...] of a row."""


class Feed(NamedTuple):
    """A way from replay to the updates of one decision."""

    pack: Pack
    load: Load
    batches: Batches


def gathered(put: Put, horizon: int) -> Feed:
    """Minibatches are gathered on the host; what is loaded is a Batch [U, B, ...].

    Args:
        put: from host to device.
        horizon: transitions per sample.
    """
    return Feed(
        pack=partial(_gather, horizon),
        load=lambda before, packed: put(packed),
        batches=lambda fed: (fed, lambda batch: batch),
    )


def _gather(horizon: int, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> list[Batch]:
    return [replay.take(each, horizon) for replay, each in zip(replays, places, strict=True)]


class Resident(NamedTuple):
    """A copy of replay on the device and where to look in it."""

    rows: Rows  # [capacity + 1, ...]
    places: Array  # [U, B]


class _Device(NamedTuple):
    """What a copy on the device is written with."""

    put: Put
    zeros: Zeros
    write: Callable[[Rows, Array, Rows], Rows]  # joined: rows, places and new values -> rows


def resident(put: Put, zeros: Zeros, horizon: int) -> Feed:
    """Minibatches are gathered on the device, inside the call that computes the updates.

    Args:
        put: from host to device.
        zeros: makes room on the device.
        horizon: transitions per sample.
    """
    device = _Device(put, zeros, jax.jit(jax.vmap(_write), donate_argnums=0))
    return Feed(
        pack=lambda replays, places: (replays, places),
        load=partial(_load_resident, device),
        batches=partial(_look_up_resident, horizon),
    )


def _write(rows: Rows, places: Array, values: Rows) -> Rows:
    return jax.tree.map(lambda column, new: column.at[places].set(new), rows, values)  # type: ignore[no-any-return]


def _load_resident(device: _Device, before: Any, packed: Packed) -> Resident:
    replays, places = packed
    rows = _upload(device, replays) if before is None else before.rows
    rows = _copy(device, rows, replays, [replay.newest(_NEWEST) for replay in replays])
    return Resident(rows, device.put(list(places)))


def _upload(device: _Device, replays: Sequence[Replay]) -> Any:
    """A copy of all that the replays hold."""
    rows = device.zeros(len(replays), replays[0].at(slice(None)))
    filled = max(replay.filled for replay in replays)
    for first in range(0, filled, _CHUNK):
        places = np.minimum(np.arange(first, first + _CHUNK, dtype=np.int32), replays[0].capacity)
        rows = _copy(device, rows, replays, [places] * len(replays))
    return rows


def _copy(device: _Device, rows: Any, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> Any:
    """Brings the rows at these places up to date; the old rows are gone."""
    values = [replay.at(each) for replay, each in zip(replays, places, strict=True)]
    return device.write(rows, device.put(list(places)), device.put(values))


def _look_up_resident(horizon: int, fed: Resident) -> tuple[Array, Callable[[Array], Batch]]:
    return fed.places, lambda places: look_up(fed.rows, places, horizon)


def fits(replay_bytes: int, seeds: int, devices: Sequence[jax.Device]) -> bool:
    """Whether replays of so many bytes each leave every device a third of its free memory.

    They must also do so when seeds have failed and fewer devices share those that are left.
    """
    if any(device.platform == "cpu" for device in devices):
        return False  # the host's memory is the device's
    known: list[dict[str, int]] = [device.memory_stats() or {} for device in devices]
    free = min(stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0) for stats in known)
    most = max(left // sharing(left, len(devices)) for left in range(1, seeds + 1))
    return 3 * most * replay_bytes < 2 * free
