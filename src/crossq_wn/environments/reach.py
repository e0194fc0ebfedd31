"""What the code of an environment may use: its classes, and what their methods name.

Names are followed to functions, classes and objects of every module that is neither in site-packages nor
Python's own, and of the modules of the environment's own classes wherever these are.
"""

import dis
import functools
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.attributes import attributes_of
from crossq_wn.naming import closure_of, functions_of

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_PROCESS: Any = np.random.mtrand._rand
# Functions that draw from NumPy's own stream and, unlike others, are no methods of it.
_OF_PROCESS: tuple[Any, ...] = (np.random.sample, np.random.ranf, np.random.seed)

# Packages whose classes hold nothing that an environment changes.
_NOBODYS = ("crossq_wn", "gymnasium", "typing_extensions")
_INSTALLED = {"site-packages", "dist-packages"}
_MOST = 10_000  # objects that are looked at, and items of a container
# Proxies come first: asked for its class, one whose object is gone raises an exception.
_LEAVES = (
    *weakref.ProxyTypes,
    type(None),
    bool,
    int,
    float,
    str,
    bytes,
    np.ndarray,
    np.generic,
    types.ModuleType,
)

Found = tuple[Any, str]  # an object, and the name under which it was found


class Reach(NamedTuple):
    """What code may use."""

    classes: list[type]
    functions: list[types.FunctionType]
    names: dict[str, set[str]]  # of the global variables that functions use, by module
    generators: list[tuple[Any, str]]  # each random generator, and where it was found


def reach_of(root: Any) -> Reach:
    """What the code of an environment with its wrappers may use, or that of a class or function."""
    starts, own = _starts(root)
    found = Reach([], [], {}, [])
    waiting = deque((each, "") for each in starts)
    seen: dict[int, Any] = {}
    while waiting and len(seen) < _MOST:
        value, path = waiting.popleft()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        waiting.extend(_parts(value, path, found, own))
    return found


def generator_of(value: Any) -> Any:
    """A value if it is a random generator, or else the one of which it is a method; None if it is neither."""
    if type(value) in weakref.ProxyTypes:  # whose object may be gone
        return None
    if isinstance(value, types.MethodType | types.BuiltinFunctionType):
        value = value.__self__
    if any(value is function for function in _OF_PROCESS):
        return _PROCESS
    return value if isinstance(value, GENERATORS) else None


def is_of_process(generator: Any) -> bool:
    """Whether a generator is that of `random` or of `numpy.random` itself."""
    return generator is _PROCESS or generator is random._inst


def variables_of(function: types.FunctionType) -> dict[str, Any]:
    """What a function holds: its closure, and the default values of its parameters."""
    code = function.__code__
    found = dict(function.__kwdefaults__ or {})
    defaults = function.__defaults__ or ()
    found |= zip(
        code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=False
    )
    return found | dict(closure_of(function))


def _starts(root: Any) -> tuple[list[Any], set[str]]:
    """Where to begin, and the modules that are followed wherever they are."""
    if isinstance(root, type | types.FunctionType | types.MethodType | functools.partial):
        return [root], set()
    chain: list[Any] = []
    inner = root
    while inner is not None and not any(inner is each for each in chain):
        chain.append(inner)
        inner = attributes_of(inner).get("env")
    own = set()
    for each in chain:
        own |= {cls.__module__ for cls in type(each).__mro__ if not _is_nobodys(cls.__module__)}
    return _classes_within(chain, own), own


def _classes_within(chain: list[Any], own: set[str]) -> list[type]:
    """The classes of an environment and its wrappers, and of the user's objects that they hold."""
    found: dict[type, None] = {}
    waiting, seen = deque(chain), dict[int, Any]()
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        if any(value is each for each in chain) or _followed(type(value).__module__, own):
            found[type(value)] = None
            waiting.extend(attributes_of(value).values())
        waiting.extend(_items(value))
    return list(found)


def _parts(value: Any, path: str, found: Reach, own: set[str]) -> Iterator[Found]:
    """What an object consists of or uses; notes the object itself in `found`."""
    generator = generator_of(value)
    if generator is not None:
        found.generators.append((generator, path))
    elif isinstance(value, type):
        yield from _parts_of_class(value, found, own)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value, found, own)
    else:
        for part in _parts_of_object(value, own):
            yield part, path


def _parts_of_object(value: Any, own: set[str]) -> list[Any]:
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if functions := functions_of(value):
        return [*functions]
    if _followed(type(value).__module__, own):
        return [*_items(value), type(value), *attributes_of(value).values()]
    return _items(value)


def _parts_of_class(cls: type, found: Reach, own: set[str]) -> Iterator[Found]:
    for base in cls.__mro__[1:]:
        yield base, ""
    if _followed(cls.__module__, own):
        found.classes.append(cls)
        for name, member in list(vars(cls).items()):
            yield member, f"{cls.__name__}.{name}"


def _parts_of_function(function: types.FunctionType, found: Reach, own: set[str]) -> Iterator[Found]:
    namespace = function.__globals__
    module = str(namespace.get("__name__"))
    if not _followed(module, own):
        return
    found.functions.append(function)
    held = variables_of(function)
    for name, value in held.items():
        yield value, f"{function.__qualname__}.{name}"
    known = vars(sys.modules.get(module, types)) is namespace
    for is_global, (first, *others) in _names_in(function.__code__):
        if is_global and known:
            found.names.setdefault(module, set()).add(first)
        value = (namespace if is_global else held).get(first)
        yield _followed_down(value, others, f"{module}.{first}", found, own)
    package = str(namespace.get("__package__"))
    for name in _imported_in(function.__code__):
        there = [sys.modules.get(each) for each in (name, f"{package}.{name}")]
        modules = [each for each in there if isinstance(each, types.ModuleType)]
        yield from _named_in(modules, function, found, own)


def _named_in(
    modules: list[Any], function: types.FunctionType, found: Reach, own: set[str]
) -> Iterator[Found]:
    """What of the modules that a function imports itself has a name that occurs in it."""
    names, seen = set(function.__code__.co_names), set()
    while modules:
        module = modules.pop()
        seen.add(module.__name__)
        for name in sorted(names & vars(module).keys()):
            value, path = _followed_down(module, [name], "", found, own)
            yield value, path
            if isinstance(value, types.ModuleType) and value.__name__ not in seen:
                modules.append(value)


def _followed_down(value: Any, names: Iterable[str], path: str, found: Reach, own: set[str]) -> Found:
    """What attributes of a module, and of modules within it, lead to."""
    for name in names:
        if not isinstance(value, types.ModuleType):
            break
        if _followed(value.__name__, own):
            found.names.setdefault(value.__name__, set()).add(name)
        path, value = f"{value.__name__}.{name}", vars(value).get(name)
    return value, path


@functools.cache
def _names_in(code: types.CodeType) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """The variables from outside that code names, each with the attributes that follow.

    Returns:
        Whether it is global, or else of the closure; then the names, as in ("np", "random", "normal").
    """
    found: list[tuple[bool, tuple[str, ...]]] = []
    follows = False
    for instruction in dis.get_instructions(code):
        kind = instruction.opname
        if kind in ("LOAD_ATTR", "LOAD_METHOD") and follows:
            is_global, names = found[-1]
            found[-1] = is_global, (*names, instruction.argval)
        elif kind in ("LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_DEREF"):
            found.append((kind != "LOAD_DEREF", (instruction.argval,)))
            follows = kind != "STORE_GLOBAL"
        elif kind != "EXTENDED_ARG":  # which stands before a long argument
            follows = False
    for inner in _codes_in(code):
        found += _names_in(inner)
    return tuple(dict.fromkeys(found))


@functools.cache
def _imported_in(code: types.CodeType) -> tuple[str, ...]:
    """The modules that a function imports itself."""
    found = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            found.append(instruction.argval)
    for inner in _codes_in(code):
        found += _imported_in(inner)
    return tuple(found)


def _codes_in(code: types.CodeType) -> list[types.CodeType]:
    return [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]


def _items(value: Any) -> list[Any]:
    """The items of a list, tuple, set or dict, without calling methods of a user's subclass."""
    kinds: list[tuple[type, Callable[[Any], Iterable[Any]]]]
    kinds = [(dict, dict.values), (list, list.__iter__), (tuple, tuple.__iter__)]
    for kind, listed in kinds:
        if isinstance(value, kind):
            return [*islice(listed(value), _MOST)]
    return [*islice(value, _MOST)] if type(value) in (set, frozenset) else []


def _is_nobodys(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _NOBODYS or top in sys.stdlib_module_names


def _followed(module: str, own: set[str]) -> bool:
    return module in own or _is_users(str(module))


@functools.cache
def _is_users(module: str) -> bool:
    """Whether a module is neither installed nor Python's own; scripts and notebooks are the user's too."""
    if _is_nobodys(module):
        return False
    place = getattr(sys.modules.get(module), "__file__", None)
    if place is None:
        return module == "__main__"
    return not _INSTALLED & set(Path(place).parts)
