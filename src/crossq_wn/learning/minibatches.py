"""Ways for minibatches to get from replay to the gradient updates.

They are gathered on the host (`gathered`), or on the device from a copy of replay there (`resident`). In both
cases the host draws the places, so every device trains on the same minibatches, and the host's replay is the
one that checkpoints store. With a copy on the device, only a few new rows and the places have to be sent per
decision; they travel as one array, and the program that computes the updates also writes them.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.learning.axis import Joined, Put, sharing
from crossq_wn.learning.parcels import Parcel, pack, unpack
from crossq_wn.learning.replay import Replay
from crossq_wn.learning.rows import Rows, look_up
from crossq_wn.types import Array, Batch, Sampling, Tree

# A decision writes at most two rows and the observation after them; sending one more changes nothing.
_NEWEST = 4
_CHUNK = 1 << 13  # rows per seed in one upload, which takes memory on the host: 90 MB of ten dogs

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


class Write(Protocol):
    """Brings one seed's copy of replay up to date; is traced by JAX."""

    def __call__(self, rows: Rows, sent: Parcel, /) -> Rows:
        """Takes the copy [capacity + 1 + pinned, ...], and what was sent for this decision."""


class Feed(NamedTuple):
    """A way from replay to the updates of one decision: pack on the host, load, split into minibatches."""

    pack: Pack
    load: Load
    batches: Batches
    write: Write | None = None  # None: nothing is kept on the device


def gathered(put: Put, sampling: Sampling) -> Feed:
    """Gathers minibatches on the host and sends a Batch [U, B, ...] to the device.

    Args:
        put: sends data from host to device.
        sampling: what a sample is.
    """
    return Feed(
        pack=partial(_gather, sampling),
        load=lambda before, packed: put(packed),
        batches=lambda batch: (batch, lambda row: row),
    )


def _gather(sampling: Sampling, replays: Sequence[Replay], places: Sequence[np.ndarray]) -> list[Batch]:
    return [replay.take(each, sampling) for replay, each in zip(replays, places, strict=True)]


class Resident(NamedTuple):
    """A copy of replay on the device, and what was sent for the newest decision."""

    rows: Rows  # [capacity + 1 + pinned, ...]
    sent: Parcel


class Copy:
    """A `Resident` of all seeds; updates put a new copy in the place of the one that they were given.

    Args:
        held: the copies, joined, and what was sent.
    """

    def __init__(self, held: Resident) -> None:
        self.held = held


def on_device(fed: Fed) -> Fed:
    """What programs take of the data of a decision."""
    return fed.held if isinstance(fed, Copy) else fed


class _Device(NamedTuple):
    """The operations on a device that keep a copy of replay there."""

    put: Put
    start: Callable[[int, Array, Rows], Rows]  # like `write`, to new arrays with so many places
    write: Callable[[Rows, Array, Rows], Rows]  # joined: rows, places and new values -> rows


class _Sent(NamedTuple):
    """What a decision's updates need of one seed; floats travel as the integers of the same bits."""

    places: Array  # int32 [U, B], where samples start
    newest: Array  # int32 [4], the places of the newest rows
    rows: Rows  # those rows, as int32


def resident(put: Put, zeros: Zeros, sampling: Sampling, pinned: int = 0) -> Feed:
    """Gathers minibatches on the device, inside the call that computes the updates.

    Args:
        put: sends data from host to device.
        zeros: allocates arrays on the device.
        sampling: what a sample is.
        pinned: rows behind each replay's ring.
    """
    start = jax.jit(partial(_start, zeros), static_argnums=0)
    device = _Device(put, start, jax.jit(jax.vmap(_write), donate_argnums=0))
    return Feed(
        pack=lambda replays, places: (replays, list(map(_pack_sent, replays, places))),
        load=partial(_load_resident, device),
        batches=partial(_look_up_resident, sampling, pinned),
        write=_write_sent,
    )


def _pack_sent(replay: Replay, places: np.ndarray) -> Parcel:
    newest = replay.newest(_NEWEST)
    rows = replay.at(newest)
    columns: tuple[Any, ...] = (*(column.view(np.int32) for column in rows[:4]), rows.final.astype(np.int32))
    return pack(_Sent(places, newest, Rows(*columns)))  # type: ignore[arg-type]


def _write_sent(rows: Rows, sent: Parcel) -> Rows:
    """Writes what was sent to one seed's copy of replay; is traced by JAX."""
    _, newest, bits = unpack(sent)
    floats = [jax.lax.bitcast_convert_type(column, np.float32) for column in bits[:4]]
    columns: tuple[Any, ...] = (*floats, bits.final != 0)
    return _write(rows, newest, Rows(*columns))


def _write(rows: Rows, places: Array, values: Rows) -> Rows:
    return jax.tree.map(lambda column, new: column.at[places].set(new), rows, values)  # type: ignore[no-any-return]


def _load_resident(device: _Device, before: Copy | None, packed: Packed) -> Copy:
    replays, sent = packed
    rows = _upload(device, replays) if before is None else before.held.rows
    return Copy(Resident(rows, device.put(sent)))


def _upload(device: _Device, replays: Sequence[Replay]) -> Any:
    """Copies all that the replays hold to the device, in chunks."""
    places = max(replays, key=lambda replay: replay.end).used()
    length = replays[0].capacity + 1 + replays[0].pinned
    rows = device.start(length, *_chunk(device, replays, places[:_CHUNK]))
    for first in range(_CHUNK, len(places), _CHUNK):
        rows = device.write(rows, *_chunk(device, replays, places[first : first + _CHUNK]))
    return rows


def _start(zeros: Zeros, length: int, places: Array, values: Rows) -> Rows:
    """Allocates rings of that length, joined, and writes the first rows: mostly there are no others."""

    def shape(column: Array) -> Any:
        return jax.ShapeDtypeStruct((length, *column.shape[2:]), column.dtype)  # type: ignore[no-untyped-call]

    rows: Rows = jax.vmap(_write)(zeros(len(places), jax.tree.map(shape, values)), places, values)
    return rows


def _chunk(device: _Device, replays: Sequence[Replay], some: np.ndarray) -> tuple[Joined, Joined]:
    """Some places, and all replays' rows there, on the device."""
    # The last place is repeated, so that all chunks have one shape and compile once.
    places = np.pad(some, (0, _CHUNK - len(some)), mode="edge")
    return device.put([places] * len(replays)), device.put([replay.at(places) for replay in replays])


def _look_up_resident(
    sampling: Sampling, pinned: int, fed: Resident
) -> tuple[Array, Callable[[Array], Batch]]:
    return unpack(fed.sent).places, lambda places: look_up(fed.rows, places, sampling, pinned)


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
