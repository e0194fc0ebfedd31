"""Where environments may hold what all of their objects share: classes, functions, and modules of these."""

import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.reach import reach_of, variables_of

ABSENT = object()  # stands where nothing is
_MOST_BYTES = 2**20  # of an array that is watched


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
    return found


def changes(holders: list[Holder]) -> Callable[[], list[str]]:
    """Remembers the numbers and arrays that classes and modules hold.

    Args:
        holders: the classes and modules.

    Returns:
        What lists the names of those that have changed since. Arrays that are large or cannot be written are
        left out; what was not there counts from when it is first seen.
    """
    return partial(_changed, holders, _numbers(holders))


def _changed(holders: list[Holder], before: dict[tuple[int, str], bytes]) -> list[str]:
    found = []
    for (number, name), value in _numbers(holders).items():
        if before.setdefault((number, name), value) != value:
            found.append(f"{holders[number].owner.__name__}.{name}")
    return found


def _numbers(holders: list[Holder]) -> dict[tuple[int, str], bytes]:
    """A checksum of each number, by the place of its holder in the list and its name."""
    found = {}
    for number, holder in enumerate(holders):
        for name, value in holder.values():
            if isinstance(value, np.ndarray):
                if not value.flags.writeable or value.nbytes > _MOST_BYTES or value.dtype.hasobject:
                    continue
            elif not isinstance(value, int | float | np.number):
                continue
            # A Python int of any size has an exact text, in decimals only up to a limit.
            exact = hex(value).encode() if isinstance(value, int) else np.asarray(value).tobytes()
            found[number, name] = hashlib.sha256(exact).digest()
    return found
