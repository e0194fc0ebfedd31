"""Folding: normalisations become part of the dense layers beside them, so that acting takes fewer operations.

What is left between two dense layers is a non-linearity. Layer norm, features of unit length and the like
depend on the sample and stay as they are.
"""

from collections.abc import Sequence

import numpy as np

from crossq_wn.acting.operations import Network, Op

# x s - m s loses digits that (x - m) s keeps, about as many as |m s| has: beyond this, m is subtracted first.
_FAR = 8.0


def folded(network: Network) -> Network:
    """The same network in fewer operations; equal but for rounding."""
    return network._replace(operations=folded_operations(network.operations))


def folded_operations(operations: Sequence[Op]) -> tuple[Op, ...]:
    """The same operations with every affine map beside a dense layer folded into it."""
    done: list[Op] = []
    for op in operations:
        op = op._replace(inner=tuple(folded_operations(inner) for inner in op.inner))
        before = done[-1].kind if done else ""
        if op.kind == "affine" and before == "dense":
            done[-1] = _after(done[-1], op)
        elif op.kind == "dense" and before == "affine":
            done[-1:] = _ahead(done[-1], op)
        else:
            done.append(op)
    return tuple(done)


def _after(dense: Op, affine: Op) -> Op:
    """(x W + b - m) s + c = x (W s) + (b - m) s + c."""
    kernel, bias = _exact(dense.arrays["kernel"]), _exact(dense.arrays["bias"])
    shift, scale, offset = _parts(affine, len(bias))
    return _dense(kernel * scale, (bias - shift) * scale + offset)


def _ahead(affine: Op, dense: Op) -> list[Op]:
    """((x - m) s + c) W + b = x (s W) + (c - m s) W + b, or with x - m where m s is large."""
    kernel, bias = _exact(dense.arrays["kernel"]), _exact(dense.arrays["bias"])
    shift, scale, offset = _parts(affine, len(kernel))
    scaled = scale[:, None] * kernel
    if np.abs(shift * scale).max() > _FAR:
        return [Op("affine", {"shift": affine.arrays["shift"]}), _dense(scaled, offset @ kernel + bias)]
    return [_dense(scaled, (offset - shift * scale) @ kernel + bias)]


def _parts(affine: Op, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift, scale and bias."""
    usual = {"shift": np.zeros(size), "scale": np.ones(size), "bias": np.zeros(size)} | dict(affine.arrays)
    return _exact(usual["shift"]), _exact(usual["scale"]), _exact(usual["bias"])


def _exact(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)


def _dense(kernel: np.ndarray, bias: np.ndarray) -> Op:
    return Op("dense", {"kernel": np.ascontiguousarray(kernel, np.float32), "bias": np.float32(bias)})
