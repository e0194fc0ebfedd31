"""Squashed Gaussian policies: u ~ N(mean, std), and the action is tanh(u)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.acting.operations import Network, Op
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.initialisers import orthogonal
from crossq_wn.nets.layers import Layer, dense
from crossq_wn.types import Array, InNumpy

LOG_2 = float(np.log(2.0))
HALF_LOG_2PI = float(0.5 * np.log(2.0 * np.pi))


class Policy(NamedTuple):
    """The meaning of an actor's output [..., 2 * action_size]: a Gaussian of u, whose tanh is the action."""

    # output -> mean and log standard deviation of u, each [..., action_size]
    gaussian: Callable[[Array], tuple[Array, Array]]
    # `describe` returns the rule of log_std in `acting.operations.Network`, and its limits
    in_numpy: InNumpy | None = None

    def sample(self, output: Array, key: Array) -> tuple[Array, Array]:
        """Draws an action.

        Args:
            output: of the actor, [..., 2 * action_size].
            key: random key.

        Returns:
            The action [..., action_size], and its log density [...].
        """
        return squashed_sample(*self.gaussian(output), key)

    def mode(self, output: Array) -> Array:
        """The deterministic action [..., action_size].

        Args:
            output: of the policy network, [..., 2 * action_size].
        """
        return jnp.tanh(self.gaussian(output)[0])


def network(policy: Policy, operations: tuple[Op, ...]) -> Network:
    """The network in numpy whose operations lead from an observation to the policy's output.

    Args:
        policy: the meaning of the output.
        operations: from an observation to the output [..., 2 * action_size].

    Raises:
        UndescribedError: the policy does not say in numpy what the output means.
    """
    return Network(operations, *InNumpy.of(policy.gaussian, policy.in_numpy)())


def squashed_sample(mean: Array, log_std: Array, key: Array) -> tuple[Array, Array]:
    """Draws an action, the tanh of a diagonal Gaussian u.

    log pi(a) = sum_i log N(u_i) - 2 (log 2 - u_i - softplus(-2 u_i)): the exact change of variables in a form
    that stays finite for any u.

    Args:
        mean: of u, [..., action_size].
        log_std: of u, [..., action_size].
        key: random key.

    Returns:
        The action [..., action_size] and its log density [...].

    Source:
        SAC, Haarnoja et al. 2018 (arXiv 1812.05905), appendix C.
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    u = mean + jnp.exp(log_std) * noise
    log_normal = -0.5 * jnp.square(noise) - log_std - HALF_LOG_2PI
    log_det = 2.0 * (LOG_2 - u - jax.nn.softplus(-2.0 * u))
    return jnp.tanh(u), jnp.sum(log_normal - log_det, -1)


def clipped(log_std_min: float, log_std_max: float) -> Policy:
    """A policy whose log standard deviation is clipped to its limits (SAC in jaxrl, CrossQ).

    Args:
        log_std_min: lower limit; below it, the gradient of the log standard deviation is 0.
        log_std_max: upper limit, likewise.
    """

    def gaussian(output: Array) -> tuple[Array, Array]:
        mean, log_std = jnp.split(output, 2, -1)
        return mean, jnp.clip(log_std, log_std_min, log_std_max)

    return Policy(gaussian, InNumpy(gaussian, lambda: ("clip", log_std_min, log_std_max)))


def squeezed(log_std_min: float, log_std_max: float) -> Policy:
    """A policy whose log standard deviation is squeezed into its limits (SR-SAC, BRO, SimBa, TD-MPC2).

    It is min + (max - min) (1 + tanh(x)) / 2, for the output x.
    """

    def gaussian(output: Array) -> tuple[Array, Array]:
        mean, x = jnp.split(output, 2, -1)
        return mean, log_std_min + 0.5 * (log_std_max - log_std_min) * (1.0 + jnp.tanh(x))

    return Policy(gaussian, InNumpy(gaussian, lambda: ("squeeze", log_std_min, log_std_max)))


def gaussian_head(action_size: int, mean_gain: float = 2**0.5, log_std_gain: float = 1.0) -> Layer:
    """An actor's output layer, with separate orthogonal kernels for mean and log standard deviation.

    Args:
        action_size: number of action dimensions; the layer has twice as many outputs.
        mean_gain: gain of the kernel of the mean.
        log_std_gain: gain of the kernel of the log standard deviation.
    """

    def kernel_init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        mean, log_std = orthogonal(mean_gain), orthogonal(log_std_gain)
        half = n_out // 2
        return np.concatenate([mean(generator, n_in, half), log_std(generator, n_in, half)], 1)

    return dense(2 * action_size, kernel_init)
