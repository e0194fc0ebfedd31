"""A trained policy in numpy alone.

This file runs by itself. `crossq-wn export` copies it beside the weights, and `crossq_wn.load` acts with it:

    from policy import Policy
    policy = Policy("folder")  # what `crossq-wn export RUN` wrote
    action = policy.act(observation)  # as the environment takes it, in its own units
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LARGE = 1e5  # networks learn badly from observations beyond this, in absolute value
_NUMBERS = ("ff", "fi", "if", "ii")  # kinds of numpy types that bounds read from JSON may have
_ADVICE = "scale the environment's observations to about [-10, 10]"
SCHEMA = 1  # of policy.json


class PolicyError(ValueError):
    """An observation that the policy cannot act on, or an export that cannot be used."""


# Networks


class Op(NamedTuple):
    """One operation of a network, on features [..., n]; `KINDS` has the functions."""

    kind: str
    arrays: Mapping[str, Any] = {}
    numbers: Mapping[str, float] = {}
    inner: tuple[tuple[Op, ...], ...] = ()  # the networks inside it, each from its input to its output


class Network(NamedTuple):
    """A policy network. It draws u from a Gaussian for each observation; the action is tanh(u)."""

    # observation [..., observation_size] -> [..., 2 * action_size]: means, then what log std is made of
    operations: tuple[Op, ...]
    log_std: str  # how: "clip" to its limits, or "squeeze" a tanh between them
    log_std_min: float
    log_std_max: float


Function = Callable[[np.ndarray], np.ndarray]


def _dense(op: Op, inner: Sequence[Function]) -> Function:
    """Returns x W + b."""
    kernel, bias = op.arrays["kernel"], op.arrays["bias"]

    def run(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x @ kernel
        y += bias
        return y

    return run


def _affine(op: Op, inner: Sequence[Function]) -> Function:
    """Returns (x - shift) scale + bias, elementwise; each of the three may be missing."""
    shift, scale, bias = (op.arrays.get(name) for name in ("shift", "scale", "bias"))

    def run(x: np.ndarray) -> np.ndarray:
        x = x if shift is None else x - shift
        x = x if scale is None else x * scale
        return x if bias is None else x + bias

    return run


def _layer_norm(op: Op, inner: Sequence[Function]) -> Function:
    """Returns each sample's features at mean 0 and variance 1, times scale, plus bias."""
    scale, bias, epsilon = op.arrays["scale"], op.arrays["bias"], np.float32(op.numbers["epsilon"])

    def run(x: np.ndarray) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        y: np.ndarray = x * (scale / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon)) + bias
        return y

    return run


def _unit_length(op: Op, inner: Sequence[Function]) -> Function:
    """Returns each sample's features at length 1."""
    epsilon = np.float32(op.numbers["epsilon"])

    def run(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x / np.sqrt(np.square(x).sum(-1, keepdims=True) + epsilon)
        return y

    return run


def _unit_rms(op: Op, inner: Sequence[Function]) -> Function:
    """Returns each sample's features with a mean square of 1."""
    epsilon = np.float32(op.numbers["epsilon"])

    def run(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon)
        return y

    return run


def _append(op: Op, inner: Sequence[Function]) -> Function:
    """Returns x and one more feature, a constant."""
    value = np.float32(op.numbers["value"])
    return lambda x: np.concatenate([x, np.full((*x.shape[:-1], 1), value)], -1)


def _group_softmax(op: Op, inner: Sequence[Function]) -> Function:
    """Returns the softmax within each group of so many neighbouring features."""
    size = int(op.numbers["size"])

    def run(x: np.ndarray) -> np.ndarray:
        groups = x.reshape(*x.shape[:-1], -1, size)
        powers = np.exp(groups - groups.max(-1, keepdims=True))
        shares: np.ndarray = powers / powers.sum(-1, keepdims=True)
        return shares.reshape(x.shape)

    return run


def _relu(op: Op, inner: Sequence[Function]) -> Function:
    zero = np.float32(0)
    return lambda x: np.maximum(x, zero)


def _mish(op: Op, inner: Sequence[Function]) -> Function:
    """Returns x tanh(log(1 + exp x))."""
    zero = np.float32(0)
    return lambda x: x * np.tanh(np.logaddexp(x, zero))


def _residual(op: Op, inner: Sequence[Function]) -> Function:
    (change,) = inner
    return lambda x: x + change(x)


def _towards(op: Op, inner: Sequence[Function]) -> Function:
    """Returns x + rate(proposal(x) - x)."""
    proposal, rate = inner
    return lambda x: x + rate(proposal(x) - x)


def _side_by_side(op: Op, inner: Sequence[Function]) -> Function:
    """Returns the outputs of all inner networks, one after the other."""
    return lambda x: np.concatenate([each(x) for each in inner], -1)


# By the kind of operation: (operation, the functions of its inner networks) -> its function.
KINDS: dict[str, Callable[[Op, Sequence[Function]], Function]] = {
    "dense": _dense,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "unit_length": _unit_length,
    "unit_rms": _unit_rms,
    "append": _append,
    "group_softmax": _group_softmax,
    "relu": _relu,
    "mish": _mish,
    "residual": _residual,
    "towards": _towards,
    "side_by_side": _side_by_side,
}


def function_of(operations: Sequence[Op]) -> Function:
    """Returns what operations do, one after the other, as one function."""
    steps = []
    for op in operations:
        steps.append(KINDS[op.kind](op, [function_of(inner) for inner in op.inner]))

    def run(x: np.ndarray) -> np.ndarray:
        for step in steps:
            x = step(x)
        return x

    return run


def only_means(operations: Sequence[Op], action_size: int) -> Sequence[Op] | None:
    """Returns what computes the means alone, at half of the last layer's cost; None if that takes all."""
    *before, last = operations
    if last.kind == "dense":
        arrays = {}
        for name, array in last.arrays.items():
            arrays[name] = np.ascontiguousarray(array[..., :action_size])
        return (*before, last._replace(arrays=arrays))
    if last.kind == "side_by_side" and len(last.inner) == 2:
        return (*before, *last.inner[0])
    return None


# Observations and actions


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
    share = 0.5 * (action.reshape(action.shape[:-1] + low.shape).astype(np.float64) + 1.0)
    width = high - low
    scaled = low + share * width if dtype.kind == "f" else np.floor(low + share * (width + 1.0))
    # Rounding may exceed the bounds slightly.
    bounded: np.ndarray = np.minimum(np.maximum(scaled, low), high).astype(dtype)
    return bounded


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


def check_sound(observation: np.ndarray, action: np.ndarray, name: str) -> None:
    """Raises PolicyError unless observations [..., observation_size] and the actions for them are finite.

    Args:
        observation: for which a policy chose.
        action: [..., action_size].
        name: how messages call the policy.
    """
    if np.isfinite(action).all() and np.isfinite(observation).all():
        return
    rows, chosen = np.atleast_2d(observation), np.atleast_2d(action)
    sound = np.isfinite(rows).all(-1) & np.isfinite(chosen).all(-1)
    raise PolicyError(f"the policy of {name} has no action: {why_no_action(rows[int(np.argmin(sound))])}")


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
        self.parts: list[tuple[list[str], tuple[int, ...]]] | None = None
        if "observation" in saved:
            self.parts = [(keys, tuple(shape)) for keys, shape in saved["observation"]]

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
    if type(value) is np.ndarray and value.dtype == np.float32:
        return value
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise PolicyError(
            f"the observation is a {type(value).__name__} and no array of numbers: give the policy what its "
            "environment returns"
        ) from None


# Acting


class Actor:
    """Acts by a network.

    Args:
        network: what acts.
        interface: what observations and actions are like.
        name: how messages call the policy.
        seed: where the noise of stochastic actions starts; None: somewhere else each time.
    """

    def __init__(self, network: Network, interface: Interface, name: str, seed: int | None = None) -> None:
        self.interface, self._name, self._network = interface, name, network
        self._generator = np.random.default_rng(seed)
        self._action_size = int(interface.low.size)
        self._all = function_of(network.operations)
        means = only_means(network.operations, self._action_size)
        self._only_means = None if means is None else function_of(means)

    def act(
        self, observation: Any, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses an action, in the environment's own units.

        Args:
            observation: what the environment returns, be it an array, a list or a dict, or its numbers in one
                flat row; or n of them, which lead with an axis of their own.
            deterministic: whether it is the policy's mode; if not, it is drawn at random.
            generator: where random actions draw their noise; by default the policy's own generator.

        Returns:
            An action of the environment's shape and type, exactly as the environment gets it, or n of them.

        Raises:
            PolicyError: the observation has another size, or the policy has no sound action for it.
        """
        flat = self.interface.flatten(observation)
        return self.interface.in_units(self.choose(flat, deterministic, generator))

    def choose(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses actions in [-1, 1], float32 [..., action_size], for flat observations; as `act`."""
        action = self.compute(flat, None if deterministic else generator or self._generator)
        check_sound(flat, action, self._name)
        return action

    def compute(self, flat: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Computes actions, sound or not; takes what `choose` does, and no generator if deterministic."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            if generator is None:
                u = self.means(flat)
            else:
                mean, log_std = self.gaussian(flat)
                u = mean + np.exp(log_std) * generator.standard_normal(mean.shape, np.float32)
            action: np.ndarray = np.tanh(u)
            return action

    def means(self, flat: np.ndarray) -> np.ndarray:
        """Returns the means of u, [..., action_size]."""
        if self._only_means is not None:
            return self._only_means(flat)
        return self._all(flat)[..., : self._action_size]

    def gaussian(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns means and log standard deviations of u, each [..., action_size]."""
        _, rule, low, high = self._network
        mean, x = np.split(self._all(flat), 2, -1)
        if rule == "clip":
            return mean, np.clip(x, np.float32(low), np.float32(high))
        return mean, np.float32(low) + np.float32(0.5 * (high - low)) * (1 + np.tanh(x))


class Policy(Actor):
    """The policy in a folder that `crossq-wn export` wrote.

    Args:
        folder: has policy.json and weights.npz.
        seed: where the noise of stochastic actions starts; None: somewhere else each time.

    Attributes:
        description: what policy.json says.

    Raises:
        PolicyError: a file is missing or altered, or a newer version wrote it.
    """

    def __init__(self, folder: str | Path, seed: int | None = None) -> None:
        self.description, arrays = _read(Path(folder))
        observation, action, network = (self.description[key] for key in ("observation", "action", "network"))
        interface = {
            "observation_size": observation["size"],
            "observation": [(part["keys"], part["shape"]) for part in observation["parts"]],
            "action_low": action["low"],
            "action_high": action["high"],
            "action_dtype": action["dtype"],
        }
        super().__init__(
            Network(_operations(network["operations"], arrays), **network["log_std"]),
            Interface(interface),
            str(folder),
            seed,
        )


def latencies(act: Callable[[np.ndarray], Any], seen: Mapping[str, Any], calls: int) -> dict[str, float]:
    """Times a policy on one observation after the other.

    Args:
        act: takes an observation, float32 [observation_size].
        seen: the range from which observations are drawn, `low` and `high` [observation_size] each.
        calls: how many are timed, after 256 that are not.

    Returns:
        Seconds per call: `p50`, `p99` and `max`.
    """
    rows = np.random.default_rng(0).uniform(seen["low"], seen["high"], (256, len(seen["low"])))
    rows = rows.astype(np.float32)
    for row in rows:
        act(row)
    seconds = np.zeros(calls)
    for k in range(calls):
        start = time.perf_counter()
        act(rows[k % 256])
        seconds[k] = time.perf_counter() - start
    return {
        "p50": float(np.percentile(seconds, 50)),
        "p99": float(np.percentile(seconds, 99)),
        "max": float(seconds.max()),
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        description = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
        if description["schema"] > SCHEMA:
            raise PolicyError(f"{folder} has schema {description['schema']}: use the policy.py beside it")
        content = (folder / "weights.npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != description["sha256"]["weights.npz"]:
            raise PolicyError(f"{folder / 'weights.npz'} is truncated or altered: export the policy again")
        with np.load(io.BytesIO(content), allow_pickle=False) as weights:
            return description, dict(weights)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise PolicyError(f"{folder} is no exported policy ({type(error).__name__}: {error})") from None


def _operations(described: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> tuple[Op, ...]:
    """Operations as policy.json describes them, with their arrays."""
    found = []
    for each in described:
        own = {name: arrays[key] for name, key in each["arrays"].items()}
        inner = tuple(_operations(part, arrays) for part in each["inner"])
        found.append(Op(each["kind"], own, each["numbers"], inner))
    return tuple(found)


if __name__ == "__main__":
    exported = Policy(Path(__file__).parent)
    found = latencies(exported.act, exported.description["observation"]["seen"], 10_000)
    print(", ".join(f"{name} {1e6 * value:.1f} µs" for name, value in found.items()), "over 10,000 calls")
