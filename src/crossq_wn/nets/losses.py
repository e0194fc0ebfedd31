"""Readouts: how the outputs of critics become values, regression targets and a loss.

Critics return output[critic, sample, atom]. The atoms are a single value, quantiles, or the logits of a
categorical distribution. `two_hot` is a code of unbounded numbers as distributions, for the rewards and
values of world models.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from crossq_wn.lazy import constant, jax, jnp
from crossq_wn.types import Array

Reduce = Callable[[Array, Array], Array]  # (x[critic, ...], key) -> x[...]


class MakeTarget(Protocol):
    """Makes the regression targets of a critic update."""

    def __call__(
        self, next_output: Array, reward: Array, continuation: Array, bonus: Array, key: Array, /
    ) -> Array:
        """The target of reward + continuation * (next value + bonus).

        Args:
            next_output: critic outputs at (s', a'), [critic, B, atom].
            reward: [B].
            continuation: [B], gamma * mask, which is 0 on a true termination.
            bonus: [B], -alpha log pi(a'|s').
            key: random key, for readouts that choose critics at random.

        Returns:
            y [B, atom], which all critics share.
        """


class Readout(NamedTuple):
    """How the outputs of critics become values, targets and a loss."""

    value: Callable[[Array], Array]  # output [critic, B, atom] -> q [critic, B], the expectation
    target: MakeTarget
    expected: Callable[[Array], Array]  # y [B, atom] -> [B], the expectation of a target
    loss: Callable[[Array, Array], Array]  # (output [critic, B, atom], y [B, atom]) -> scalar
    atoms: int = 1  # numbers that each critic has to say about a sample


# Reducing several critics to one value


def minimum(values: Array, key: Array) -> Array:
    """The smallest over critics (clipped double Q-learning, Fujimoto et al. 2018).

    Args:
        values: [critic, ...].
        key: unused.

    Returns:
        [...].
    """
    return jnp.min(values, 0)


def mean(values: Array, key: Array) -> Array:
    """The mean over critics.

    Args:
        values: [critic, ...].
        key: unused.

    Returns:
        [...].
    """
    return jnp.mean(values, 0)


# Atoms as values


def half_squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b 1/2 (q - y)^2; q [critic, B, 1], y [B, 1] (CrossQ)."""
    return 0.5 * squared_error(q, y)


def squared_error(q: Array, y: Array) -> Array:
    """sum over critics of mean_b (q - y)^2; q [critic, B, 1], y [B, 1] (SAC)."""
    return jnp.sum(jnp.mean(jnp.square(q - y), (1, 2)))


def scalar(error: Callable[[Array, Array], Array], reduce: Reduce = minimum) -> Readout:
    """A readout with one atom, the value itself.

    The target is r + gamma V(s') with V(s') = reduce over critics of Q(s', a') + bonus (paper v2, equation
    1).

    Args:
        error: (q [critic, B, 1], y [B, 1]) -> scalar, such as `squared_error`.
        reduce: how several critics become one target.
    """

    def target(next_output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        return (reward + continuation * (reduce(next_output[..., 0], key) + bonus))[:, None]

    return Readout(lambda output: output[..., 0], target, lambda y: y[:, 0], error)


# Atoms as quantiles


def quantile(atoms: int, kappa: float = 1.0) -> Readout:
    """A readout whose atoms are quantiles; targets average the critics, quantile by quantile (BRO).

    Args:
        atoms: number of quantiles; they lie at the midpoints (i + 1/2) / atoms.
        kappa: error beyond which the Huber loss is linear.
    """

    def target(next_output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        return reward[:, None] + continuation[:, None] * (jnp.mean(next_output, 0) + bonus[:, None])

    midpoints = constant(lambda: (jnp.arange(atoms) + 0.5) / atoms)
    loss = partial(_quantile_huber_loss, midpoints, kappa)
    return Readout(lambda output: jnp.mean(output, -1), target, lambda y: jnp.mean(y, -1), loss, atoms)


def _quantile_huber_loss(midpoints: Callable[[], Array], kappa: float, output: Array, y: Array) -> Array:
    """Quantile Huber loss (Dabney et al. 2018, equation 10).

    Summed over predicted quantiles and over critics, averaged over target quantiles and over the batch.
    """

    def against(target: Array) -> Array:  # [B] -> [critic, B, predicted]
        difference = target[:, None] - output
        distance = jnp.abs(difference)
        quadratic, linear = 0.5 * jnp.square(difference), kappa * (distance - 0.5 * kappa)
        # Targets above the atom of a high quantile weigh more than those below, which makes it that quantile.
        weight = jnp.abs(midpoints() - (difference < 0))
        return weight * jnp.where(distance <= kappa, quadratic, linear) / kappa

    return jnp.sum(jnp.mean(sum_over_atoms(against, y) / y.shape[1], 1))


# Atoms as logits of a distribution


def categorical(low: float, high: float, atoms: int) -> Readout:
    """A readout whose atoms are logits on a fixed support (C51, Bellemare et al. 2017).

    Each sample's target distribution comes from the critic with the smallest value. The loss is the
    cross-entropy, averaged over the batch and summed over critics.

    Args:
        low: smallest value of the support.
        high: largest value of the support.
        atoms: number of evenly spaced values.
    """
    support = constant(lambda: jnp.linspace(low, high, atoms))

    def value(output: Array) -> Array:
        return jnp.sum(jax.nn.softmax(output) * support(), -1)

    def target(next_output: Array, reward: Array, continuation: Array, bonus: Array, key: Array) -> Array:
        # Of whole distributions there is no minimum, so the critic with the smaller mean gives its own.
        smallest = jnp.argmin(value(next_output), 0)
        logits = jnp.take_along_axis(next_output, smallest[None, :, None], 0)[0]
        moved = reward[:, None] + continuation[:, None] * (support() + bonus[:, None])
        return project(jax.nn.softmax(logits), moved, support())

    def loss(output: Array, y: Array) -> Array:
        return -jnp.sum(jnp.mean(jnp.sum(y * jax.nn.log_softmax(output), -1), -1))

    return Readout(value, target, lambda y: jnp.sum(y * support(), -1), loss, atoms)


def averaged(readout: Readout) -> Readout:
    """The readout with a loss that is averaged over critics instead of summed (FlashSAC)."""

    def loss(output: Array, y: Array) -> Array:
        return readout.loss(output, y) / len(output)

    return readout._replace(loss=loss)


def project(probabilities: Array, places: Array, support: Array) -> Array:
    """Moves probability mass onto an evenly spaced support (Bellemare et al. 2017, equation 7).

    Each mass is split between the two atoms around its place in proportion to their nearness, which keeps the
    mean. Mass from outside the support goes to its nearer end.

    Args:
        probabilities: [B, atom].
        places: [B, atom], where each atom's mass lies.
        support: [atom of the support], evenly spaced.

    Returns:
        Probabilities on the support, [B, atom of the support].
    """
    step = support[1] - support[0]
    places = jnp.clip(places, support[0], support[-1])

    def share(place: Array, probability: Array) -> Array:  # [B], [B] -> [B, atom of support]
        return jnp.clip(1 - jnp.abs(place[:, None] - support) / step, 0, 1) * probability[:, None]

    return sum_over_atoms(share, places, probabilities)


def sum_over_atoms(term: Callable[..., Array], *columns: Array) -> Array:
    """Sums a term over atoms, one atom after the other: sum_j term(x[:, j], ...).

    A sum over the last axis of one large array takes XLA 3 times as long on a CPU, and its gradient 20 times:
    that sum is neither vectorised nor does it fit the caches.

    Args:
        term: takes one entry [B] of each column.
        columns: arrays [B, atom].

    Returns:
        An array of the shape that `term` returns.
    """
    atoms = tuple(x.T for x in columns)
    like = jax.eval_shape(term, *(x[0] for x in atoms))

    def add(total: Array, atom: tuple[Array, ...]) -> tuple[Array, None]:
        return total + term(*atom), None

    total, _ = jax.lax.scan(jax.checkpoint(add), jnp.zeros(like.shape, like.dtype), atoms, unroll=10)
    return total


# Two-hot codes


class TwoHot(NamedTuple):
    """A code of unbounded numbers as distributions over bins, which a network can learn by classification."""

    encode: Callable[[Array], Array]  # value [...] -> probabilities [..., bin]
    decode: Callable[[Array], Array]  # logits [..., bin] -> value [...]
    loss: Callable[[Array, Array], Array]  # (logits [..., bin], value [...]) -> cross-entropy [...]


def symlog(x: Array) -> Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def two_hot_symexp(bins: int, limit: float) -> TwoHot:
    """The two-hot code on bins that are evenly spaced in symlog space, but shared linearly (MR.Q, 2025).

    The mean of a code over the bins is therefore the value itself. Values beyond the last bin count as that.

    Args:
        bins: number of bins.
        limit: the bins range from -`limit` to `limit`, in units of symlog.
    """

    def places() -> Array:
        return symexp(jnp.linspace(-limit, limit, bins))

    support = constant(places)

    def encode(value: Array) -> Array:
        values = jnp.asarray(support(), value.dtype)
        value = jnp.clip(value, values[0], values[-1])
        # The last bin but one at most, so that there is always a bin above.
        low = jnp.clip(jnp.searchsorted(values, value, side="right") - 1, 0, bins - 2)
        share = (value - values[low]) / (values[low + 1] - values[low])
        first, second = jax.nn.one_hot(low, bins), jax.nn.one_hot(low + 1, bins)
        return (1 - share)[..., None] * first + share[..., None] * second

    def decode(logits: Array) -> Array:
        return jnp.sum(jax.nn.softmax(logits) * support(), -1)

    def loss(logits: Array, value: Array) -> Array:
        return -jnp.sum(encode(value) * jax.nn.log_softmax(logits), -1)

    return TwoHot(encode, decode, loss)


def two_hot(bins: int, limit: float) -> TwoHot:
    """The two-hot code on evenly spaced bins in symlog space (DreamerV3, Hafner et al. 2023).

    A value's probability is shared by the two bins around it.

    Args:
        bins: number of bins.
        limit: the bins range from -`limit` to `limit`, in units of symlog.
    """
    support = constant(lambda: jnp.linspace(-limit, limit, bins))

    def encode(value: Array) -> Array:
        places = symlog(value).reshape(-1, 1)
        return project(jnp.ones_like(places), places, support()).reshape(*value.shape, bins)

    def decode(logits: Array) -> Array:
        return symexp(jnp.sum(jax.nn.softmax(logits) * support(), -1))

    def loss(logits: Array, value: Array) -> Array:
        return -jnp.sum(encode(value) * jax.nn.log_softmax(logits), -1)

    return TwoHot(encode, decode, loss)
