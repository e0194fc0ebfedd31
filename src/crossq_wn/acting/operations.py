"""Policy networks as lists of operations in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


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
        # In place, which spares an array.
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


def _elu(op: Op, inner: Sequence[Function]) -> Function:
    """Returns x where it is positive, else exp(x) - 1."""
    zero = np.float32(0)
    return lambda x: np.maximum(x, zero) + np.expm1(np.minimum(x, zero))


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
    "append": _append,
    "group_softmax": _group_softmax,
    "relu": _relu,
    "elu": _elu,
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
    """Returns what computes the means alone, at half of the last layer's cost; None if that takes all.

    Args:
        operations: of a whole policy network, whose output is [..., 2 * action_size].
        action_size: numbers in an action.

    Returns:
        Operations whose output is [..., action_size], or None.
    """
    *before, last = operations
    if last.kind == "dense":
        arrays = {}
        for name, array in last.arrays.items():
            arrays[name] = np.ascontiguousarray(array[..., :action_size])
        return (*before, last._replace(arrays=arrays))
    if last.kind == "side_by_side" and len(last.inner) == 2:
        return (*before, *last.inner[0])
    return None
