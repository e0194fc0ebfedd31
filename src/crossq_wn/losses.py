"""How far is a critic from its target? Losses on q[critic, sample, atom]; a scalar critic has one atom."""

import jax.numpy as jnp

from crossq_wn.types import Array


def half_squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b 1/2 (q - y)^2; q [critic, B, 1], y [B, 1] (CrossQ)."""
    return 0.5 * squared_error(q, y)


def squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b (q - y)^2; q [critic, B, 1], y [B, 1] (SAC)."""
    return jnp.sum(jnp.mean(jnp.square(q - y), (1, 2)))
