"""Where environments may hold what all of their objects share: classes, functions, and modules of these."""

import contextlib
import marshal
import sys
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.attributes import attributes_of
from crossq_wn.environments.reach import is_users_object, reach_of, variables_of

Place = tuple[int, str, Any]  # a holder's number in a list, a name there, and a key or attribute within

ABSENT = object()  # stands where nothing is
_MOST_BYTES = 2**26  # of an array that is watched, which takes 30 ms
_MOST_ENTRIES = 10_000  # of a dict


class Holder(NamedTuple):
    """A class, a function with what it holds, or a module with the names of it that functions use."""

    place: str
    owner: Any
    names: frozenset[str] | None = None  # None: all

    def values(self) -> Iterator[tuple[str, Any]]:
        """What an environment may use of it, as it is now."""
        function = isinstance(self.owner, types.FunctionType)
        for name, value in list((variables_of(self.owner) if function else vars(self.owner)).items()):
            if self.names is None or name in self.names:
                yield name, value

    def put(self, name: str, value: Any) -> None:
        """Puts a value under a name; with ABSENT takes away what is there."""
        owner = self.owner
        if isinstance(owner, types.FunctionType):
            cells = dict(zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True))
            if name not in cells:  # default values stay as they are
                return
            owner, name = cells[name], "cell_contents"
        if value is not ABSENT:
            setattr(owner, name, value)
        elif hasattr(owner, name):
            delattr(owner, name)

    def with_names_of(self, other: "Holder") -> "Holder":
        """The same with the names of another one of this place, too."""
        if self.names is None or other.names is None:
            return self
        return self._replace(names=self.names | other.names)


def holders_of(root: Any) -> list[Holder]:
    """Where an environment with its wrappers may hold what its objects share, or a class or function."""
    reach = reach_of(root)
    found = [Holder(f"{each.__module__}:{each.__qualname__}", each) for each in reach.classes]
    for module, names in reach.names.items():
        if module in sys.modules:
            found.append(Holder(module, sys.modules[module], frozenset(names)))
    for function in reach.functions:
        if variables_of(function):
            found.append(Holder(f"{function.__module__}:{function.__qualname__}", function))
    return _distinct(found)


def _distinct(holders: list[Holder]) -> list[Holder]:
    """The same with places that differ, as those of a method and of the one in place of which it stands."""
    found, count = [], Counter[str]()
    for holder in holders:
        count[holder.place] += 1
        number = count[holder.place]
        found.append(holder._replace(place=f"{holder.place}#{number}") if number > 1 else holder)
    return found


def changes(holders: list[Holder], largest: float = _MOST_BYTES) -> Callable[[], list[str]]:
    """Remembers the plain data that classes, modules and functions hold.

    Args:
        holders: of these.
        largest: size in bytes of arrays that count.

    Returns:
        What lists the names of those that have changed since: numbers, texts, arrays, and lists, tuples, sets
        and dicts of these, also as attributes of objects of the user's. Arrays that cannot be written are
        left out. What was not there, in a dict too, counts from when it is first seen, because it may be a
        result that is only remembered.
    """
    return partial(_changed, holders, largest, _checksums(holders, largest))


def _changed(holders: list[Holder], largest: float, before: dict[Place, int]) -> list[str]:
    found: dict[str, None] = {}
    for (number, name, key), value in _checksums(holders, largest).items():
        if before.setdefault((number, name, key), value) != value:
            found[f"{holders[number].owner.__name__}.{name}"] = None
    return [*found]


def _checksums(holders: list[Holder], largest: float) -> dict[Place, int]:
    found = {}
    for number, holder in enumerate(holders):
        for name, value in holder.values():
            for key, entry in [*islice(_entries(value), _MOST_ENTRIES)]:
                checksum = _checksum(entry, largest)
                if checksum is not None:
                    found[number, name, key] = checksum
    return found


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    """A value, or what counts by itself: the entries of a dict, the attributes of a user's object."""
    if type(value) is dict:
        return value.items()
    return attributes_of(value).items() if is_users_object(value) else [("", value)]


def _checksum(value: Any, largest: float) -> int | None:
    """A checksum of plain data; None of anything else, and of what cannot change."""
    with contextlib.suppress(ValueError, TypeError, BufferError):  # there is something else in it
        if not isinstance(value, np.ndarray):
            # Version 2 writes nothing but the values.
            return None if value is None else zlib.crc32(marshal.dumps(value, 2))
        if value.flags.writeable and value.nbytes <= largest and not value.dtype.hasobject:
            return zlib.crc32(np.ascontiguousarray(value).data)  # without a copy, because it may be large
    return None
