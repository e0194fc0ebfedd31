"""Memory that the two processes share: decisions one way, weights the other.

Each part has one writer and one reader, and neither takes a lock. What is read counts only if its checksum is
right, so that half a write is as if it had not happened yet, on processors of any kind. The memory has no
name and goes with the last process that maps it, however that ends.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.real_time.records import Decision, pack, record_type, unpack
from crossq_wn.real_time.robot import METHODS

_HEADER = struct.Struct("<QQQQ")  # version of the newest weights, decisions received, whether to stop, call
_CALLS = ("", "__init__", "reset", "step", *METHODS, "close")  # what the robot may be doing
_SLOT = struct.Struct("<QQQI")  # version, decisions received, size, checksum
_ROOM = 1 << 20  # bytes by which weights may outgrow the first ones


class Shape(NamedTuple):
    """The sizes that decide where in the memory each part is."""

    observation_size: int
    action_size: int
    ahead: int  # decisions by which acting may be ahead of learning
    weights: int  # bytes of a slot


class Weights(NamedTuple):
    """A policy as the learner hands it over."""

    version: int  # counts from 1
    learned: int  # decisions that the learner had received by then
    content: bytes


class Call(NamedTuple):
    """A method of the robot that is under way."""

    number: int  # tells calls apart
    name: str  # "" if none is


def shape_for(observation_size: int, action_size: int, ahead: int, first: bytes) -> Shape:
    """The shape for a problem, a bound in decisions and the first weights.

    Args:
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        ahead: decisions by which acting may be ahead of learning.
        first: the first weights, as they are published; later ones may be somewhat longer.
    """
    return Shape(observation_size, action_size, ahead, 2 * len(first) + _ROOM)


class Notes:
    """The head of the memory, which the two processes share from the start.

    Args:
        descriptor: of a file without a name.

    Attributes:
        fields: its numbers; each is read and written whole, where `struct` would go byte by byte.
    """

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < _HEADER.size:  # in the process that maps it first
            os.ftruncate(descriptor, _HEADER.size)
        self._memory = mmap.mmap(descriptor, _HEADER.size)
        self.fields = memoryview(self._memory).cast("Q")

    @property
    def call(self) -> Call:
        """What the robot is doing."""
        count, which = divmod(self.fields[3], len(_CALLS))
        return Call(count, _CALLS[which])

    def note_call(self, name: str) -> None:
        """Says which method of the robot is called; "" that it has returned."""
        count = self.fields[3] // len(_CALLS) + 1
        self.fields[3] = count * len(_CALLS) + _CALLS.index(name)

    @property
    def stopping(self) -> bool:
        """Whether the acting side is asked to break off the episode."""
        return self.fields[2] != 0

    def ask_to_stop(self) -> None:
        """Asks the acting side to break off the episode."""
        self.fields[2] = 1

    def close(self) -> None:
        """Unmaps the memory."""
        self.fields.release()
        self._memory.close()


class Shared:
    """The memory, mapped in one of the two processes.

    Args:
        descriptor: of a file without a name.
        shape: the same in both processes.

    Attributes:
        shape: as given.
        notes: its head.
    """

    def __init__(self, descriptor: int, shape: Shape) -> None:
        self.shape = shape
        self._kind: np.dtype[Any] = record_type(shape.observation_size, shape.action_size)
        self._slot = _SLOT.size + shape.weights
        self._ring = _HEADER.size + 2 * self._slot
        size = self._ring + shape.ahead * self._kind.itemsize
        if os.fstat(descriptor).st_size < size:  # in the process that maps it first
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self.notes = Notes(descriptor)
        self._fields = self.notes.fields

    # The learning side

    def publish(self, content: bytes, learned: int) -> int:
        """Hands over weights; the acting side never waits for this.

        Args:
            content: the weights.
            learned: decisions received so far.

        Returns:
            The number of their version.

        Raises:
            ValueError: they are larger than the room for them, which the first ones decided.
        """
        if len(content) > self.shape.weights:
            raise ValueError(f"weights of {len(content)} bytes, where there is room for {self.shape.weights}")
        version = self._fields[0] + 1
        start = _HEADER.size + version % 2 * self._slot
        body = _SLOT.pack(version, learned, len(content), _checksum(version, learned, content))
        self._memory[start : start + _SLOT.size] = body
        self._memory[start + _SLOT.size : start + _SLOT.size + len(content)] = content
        self._fields[0] = version
        return version

    def collect(self) -> Iterator[Decision]:
        """Yields the decisions that have arrived, in order and each of them once."""
        while (decision := unpack(self._kind, self._record(self.received))) is not None:
            if decision.number != self.received:
                return  # it is of the round before: the next one has not been written yet
            self._fields[1] = decision.number + 1  # first: who takes it and stops does not get it again
            yield decision

    def start_from(self, number: int) -> None:
        """Says how many decisions were made before."""
        self._fields[1] = number

    # The acting side

    def newest(self, known: int) -> Weights | None:
        """The newest weights; None if their version is known, or they are just being replaced.

        Args:
            known: the number of a version.
        """
        version = self._fields[0]
        if version == known:
            return None
        start = _HEADER.size + version % 2 * self._slot
        found, learned, size, checksum = _SLOT.unpack(self._memory[start : start + _SLOT.size])
        content = self._memory[start + _SLOT.size : start + _SLOT.size + min(size, self.shape.weights)]
        if found != version or checksum != _checksum(version, learned, content):
            return None
        return Weights(version, learned, content)

    def put(self, decision: Decision) -> None:
        """Sends a decision; there must be room for it."""
        start = self._ring + decision.number % self.shape.ahead * self._kind.itemsize
        self._memory[start : start + self._kind.itemsize] = pack(self._kind, decision)

    def has_room(self, number: int) -> bool:
        """Whether the decision of this number may be made, or acting would be too far ahead."""
        return number - self.received < self.shape.ahead

    @property
    def received(self) -> int:
        """Decisions that the learning side has received."""
        return self._fields[1]

    def close(self) -> None:
        """Unmaps the memory."""
        self.notes.close()
        self._memory.close()

    def _record(self, number: int) -> bytes:
        start = self._ring + number % self.shape.ahead * self._kind.itemsize
        return self._memory[start : start + self._kind.itemsize]


def _checksum(version: int, learned: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(struct.pack("<QQ", version, learned)))
