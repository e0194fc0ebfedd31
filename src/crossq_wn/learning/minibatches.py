"""Two ways for minibatches to get from replay to the gradient updates.

They are gathered on the host, or on the device from a copy of replay there. In both cases the host draws the
places, so every device trains on the same minibatches, and the host's replay is the one that checkpoints
store. With a copy on the device, only a few new rows and the places have to be sent per decision.
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

# A decision writes at most two rows and the observation after them; sending one more changes nothing.
_NEWEST = 4
_CHUNK = 1 << 16  # rows per seed in one upload

Packed = Any  # the data of one decision's updates, on the host
Fed = Any  # the same data on the device, joined over the seeds


class Zeros(Protocol):
    """Allocates arrays on the device."""

    def __call__(self, seeds: int, like: Tree, /) -> Joined:
        """Returns zeros in the shapes of one seed's tree, for the given number of seeds, joined."""


class Pack(Protocol):
    """Collects the data of one decision's updates, on the host."""

    def __call__(self, replays: Sequence[Replay], places: Sequence[np.ndarray], /) -> Packed:
        """Takes each seed's replay, and the places [U, B] where its samples start."""


class Load(Protocol):
    """Sends packed data to the device."""

    def __call__(self, before: Fed | None, packed: Packed, /) -> Fed:
        """Also takes what it returned for the decision before (None at first), whose buffers it reuses."""


class Batches(Protocol):
    """Splits one seed's data into minibatches; is traced by JAX."""

    def __call__(self, fed: Fed, /) -> tuple[Tree, Callable[[Tree], Batch]]:
        """Returns rows [U, ...] to scan over, and the function that makes a row a Batch [B, ...]."""


class Feed(NamedTuple):
    """A way from replay to the updates of one decision: pack on the host, load, split into minibatches."""

    pack: Pack
    load: Load
    batches: Batches


def gathered(put: Put, horizon: int) -> Feed:
    """Gathers minibatches on the host and sends a Batch [U, B, ...] to the device.

    Args:
        put: sends data from host to device.
        horizon: consecutive transitions per sample.
    """
    return Feed(
        pack=partial(_gather, horizon),
        load=lambda before, packed: put(packed),
        batches=lambda fed: (fed, lambda batch: batch),
    )


def _gather(horizon: int, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> list[Batch]:
    return [replay.take(each, horizon) for replay, each in zip(replays, places, strict=True)]


class Resident(NamedTuple):
    """A copy of replay on the device, and the places where samples start."""

    rows: Rows  # [capacity + 1, ...]
    places: Array  # [U, B]


class _Device(NamedTuple):
    """The operations on a device that keep a copy of replay there."""

    put: Put
    zeros: Zeros
    write: Callable[[Rows, Array, Rows], Rows]  # joined: rows, places and new values -> rows


def resident(put: Put, zeros: Zeros, horizon: int) -> Feed:
    """Gathers minibatches on the device, inside the call that computes the updates.

    Args:
        put: sends data from host to device.
        zeros: allocates arrays on the device.
        horizon: consecutive transitions per sample.
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
    """Copies all that the replays hold to the device, in chunks."""
    rows = device.zeros(len(replays), replays[0].at(slice(None)))
    filled = max(replay.filled for replay in replays)
    for first in range(0, filled, _CHUNK):
        # The last chunk repeats the last place, so that all chunks have one shape and compile once.
        places = np.minimum(np.arange(first, first + _CHUNK, dtype=np.int32), replays[0].capacity)
        rows = _copy(device, rows, replays, [places] * len(replays))
    return rows


def _copy(device: _Device, rows: Any, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> Any:
    """Brings the rows at these places up to date; the given device arrays are donated."""
    values = [replay.at(each) for replay, each in zip(replays, places, strict=True)]
    return device.write(rows, device.put(list(places)), device.put(values))


def _look_up_resident(horizon: int, fed: Resident) -> tuple[Array, Callable[[Array], Batch]]:
    return fed.places, lambda places: look_up(fed.rows, places, horizon)


def fits(replay_bytes: int, seeds: int, devices: Sequence[jax.Device]) -> bool:
    """Whether a copy of replay leaves a third of every device's free memory unused.

    That must also hold after seeds have failed and fewer devices share the remaining ones.

    Args:
        replay_bytes: size of one seed's replay.
        seeds: number of seeds that train side by side.
        devices: the devices that share the seeds.
    """
    if any(device.platform == "cpu" for device in devices):
        return False  # the host's memory is the device's
    known: list[dict[str, int]] = [device.memory_stats() or {} for device in devices]
    free = min(stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0) for stats in known)
    # The most seeds that one device may ever hold, however many of them are left.
    most = max(left // sharing(left, len(devices)) for left in range(1, seeds + 1))
    return 3 * most * replay_bytes < 2 * free
