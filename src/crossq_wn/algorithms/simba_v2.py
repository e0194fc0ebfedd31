"""SimbaV2 (Lee et al. 2025): features and weights live on unit spheres, so that nothing can grow.

Embedding: append a constant, l2-normalise, dense, scale, l2-normalise. Blocks step from x towards
m = l2(W2 (relu(s * W1 x) + 1e-8)) on the sphere: x <- l2(x + alpha * (m - x)). Kernels have no bias and
unit norm per output neuron, at initialisation and after every step. Critics are categorical on [-5, 5];
rewards are scaled by the return, observations by their running moments.
"""

from dataclasses import dataclass

import numpy as np

from crossq_wn.algorithms.actor_critic import actor_first, separate
from crossq_wn.algorithms.assemble import assemble
from crossq_wn.algorithms.normalisers import bounded_return, normalise_observations, scale_rewards
from crossq_wn.algorithms.settings import PolyakSettings, require, require_positive
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.layers import (
    Layer,
    elementwise,
    ensemble,
    linear,
    orthogonal,
    per_neuron_kernel,
    relu,
    serial,
    side_by_side,
    weight_norm,
)
from crossq_wn.nets.losses import categorical
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import squeezed
from crossq_wn.types import Algorithm, Array, Tree

_SHIFT = 3.0  # the constant appended to an input, so that its length is not lost on the sphere


@dataclass(frozen=True, kw_only=True)
class SimbaV2Settings(PolyakSettings):
    """Hyperparameters of SimbaV2."""

    actor_blocks: int
    """Blocks of the actor."""
    critic_blocks: int
    """Blocks of each critic."""
    atoms: int
    """Atoms of each critic's distribution."""
    value_limit: float
    """The distribution's support is from minus this to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks")
        require(self, "atoms", self.atoms >= 2, "a whole number of at least 2")
        require(self, "value_limit", self.value_limit > 0, "above 0")


def simba_v2(
    observation_size: int, action_size: int, discount: float, settings: SimbaV2Settings
) -> Algorithm:
    """Soft actor-critic with hyperspherical networks."""
    head = _head(settings.actor_width, action_size)
    actor = _encoder(settings.actor_width, settings.actor_blocks, side_by_side(head, head))
    member = _encoder(
        settings.critic_width, settings.critic_blocks, _head(settings.critic_width, settings.atoms)
    )
    algorithm = assemble(
        settings,
        observation_size,
        action_size,
        discount,
        actor=actor,
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=categorical(-settings.value_limit, settings.value_limit, settings.atoms),
        order=actor_first,
    )
    algorithm = normalise_observations(algorithm, observation_size)
    return scale_rewards(algorithm, discount, bounded_return(settings.value_limit))


def _encoder(width: int, blocks: int, head: Layer) -> Layer:
    scale = (2 / width) ** 0.5
    embedding = serial(
        elementwise(_append_constant, 1), _sphere(), _hyper_dense(width), scaler(scale, scale), _sphere()
    )
    return serial(embedding, *[_block(width, 1 / (blocks + 1))] * blocks, head)


def _block(width: int, alpha: float) -> Layer:
    scale = (2 / width) ** 0.5 / 2
    proposal = serial(
        _hyper_dense(4 * width),
        scaler(scale, scale),
        relu(),
        elementwise(lambda x: x + 1e-8),  # nothing has no direction
        _hyper_dense(width),
        _sphere(),
    )
    return serial(towards(proposal, scaler(alpha, width**-0.5)), _sphere())


def _head(width: int, n_out: int) -> Layer:
    return serial(_hyper_dense(width), scaler(1.0, 1.0), _hyper_dense(n_out), bias())


def _hyper_dense(n_out: int) -> Layer:
    return weight_norm(linear(n_out, orthogonal(1.0)), per_neuron_kernel)


def _sphere() -> Layer:
    return elementwise(lambda x: x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-16))


def _append_constant(x: Array) -> Array:
    return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), _SHIFT)], -1)


def scaler(initial: float, stored: float) -> Layer:
    """x * s with learned s, `initial` at first; stored as `stored`, which sets how fast Adam moves it."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return {"scale": np.full(n, stored, np.float32)}, (), n

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        return x * (params["scale"] * (initial / stored)), stats

    return Layer(init, apply)


def bias() -> Layer:
    """x + b with learned b, zero at first."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return {"bias": np.zeros(n, np.float32)}, (), n

    return Layer(init, lambda params, stats, x, train: (x + params["bias"], stats))


def towards(proposal: Layer, rate: Layer) -> Layer:
    """x + rate(proposal(x) - x)."""
    both = serial(proposal, rate)

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        m, first = proposal.apply(params[0], stats[0], x, train)
        step, second = rate.apply(params[1], stats[1], m - x, train)
        return x + step, (first, second)

    def hidden(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, ...]:
        return proposal.hidden(params[0], stats[0], x, train)

    return both._replace(apply=apply, hidden=hidden)
