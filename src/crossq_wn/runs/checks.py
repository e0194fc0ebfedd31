"""Checks that what a JSON file holds is of the type that it should be."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

from crossq_wn.errors import UserError
from crossq_wn.runs.schema import Count, FileName, Name, SeedNumber

_MOST = 2**53  # larger whole numbers are not exact everywhere
_HUGE = 1e300  # larger numbers are taken for infinite
_LONG = 4096  # characters of a name

_WORDS = {
    int: "a whole number",
    Count: "a whole number from 0 on",
    float: "a finite number",
    str: "a text",
    Name: "a text of printable letters",
    FileName: "the name of a file of ours",
    SeedNumber: "the number of a seed",
    bool: "true or false",
}
_LEAST = {int: -_MOST, Count: 0}
_PATTERNS = {
    FileName: r"(seed-[0-9]{1,10}(-[0-9]+-[0-9]+)?|prefill-[0-9]+)\.safetensors",
    SeedNumber: r"0|[1-9][0-9]{0,9}",
}


class _Fault(NamedTuple):
    """What is wrong with a value."""

    below: str  # where in the value, such as `.utd` or `[3].size`
    why: str
    of: str = ""  # `a key of `, if it is none of the values


_Holds = Callable[[Any], bool]


class _Test(NamedTuple):
    """What a value must be. Tests are made once per kind, as a list of runs checks two files of each."""

    fault: Callable[[Any], _Fault | None]  # what is wrong with a value, if anything is
    # By type of value: what suffices without a search for faults, as most values of a run are plain.
    suffices: Mapping[type, _Holds] = MappingProxyType({})

    def __call__(self, value: Any) -> _Fault | None:
        holds = self.suffices.get(type(value))
        return None if holds is not None and holds(value) else self.fault(value)


def check(value: Any, kind: Any, where: str) -> None:
    """Checks that a JSON value is of a type.

    Args:
        value: as `json` returns it.
        kind: a record of `schema`, a type, or a union, `list[...]` or `dict[..., ...]` of them.
        where: the name of the value, such as `system.utd`.

    Raises:
        UserError: it is not; the message names the field and says what it must be.
    """
    fault = _test_of(kind)(value)
    if fault is not None:
        place = where + fault.below
        raise UserError(f"{fault.of}{place.removeprefix('.') or 'all of it'} {fault.why}")


@cache
def _test_of(kind: Any) -> _Test:
    if kind is Any:
        return _Test(lambda value: None)
    if is_typeddict(kind):
        tests = {name: _test_of(item) for name, item in get_type_hints(kind).items()}
        return _Test(partial(_fault_of_record, tests, kind.__required_keys__))
    if get_origin(kind) is dict:
        key, content = get_args(kind)
        named = key in (str, Name)
        return _Test(partial(_fault_of_items, _test_of(Name if named else key), _test_of(content), named))
    if get_origin(kind) is list:
        return _Test(partial(_fault_of_list, _test_of(get_args(kind)[0])))
    return _test_of_union(get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,))


def _test_of_union(kinds: Sequence[Any]) -> _Test:
    """The test of a value that may be of several kinds, at most one of them a list and one a record."""
    structured: dict[type, _Test] = {}
    simple: dict[type, list[_Holds]] = {}
    for kind in kinds:
        if is_typeddict(kind) or get_origin(kind) is dict:
            structured[dict] = _test_of(kind)
        elif get_origin(kind) is list:
            structured[list] = _test_of(kind)
        else:
            for each, holds in _rules(kind).items():
                simple.setdefault(each, []).append(holds)
    fault = partial(_fault_of_union, structured, simple, " or ".join(map(_described, kinds)))
    return _Test(fault, {each: rules[0] for each, rules in simple.items()})


def _fault_of_record(tests: Mapping[str, _Test], required: frozenset[str], value: Any) -> _Fault | None:
    if type(value) is not dict:
        return _no(value, "a record")
    for name, item in value.items():
        if name not in tests:
            return _Fault(f".{_shown(name)}", "is a field that is not known")
        holds, find = tests[name].suffices.get(type(item), _never), tests[name].fault
        if not holds(item) and (fault := find(item)) is not None:
            return fault._replace(below=f".{name}{fault.below}")
    if not required <= value.keys():
        missing = [name for name in tests if name in required and name not in value]
        return _Fault(f".{missing[0]}", "is missing")
    return None


def _fault_of_items(key: _Test, content: _Test, named: bool, value: Any) -> _Fault | None:
    if type(value) is not dict:
        return _no(value, "a record")
    if not (named and _is_name("".join(value))):  # together, as sweeps have hundreds of thousands of keys
        for name in value:
            if (fault := key(name)) is not None:
                return fault._replace(of="a key of ")
    suffices = content.suffices
    for name, item in value.items():
        if not suffices.get(type(item), _never)(item) and (fault := content.fault(item)) is not None:
            return fault._replace(below=f".{name}{fault.below}")
    return None


def _fault_of_list(test: _Test, value: Any) -> _Fault | None:
    if type(value) is not list:
        return _no(value, "a list")
    suffices = test.suffices
    for i, item in enumerate(value):
        if not suffices.get(type(item), _never)(item) and (fault := test.fault(item)) is not None:
            return fault._replace(below=f"[{i}]{fault.below}")
    return None


def _fault_of_union(
    structured: Mapping[type, _Test],
    simple: Mapping[type, Sequence[_Holds]],
    wanted: str,
    value: Any,
) -> _Fault | None:
    kind = type(value)
    if kind in structured:
        return structured[kind](value)
    for holds in simple.get(kind, ()):
        if holds(value):
            return None
    return _no(value, wanted)


def _no(value: Any, wanted: str) -> _Fault:
    return _Fault("", f"is {_shown(value)}: it must be {wanted}")


def _rules(kind: Any) -> dict[type, _Holds]:
    """What must hold for a value of a simple kind, by the type that `json` gives it."""
    if kind is float:
        return {int: _is_finite, float: _is_finite}
    if kind in _LEAST:
        least = _LEAST[kind]
        return {int: lambda value: least <= value <= _MOST}
    if kind is Name:
        return {str: _is_name}
    if kind in _PATTERNS:
        whole = re.compile(_PATTERNS[kind]).fullmatch
        return {str: lambda value: whole(value) is not None}
    if get_origin(kind) is Literal:
        return {str: get_args(kind).__contains__}
    return {kind: lambda value: True}


def _never(value: Any) -> bool:
    return False


def _is_finite(value: float) -> bool:
    return abs(value) < _HUGE  # not NaN either


def _is_name(value: str) -> bool:
    return value.isprintable() and len(value) <= _LONG


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    text = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if is_typeddict(kind) or get_origin(kind) is dict:
        return "a record"
    if get_origin(kind) is list:
        return "a list"
    return _WORDS.get(kind, "null")
