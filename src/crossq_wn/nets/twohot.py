"""How are rewards of any size classified? Two-hot in symlog space (DreamerV3, Hafner et al. 2023)."""

from collections.abc import Callable
from typing import NamedTuple

from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.losses import project
from crossq_wn.types import Array


class TwoHot(NamedTuple):
    """encode: value [...] -> probabilities [..., bin]; decode: logits [..., bin] -> value [...];
    loss: (logits [..., bin], value [...]) -> cross-entropy [...].
    """

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]


def symlog(x: Array) -> Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def two_hot(bins: int, limit: float) -> TwoHot:
    """`bins` even bins from -limit to limit in symlog space; a value is shared by its two neighbours."""
    support = jnp.linspace(-limit, limit, bins)

    def encode(value: Array) -> Array:
        places = symlog(value).reshape(-1, 1)
        return project(jnp.ones_like(places), places, support).reshape(*value.shape, bins)

    def decode(logits: Array) -> Array:
        return symexp(jnp.sum(jax.nn.softmax(logits) * support, -1))

    def loss(logits: Array, value: Array) -> Array:
        return -jnp.sum(encode(value) * jax.nn.log_softmax(logits), -1)

    return TwoHot(encode, decode, loss)
