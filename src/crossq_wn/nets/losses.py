"""What does a critic's output mean, and how far is it from its target?

A critic returns output[critic, sample, atom]. A `Readout` says what the atoms are: one value, quantiles, or
the logits of a categorical distribution.
"""

from collections.abc import Callable
from typing import NamedTuple

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Array

Reduce = Callable[[Array, Array], Array]  # (x[critic, ...], key) -> x[...]


class Readout(NamedTuple):
    """How outputs become values, targets and a loss.

    value:  output -> q[critic, sample], the expectation
    target: (next output, reward[B], continuation[B], bonus[B], key) -> y[B, atom], where the target variable
            is reward + continuation * (next value + bonus), continuation is gamma * mask (0 on a true
            termination) and bonus is -alpha log pi(a'|s')
    expected: y -> [B], the expectation of a target
    loss:   (output, y) -> scalar
    """

    value: Callable[[Array], Array]
    target: Callable[[Array, Array, Array, Array, Array], Array]
    expected: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]


def minimum(values: Array, key: Array) -> Array:
    """The smallest over critics (clipped double Q-learning, Fujimoto et al. 2018)."""
    return jnp.min(values, 0)


def mean(values: Array, key: Array) -> Array:
    """The mean over critics."""
    return jnp.mean(values, 0)


def minimum_of_subset(size: int) -> Reduce:
    """The smallest over a random subset of critics (REDQ, Chen et al. 2021, algorithm 1)."""

    def reduce(values: Array, key: Array) -> Array:
        chosen = jax.random.choice(key, values.shape[0], (size,), replace=False)
        return jnp.min(values[chosen], 0)

    return reduce


def half_squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b 1/2 (q - y)^2; q [critic, B, 1], y [B, 1] (CrossQ)."""
    return 0.5 * squared_error(q, y)


def squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b (q - y)^2; q [critic, B, 1], y [B, 1] (SAC)."""
    return jnp.sum(jnp.mean(jnp.square(q - y), (1, 2)))


def scalar(error: Callable[[Array, Array], Array], reduce: Reduce = minimum) -> Readout:
    """One atom, the value itself; targets reduce the critics."""

    def target(output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        return (reward + continuation * (reduce(output[..., 0], key) + bonus))[:, None]

    return Readout(lambda output: output[..., 0], target, lambda y: y[:, 0], error)


def quantile(atoms: int, kappa: float = 1.0) -> Readout:
    """Atoms are quantiles at the midpoints (i + 1/2) / atoms; targets average the critics (BRO).

    Quantile Huber loss (Dabney et al. 2018, equation 10): summed over predicted quantiles, averaged over the
    batch and over target quantiles, summed over critics.
    """
    midpoints = (jnp.arange(atoms) + 0.5) / atoms

    def target(output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        return reward[:, None] + continuation[:, None] * (jnp.mean(output, 0) + bonus[:, None])

    def loss(output: Array, y: Array) -> Array:
        def against(target: Array) -> Array:  # [B] -> [critic, B, predicted]
            difference = target[:, None] - output
            distance = jnp.abs(difference)
            quadratic, linear = 0.5 * jnp.square(difference), kappa * (distance - 0.5 * kappa)
            weight = jnp.abs(midpoints - (difference < 0))
            return weight * jnp.where(distance <= kappa, quadratic, linear) / kappa

        return jnp.sum(jnp.mean(sum_over_atoms(against, y) / y.shape[1], 1))

    return Readout(lambda output: jnp.mean(output, -1), target, lambda y: jnp.mean(y, -1), loss)


def categorical(low: float, high: float, atoms: int) -> Readout:
    """Atoms are logits on a fixed support (C51, Bellemare et al. 2017); cross-entropy, summed over critics.

    A sample's target distribution is that of the critic with the smallest value, shared by all critics.
    """
    support = jnp.linspace(low, high, atoms)

    def value(output: Array) -> Array:
        return jnp.sum(jax.nn.softmax(output) * support, -1)

    def target(output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        smallest = jnp.argmin(value(output), 0)
        logits = jnp.take_along_axis(output, smallest[None, :, None], 0)[0]
        moved = reward[:, None] + continuation[:, None] * (support + bonus[:, None])
        return project(jax.nn.softmax(logits), moved, support)

    def loss(output: Array, y: Array) -> Array:
        return -jnp.sum(jnp.mean(jnp.sum(y * jax.nn.log_softmax(output), -1), -1))

    return Readout(value, target, lambda y: jnp.sum(y * support, -1), loss)


def sum_over_atoms(term: Callable[..., Array], *columns: Array) -> Array:
    """sum_j term(x[:, j], ...) over the atoms of each x [B, atom], one after the other.

    A sum over the last axis of one large array takes XLA 3 times as long on CPU, its gradient 20 times: it is
    neither vectorised nor kept in the caches.
    """
    atoms = tuple(x.T for x in columns)
    like = jax.eval_shape(term, *(x[0] for x in atoms))

    def add(total: Array, atom: tuple[Array, ...]) -> tuple[Array, None]:
        return total + term(*atom), None

    total, _ = jax.lax.scan(jax.checkpoint(add), jnp.zeros(like.shape, like.dtype), atoms, unroll=10)
    return total


def project(probabilities: Array, places: Array, support: Array) -> Array:
    """Moves probability mass from `places` onto the support, shared between neighbours by distance.

    Keeps the mean of what lies within the support; what lies beyond goes to its ends.

    Args:
        probabilities: [B, atom].
        places: [B, atom], where each atom's mass is.
        support: [atom], evenly spaced.
    """
    step = support[1] - support[0]
    places = jnp.clip(places, support[0], support[-1])

    def share(place: Array, probability: Array) -> Array:  # [B], [B] -> [B, atom of support]
        return jnp.clip(1 - jnp.abs(place[:, None] - support) / step, 0, 1) * probability[:, None]

    return sum_over_atoms(share, places, probabilities)
