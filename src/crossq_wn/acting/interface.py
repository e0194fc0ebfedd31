"""What a policy must know of its environment: how observations are laid out, and the units of actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

LARGE = 1e4  # networks learn badly from observations beyond this, in absolute value
_NUMBERS = ("ff", "fi", "if", "ii")  # kinds of numpy types that bounds read from JSON may have

# Keys and shape of each part of an observation, in the order in which the parts are flattened.
Layout = Sequence[tuple[Sequence[str], Sequence[int]]]


class PolicyError(ValueError):
    """An observation that the policy cannot act on, or an export that cannot be used."""


def in_units(action: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Maps a policy's actions from [-1, 1] to the environment's own units.

    The environment receives this in training, and `act` returns it.

    Args:
        action: [..., action_size] in [-1, 1].
        low: lower bounds, float64 in the environment's own shape.
        high: upper bounds, float64 in the environment's own shape.
        dtype: of the environment's actions. If it is an integer type, each integer gets an equal part of
            [-1, 1].

    Returns:
        [..., *the environment's own shape].
    """
    # In float64, the type of the bounds; only what comes of it has the environment's own.
    share = 0.5 * (action.reshape(action.shape[:-1] + low.shape).astype(np.float64) + 1.0)
    width = high - low
    scaled = low + share * width if dtype.kind == "f" else np.floor(low + share * (width + 1.0))
    # Rounding may exceed the bounds slightly.
    return np.asarray(np.minimum(np.maximum(scaled, low), high), dtype)


def stacked(before: np.ndarray | None, newest: np.ndarray, frames: int) -> np.ndarray:
    """The newest observations, oldest first, [..., frames * observation_size].

    Args:
        before: the same at the decision before; None at an episode's start, where all are its first one.
        newest: the observation of this decision, [..., observation_size].
        frames: how many observations, this one included.
    """
    if frames == 1:
        return newest
    earlier = [newest] * (frames - 1) if before is None else [before[..., newest.shape[-1] :]]
    return np.concatenate([*earlier, newest], axis=-1)


class Episodes:
    """The episodes that a policy with a memory acts in side by side, and which of them begin.

    Args:
        memory: what it remembers of them, for messages.
    """

    def __init__(self, memory: str) -> None:
        self._memory = memory
        self._begin: np.ndarray | None = None  # bool, for each episode; None: all of them begin

    def beginning(self, newest: np.ndarray) -> np.ndarray:
        """Returns which episodes begin with these observations, [...]; remembers nothing yet.

        Args:
            newest: the observations of this decision, [..., observation_size].

        Raises:
            PolicyError: there are more or fewer episodes than at the decision before.
        """
        shape = newest.shape[:-1]
        if self._begin is None:
            return np.ones(shape, bool)
        if self._begin.shape != shape:
            was, now = _counted(self._begin.shape), _counted(shape)
            raise PolicyError(
                f"the policy got {was} before and now gets {now}: it acts on {self._memory}, so call "
                "`reset()` where episodes begin"
            )
        return self._begin

    def go_on(self, newest: np.ndarray) -> None:
        """Says that a decision was made on these observations."""
        self._begin = np.zeros(newest.shape[:-1], bool)

    def reset(self, episodes: Any = None) -> None:
        """Says that the next observation of some episodes is their first.

        Args:
            episodes: a mask of all episodes side by side, or the indices of those that begin; None: all.

        Raises:
            PolicyError: there are no such episodes.
        """
        if episodes is None:
            self._begin = None
        elif self._begin is not None:  # else all of them begin anyway
            self._begin = self._begin | _mask(episodes, self._begin.size).reshape(self._begin.shape)


def _mask(episodes: Any, count: int) -> np.ndarray:
    """The episodes that a mask or indices name, as bool [count]."""
    named = np.atleast_1d(np.asarray(episodes))
    if named.dtype == bool and named.shape == (count,):
        return named
    possible = named.dtype.kind in "iu" and named.ndim == 1 and ((named >= 0) & (named < count)).all()
    if not possible and (named.size or named.dtype == bool):
        raise PolicyError(
            f"`reset` got {episodes!r}: give a mask of {count} truth values, one for each episode that the "
            f"policy acts in, or indices from 0 to {count - 1}"
        )
    found = np.zeros(count, bool)
    found[named.astype(int)] = True
    return found


class Stack:
    """The newest observations of an episode, or of several side by side, each time as one.

    Args:
        frames: how many; of a single one nothing is remembered.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._episodes = Episodes(f"the last {frames} observations")
        self._before: np.ndarray | None = None  # of the last decision

    def act(self, newest: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Returns what `choose` does for the stacked observations, and remembers them.

        An observation that is refused leaves no trace.

        Args:
            newest: the observations of this decision, [..., observation_size].
            choose: takes them stacked, [..., frames * observation_size].

        Raises:
            PolicyError: there are more or fewer episodes than at the decision before.
        """
        if self.frames == 1:
            return choose(newest)
        rows = stacked(None, newest, self.frames)
        begin = self._episodes.beginning(newest)
        if not begin.all():
            rows = np.where(begin[..., None], rows, stacked(self._before, newest, self.frames))
        chosen = choose(rows)
        self._before = rows
        self._episodes.go_on(newest)
        return chosen

    def reset(self, episodes: Any = None) -> None:
        """Says that the next observation of some episodes is their first; as `Episodes.reset`."""
        self._episodes.reset(episodes)


def _counted(shape: tuple[int, ...]) -> str:
    """How many observations there are; a single one and an array of one differ."""
    return f"an array of {shape[0]}" if shape else "a single observation"


class Interface:
    """The interface of an environment, as a trained policy needs it to act outside of that environment.

    Args:
        saved: what `environments.interface.describe` returned, or what earlier versions stored.
    """

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.size: int = saved["observation_size"]
        self.low, self.high = np.asarray(saved["action_low"]), np.asarray(saved["action_high"])
        if self.low.shape != self.high.shape or self.low.dtype.kind + self.high.dtype.kind not in _NUMBERS:
            raise ValueError("its action bounds are not numbers of the same shape")
        single = all(np.array_equal(bound, np.float32(bound)) for bound in (self.low, self.high))
        # Earlier versions did not store the type: it is Gymnasium's usual one, or DeepMind Control's.
        self.dtype = np.dtype(saved.get("action_dtype", "float32" if single else "float64"))
        if self.dtype.kind not in "fiub":
            raise ValueError("its actions have a type that is not one of numbers")
        self.parts: list[tuple[list[str], tuple[int, ...]]] | None = None
        if "observation" in saved:
            self.parts = [(keys, tuple(shape)) for keys, shape in saved["observation"]]
        self.layout: Layout = self.parts or [([], (self.size,))]

    def in_units(self, action: np.ndarray) -> np.ndarray:
        """Maps an action from [-1, 1] to the units in which the environment receives it in training."""
        return in_units(np.asarray(action), self.low, self.high, self.dtype)

    def flatten(self, observation: Any) -> np.ndarray:
        """Flattens one observation, or several.

        Args:
            observation: an observation as the environment returns it, or its numbers in one flat row, as an
                array, a list or a dict; or several of them in an array or a list, or a dict of several.

        Returns:
            float32 [observation_size], or [n, observation_size].

        Raises:
            PolicyError: it is neither.
        """
        if isinstance(observation, list | tuple) and observation and isinstance(observation[0], Mapping):
            return np.stack([self.flatten(each) for each in observation])
        if isinstance(observation, Mapping):
            return self._flatten_parts(_leaves(observation))
        return self._flatten_array(_as_array(observation))

    def _flatten_array(self, array: np.ndarray) -> np.ndarray:
        shapes: list[tuple[int, ...]] = [(self.size,)]
        if self.parts is not None and len(self.parts) == 1:
            # An observation that is a single array may come in its own shape, such as a picture's.
            shapes.append(self.parts[0][1])
        for shape in shapes:
            if array.shape == shape:
                return array.reshape(self.size)
            if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
                return array.reshape(-1, self.size)
        raise PolicyError(
            f"the observation has shape {array.shape}: this policy was trained on "
            + " or ".join(f"{list(shape)}" for shape in dict.fromkeys(shapes))
            + f", or n of them, such as [n, {self.size}]"
        )

    def _flatten_parts(self, found: dict[tuple[str, ...], np.ndarray]) -> np.ndarray:
        parts = self.parts
        if parts is None:  # an older version trained it: Gymnasium's order
            parts = [(list(keys), found[keys].shape) for keys in sorted(found)]
        _check_names([".".join(keys) for keys, _ in parts], [".".join(keys) for keys in found])
        flat = [_flat_part(found[tuple(keys)], ".".join(keys), shape) for keys, shape in parts]
        # All parts are of one observation, or all of the same number of them.
        leading = {part.shape[:-1] for part in flat}
        if len(leading) != 1 or sum(part.shape[-1] for part in flat) != self.size:
            raise PolicyError(
                f"the parts of the observation do not add up to the {self.size} numbers that this policy was "
                "trained on"
            )
        return np.concatenate(flat, axis=-1)


def _check_names(wanted: list[str], found: list[str]) -> None:
    """Checks that an observation has the parts that a policy was trained on."""
    if sorted(wanted) != sorted(found):
        raise PolicyError(
            f"the observation has the parts {', '.join(found) or 'none'}: this policy was trained on "
            f"{', '.join(filter(None, wanted)) or 'a single array'}"
        )


def _flat_part(array: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Flattens a part of one observation, [*shape] to [size], or of several, [n, *shape] to [n, size]."""
    # Empty for one observation, (n,) for several.
    several = array.shape[: array.ndim - len(shape)]
    if array.shape[len(several) :] != shape or len(several) > 1:
        raise PolicyError(
            f"the observation's {name!r} has shape {array.shape}: this policy was trained on {shape}"
        )
    return array.reshape(*several, -1)


def _leaves(observation: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    """The arrays in nested dicts, by their keys."""
    found: dict[tuple[str, ...], np.ndarray] = {}
    for key, value in observation.items():
        keys = (*above, str(key))
        if isinstance(value, Mapping):
            found |= _leaves(value, keys)
        else:
            found[keys] = _as_array(value)
    return found


def _as_array(value: Any) -> np.ndarray:
    # The usual case, quickly.
    if type(value) is np.ndarray and value.dtype == np.float32:
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise PolicyError(
            f"the observation is a {type(value).__name__} and no array of numbers: give the policy what its "
            "environment returns"
        )
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32)
