"""Optimisers with weight-decay masks and projections, and target networks that follow by Polyak averages."""

from __future__ import annotations  # JAX's types are loaded on first use

import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import Layer
from crossq_wn.types import Array, Tree


class OptimiserStep(Protocol):
    """Takes one gradient step."""

    def __call__(self, gradients: Tree, moments: Tree, params: Tree, /) -> tuple[Tree, Tree]:
        """Returns the new parameters, projected as their layers demand, and the optimiser's new moments."""


class Optimiser(NamedTuple):
    """An optimiser of one network; `moments` are Adam's running averages of gradients and their squares."""

    init: Callable[[Tree], Tree]  # params -> moments
    step: OptimiserStep
    learning_rate: Callable[[Tree], Array | float]  # moments -> the learning rate (eta) of the next step


def adamw(
    layer: Layer, learning_rate: optax.ScalarOrSchedule, weight_decay: float = 0.0, beta1: float = 0.9
) -> Optimiser:
    """AdamW, followed by the layer's projection.

    Args:
        layer: the network to optimise, which says where weight decay applies (paper v2, section 4: 0 on
            normalised layers, 1e-2 otherwise).
        learning_rate: a number, or a schedule over this network's own gradient updates.
        weight_decay: decoupled from the gradient, multiplied by the learning rate; 0 makes this Adam.
        beta1: decay rate of Adam's first moment.
    """
    transform = deferred(
        lambda: optax.adamw(learning_rate, b1=beta1, weight_decay=weight_decay, mask=layer.decay)
    )

    def step(gradients: Tree, moments: Tree, params: Tree) -> tuple[Tree, Tree]:
        change, moments = transform.update(gradients, moments, params)
        return layer.project(optax.apply_updates(params, change)), moments

    return Optimiser(transform.init, step, partial(_rate_of_next_step, learning_rate))


def _rate_of_next_step(learning_rate: optax.ScalarOrSchedule, moments: Tree) -> Array | float:
    """The learning rate (eta) that the optimiser will apply next."""
    if not callable(learning_rate):
        return float(learning_rate)
    schedule = optax.tree.get(moments, "ScaleByScheduleState")
    now: Array = jnp.asarray(learning_rate(schedule.count))
    return now


class Transformation(NamedTuple):
    """What optax calls a GradientTransformation."""

    init: Callable[..., Tree]
    update: Callable[..., tuple[Tree, Tree]]


def deferred(make: Callable[[], optax.GradientTransformation]) -> Transformation:
    """A transformation of optax that is made on first use, so that building an algorithm loads no JAX.

    It must be one whose state starts at zero, as Adam's moments and all counters do.
    """
    made = functools.cache(make)
    return Transformation(
        init=lambda params: _zeros(jax.eval_shape(made().init, params), params),
        update=lambda updates, state, params=None: made().update(updates, state, params),
    )


def _zeros(shapes: Tree, params: Tree) -> Tree:
    """Zeros on the host, where making them takes no program to compile; traced ones if the parameters are."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))
    zeros = jnp.zeros if traced else np.zeros  # traced zeros take no memory, however large they are
    return jax.tree.map(lambda leaf: zeros(leaf.shape, leaf.dtype), shapes)


def deferred_schedule(make: Callable[[], optax.Schedule]) -> optax.Schedule:
    """A schedule of optax that is made on first use, for the same reason."""
    made = functools.cache(make)
    return lambda count: made()(count)


class Target(NamedTuple):
    """A target network: a second set of parameters; running statistics belong to the online network alone."""

    init: Callable[[Tree], Tree]  # online params -> target params
    follow: Callable[[Tree, Tree], Tree]  # (target params, online params) -> target params


def polyak(tau: float) -> Target:
    """theta_bar <- tau theta + (1 - tau) theta_bar, for all trainable parameters (those of batch norm too).

    Args:
        tau: rate per gradient update.
    """

    def follow(target: Tree, online: Tree) -> Tree:
        return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)

    # A copy, because the update donates its state, and no buffer may be donated twice.
    return Target(lambda online: jax.tree.map(lambda leaf: leaf.copy(), online), follow)


def no_target() -> Target:
    """No target network: CrossQ's online critic is its own target."""
    return Target(lambda online: (), lambda target, online: ())
