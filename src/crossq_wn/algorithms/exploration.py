"""Exploration noise that stays the same for several decisions."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.actor_critic import Acted, Parts
from crossq_wn.algorithms.state import KeyStream, State, random_key
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.layers import predict
from crossq_wn.types import Algorithm, Array, Tree


class HeldNoise(NamedTuple):
    """The memory of acting; it outlasts the end of an episode."""

    noise: Array  # epsilon [action_size]
    left: Array  # agent decisions for which it still stays the same


def zeta(exponent: float, longest: int) -> np.ndarray:
    """The probabilities of k = 1 to `longest`, proportional to k^-exponent (a truncated zeta law).

    Args:
        exponent: 0 makes all lengths equally likely, larger ones favour short ones.
        longest: agent decisions.

    Returns:
        [longest], which sum to 1.
    """
    weights = np.arange(1, longest + 1, dtype=float) ** -exponent
    return np.asarray(weights / weights.sum())


def repeat_noise(parts: Parts, lengths: np.ndarray) -> Callable[[Algorithm], Algorithm]:
    """A wrapper that explores by tanh(mu + sigma epsilon), with one epsilon for k decisions (FlashSAC).

    Mean and standard deviation are those of each decision's own observation. Evaluations are not affected.

    Args:
        parts: give the actor and the policy.
        lengths: the probabilities of k = 1, 2, ... decisions.
    """

    def wrap(algorithm: Algorithm) -> Algorithm:
        return algorithm._replace(
            explore=partial(explore, parts, np.cumsum(lengths)),
            memory=HeldNoise(np.zeros(parts.spec.action_size, np.float32), np.int32(0)),  # type: ignore[arg-type]
            recall=lambda held, new: held,  # noise outlasts the end of an episode
        )

    return wrap


def explore(
    parts: Parts, cumulated: np.ndarray, state: State, memory: HeldNoise, observation: Array, decision: Array
) -> Acted:
    """A stochastic action whose noise may be that of the decision before; see `types.Explore`.

    Args:
        parts: give the actor and the policy.
        cumulated: [longest], the probability that noise lasts for at most k = 1, 2, ... decisions.
        state: of one seed.
        memory: the noise, and for how many decisions more it stays.
        observation: [observation_size].
        decision: agent decisions of training before this one; selects new noise.
    """
    held = hold(memory, cumulated, random_key(state.key, KeyStream.DECISION, decision))
    mean, log_std = parts.policy.gaussian(predict(parts.actor, state.actor, observation[None])[0])
    return jnp.tanh(mean + jnp.exp(log_std) * held.noise), held._replace(left=held.left - 1)


def hold(memory: HeldNoise, cumulated: np.ndarray, key: Array) -> HeldNoise:
    """The noise of this decision: that of the decision before, or a new one if that has lasted its time.

    Args:
        memory: the noise of the decision before.
        cumulated: [longest], the probability that noise lasts for at most k = 1, 2, ... decisions.
        key: random key, of the noise that is used if the last one has lasted its time.
    """
    noise_key, length_key = jax.random.split(key)
    length = jnp.searchsorted(jnp.asarray(cumulated[:-1]), jax.random.uniform(length_key), side="right") + 1
    new = HeldNoise(jax.random.normal(noise_key, memory.noise.shape), length.astype(jnp.int32))
    held: Tree = jax.tree.map(partial(jnp.where, memory.left > 0), memory, new)
    return HeldNoise(*held)
