"""Names of tasks that are given as callables; runs with the same name count as runs of the same task."""

import functools
import hashlib
import inspect
import types
from typing import Any

from crossq_wn.errors import UserError

_LONG = 80  # characters of arguments, beyond which a checksum replaces them
_SCALARS = (type(None), bool, int, float, complex, str, bytes)


def name_of(factory: Any) -> str:
    """Names a class, a function or a `functools.partial`, including the values that it depends on.

    Args:
        factory: the callable; where nothing else distinguishes it, its own attribute `__name__` does.

    Raises:
        UserError: nothing distinguishes it from other callables.
    """
    given = getattr(factory, "__dict__", {}).get("__name__")
    if isinstance(factory, functools.partial):
        return _partial_name(factory) if given is None else f"{factory.func.__module__}:{given}"
    if isinstance(factory, types.FunctionType):
        return _function_name(factory)
    if inspect.isclass(factory):
        return f"{factory.__module__}:{factory.__qualname__}" + _joined(_class_values(factory))
    if inspect.isbuiltin(factory) or (inspect.ismethod(factory) and inspect.isclass(factory.__self__)):
        return f"{factory.__module__}:{factory.__qualname__}"
    if callable(factory) and given is not None:
        return f"{type(factory).__module__}:{given}"
    raise _nameless(factory)


def _partial_name(factory: functools.partial[Any]) -> str:
    values = [_text(value, factory) for value in factory.args]
    for key, value in sorted(factory.keywords.items()):
        values.append(f"{key}={_text(value, factory)}")
    return name_of(factory.func) + _joined(values)


def _function_name(function: types.FunctionType) -> str:
    last = function.__qualname__.rpartition(".")[2]
    if function.__name__ != last:  # the user has renamed it
        return f"{function.__module__}:{function.__name__}"
    if function.__name__ == "<lambda>":
        raise _nameless(function)
    values = []
    for name, value in _closure(function):
        values.append(f"{name}={_text(value, function)}")
    if "<locals>" in function.__qualname__:  # each call of the surrounding function makes another one
        values += [_text(value, function) for value in function.__defaults__ or ()]
        values += [f"{k}={_text(v, function)}" for k, v in (function.__kwdefaults__ or {}).items()]
    return f"{function.__module__}:{function.__qualname__}" + _joined(values)


def _class_values(cls: type) -> list[str]:
    """The plain values that the methods of a local class depend on."""
    values: dict[str, Any] = {}
    for member in vars(cls).values():
        if isinstance(member, types.FunctionType):
            values |= {name: value for name, value in _closure(member) if isinstance(value, _SCALARS)}
    return [f"{name}={value!r}" for name, value in sorted(values.items())]


def _closure(function: types.FunctionType) -> list[tuple[str, Any]]:
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # not yet assigned
            continue
    return found


def _text(value: Any, factory: Any) -> str:
    """A value as text that is the same in every process; raises UserError if there is none."""
    if isinstance(value, _SCALARS):
        return repr(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | functools.partial):
        return name_of(value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, list | tuple):
        return f"[{','.join(_text(item, factory) for item in value)}]"
    if isinstance(value, dict):
        items = [f"{_text(key, factory)}:{_text(item, factory)}" for key, item in value.items()]
        return f"{{{','.join(items)}}}"
    if type(value).__module__ == "numpy" and value.dtype.kind in "biufc":
        return f"{value.dtype}{value.shape}{value.tolist()}"
    raise _nameless(factory)


def _joined(values: list[str]) -> str:
    text = ",".join(values)
    if len(text) > _LONG:
        text = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"({text})" if values else ""


def _nameless(factory: Any) -> UserError:
    return UserError(
        f"the task {factory!r} has no name that distinguishes it from others: use a class or a function made "
        "with def, or name it, as in `factory.__name__ = 'reach-fast'`"
    )
