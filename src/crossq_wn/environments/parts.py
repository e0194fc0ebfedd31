"""The parts of a Gymnasium observation: arrays of numbers in nested dicts, or a single one."""

from typing import Any

import numpy as np


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
