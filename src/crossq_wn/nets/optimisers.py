"""How do a network and its target change? By AdamW with the layer's decay mask, projection and Polyak."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from typing import NamedTuple

from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import Layer
from crossq_wn.types import Array, Tree


class Optimiser(NamedTuple):
    """What moves parameters.

    init: params -> moments
    step: (gradients, moments, params) -> (projected params, moments)
    learning_rate: moments -> eta of the next step
    """

    init: Callable[[Tree], Tree]
    step: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]
    learning_rate: Callable[[Tree], Array | float]


def adamw(
    layer: Layer, learning_rate: optax.ScalarOrSchedule, weight_decay: float = 0.0, beta1: float = 0.9
) -> Optimiser:
    """AdamW (decoupled decay, multiplied by the learning rate) followed by the layer's projection.

    Decay touches only what the layer declares unbounded (paper v2, section 4: 0 on normalised layers,
    1e-2 otherwise). A decay of 0 is plain Adam. Schedules count gradient updates of this network.
    """
    transform = optax.adamw(learning_rate, b1=beta1, weight_decay=weight_decay, mask=layer.decay)

    def step(gradients: Tree, moments: Tree, params: Tree) -> tuple[Tree, Tree]:
        change, moments = transform.update(gradients, moments, params)
        return layer.project(optax.apply_updates(params, change)), moments

    def rate(moments: Tree) -> Array | float:
        if not callable(learning_rate):
            return float(learning_rate)
        schedule = optax.tree.get(moments, "ScaleByScheduleState")
        now: Array = jnp.asarray(learning_rate(schedule.count))
        return now

    # One program for all leaves starts sooner than many little ones.
    return Optimiser(jax.jit(transform.init), step, rate)


def linear_schedule(start: float, end: float, updates: int) -> optax.ScalarOrSchedule:
    """Learning rate from `start` to `end` over `updates` gradient updates; constant when they are equal."""
    return start if start == end else optax.linear_schedule(start, end, updates)


class Target(NamedTuple):
    """A second set of a network's parameters; running statistics stay with the online network alone.

    init: online params -> target; follow: (target, online params) -> target.
    """

    init: Callable[[Tree], Tree]
    follow: Callable[[Tree, Tree], Tree]


def polyak(tau: float) -> Target:
    """theta_bar <- tau theta + (1 - tau) theta_bar on all trainable parameters, batch norm's included."""

    def follow(target: Tree, online: Tree) -> Tree:
        return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)

    # Copies, because the update donates every buffer once.
    return Target(lambda online: jax.tree.map(lambda leaf: leaf.copy(), online), follow)


def no_target() -> Target:
    """CrossQ: the online critic is its own target."""
    return Target(lambda online: (), lambda target, online: ())
