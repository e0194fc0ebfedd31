"""Snapshots of simulators: plain attributes and random streams, from which they continue bit for bit.

A snapshot is a tree of dicts, lists, plain values and NumPy arrays. Nothing is pickled.
"""

import types
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from crossq_wn.environments.attributes import attributes_of

Snapshot = dict[str, Any]

_FIXED = ("_saved_kwargs",)  # with which Gymnasium's wrappers were made
_SEQUENCES = {"list": list, "tuple": tuple, "deque": deque}
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
    for name, value in attributes_of(owner).items():
        if name in _FIXED or _constant(value, owner) or isinstance(value, ignore):
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
    present = attributes_of(owner)
    for name, item in saved.items():
        current = present.get(name)
        value = decode(item)
        if isinstance(item, dict) and "generator" in item:
            if not _is_numpy_generator(current):  # not made yet
                setattr(owner, name, current := generator_like(item["generator"]))
            restore_generator(current, item["generator"])  # others may hold the same object, so it stays
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


def has_spawned(generator: Any) -> bool:
    """Whether a NumPy generator has spawned others, of which its state does not tell how many."""
    sequence = getattr(getattr(generator, "bit_generator", None), "seed_seq", None)
    return bool(getattr(sequence, "n_children_spawned", 0))


def generator_like(state: Any) -> Any:
    """Makes a generator of the kind whose state `capture_generator` returned; None if that is not known."""
    if "has_gauss" in state:
        return np.random.RandomState()
    kind = getattr(np.random, str(state.get("bit_generator")), None)
    return None if kind is None else np.random.Generator(kind())


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


def _is_numpy_generator(value: Any) -> bool:
    """Whether a value is a generator, or stands for one, as MyoSuite's do."""
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return True
    try:
        return isinstance(value.bit_generator, np.random.BitGenerator)
    except Exception:  # a user's `__getattr__` may raise anything
        return False


def _generator(value: Any, seen: set[int]) -> Any:
    if not _is_numpy_generator(value):
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
        value: None, a number, a text, a NumPy array of numbers, or a list, tuple, deque or dict (with texts
            as keys) of such values.
        seen: identities of the arrays, lists, deques and dicts met so far, to which those in `value` are
            added; with None they may occur repeatedly.

    Raises:
        UnrestorableError: something else is in it, something that was met before, or itself.
    """
    try:
        return _encode(value, seen)
    except RecursionError:
        raise UnrestorableError("something that holds itself, or holds too much within each other") from None


def _encode(value: Any, seen: set[int] | None) -> Any:
    # Tuples and numbers cannot change under two names.
    if isinstance(value, np.ndarray | list | dict | deque):
        _note(value, seen)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return np.array(value)
    if type(value) in _PLAIN:
        return value
    if type(value) in _SEQUENCES.values():  # no subclasses, which may carry more than their items
        return {type(value).__name__: [_encode(item, seen) for item in _listed(value)]}
    if type(value) is dict and {*map(type, value)} <= {str}:
        return {"dict": {key: _encode(item, seen) for key, item in value.items()}}
    raise UnrestorableError(f"a {type(value).__module__}.{type(value).__qualname__}")


def decode(saved: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(saved, np.ndarray):
        return saved[()] if saved.ndim == 0 else saved.copy()  # a scalar was saved as an array
    if isinstance(saved, dict):
        if "dict" in saved:
            return {key: decode(item) for key, item in saved["dict"].items()}
        for name, kind in _SEQUENCES.items():
            if name in saved:
                return _sequence(kind, map(decode, saved[name]))
    return saved


def _listed(value: Any) -> Iterable[Any]:
    """The items of a sequence, and before those of a deque the most that it may hold."""
    return [value.maxlen, *value] if type(value) is deque else value


def _sequence(kind: type, listed: Iterable[Any]) -> Any:
    """The inverse of `_listed`."""
    if kind is not deque:
        return kind(listed)
    most, *items = listed
    return deque(items, most)
