"""How does a network's output become an action? As a squashed Gaussian: u ~ N(mean, std), a = tanh(u)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossq_wn.networks import Layer, dense, orthogonal
from crossq_wn.types import Array

LOG_2 = float(np.log(2.0))
HALF_LOG_2PI = float(0.5 * np.log(2.0 * np.pi))


class Policy(NamedTuple):
    """What an actor's output [..., 2 * action_size] means.

    sample: (output, key) -> (action [..., action_size], log density [...])
    mode:   output -> the deterministic action tanh(mean)
    """

    sample: Callable[[Array, Array], tuple[Array, Array]]
    mode: Callable[[Array], Array]


def squashed_gaussian(log_std_min: float, log_std_max: float) -> Policy:
    """Tanh-squashed diagonal Gaussian with a hard-clipped log standard deviation.

    log pi(a) = sum_i log N(u_i) - 2 (log 2 - u_i - softplus(-2 u_i)): the exact change of variables, finite
    for any u (SAC, Haarnoja et al. 2018, appendix C).
    """

    def split(output: Array) -> tuple[Array, Array]:
        mean, log_std = jnp.split(output, 2, -1)
        return mean, jnp.clip(log_std, log_std_min, log_std_max)

    def sample(output: Array, key: Array) -> tuple[Array, Array]:
        mean, log_std = split(output)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        u = mean + jnp.exp(log_std) * noise
        log_normal = -0.5 * jnp.square(noise) - log_std - HALF_LOG_2PI
        log_det = 2.0 * (LOG_2 - u - jax.nn.softplus(-2.0 * u))
        return jnp.tanh(u), jnp.sum(log_normal - log_det, -1)

    return Policy(sample, lambda output: jnp.tanh(split(output)[0]))


def gaussian_head(action_size: int, mean_gain: float = 2**0.5, log_std_gain: float = 1.0) -> Layer:
    """The mean head and the log-std head side by side, each orthogonal with its own gain."""

    def kernel_init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        gains = (mean_gain, log_std_gain)
        return np.concatenate([orthogonal(g)(generator, n_in, n_out // 2) for g in gains], 1)

    return dense(2 * action_size, kernel_init)
