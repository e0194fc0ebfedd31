"""The types that settings and options of runs may have, as their dataclasses annotate them."""

import math
import sys
from collections.abc import Callable, Iterable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

_LARGEST = 2**63


class Kind(NamedTuple):
    """What a field of a dataclass may be."""

    kinds: tuple[Any, ...]  # one or several, as in `int | None`
    tests: tuple[Callable[[Any], bool], ...]  # one for each

    def holds(self, value: object) -> bool:
        """Whether the field may have this value."""
        return any(test(value) for test in self.tests)

    def described(self, value: object) -> str:
        """Says what the field takes, to complete "it must be ...", where it does not take this value."""
        return " or ".join(_described(kind, value) for kind in self.kinds)


@cache
def fields_of(record: type[Any]) -> dict[str, Kind]:
    """What each field of a dataclass may be, by name."""
    found = {}
    for name, kind in get_type_hints(record).items():
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        found[name] = Kind(kinds, tuple(map(_test_of, kinds)))
    return found


def whole(value: Any) -> Any:
    """The value with floats that are whole, such as 1e6, as int, also in a tuple."""
    if isinstance(value, tuple):
        return tuple(map(whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _test_of(kind: Any) -> Callable[[Any], bool]:
    """What says whether a value is of a type; made once per field, since lists of runs check many."""
    if kind is Any:
        return lambda value: True
    if get_origin(kind) is Literal:
        return get_args(kind).__contains__
    if get_origin(kind) is tuple:
        holds = _test_of(get_args(kind)[0])
        return lambda value: isinstance(value, tuple) and all(map(holds, value))
    return {int: _is_whole, float: _is_number}.get(kind) or (lambda value: isinstance(value, kind))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) <= sys.float_info.max  # not infinite, not nan


def _described(kind: Any, value: object) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a tuple of which each is {_described(get_args(kind)[0], None)}"
    if kind is int:
        return _whole_number(value)
    names = {float: "a finite number", bool: "True or False", str: "a text", NoneType: "None"}
    return names.get(kind) or kind.__name__


def _whole_number(value: object) -> str:
    """Says what an integer must be where this is given."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "one whole number, not several"
    if isinstance(value, float) and math.isfinite(value) and abs(value) < _LARGEST:
        return f"a whole number, such as {math.ceil(value)}"
    large = isinstance(value, int | float) and abs(value) >= _LARGEST
    return f"a whole number{' below 2**63' if large else ''}"
