"""How much memory an algorithm will take, estimated before any of it is taken."""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from typing import Any

from crossq_wn.lazy import jax
from crossq_wn.learning.products import inner_jaxprs, minibatch_shapes, state_shapes, update_program
from crossq_wn.types import Algorithm, Spec

# The bound is this many times the state and the outputs of its kernels; our updates take a third at most.
_MARGIN = 10


def state_bytes(algorithm: Algorithm) -> int:
    """The size of one seed's state in bytes: parameters, statistics and optimisers."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(state_shapes(algorithm)))


def batch_bytes(algorithm: Algorithm, spec: Spec, batch_size: int) -> int:
    """The size of a minibatch in bytes.

    Args:
        algorithm: decides how many transitions a sample has.
        spec: the problem.
        batch_size: samples per minibatch.
    """
    return sum(map(_bytes, jax.tree.leaves(minibatch_shapes(algorithm, spec, batch_size))))


def most_update_bytes(algorithm: Algorithm, batch_size: int) -> int:
    """An upper bound on `update_bytes` that takes no time, because nothing is traced.

    Args:
        algorithm: any, also a user's own.
        batch_size: samples per minibatch.
    """
    samples, total = batch_size * algorithm.horizon, 0
    for leaf in jax.tree.leaves(state_shapes(algorithm)):
        total += _bytes(leaf) + (4 * samples * leaf.shape[-1] if len(leaf.shape) > 1 else 0)
    return _MARGIN * total


def update_bytes(algorithm: Algorithm, spec: Spec, batch_size: int) -> int:
    """Estimates the bytes that one gradient update of one seed takes besides its state and minibatch.

    It is the peak size of the results of the update's operations if they run one after the other; XLA's own
    figures are between a third of it and 1.5 times as much.

    Args:
        algorithm: any, also a user's own.
        spec: the problem.
        batch_size: samples per minibatch.
    """
    return _peak(update_program(algorithm, spec, batch_size).jaxpr)


def _peak(jaxpr: Any) -> int:
    """The most bytes that the results of a jaxpr's equations take at any time."""
    last = _last_uses(jaxpr)
    live: dict[Any, int] = {}
    peak = 0
    for number, equation in enumerate(jaxpr.eqns):
        inside = max((_peak(each) for each in inner_jaxprs(equation)), default=0)
        for variable in equation.outvars:
            if variable in last:
                live[variable] = _bytes(variable.aval)
        peak = max(peak, sum(live.values()) + inside)
        for variable in equation.invars:
            if not hasattr(variable, "val") and last[variable] == number:
                live.pop(variable, None)
    return peak


def _last_uses(jaxpr: Any) -> dict[Any, int]:
    """The number of the equation that uses each variable last; results are used after all equations."""
    last: dict[Any, int] = {}
    for number, variables in enumerate([*(each.invars for each in jaxpr.eqns), jaxpr.outvars]):
        for variable in variables:
            if not hasattr(variable, "val"):  # literals take no memory
                last[variable] = number
    return last


def _bytes(leaf: Any) -> int:
    return int(math.prod(leaf.shape) * getattr(leaf.dtype, "itemsize", 8))
