"""SimbaV2 (Lee et al. 2025): features and weights live on unit spheres, so their norms cannot grow.

Embedding: append a constant, l2-normalise, dense, scale, l2-normalise. A block moves x on the sphere towards
a proposal m = l2(W2 (relu(s * W1 x) + 1e-8)): x <- l2(x + alpha * (m - x)). Kernels have no bias and unit
norm per output neuron, at initialisation and after every gradient step. Critics are categorical on [-5, 5].
Rewards are scaled by the return, observations by their running mean and standard deviation.
"""

from dataclasses import dataclass

import numpy as np

from crossq_wn.acting.operations import Op
from crossq_wn.algorithms.actor_critic import Parts, actor_first, compose
from crossq_wn.algorithms.normalisers import bounded_return, normalise_observations, restarting, scale_rewards
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.settings import ScaledRewardSettings, require_positive
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.initialisers import orthogonal
from crossq_wn.nets.layer import described, operation, operations
from crossq_wn.nets.layers import Layer, elementwise, ensemble, linear, relu, serial, side_by_side
from crossq_wn.nets.losses import categorical
from crossq_wn.nets.normalisation import per_neuron_kernel, weight_norm
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import squeezed
from crossq_wn.types import Array, Spec, Tree

_SHIFT = 3.0  # the constant appended to an input, so that its length is not lost on the sphere


@dataclass(frozen=True, kw_only=True)
class SimbaV2Settings(ScaledRewardSettings):
    """Hyperparameters of SimbaV2; all numbers are from the authors' code."""

    actor_blocks: int = 1
    """Blocks of the actor."""
    critic_blocks: int = 2
    """Blocks of each critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks")


def parts(spec: Spec, settings: SimbaV2Settings) -> Parts:
    """Hyperspherical networks on normalised observations and scaled rewards."""
    actor_head = head(settings.actor_width, spec.action_size)
    critic_head = head(settings.critic_width, settings.atoms)
    member = encoder(settings.critic_width, settings.critic_blocks, critic_head)
    scale = bounded_return(settings.value_limit)
    if settings.return_statistics == "restart":
        scale = scale._replace(accumulate=restarting)
    return compose(
        spec,
        settings,
        actor=encoder(settings.actor_width, settings.actor_blocks, side_by_side(actor_head, actor_head)),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=categorical(-settings.value_limit, settings.value_limit, settings.atoms),
    )._replace(order=actor_first, around=(normalise_observations(spec), scale_rewards(spec, scale)))


def encoder(width: int, blocks: int, head: Layer) -> Layer:
    """The embedding and the blocks, with an output layer on them.

    Args:
        width: features between blocks; inside a block there are four times as many.
        blocks: number of blocks.
        head: the output layer.
    """
    scale = (2 / width) ** 0.5
    embedding = serial(
        elementwise(append_constant, 1, operation("append", {"value": _SHIFT})),
        sphere(),
        hyper_dense(width),
        scaler(scale, scale),
        sphere(),
    )
    return serial(embedding, *[block(width, 1 / (blocks + 1))] * blocks, head)


def block(width: int, alpha: float) -> Layer:
    """A step on the sphere towards the proposal of a two-layer network.

    Args:
        width: number of features.
        alpha: initial size of the step, as a share of the way.
    """
    scale = (2 / width) ** 0.5 / 2
    proposal = serial(
        hyper_dense(4 * width),
        scaler(scale, scale),
        relu(),
        elementwise(lambda x: x + 1e-8, in_numpy=operation("affine", bias=1e-8)),  # zero has no direction
        hyper_dense(width),
        sphere(),
    )
    return serial(towards(proposal, scaler(alpha, width**-0.5)), sphere())


def head(width: int, n_out: int) -> Layer:
    """A scaled hidden layer, and an output layer that alone has a bias.

    Args:
        width: features of the hidden layer, as many as come in.
        n_out: number of outputs.
    """
    return serial(hyper_dense(width), scaler(1.0, 1.0), hyper_dense(n_out), bias())


def hyper_dense(n_out: int) -> Layer:
    """A linear map whose kernel has unit norm per output neuron."""
    return weight_norm(linear(n_out, orthogonal(1.0)), per_neuron_kernel)


def sphere() -> Layer:
    """Scales each sample's features to unit length."""
    return elementwise(
        lambda x: x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-16),
        in_numpy=operation("unit_length", {"epsilon": 1e-16}),
    )


def append_constant(x: Array) -> Array:
    """Appends a feature of constant value."""
    return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), _SHIFT)], -1)


def scaler(initial: float, stored: float) -> Layer:
    """x * s with a learned s.

    Args:
        initial: s at first.
        stored: the parameter's initial value, which sets how fast Adam changes s relative to `initial`.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return {"scale": np.full(n, stored, np.float32)}, (), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return x * (params["scale"] * (initial / stored)), stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return operation("affine", scale=np.asarray(params["scale"], np.float64) * (initial / stored))

    return described(Layer(init, apply), describe)


def bias() -> Layer:
    """x + b with a learned b, which is zero at first."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return {"bias": np.zeros(n, np.float32)}, (), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return x + params["bias"], stats

    return described(Layer(init, apply), lambda params, stats: operation("affine", bias=params["bias"]))


def towards(proposal: Layer, rate: Layer) -> Layer:
    """x + rate(proposal(x) - x).

    Args:
        proposal: [..., n] -> [..., n], the point m to move to.
        rate: the learned share of the way, per feature.
    """
    both = serial(proposal, rate)

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        m, first = proposal.apply(params[0], stats[0], x, train=train)
        step, second = rate.apply(params[1], stats[1], m - x, train=train)
        return x + step, (first, second)

    def hidden(params: Tree, stats: Tree, x: Array) -> tuple[Array, ...]:
        return proposal.hidden(params[0], stats[0], x)

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        inner = operations(proposal, params[0], stats[0]), operations(rate, params[1], stats[1])
        return (Op("towards", inner=inner),)

    return described(both._replace(apply=apply, hidden=hidden), describe)


_CODE = SimbaV2Settings(
    utd=2,
    actor_width=128,
    critics=1,
    actor_learning_rate=1e-4,
    critic_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    initial_temperature=0.01,
    learning_rate_end=0.5,
)
PRESETS = {"default": Preset(_CODE, "the authors' code (Lee et al. 2025)")}

SIMBA_V2 = Recipe(
    summary="hyperspherical networks, categorical critic",
    settings=SimbaV2Settings,
    presets=PRESETS,
    make=parts,
    critic=lambda settings: CriticTraits(
        scale_free=True,
        bounded=True,
        scales_rewards=True,
        normalises=True,  # all kernels are held
    ),
)
