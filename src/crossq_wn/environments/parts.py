"""The parts of a Gymnasium observation: arrays of numbers in nested dicts, or a single one."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from crossq_wn.errors import counted

_SHOWN = 60  # characters of a text in messages


def layout_of(space: Any, above: tuple[str, ...] = ()) -> list[Any]:
    """The keys and shapes of an observation's parts, in the order in which Gymnasium flattens them."""
    if not hasattr(space, "spaces"):
        return [[list(above), list(space.shape or ())]]
    found = []
    for key, part in space.spaces.items():
        found += layout_of(part, (*above, str(key)))
    return found


def kinds_of(space: Any) -> set[str]:
    """The kinds of NumPy types, such as `f`, of the parts of an observation space."""
    if not hasattr(space, "spaces"):
        return {np.dtype(space.dtype).kind}
    found: set[str] = set()
    for part in space.spaces.values():
        found |= kinds_of(part)
    return found


def numbers_of(space: Any, observation: Any) -> np.ndarray:
    """The numbers of an observation in Gymnasium's order; those of whole-number parts are as they were given.

    Args:
        space: a Box, or a Dict of such spaces.
        observation: as an environment returns it.

    Returns:
        float64 [observation_size].

    Raises:
        KeyError: it lacks a part.
        TypeError: a part is no array of numbers; ValueError likewise.
    """
    if not hasattr(space, "spaces"):
        # Parts of floats are rounded to their own type, as in flattening; others must lose nothing.
        exact = np.asarray(observation, space.dtype if space.dtype.kind == "f" else np.float64)
        return exact.astype(np.float64).ravel()
    return np.concatenate([numbers_of(part, observation[key]) for key, part in space.spaces.items()])


def wrong_part(space: Any, observation: Any, above: tuple[str, ...] = ()) -> str | None:
    """The part of an observation that is missing or holds something other than numbers, for a message.

    Args:
        space: a Box, or a Dict of such spaces.
        observation: as an environment returns it.
        above: the keys that lead to it.

    Returns:
        None if there is none; shapes are not looked at.
    """
    inner = getattr(space, "spaces", None)
    if not (_holds_numbers if inner is None else _has_keys)(observation):
        return f"{_named(above)} is {shown_value(observation)}, and its observation space says {space}"
    for key, part in {} if inner is None else inner.items():
        if isinstance(observation, Mapping) and key not in observation:
            return f"{_named(above)} is {shown_value(observation)}: {key!r} is missing"
        if wrong := wrong_part(part, observation[key], (*above, str(key))):
            return wrong
    return None


def _named(keys: tuple[str, ...]) -> str:
    return f"the observation's {'.'.join(keys)!r}" if keys else "the observation"


def _holds_numbers(value: Any) -> bool:
    """Whether a value is a number or an array of numbers, as far as its type says."""
    if type(value) is np.ndarray and value.dtype.kind in "biuf":  # the usual case, quickly
        return True
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # such as lists of several lengths, which flattening refuses
        return True
    if array.dtype.kind == "O":
        return all(isinstance(each, Real) for each in array.flat)
    return array.dtype.kind not in "USMmc"


def _has_keys(value: Any) -> bool:
    return isinstance(value, Mapping) or bool(getattr(getattr(value, "dtype", None), "names", None))


def shown_value(value: Any) -> str:
    """What an environment returned, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value if len(value) <= _SHOWN else value[:_SHOWN] + '...'!r}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {counted(len(value), 'value')}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, dict):
        return f"a dict with {'the keys ' if value else 'no keys'}{', '.join(map(str, value))}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
