"""The interface between a policy and an environment: units of actions, and layout of observations."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossq_wn.errors import UserError

LARGE = 1e5  # networks learn badly from observations beyond this, in absolute value
_INTEGERS = 2.0**53  # float64 represents all integers up to this exactly
_NUMBERS = ("ff", "fi", "if", "ii")  # kinds of numpy types that bounds read from JSON may have
_ADVICE = "scale the environment's observations to about [-10, 10]"


def in_units(action: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Maps a policy's action from [-1, 1] to the environment's own units.

    The environment receives this in training, and `TrainedPolicy.act` returns it.

    Args:
        action: [action_size] in [-1, 1].
        low: lower bounds, float64 in the environment's own shape.
        high: upper bounds, float64 in the environment's own shape.
        dtype: of the environment's actions. If it is an integer type, each integer gets an equal part of [-1,
            1].
    """
    share = 0.5 * (action.reshape(low.shape).astype(np.float64) + 1.0)
    width = high - low
    scaled = low + share * width if dtype.kind == "f" else np.floor(low + share * (width + 1.0))
    # Rounding may exceed the bounds slightly.
    bounded: np.ndarray = np.minimum(np.maximum(scaled, low), high).astype(dtype)
    return bounded


def check_bounds(low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any], name: str) -> None:
    """Checks that `in_units` can map to these bounds.

    Args:
        low: lower bounds, float64.
        high: upper bounds, float64.
        dtype: of the environment's actions.
        name: of the environment, for the message.

    Raises:
        UserError: the bounds are too far apart for float64 arithmetic, or the type is not numeric.
    """
    if dtype.kind not in "fiub":
        raise UserError(f"{name} has actions of type {dtype}: they must be numbers")
    with np.errstate(over="ignore"):
        width = float(np.max(high - low))
    limit = np.finfo(np.float64).max if dtype.kind == "f" else _INTEGERS
    if not width <= limit:
        raise UserError(f"{name} has action bounds {width:g} apart: actions of type {dtype} need closer ones")


def why_no_action(observation: np.ndarray) -> str:
    """The likely reason why a policy's action is not a number: an extreme observation, or its parameters.

    Args:
        observation: [observation_size], on which it decided.
    """
    ordinary = np.isfinite(observation) & (np.abs(observation) <= LARGE)
    if ordinary.all():
        return (
            "its observation is ordinary, so its parameters are no longer sound: training diverged; "
            "try a lower learning rate"
        )
    size = np.where(np.isfinite(observation), np.abs(observation), np.inf)
    index = int(np.argmax(size))
    return f"its observation has {observation[index]:g} at index {index}; {_ADVICE}"


def describe(simulator: Any) -> dict[str, Any]:
    """The description of a simulator that a policy needs, as JSON values; checkpoints store it."""
    size = int(simulator.observation_size)
    return {
        "observation_size": size,
        # Keys and shape of each part of an observation, in the order in which the parts are flattened.
        "observation": getattr(simulator, "layout", [[[], [size]]]),
        "action_low": simulator.action_low.tolist(),
        "action_high": simulator.action_high.tolist(),
        "action_dtype": str(getattr(simulator, "action_dtype", "float32")),
    }


def check_unchanged(saved: Mapping[str, Any], present: Mapping[str, Any], task: str) -> None:
    """Checks that an environment still has the interface that a policy was trained with.

    Args:
        saved: what `describe` returned in training; earlier versions stored only sizes and bounds.
        present: what it returns now.
        task: its name.

    Raises:
        UserError: they differ; the message says how.
    """
    for name, was in saved.items():
        now = present.get(name, was)
        if was != now:
            what = name.replace("_", " ")
            raise UserError(
                f"{task} has changed since this run was trained: its {what} was {_short(was)} and is now "
                f"{_short(now)}; use the environment as it was, or train a new policy"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


class Interface:
    """The interface of an environment, as a trained policy needs it to act outside of that environment.

    Args:
        saved: what `describe` returned, or what earlier versions stored.
    """

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.size: int = saved["observation_size"]
        self.low, self.high = np.asarray(saved["action_low"]), np.asarray(saved["action_high"])
        if self.low.shape != self.high.shape or self.low.dtype.kind + self.high.dtype.kind not in _NUMBERS:
            raise ValueError("its action bounds are not numbers of the same shape")
        single = all(np.array_equal(bound, np.float32(bound)) for bound in (self.low, self.high))
        # Earlier versions did not store the type: it is Gymnasium's usual one, or DeepMind Control's.
        self._dtype = np.dtype(saved.get("action_dtype", "float32" if single else "float64"))
        self._parts: list[tuple[list[str], tuple[int, ...]]] | None = None
        if "observation" in saved:
            self._parts = [(keys, tuple(shape)) for keys, shape in saved["observation"]]

    def in_units(self, action: np.ndarray) -> np.ndarray:
        """Maps an action from [-1, 1] to the units in which the environment receives it in training."""
        return in_units(np.asarray(action), self.low, self.high, self._dtype)

    def flatten(self, observation: Any) -> np.ndarray:
        """Flattens one observation, or several.

        Args:
            observation: an observation as the environment returns it, or its numbers in one flat row, as an
                array, a list or a dict; or several of them in an array or a list, or a dict of several.

        Returns:
            float32 [observation_size], or [n, observation_size].

        Raises:
            UserError: it is neither.
        """
        if isinstance(observation, list | tuple) and observation and isinstance(observation[0], Mapping):
            return np.stack([self.flatten(each) for each in observation])
        if isinstance(observation, Mapping):
            return self._flatten_parts(_leaves(observation))
        return self._flatten_array(_as_array(observation))

    def _flatten_array(self, array: np.ndarray) -> np.ndarray:
        shapes: list[tuple[int, ...]] = [(self.size,)]
        if self._parts is not None and len(self._parts) == 1:
            shapes.append(self._parts[0][1])
        for shape in shapes:
            if array.shape == shape:
                return array.reshape(self.size)
            if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
                return array.reshape(-1, self.size)
        raise UserError(
            f"the observation has shape {array.shape}: this policy was trained on "
            + " or ".join(f"{list(shape)}" for shape in dict.fromkeys(shapes))
            + f", or n of them, such as [n, {self.size}]"
        )

    def _flatten_parts(self, found: dict[tuple[str, ...], np.ndarray]) -> np.ndarray:
        parts = self._parts
        if parts is None:  # an older version trained it: Gymnasium's order
            parts = [(list(keys), found[keys].shape) for keys in sorted(found)]
        _check_names([".".join(keys) for keys, _ in parts], [".".join(keys) for keys in found])
        flat = [_flat_part(found[tuple(keys)], ".".join(keys), shape) for keys, shape in parts]
        leading = {part.shape[:-1] for part in flat}
        if len(leading) != 1 or sum(part.shape[-1] for part in flat) != self.size:
            raise UserError(
                f"the parts of the observation do not add up to the {self.size} numbers that this policy was "
                "trained on"
            )
        return np.concatenate(flat, axis=-1)


def _check_names(wanted: list[str], found: list[str]) -> None:
    """Checks that an observation has the parts that a policy was trained on."""
    if sorted(wanted) != sorted(found):
        raise UserError(
            f"the observation has the parts {', '.join(found) or 'none'}: this policy was trained on "
            f"{', '.join(filter(None, wanted)) or 'a single array'}"
        )


def _flat_part(array: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Flattens a part of one observation, [*shape] to [size], or of several, [n, *shape] to [n, size]."""
    several = array.shape[: array.ndim - len(shape)]
    if array.shape[len(several) :] != shape or len(several) > 1:
        raise UserError(
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
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            f"the observation is a {type(value).__name__} and no array of numbers: give the policy what its "
            "environment returns"
        ) from None
