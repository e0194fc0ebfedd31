"""Where environments may hold what all of their objects share: their classes, and modules of these."""

import dis
import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.naming import functions_of

# Packages whose classes hold nothing that an environment changes.
_NOBODYS = ("abc", "builtins", "gymnasium", "types", "typing", "typing_extensions")
_MOST_BYTES = 2**20  # of an array that is watched


class Holder(NamedTuple):
    """A class of an environment, or a module of one with the names of it that the methods use."""

    place: str
    owner: Any
    names: frozenset[str] | None  # None: all

    def values(self) -> Iterator[tuple[str, Any]]:
        """The attributes that an environment may use, as they are now."""
        for name, value in list(vars(self.owner).items()):
            if self.names is None or name in self.names:
                yield name, value


def owners_of(environment: Any) -> list[Any]:
    """The classes and modules of an environment and its wrappers, apart from those of Gymnasium."""
    found: list[Any] = []
    inner = environment
    while inner is not None:
        for owner in type(inner).__mro__:
            module = sys.modules.get(owner.__module__)
            if owner.__module__.partition(".")[0] not in _NOBODYS:
                found += [each for each in (owner, module) if each is not None and each not in found]
        inner = getattr(inner, "__dict__", {}).get("env")
    return found


def holders_of(environment: Any) -> list[Holder]:
    """Where an environment and its wrappers may hold what all of their objects share."""
    found: dict[str, Holder] = {}
    for owner in owners_of(environment):
        if not isinstance(owner, type):
            continue
        place = f"{owner.__module__}:{owner.__qualname__}"
        found[place] = Holder(place, owner, None)
        module = sys.modules.get(owner.__module__)
        if module is not None:
            names = _globals_used(owner, module)
            if module.__name__ in found:
                names |= found[module.__name__].names or frozenset()
            found[module.__name__] = Holder(module.__name__, module, names)
    return list(found.values())


def _globals_used(cls: type, module: types.ModuleType) -> frozenset[str]:
    """The global variables of its module that a class's methods use, and functions of the module for them."""
    ahead = [function.__code__ for member in vars(cls).values() for function in functions_of(member)]
    names: set[str] = set()
    while ahead:
        code = ahead.pop()
        ahead += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL") and name not in names:
                names.add(name)
                called = vars(module).get(name)
                if isinstance(called, types.FunctionType) and called.__module__ == module.__name__:
                    ahead.append(called.__code__)
    return frozenset(names)


def changes(holders: list[Holder]) -> Callable[[], list[str]]:
    """Remembers the numbers and arrays that classes and modules hold.

    Args:
        holders: the classes and modules.

    Returns:
        What lists the names of those that have changed since. Arrays that are large or cannot be written are
        left out; what was not there counts from when it is first seen.
    """
    return partial(_changed, holders, _numbers(holders))


def _changed(holders: list[Holder], before: dict[str, bytes]) -> list[str]:
    return [name for name, value in _numbers(holders).items() if before.setdefault(name, value) != value]


def _numbers(holders: list[Holder]) -> dict[str, bytes]:
    """A checksum of each number."""
    found = {}
    for holder in holders:
        for name, value in holder.values():
            if isinstance(value, np.ndarray):
                if not value.flags.writeable or value.nbytes > _MOST_BYTES or value.dtype.hasobject:
                    continue
            elif not isinstance(value, int | float | np.number):
                continue
            # A Python int of any size has an exact text.
            exact = int.__repr__(value).encode() if isinstance(value, int) else np.asarray(value).tobytes()
            found[f"{holder.owner.__name__}.{name}"] = hashlib.sha256(exact).digest()
    return found
