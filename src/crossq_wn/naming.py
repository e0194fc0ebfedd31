"""Names of tasks that are given as callables; runs with the same name count as runs of the same task."""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from crossq_wn.errors import UserError
from crossq_wn.own_modules import home_of

_LONG = 80  # characters of arguments, beyond which a checksum replaces them
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_OF_SPACES = ("low", "high", "n", "nvec", "start", "spaces")  # attributes that tell spaces apart
# Attributes of classes that change no number: what is about pictures, and Python's own.
_IDLE = ("metadata", "render_mode", "spec", "_abc_impl")
# Where properties, cached ones, class and static methods and decorators keep the function itself.
_INNER = ("fget", "fset", "fdel", "func", "__func__", "__wrapped__")
_SHOWN = 60  # characters of a value in messages
# The first names of classes whose names depend on attributes, which training may change.
_first: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def name_of(factory: Any) -> str:
    """Names a class, a function or a `functools.partial`, including the values that it depends on.

    Args:
        factory: the callable; where nothing else distinguishes it, its own attribute `__name__` does.

    Raises:
        UserError: nothing distinguishes it from other callables.
    """
    try:
        return _name_of(factory)
    except RecursionError:  # of values that hold themselves
        raise _nameless(factory) from None


def _name_of(factory: Any) -> str:
    given = _given_name(factory)
    if isinstance(factory, functools.partial):
        return _partial_name(factory) if given is None else f"{home_of(factory.func)}:{given}"
    if isinstance(factory, types.FunctionType):
        return _function_name(factory)
    if inspect.isclass(factory):
        return _class_name(factory)
    if inspect.ismethod(factory) and inspect.isclass(factory.__self__):
        return f"{_class_name(factory.__self__)}.{factory.__name__}"
    return _name_of_object(factory, given)


def _name_of_object(factory: Any, given: str | None) -> str:
    """The name of a callable that is neither a function, a class, a class method nor a partial."""
    if inspect.isbuiltin(factory):
        return f"{home_of(factory)}:{factory.__qualname__}"
    if callable(factory) and given is not None:
        return f"{home_of(factory)}:{given}"
    if callable(factory) and _has_place(factory):
        return f"{home_of(factory)}:{_place(factory)}"
    if isinstance(factory, functools._lru_cache_wrapper):
        return _name_of(factory.__wrapped__)  # the cache changes nothing
    raise _nameless(factory)


def _given_name(factory: Any) -> str | None:
    """The name that the user gave to an object; none is the one that `functools.update_wrapper` copied."""
    own = getattr(factory, "__dict__", {})
    given = own.get("__name__")
    return None if "__wrapped__" in own and given == getattr(own["__wrapped__"], "__name__", None) else given


def _partial_name(factory: functools.partial[Any]) -> str:
    values = [_text(value, factory) for value in factory.args]
    for key, value in sorted(factory.keywords.items()):
        values.append(f"{key}={_text(value, factory)}")
    return name_of(factory.func) + _joined(values)


def _function_name(function: types.FunctionType) -> str:
    last = function.__qualname__.rpartition(".")[2]
    if function.__name__ != last:  # the user has renamed it
        return f"{home_of(function)}:{function.__name__}"
    if function.__name__ == "<lambda>":
        raise _nameless(function)
    values = []
    for name, value in closure_of(function):
        values.append(f"{name}={_text(value, function)}")
    if "<locals>" in function.__qualname__:  # each call of the surrounding function makes another one
        values += [_text(value, function) for value in function.__defaults__ or ()]
        values += [f"{k}={_text(v, function)}" for k, v in (function.__kwdefaults__ or {}).items()]
    place = f"{function.__qualname__}{_branch(function)}"
    return f"{home_of(function)}:{place}" + _joined(values)


def _class_name(cls: type) -> str:
    if cls.__name__ != cls.__qualname__.rpartition(".")[2]:  # the user has renamed it
        return f"{home_of(cls)}:{cls.__name__}"
    if cls not in _first:
        values: list[str] = []
        for each in cls.__mro__:
            if not _has_place(each):  # made within a function, or by `type`: the next call makes another
                values += sorted(f"{name}={_text(value, cls)}" for name, value in _class_values(each))
        _first[cls] = f"{home_of(cls)}:{cls.__qualname__}" + _joined(values)
    return _first[cls]


def _branch(function: types.FunctionType) -> str:
    """What tells a local function from others of its name, as of an `if` and its `else`.

    Returns: "#2" for the second in the code of the function around it, and so on; "" for the first.
    """
    around, local, _ = function.__qualname__.partition(".<locals>")
    found = sys.modules.get(function.__module__) if local else None
    for part in around.split("."):
        found = inspect.getattr_static(found, part, None)
    pending = [each.__code__ for each in functions_of(found)]
    count = 0
    while pending:
        code = pending.pop(0)
        count += code.co_qualname == function.__qualname__
        if code is function.__code__:
            return f"#{count}" if count > 1 else ""
        pending = [each for each in code.co_consts if isinstance(each, types.CodeType)] + pending
    return ""


def _has_place(value: Any) -> bool:
    """Whether a class or function is what its module has under its name."""
    place: Any = sys.modules.get(str(getattr(value, "__module__", None)))
    for part in _place(value).split("."):
        place = getattr(place, part, None)
    return place is value


def _place(value: Any) -> str:
    """The name of a class or function within its module."""
    return str(getattr(value, "__qualname__", getattr(value, "__name__", "")))


def _class_values(cls: type) -> Iterator[tuple[str, Any]]:
    """The values that tell a class from others of its name: its attributes, and what its methods hold."""
    for name, member in vars(cls).items():
        inner = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        functions = functions_of(member)
        if callable(inner) and _has_place(inner):
            found = [(name, inner)]
        elif functions:
            found = _held_by_functions(cls, name, functions)
        else:
            found = [(name, member)]
        if isinstance(member, functools.partialmethod):
            found.append((name, [member.args, member.keywords]))
        if functions or not _is_idle(name):
            yield from found


def _held_by_functions(cls: type, name: str, functions: list[types.FunctionType]) -> list[tuple[str, Any]]:
    """What tells the functions behind a method of a class from others, apart from their code."""
    found: list[tuple[str, Any]] = []
    for function in functions:
        if not function.__qualname__.startswith(f"{cls.__qualname__}."):  # given to the class
            # By its names alone, since its closure and defaults follow; a lambda has none.
            named = home_of(function), function.__qualname__, function.__name__
            found.append((name, function if function.__name__ == "<lambda>" else named))
        elif branch := _branch(function):
            found.append((name, branch))
        found += [each for each in closure_of(function) if each[1] is not cls]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        if set(map(type, defaults)) - {type(None)}:
            found.append((name, defaults))
    return found


def _is_idle(name: str) -> bool:
    return name in _IDLE or (name.startswith("__") and name.endswith("__"))


def functions_of(member: Any) -> list[types.FunctionType]:
    """The functions of a method of any kind, or of a property; none of another attribute."""
    parts = [member]
    if isinstance(member, property):
        parts += [member.fget, member.fset, member.fdel]
    elif isinstance(member, staticmethod | classmethod | types.MethodType):
        parts.append(member.__func__)
    elif not isinstance(member, functools.partial):
        with contextlib.suppress(AttributeError):  # of objects that have slots alone
            # Not `getattr`, because a user's object may have a `__getattr__` of any kind.
            own = object.__getattribute__(member, "__dict__")
            parts += [own.get(name) for name in _INNER]
    return [part for part in parts if isinstance(part, types.FunctionType)]


def closure_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    """What a function holds in its closure, by name; not the class of a method that calls `super()`."""
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            if name != "__class__":
                found.append((name, cell.cell_contents))
        except ValueError:  # not yet assigned
            continue
    return found


def _text(value: Any, factory: Any) -> str:
    """A value as text that is the same in every process; raises UserError if there is none."""
    if isinstance(value, _SCALARS):
        if isinstance(value, int) and value.bit_length() > 10_000:  # Python writes no such decimals
            return hex(value)
        return repr(value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | functools.partial):
        try:
            return _name_of(value)
        except UserError:
            raise _nameless(factory, value) from None
    if isinstance(value, list | tuple | set | frozenset | dict):
        return _of_many(value, factory)
    return _text_of_object(value, factory)


def _text_of_object(value: Any, factory: Any) -> str:
    """An object of a library as text."""
    if type(value).__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "O") in "biufc":
        return f"{value.dtype}{value.shape}{value.tolist()}"
    if type(value).__module__.startswith("gymnasium.spaces"):
        parts = {name: part for name, part in vars(value).items() if name in _OF_SPACES}
        return f"{type(value).__name__}({value.dtype},{_text(parts, factory)})"
    if callable(value) and _has_place(value):  # such as NumPy's functions
        return f"{home_of(value)}:{_place(value)}"
    return _text_of_record(value, factory)


def _text_of_record(value: Any, factory: Any) -> str:
    """What describes something, as text."""
    if isinstance(value, enum.Enum):
        return f"{_text(type(value), factory)}.{value.name}"
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{_text(type(value), factory)}{_text(parts, factory)}"
    if isinstance(value, range | PurePath):
        return repr(value)
    if type(value).__module__ == "dataclasses":  # what marks a field that has a default factory
        return type(value).__name__
    raise _nameless(factory, value)


def _of_many(values: Any, factory: Any) -> str:
    """A list, tuple, set or dict as text."""
    if isinstance(values, dict):
        items = [f"{_text(key, factory)}:{_text(item, factory)}" for key, item in values.items()]
        return f"{{{','.join(items)}}}"
    items = [_text(item, factory) for item in values]
    if isinstance(values, set | frozenset):
        return f"{{{','.join(sorted(items))}}}"
    return f"[{','.join(items)}]"


def _joined(values: list[str]) -> str:
    text = ",".join(values)
    if len(text) > _LONG:
        text = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"({text})" if values else ""


def _nameless(factory: Any, held: Any = None) -> UserError:
    named = "name it, as in `factory.__name__ = 'reach-fast'`"
    why, fix = "", f"use a class or a function made with def, or {named}"
    if held is not None:
        why = f", because it depends on {_shown(held)}"
        fix = f"let it depend on numbers, texts, lists, dicts or dataclasses alone, or {named}"
    return UserError(f"the task {_shown(factory)} has no name that distinguishes it from others{why}: {fix}")


def _shown(value: Any) -> str:
    """A value in one line of a message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's `__repr__` may do anything
        text = object.__repr__(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
