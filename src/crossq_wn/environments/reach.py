"""What the code of an environment may use: its classes, and what their methods name.

Names are followed to functions, classes and objects of every module that is neither in site-packages nor
Python's own, and of the modules of the environment's own classes wherever these are.
"""

import contextlib
import functools
import gc
import importlib.util
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.attributes import attributes_of
from crossq_wn.environments.bytecode import variables_in, words_in
from crossq_wn.naming import closure_of, functions_of

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_PROCESS: Any = np.random.mtrand._rand
# Functions that draw from NumPy's own stream and, unlike others, are no methods of it.
_OF_PROCESS: tuple[Any, ...] = (np.random.sample, np.random.ranf)
_NOT_DRAWING = ("seed", "getstate", "setstate", "get_state", "set_state")  # methods of generators

# Packages whose classes hold nothing that an environment changes.
_NOBODYS = ("crossq_wn", "gymnasium", "typing_extensions")
_INSTALLED = {"site-packages", "dist-packages"}
# The methods of simulators, which this package calls.
_CALLED = ("reset", "step", "observe", "snapshot", "restore", "render", "close", "statistics", "adopt")
_MAKING = ("__init__", "__new__", "__post_init__")
_MOST = 10_000  # objects that are looked at, and items of a container
# Types of what leads nowhere. A proxy whose object is gone cannot even be asked for its class.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.ndarray)
_LEAVES = frozenset((*weakref.ProxyTypes, *np.sctypeDict.values(), *_PLAIN))
_NO_ITEMS = _LEAVES | {types.ModuleType}

# Environments and wrappers, by identity. What one of them holds is its own, wherever it is found.
_environments: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

# What Python itself puts around functions, and iterators that functions make.
_AROUND_FUNCTIONS = (
    types.GeneratorType,
    types.MethodType,
    staticmethod,
    classmethod,
    property,
    functools.partial,
    functools.partialmethod,
    functools.cached_property,
    functools._lru_cache_wrapper,
)

Found = tuple[Any, str]  # an object, and the name under which it was found


class Reach(NamedTuple):
    """What code may use."""

    classes: list[type]
    functions: list[types.FunctionType]
    names: dict[str, set[str]]  # of the global variables that functions use, by module
    generators: list[Found]  # each random generator, and where it was found
    drawn: list[Found]  # those from which an environment that is made already may draw


@dataclass
class _Search:
    """What has been found so far, and what is still to be looked at."""

    own: set[str]  # modules that are followed wherever they are
    seen: dict[int, Any] = field(default_factory=dict)
    waiting: deque[Found] = field(default_factory=deque)
    words: set[str] = field(default_factory=set)  # that occur in code
    members: dict[str, list[Found]] = field(default_factory=dict)  # of classes and objects, by names not met
    found: Reach = field(default_factory=lambda: Reach([], [], {}, [], []))

    def run(self) -> None:
        while self.waiting and len(self.seen) < _MOST:
            value, path = self.waiting.popleft()
            if type(value) in _LEAVES or id(value) in self.seen or _environments.get(id(value)) is value:
                continue
            self.seen[id(value)] = value
            self.add(_parts(value, path, self))

    def add(self, parts: Iterable[Found]) -> None:
        """Has things looked at, code before data, which may be plenty."""
        for part in parts:
            code = issubclass(type(part[0]), type | types.FunctionType)
            (self.waiting.appendleft if code else self.waiting.append)(part)

    def add_member(self, name: str, member: Found) -> None:
        """Has a member of a class or object looked at once its name occurs in code."""
        if name in self.words or "getattr" in self.words:  # which may take any name
            self.add([member])
        else:
            self.members.setdefault(name, []).append(member)

    def note_words(self, words: Iterable[str]) -> None:
        new = {*words} - self.words
        self.words |= new
        for name in [*self.members] if "getattr" in new else new:
            self.add(self.members.pop(name, ()))

    def follows(self, module: Any) -> bool:
        return module in self.own or _is_users(str(module))


def reach_of(root: Any) -> Reach:
    """What the code of an environment with its wrappers may use, or that of a class or function."""
    if isinstance(root, type | types.FunctionType | types.MethodType | functools.partial):
        search, starts = _Search(set()), [root]
    else:
        chain = _chain(root)
        own = {cls.__module__ for each in chain for cls in type(each).__mro__}
        search = _Search({module for module in own if not _is_nobodys(module)})
        starts = _code_within(chain, search)
        for layer in chain:
            _note_environment(layer)
    search.add((each, "") for each in starts)
    search.run()
    drawn = [*search.found.generators]
    search.note_words(["getattr"])  # what else may be called, as by a user's callback
    search.run()
    return search.found._replace(drawn=drawn)


def generator_of(value: Any) -> Any:
    """A value if it is a random generator, or else the one of which it is a method; None if it is neither.

    The modules `random` and `numpy.random` stand for their own generators.
    """
    if type(value) in weakref.ProxyTypes:  # whose object may be gone
        return None
    if value is random or value is np.random:
        return random._inst if value is random else _PROCESS
    if isinstance(value, types.MethodType | types.BuiltinFunctionType):
        value = value.__self__
    if any(value is function for function in _OF_PROCESS):
        return _PROCESS
    return value if isinstance(value, GENERATORS) else None


def is_of_process(generator: Any) -> bool:
    """Whether a generator is that of `random` or of `numpy.random` itself."""
    return generator is _PROCESS or generator is random._inst


def is_users_object(value: Any) -> bool:
    """Whether a value is of a class of the user's, and no environment."""
    return _is_users(str(type(value).__module__)) and _environments.get(id(value)) is not value


def variables_of(function: types.FunctionType) -> dict[str, Any]:
    """What a function holds: its closure, and the default values of its parameters."""
    code = function.__code__
    found = dict(function.__kwdefaults__ or {})
    defaults = function.__defaults__ or ()
    found |= zip(
        code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=False
    )
    return found | dict(closure_of(function))


def _chain(environment: Any) -> list[Any]:
    """An environment's wrappers, from the outermost, and the environment itself."""
    found: list[Any] = []
    while environment is not None and not any(environment is each for each in found):
        found.append(environment)
        environment = attributes_of(environment).get("env")
    return found


def _note_environment(layer: Any) -> None:
    with contextlib.suppress(TypeError):  # of a class with slots, to whose objects nothing refers weakly
        _environments[id(layer)] = layer


def _code_within(chain: list[Any], search: _Search) -> list[Any]:
    """The code that an environment, its wrappers and the user's objects in them have: classes and functions.

    What is bound to nothing that has a state of its own is no part of snapshots.
    """
    found: dict[int, Any] = {}
    waiting, seen = deque(chain), dict[int, Any]()
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        if type(value) in _LEAVES or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, type | types.FunctionType | types.MethodType | types.ModuleType):
            found[id(value)] = value
        elif any(value is each for each in chain) or search.follows(type(value).__module__):
            found[id(type(value))] = type(value)
            waiting.extend(attributes_of(value).values())
        waiting.extend(_items(value))
    return [*found.values()]


def _parts(value: Any, path: str, search: _Search) -> Iterator[Found]:
    """What an object consists of or uses; notes the object itself among what was found."""
    generator = generator_of(value)
    if generator is not None:
        if getattr(value, "__name__", None) not in _NOT_DRAWING:
            search.found.generators.append((generator, path))
    elif isinstance(value, type):
        yield from _parts_of_class(value, search)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value, search)
    elif not isinstance(value, types.ModuleType):
        for part in _parts_of_object(value, path, search):
            yield part, path


def _parts_of_object(value: Any, path: str, search: _Search) -> list[Any]:
    if isinstance(value, _AROUND_FUNCTIONS):
        return gc.get_referents(value)  # among them the results that a cache keeps
    if functions := functions_of(value):
        return [*functions]
    if isinstance(value, types.SimpleNamespace) or search.follows(type(value).__module__):
        for name, part in attributes_of(value).items():
            search.add_member(name, (part, path))
        return [*_items(value), type(value)]
    return _items(value)


def _parts_of_class(cls: type, search: _Search) -> Iterator[Found]:
    asked = {*_CALLED}  # names that others than the user's code may use
    for base in (*cls.__mro__[1:], type(cls)):
        yield base, ""
        if not search.follows(base.__module__):
            asked |= vars(base).keys()
    if search.follows(cls.__module__):
        search.found.classes.append(cls)
        for name, member in list(vars(cls).items()):
            found = member, f"{cls.__name__}.{name}"
            if name in _MAKING:  # called where the class is
                search.add_member(cls.__name__, found)
            elif name in asked or name.startswith("__"):
                yield found
            else:
                search.add_member(name, found)


def _parts_of_function(function: types.FunctionType, search: _Search) -> Iterator[Found]:
    namespace = function.__globals__
    module = str(namespace.get("__name__"))
    if not search.follows(module):
        return
    search.found.functions.append(function)
    search.note_words(words_in(function.__code__))
    held = variables_of(function)
    for name, value in held.items():
        # A module in a closure is followed down, below.
        if not (isinstance(value, types.ModuleType) and name in function.__code__.co_freevars):
            yield value, f"{function.__qualname__}.{name}"
    known = vars(sys.modules.get(module, types)) is namespace
    for kind, first, others in variables_in(function.__code__):
        if kind == "global" and known:
            search.found.names.setdefault(module, set()).add(first)
        if kind == "module":
            value = _module(first, namespace)
        else:
            value = (namespace if kind == "global" else held).get(first)
        yield _followed_down(value, others, f"{module}.{first}", search)


def _module(name: str, namespace: dict[str, Any]) -> Any:
    """A module that a function imports itself; dots at the beginning stand for the packages around it."""
    with contextlib.suppress(ImportError):
        name = importlib.util.resolve_name(name, namespace.get("__package__"))
    return sys.modules.get(name)


def _followed_down(value: Any, names: Iterable[str], path: str, search: _Search) -> Found:
    """What attributes of a module, and of modules within it, lead to."""
    for name in names:
        if not isinstance(value, types.ModuleType):
            break
        if search.follows(value.__name__):
            search.found.names.setdefault(value.__name__, set()).add(name)
        path, value = f"{value.__name__}.{name}", vars(value).get(name)
    return value, path


def _items(value: Any) -> list[Any]:
    """What a list, tuple, set or dict holds, without calling methods of a user's subclass.

    Numbers and the like are left out, and modules: `sys.modules` has them all.
    """
    kinds: list[tuple[type, Callable[[Any], Iterable[Any]]]]
    kinds = [(dict, dict.values), (list, list.__iter__), (tuple, tuple.__iter__), (deque, deque.__iter__)]
    found: Iterable[Any] = value if type(value) in (set, frozenset) else ()
    for kind, listed in kinds:
        if isinstance(value, kind):
            found = listed(value)
    return [item for item in islice(found, _MOST) if type(item) not in _NO_ITEMS]


def _is_nobodys(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _NOBODYS or top in sys.stdlib_module_names


@functools.cache
def _is_users(module: str) -> bool:
    """Whether a module is neither installed nor Python's own; scripts and notebooks are the user's too."""
    if _is_nobodys(module):
        return False
    place = getattr(sys.modules.get(module), "__file__", None)
    if place is None:
        return module == "__main__"
    return not _INSTALLED & set(Path(place).parts)
