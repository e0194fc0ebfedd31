"""What must be remembered so that a simulator continues bit for bit? Its plain attributes and random streams.

A snapshot is a tree of dicts, lists, plain values and numpy arrays: no pickle anywhere.
"""

import types
from typing import Any

import numpy as np

Snapshot = dict[str, Any]


class UnrestorableError(Exception):
    """A part of the environment whose state cannot be captured; the message names it."""


def capture_attributes(owner: Any, *, ignore: tuple[type, ...] = (), strict: bool = True) -> Snapshot:
    """An object's plain attributes and random generators.

    With `strict`, raises UnrestorableError for an attribute that is neither, nor constant, nor in `ignore`.
    """
    saved: Snapshot = {}
    seen: set[int] = set()
    for name, value in vars(owner).items():
        if _constant(value, owner) or isinstance(value, ignore):
            continue
        try:
            saved[name] = _generator(value, seen) or encode(value, seen if strict else None)
        except UnrestorableError as problem:
            if strict:
                raise UnrestorableError(f"{type(owner).__name__}.{name} is {problem}") from None
    return saved


def restore_attributes(owner: Any, saved: Snapshot) -> None:
    """Puts captured attributes back; arrays that view other memory are written in place."""
    for name, item in saved.items():
        current = vars(owner).get(name)
        value = decode(item)
        if isinstance(item, dict) and "generator" in item:
            restore_generator(current, item["generator"])
        elif (
            isinstance(current, np.ndarray)
            and current.base is not None
            and current.flags.writeable
            and np.shape(value) == current.shape
        ):
            current[...] = value
        else:
            setattr(owner, name, value)


def capture_generator(generator: Any) -> Any:
    """The state of a numpy random generator, old style or new."""
    if isinstance(generator, np.random.RandomState):
        return _jsonable(generator.get_state(legacy=False))
    return _jsonable(generator.bit_generator.state)


def restore_generator(generator: Any, saved: Any) -> None:
    """Puts a captured generator state back."""
    if isinstance(generator, np.random.RandomState):
        generator.set_state(saved)
    else:
        generator.bit_generator.state = saved


def _jsonable(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _jsonable(value) for key, value in state.items()}
    return state.item() if isinstance(state, np.generic) else state


def _constant(value: Any, owner: Any) -> bool:
    """Whether a step cannot change it: classes, modules, functions, and methods of stateless things."""
    if isinstance(value, type | types.ModuleType | types.FunctionType):
        return True
    bound = isinstance(value, types.MethodType | types.BuiltinFunctionType)
    return bound and (value.__self__ is owner or _constant(value.__self__, owner))


def _generator(value: Any, seen: set[int]) -> Any:
    if not isinstance(value, np.random.RandomState) and not hasattr(value, "bit_generator"):
        return None
    _note(value, seen)
    return {"generator": capture_generator(value)}


def _note(value: Any, seen: set[int] | None) -> None:
    if seen is not None:
        if id(value) in seen:
            raise UnrestorableError("the same object as another attribute")
        seen.add(id(value))


def encode(value: Any, seen: set[int] | None = None) -> Any:
    """Plain data, which a checkpoint can hold.

    Args:
        value: None, numbers, texts, numpy arrays of numbers, and lists, tuples and dicts (by text) of them.
        seen: collects what may change in place, which must not be found in two places.

    Raises:
        UnrestorableError: anything else is in it.
    """
    if isinstance(value, np.ndarray | list | dict):
        _note(value, seen)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return np.array(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [encode(item, seen) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: encode(item, seen) for key, item in value.items()}}
    raise UnrestorableError(f"a {type(value).__module__}.{type(value).__qualname__}")


def decode(saved: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(saved, np.ndarray):
        return saved[()] if saved.ndim == 0 else saved.copy()
    if isinstance(saved, dict):
        if "dict" in saved:
            return {key: decode(item) for key, item in saved["dict"].items()}
        if "list" in saved:
            return [decode(item) for item in saved["list"]]
        if "tuple" in saved:
            return tuple(decode(item) for item in saved["tuple"])
    return saved
