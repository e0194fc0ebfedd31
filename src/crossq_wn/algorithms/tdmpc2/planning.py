"""Which action is best under a model? Model predictive path integral control (MPPI), as in TD-MPC2.

Many action sequences are drawn around a mean, rolled out in the model and weighted by their values; the mean
and the spread follow the best of them, a few times over. The next decision starts from the mean, shifted.
"""

from collections.abc import Callable
from typing import NamedTuple

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Array, Tree


class Model(NamedTuple):
    """What a planner needs to know of the world; z is a latent state, [n, latent_size].

    step:   (z, action) -> (next z, reward [n])
    value:  (z, key) -> [n], the return to expect from z on
    policy: (z, key) -> action [n, action_size]
    """

    step: Callable[[Array, Array], tuple[Array, Array]]
    value: Callable[[Array, Array], Array]
    policy: Callable[[Array, Array], Array]


class Planner(NamedTuple):
    """How MPPI searches."""

    horizon: int  # decisions ahead
    iterations: int
    samples: int  # sequences per iteration, those of the policy included
    policy_samples: int
    elites: int
    min_std: float
    max_std: float
    temperature: float  # of the elites' weights


class Plan(NamedTuple):
    """What one decision leaves to the next."""

    mean: Array  # [horizon, action_size]
    decision: Array  # of the episode


def plan(
    planner: Planner, model: Model, discount: float, z: Array, before: Array, key: Array
) -> tuple[Array, Array, Array]:
    """Searches from one latent state.

    Args:
        z: [latent_size].
        before: the mean to start from, [horizon, action_size].
        key: random key.

    Returns:
        One of the elites' first actions, drawn by weight; its standard deviation; the mean of sequences.
    """
    policy_key, elite_key, search_key = jax.random.split(key, 3)
    own = _policy_sequences(planner, model, z, policy_key)
    start = jnp.broadcast_to(z, (planner.samples, z.size))

    def search(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        mean, std = carry
        noise_key, value_key = jax.random.split(key)
        count = planner.samples - planner.policy_samples
        noise = jax.random.normal(noise_key, (planner.horizon, count, mean.shape[-1]))
        drawn = jnp.clip(mean[:, None] + std[:, None] * noise, -1.0, 1.0)
        sequences = jnp.concatenate([own, drawn], 1)
        values = _returns(model, discount, start, sequences, value_key)
        best, index = jax.lax.top_k(jnp.nan_to_num(values), planner.elites)
        elites = sequences[:, index]
        weights = jax.nn.softmax(planner.temperature * best)[:, None]
        mean = jnp.sum(weights * elites, 1)
        std = jnp.sqrt(jnp.sum(weights * jnp.square(elites - mean[:, None]), 1))
        std = jnp.clip(std, planner.min_std, planner.max_std)
        return (mean, std), (elites[0], weights[:, 0])

    spread = jnp.full_like(before, planner.max_std)
    keys = jax.random.split(search_key, planner.iterations)
    (mean, std), (elites, weights) = jax.lax.scan(search, (before, spread), keys)
    chosen = jax.random.categorical(elite_key, jnp.log(weights[-1]))
    return elites[-1][chosen], std[0], mean


def _policy_sequences(planner: Planner, model: Model, z: Array, key: Array) -> Array:
    """Action sequences of the policy itself, [horizon, policy_samples, action_size]."""

    def step(z: Array, key: Array) -> tuple[Array, Array]:
        action = model.policy(z, key)
        return model.step(z, action)[0], action

    start = jnp.broadcast_to(z, (planner.policy_samples, z.size))
    return jax.lax.scan(step, start, jax.random.split(key, planner.horizon))[1]


def _returns(model: Model, discount: float, z: Array, sequences: Array, key: Array) -> Array:
    """Sum of discounted rewards along each sequence and the value of where it ends, [samples]."""

    def step(carry: tuple[Tree, Array], action: Array) -> tuple[tuple[Tree, Array], Array]:
        z, weight = carry
        z, reward = model.step(z, action)
        return (z, weight * discount), weight * reward

    (z, weight), rewards = jax.lax.scan(step, (z, jnp.ones(())), sequences)
    return jnp.sum(rewards, 0) + weight * model.value(z, key)
