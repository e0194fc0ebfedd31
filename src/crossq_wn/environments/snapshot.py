"""Snapshots of simulators: plain attributes and random streams, from which they continue bit for bit.

A snapshot is a tree of dicts, lists, plain values and NumPy arrays. Nothing is pickled.
"""

import types
from typing import Any

import numpy as np

Snapshot = dict[str, Any]

_PLAIN = (type(None), bool, int, float, str)


class UnrestorableError(Exception):
    """Part of an environment's state cannot be captured; the message names it."""


def capture_attributes(owner: Any, *, ignore: tuple[type, ...] = (), strict: bool = True) -> Snapshot:
    """Copies an object's plain attributes and the states of its random generators.

    Args:
        owner: the object.
        ignore: types of attributes to leave out.
        strict: whether every other attribute must be plain, a generator, or something that no step can
            change; if not, attributes that are none of these are left out too.

    Raises:
        UnrestorableError: `strict`, and an attribute is of another kind, or two attributes are the same
            object.
    """
    saved: Snapshot = {}
    seen: set[int] = set()
    for name, value in vars(owner).items():
        if _constant(value, owner) or isinstance(value, ignore):
            continue
        try:
            # Generators come first: `encode` would refuse them as objects of an unknown kind.
            saved[name] = _generator(value, seen) or encode(value, seen if strict else None)
        except UnrestorableError as problem:
            if strict:
                raise UnrestorableError(f"{type(owner).__name__}.{name} is {problem}") from None
    return saved


def restore_attributes(owner: Any, saved: Snapshot) -> None:
    """Restores captured attributes of an object.

    Args:
        owner: the object; if an attribute is an array on other memory, such as MuJoCo's, it is written in
            place.
        saved: what `capture_attributes` returned.
    """
    for name, item in saved.items():
        current = vars(owner).get(name)
        value = decode(item)
        if isinstance(item, dict) and "generator" in item:  # others may hold the same object, so it stays
            restore_generator(current, item["generator"])
        elif (  # a writeable view of other memory must stay one
            isinstance(current, np.ndarray)
            and current.base is not None
            and current.flags.writeable
            and np.shape(value) == current.shape
        ):
            current[...] = value
        else:
            setattr(owner, name, value)


def capture_generator(generator: Any) -> Any:
    """The state of a NumPy random generator, either a `RandomState` or a `Generator`."""
    if isinstance(generator, np.random.RandomState):
        return _jsonable(generator.get_state(legacy=False))
    return _jsonable(generator.bit_generator.state)


def restore_generator(generator: Any, saved: Any) -> None:
    """Restores the state that `capture_generator` returned, in a generator of the same kind.

    Args:
        generator: a `RandomState` or a `Generator`; it is changed.
        saved: of one of the same kind.
    """
    if isinstance(generator, np.random.RandomState):
        generator.set_state(saved)
    else:
        generator.bit_generator.state = saved


def _jsonable(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _jsonable(value) for key, value in state.items()}
    return state.item() if isinstance(state, np.generic) else state


def _constant(value: Any, owner: Any) -> bool:
    """Whether no step can change a value: a class, module or function, or a method of one or of the owner."""
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
    """Records an object's identity; raises UnrestorableError if it is known, since it would become two."""
    if seen is not None:
        if id(value) in seen:
            raise UnrestorableError("the same object as another attribute")
        seen.add(id(value))


def encode(value: Any, seen: set[int] | None = None) -> Any:
    """Copies plain data into a form that a checkpoint can hold.

    Args:
        value: None, a number, a text, a NumPy array of numbers, or a list, tuple or dict (with texts as keys)
            of such values.
        seen: identities of the arrays, lists and dicts met so far, to which those in `value` are added; with
            None they may occur repeatedly.

    Raises:
        UnrestorableError: something else is in it, or something that was met before.
    """
    if isinstance(value, np.ndarray | list | dict):  # tuples and numbers cannot change under two names
        _note(value, seen)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return np.array(value)
    if type(value) in _PLAIN:
        return value
    if type(value) in (list, tuple):  # no subclasses, which may carry more than their items
        return {type(value).__name__: [encode(item, seen) for item in value]}
    if type(value) is dict and {*map(type, value)} <= {str}:
        return {"dict": {key: encode(item, seen) for key, item in value.items()}}
    raise UnrestorableError(f"a {type(value).__module__}.{type(value).__qualname__}")


def decode(saved: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(saved, np.ndarray):
        return saved[()] if saved.ndim == 0 else saved.copy()  # a scalar was saved as an array
    if isinstance(saved, dict):
        if "dict" in saved:
            return {key: decode(item) for key, item in saved["dict"].items()}
        if "list" in saved:
            return [decode(item) for item in saved["list"]]
        if "tuple" in saved:
            return tuple(decode(item) for item in saved["tuple"])
    return saved
