"""What variables code uses, as its bytecode tells."""

import dis
import functools
import re
import types
from collections.abc import Iterator
from typing import Any, NamedTuple


class Variable(NamedTuple):
    """A variable from outside of code, with the attributes that follow."""

    kind: str  # global, closure, or module: one that the code imports itself
    name: str
    attributes: tuple[str, ...] = ()  # ("random", "normal") of np.random.normal


_KINDS = {"LOAD_GLOBAL": "global", "STORE_GLOBAL": "global", "LOAD_DEREF": "closure"}


@functools.cache
def variables_in(code: types.CodeType) -> tuple[Variable, ...]:
    """The variables from outside that code uses, or other code within it."""
    return tuple(dict.fromkeys(_variables_in(code, {})))


@functools.cache
def words_in(code: types.CodeType) -> frozenset[str]:
    """The names of variables and attributes in code, and its texts, by which it may look something up."""
    found = {*code.co_names, *(constant for constant in code.co_consts if isinstance(constant, str))}
    return frozenset(found.union(*map(words_in, _codes_in(code))))


def _variables_in(code: types.CodeType, around: dict[str, Variable]) -> list[Variable]:
    """As `variables_in`.

    Args:
        code: of a function.
        around: what the functions around it import, by local names.
    """
    imported = around | _imported_in(code)
    found: list[Variable] = []
    newest: Variable | None = None  # which an attribute would belong to
    for kind, name in _operations(code):
        if kind in ("LOAD_ATTR", "LOAD_METHOD"):
            if newest is not None:
                found[-1] = newest = newest._replace(attributes=(*newest.attributes, name))
            continue
        newest = Variable(_KINDS[kind], name) if kind in _KINDS else None
        if kind in ("LOAD_FAST", "LOAD_DEREF"):
            newest = imported.get(name, newest)
        if newest is not None:
            found.append(newest)
    for inner in _codes_in(code):
        found += _variables_in(inner, imported)
    return found


def _imported_in(code: types.CodeType) -> dict[str, Variable]:
    """What code itself imports, by local names."""
    found: dict[str, Variable] = {}
    base, newest = Variable("module", ""), None  # the module, and what has no name yet
    listed, before = None, (None, None)  # arguments of the last two operations
    for kind, value in _operations(code):
        if kind == "IMPORT_NAME":
            level, listed = before
            # `import a.b` gives a, and `import a.b as c` takes b from it.
            base = newest = Variable("module", "." * level + value if listed else value.partition(".")[0])
        elif kind == "IMPORT_FROM":
            newest = base._replace(attributes=(*base.attributes, value))
            base = base if listed else newest
        elif kind.startswith("STORE") and newest is not None:
            found[value], newest = newest, None
        before = before[1], value
    return found


def _operations(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """The instructions of code with their arguments, those with two local variables as two of one each."""
    for instruction in dis.get_instructions(code):
        kind, value = instruction.opname, instruction.argval
        if fast := re.findall("(?:LOAD|STORE)_FAST", kind):  # LOAD_FAST_CHECK, for example
            yield from zip(fast, value if isinstance(value, tuple) else (value,), strict=True)
        elif kind != "EXTENDED_ARG":  # which stands before a long argument
            yield kind, value


def _codes_in(code: types.CodeType) -> list[types.CodeType]:
    return [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
