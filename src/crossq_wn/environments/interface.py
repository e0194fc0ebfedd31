"""The interface between a policy and an environment: what actions mean, and which ones may pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossq_wn.errors import UserError

LARGE = 1e5  # observations beyond this, in absolute value, learn badly
_INTEGERS = 2.0**53  # integers up to this are exact as float64
_ADVICE = "scale the environment's observations to about [-10, 10]"


def in_units(action: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Maps a policy's action from [-1, 1] to the environment's own units.

    This is what the environment gets in training and what `TrainedPolicy.act` returns.

    Args:
        action: [action_size] in [-1, 1].
        low: the bounds, float64 in the environment's own shape.
        high: likewise.
        dtype: what the environment takes. Each of its integers gets an equal part of [-1, 1].
    """
    share = 0.5 * (action.reshape(low.shape).astype(np.float64) + 1.0)
    width = high - low
    scaled = low + share * width if dtype.kind == "f" else np.floor(low + share * (width + 1.0))
    # Rounding may exceed the bounds by a bit.
    bounded: np.ndarray = np.minimum(np.maximum(scaled, low), high).astype(dtype)
    return bounded


def check_bounds(low: np.ndarray, high: np.ndarray, dtype: np.dtype[Any], name: str) -> None:
    """Checks that `in_units` can map to these bounds.

    Raises:
        UserError: they are too far apart for float64 arithmetic, or the type is no number.
    """
    if dtype.kind not in "fiub":
        raise UserError(f"{name} has actions of type {dtype}: they must be numbers")
    with np.errstate(over="ignore"):
        width = float(np.max(high - low))
    limit = np.finfo(np.float64).max if dtype.kind == "f" else _INTEGERS
    if not width <= limit:
        raise UserError(f"{name} has action bounds {width:g} apart: actions of type {dtype} need closer ones")


def why_no_action(observation: np.ndarray) -> str:
    """Says why a policy chose an action that is not a number: the observation if it is extreme, or itself.

    Args:
        observation: [observation_size], for which it chose.
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
    """Returns what a policy must know of a simulator, as JSON values; checkpoints keep it."""
    size = int(simulator.observation_size)
    return {
        "observation_size": size,
        # The parts of an observation in the order in which they are flattened: their keys and shapes.
        "observation": getattr(simulator, "layout", [[[], [size]]]),
        "action_low": simulator.action_low.tolist(),
        "action_high": simulator.action_high.tolist(),
        "action_dtype": str(getattr(simulator, "action_dtype", "float32")),
    }


def check_unchanged(saved: dict[str, Any], present: dict[str, Any], task: str) -> None:
    """Checks that an environment still has the interface that a policy was trained on.

    Args:
        saved: of the training, from `describe`; older versions wrote only sizes and bounds.
        present: of the environment.
        task: its name.

    Raises:
        UserError: they differ; the message says in what.
    """
    for name, was in saved.items():
        now = present.get(name, was)
        if was != now:
            what = name.replace("_", " ")
            raise UserError(
                f"{task} has changed since this run was trained: its {what} was {_short(was)} and is now "
                f"{_short(now)}; use the environment as it was, or train anew"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


class Interface:
    """What a trained policy needs in order to act outside its environment.

    Args:
        saved: from `describe`, or what older versions wrote.
    """

    def __init__(self, saved: dict[str, Any]) -> None:
        self.size: int = saved["observation_size"]
        self.low, self.high = np.asarray(saved["action_low"]), np.asarray(saved["action_high"])
        single = all(np.array_equal(bound, np.float32(bound)) for bound in (self.low, self.high))
        # Where older versions did not say: Gymnasium's usual type, or that of DeepMind Control.
        self._dtype = np.dtype(saved.get("action_dtype", "float32" if single else "float64"))
        self._parts: list[tuple[list[str], tuple[int, ...]]] | None = None
        if "observation" in saved:
            self._parts = [(keys, tuple(shape)) for keys, shape in saved["observation"]]

    def in_units(self, action: np.ndarray) -> np.ndarray:
        """Maps an action from [-1, 1] to what the environment gets in training."""
        return in_units(np.asarray(action), self.low, self.high, self._dtype)

    def flatten(self, observation: Any) -> np.ndarray:
        """Flattens one observation, or several.

        Args:
            observation: what the environment returns, or its numbers as one flat row: an array, a list or a
                dict; or several in an array or a list, or a dict of several.

        Returns:
            float32 [observation_size], or [n, observation_size].

        Raises:
            UserError: it is neither.
        """
        if isinstance(observation, list | tuple) and observation and isinstance(observation[0], Mapping):
            return np.stack([self.flatten(each) for each in observation])
        if isinstance(observation, Mapping):
            return self._flatten_parts(observation)
        array = _as_array(observation)
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

    def _flatten_parts(self, observation: Mapping[str, Any]) -> np.ndarray:
        found = _leaves(observation)
        parts = self._parts
        if parts is None:  # an older version trained it: Gymnasium's order
            parts = [(list(keys), found[keys].shape) for keys in sorted(found)]
        wanted = [".".join(keys) for keys, _ in parts]
        if sorted(wanted) != sorted(".".join(keys) for keys in found):
            raise UserError(
                f"the observation has the parts {', '.join('.'.join(keys) for keys in found) or 'none'}: "
                f"this policy was trained on {', '.join(filter(None, wanted)) or 'a single array'}"
            )
        flat = []
        for keys, shape in parts:
            array = found[tuple(keys)]
            if array.shape[array.ndim - len(shape) :] != shape or array.ndim > len(shape) + 1:
                raise UserError(
                    f"the observation's {'.'.join(keys)!r} has shape {array.shape}: this policy was trained "
                    f"on {shape}"
                )
            flat.append(array.reshape(*array.shape[: array.ndim - len(shape)], -1))
        if len({part.shape[:-1] for part in flat}) != 1 or sum(part.shape[-1] for part in flat) != self.size:
            raise UserError(
                f"the observation's parts do not make {self.size} numbers, on which this policy was trained"
            )
        return np.concatenate(flat, axis=-1)


def _leaves(observation: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    """The arrays in a dict of arrays and dicts, by their keys."""
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
            f"the observation is a {type(value).__name__} that is no array of numbers: this policy was "
            "trained on what its environment returns"
        ) from None
