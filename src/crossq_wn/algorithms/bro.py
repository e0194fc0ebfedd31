"""BRO (Nauman et al. 2024): a large residual quantile critic, optimistic exploration, and resets.

Critic: dense, layer norm, relu, then residual blocks x + LN(dense(relu(LN(dense(x))))), with 100 quantiles;
targets and policy use the average of two critics. A second, optimistic actor collects the data. It shifts the
mean of the base policy towards actions on which the critics disagree, within a budget of KL divergence. These
are minimised:

    shift of the mean:    -mean(Q + beta |Q1 - Q2| / 2) + tau KL,   KL = sum_i shift_i^2 / (2 sigma_i^2)
    optimism beta:         beta (KL / |A| - target)
    KL weight tau:        -tau (KL / |A| - target)
"""

from __future__ import annotations  # JAX's types are loaded on first use

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.actor_critic import Parts, compose
from crossq_wn.algorithms.passes import separate
from crossq_wn.algorithms.recipes import CriticTraits, Preset, Recipe
from crossq_wn.algorithms.resets import at
from crossq_wn.algorithms.settings import Condition, PolyakSettings, require, require_positive
from crossq_wn.algorithms.state import KeyStream, State, random_key
from crossq_wn.algorithms.wrapping import Around, wrap
from crossq_wn.errors import option
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.initialisers import orthogonal
from crossq_wn.nets.layers import Layer, dense, ensemble, linear, predict, relu, residual, serial
from crossq_wn.nets.losses import mean, quantile
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import Optimiser, adamw, deferred, polyak
from crossq_wn.nets.policies import gaussian_head, squashed_sample, squeezed
from crossq_wn.types import Algorithm, Array, Batch, Metrics, Spec, Tree, Vars, fresh


@dataclass(frozen=True, kw_only=True)
class BROSettings(PolyakSettings):
    """Hyperparameters of BRO; the numbers are from the authors' code, which made the published curves."""

    actor_blocks: int = 1
    """Residual blocks of both actors."""
    critic_blocks: int = 2
    """Residual blocks of each critic."""
    quantiles: int = 100
    """Number of quantiles that each critic predicts."""
    weight_decay: float = 1e-4  # also Table 1
    """AdamW decay of all parameters of actors and critics."""
    optimism_learning_rate: float = 3e-5
    """Adam learning rate of the optimism and of the weight of the KL divergence (both with beta1 0.5)."""
    kl_target: float = 0.05
    """KL divergence per action dimension between optimistic and base policy at which optimism is held."""
    exploration_std: float = 0.75
    """Standard deviation of the optimistic policy over that of the base policy."""
    resets: tuple[int, ...] = (15_001, 50_001, 250_001, 500_001, 750_001, 1_000_001, 1_500_001, 2_000_001)
    """Agent decisions (counted from 1) at which networks and optimisers are reset, before their updates."""

    def __post_init__(self) -> None:
        if isinstance(self.resets, list):  # as JSON has them
            object.__setattr__(self, "resets", tuple(self.resets))
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks", "quantiles")
        for name in ("weight_decay", "optimism_learning_rate", "kl_target", "exploration_std"):
            require(self, name, getattr(self, name) >= 0, "0 or above")

    def conditions(self) -> list[Condition]:
        """See `Settings.conditions`."""
        fixed = f"with {option('optimism_learning_rate', 0)}"
        return [*super().conditions(), Condition("kl_target", self.optimism_learning_rate > 0, fixed)]


def parts(spec: Spec, settings: BROSettings) -> Parts:
    """BRO's networks, with an optimistic explorer around the soft actor-critic."""
    member = network(settings.critic_width, settings.critic_blocks, dense(settings.quantiles))
    base = compose(
        spec,
        settings,
        actor=network(settings.actor_width, settings.actor_blocks, gaussian_head(spec.action_size)),
        policy=squeezed(-10.0, 2.0),
        critic=ensemble(member, settings.critics),
        q_pair=separate,
        target=polyak(settings.tau),
        readout=quantile(settings.quantiles),
        actor_weight_decay=settings.weight_decay,
        critic_weight_decay=settings.weight_decay,
    )
    return base._replace(
        temperature_optimiser=deferred(
            lambda: optax.adam(settings.schedule(settings.temperature_learning_rate), b1=0.5)
        ),
        reduce=mean,
        resets=at(settings.resets),
        around=(partial(explore_optimistically, explorer(base, settings)),),
    )


def network(width: int, blocks: int, head: Layer) -> Layer:
    """Residual blocks, with an output layer `head` on them.

    Args:
        width: units per hidden layer.
        blocks: number of residual blocks.
        head: the output layer.
    """
    block = residual(dense(width), layer_norm(), relu(), dense(width), layer_norm())
    return serial(dense(width), layer_norm(), relu(), *[block] * blocks, head)


# The optimistic explorer


class Explorer(NamedTuple):
    """The parts of the optimistic actor."""

    base: Parts  # the soft actor-critic, whose policy is shifted and whose critics disagree
    shift: Layer  # [observation, base mean] -> shift of the mean, before the tanh
    optimiser: Optimiser  # of the shift
    coefficient_optimiser: optax.GradientTransformation  # of optimism and KL weight
    std: float  # of the optimistic policy, over that of the base policy
    kl_target: float  # per action dimension


def explorer(base: Parts, settings: BROSettings) -> Explorer:
    """Builds the explorer of a soft actor-critic."""
    last = linear(base.spec.action_size, orthogonal(0.01))
    shift = network(settings.actor_width, settings.actor_blocks, last)
    rate = settings.schedule(settings.actor_learning_rate)
    return Explorer(
        base=base,
        shift=shift,
        optimiser=adamw(shift, rate, settings.weight_decay, settings.adam_beta1),
        coefficient_optimiser=deferred(lambda: optax.adam(settings.optimism_learning_rate, b1=0.5)),
        std=settings.exploration_std,
        kl_target=settings.kl_target,
    )


class BROState(NamedTuple):
    """The states of a soft actor-critic and of its explorer; checkpoints store the fields by name."""

    base: State
    shift: Vars
    shift_moments: Tree
    coefficients: Array  # [2], unsquashed: optimism (beta) and KL weight (tau)
    coefficient_moments: Tree


def explore_optimistically(explorer: Explorer, algorithm: Algorithm) -> Algorithm:
    """A wrapper that explores with an optimistic copy of the policy; evaluations use the policy itself.

    Args:
        explorer: the parts of the optimistic actor.
        algorithm: the soft actor-critic that it explores for.
    """
    around = Around(own=lambda state: state.base, put=lambda state, base: state._replace(base=base))
    wrapped = wrap(algorithm, around)
    return wrapped._replace(
        init=partial(init, explorer, algorithm),
        update=partial(update, explorer, wrapped),
        explore=partial(explore, explorer),
        reset=fresh,
    )


def init(explorer: Explorer, algorithm: Algorithm, generator: np.random.Generator) -> BROState:
    """The initial state of actor-critic and explorer; optimism starts at 1 and the KL weight at 1/4.

    Args:
        explorer: the parts of the optimistic actor.
        algorithm: the soft actor-critic by itself, not yet wrapped.
        generator: the source of all randomness.
    """
    base_stream, shift_stream = generator.spawn(2)
    observation_size, action_size, _ = explorer.base.spec
    shift = layers.create(explorer.shift, shift_stream, observation_size + action_size)
    coefficients = np.asarray([inverse_coefficient(1.0), inverse_coefficient(0.25)], np.float32)
    state = BROState(
        base=algorithm.init(base_stream),
        shift=shift,
        shift_moments=explorer.optimiser.init(shift.params),
        coefficients=coefficients,  # type: ignore[arg-type]
        coefficient_moments=explorer.coefficient_optimiser.init(coefficients),
    )
    return BROState(*jax.device_put(state))


def update(
    explorer: Explorer, wrapped: Algorithm, state: BROState, batch: Batch, count: Array
) -> tuple[BROState, Metrics]:
    """The soft actor-critic's update, then the explorer's; see `types.Update`.

    Args:
        explorer: the parts of the optimistic actor.
        wrapped: the soft actor-critic, whose update works on the state of both.
    """
    state, metrics = wrapped.update(state, batch, count)
    # A stream of its own, so that the base draws the same numbers as without an explorer.
    key = random_key(state.base.key, KeyStream.EXTENSION, count)
    state, of_shift = shift_step(explorer, state, batch, key)
    return coefficient_step(explorer, state, of_shift["explorer_kl"]), metrics | of_shift


def shift_step(explorer: Explorer, state: BROState, batch: Batch, key: Array) -> tuple[BROState, Metrics]:
    """One optimiser step on the shift of the mean: more value and disagreement, little divergence.

    Args:
        explorer: the parts of the optimistic actor.
        state: of one seed; only the shift and its moments change.
        batch: leaves [B, ...], of which only the observations count.
        key: random key of the actions.

    Returns:
        The new state, and metrics; `explorer_kl` is the mean KL divergence, summed over action dimensions.
    """
    optimism, kl_weight = coefficient(state.coefficients)

    def loss(params: Tree) -> tuple[Array, Array]:
        mu, log_std, shift = optimistic_gaussian(explorer, state, params, batch.observation)
        action = optimistic_action(explorer, mu, log_std, shift, key)
        q = predict(explorer.base.critic, state.base.critic, jnp.concatenate([batch.observation, action], -1))
        kl = jnp.mean(jnp.sum(jnp.square(shift) / (2 * jnp.exp(2 * log_std)), -1))
        return -jnp.mean(upper_bound(q, optimism)) + kl_weight * kl, kl

    (value, kl), gradients = jax.value_and_grad(loss, has_aux=True)(state.shift.params)
    params, moments = explorer.optimiser.step(gradients, state.shift_moments, state.shift.params)
    state = state._replace(shift=Vars(params, state.shift.stats), shift_moments=moments)
    metrics = {"explorer_loss": value, "explorer_kl": kl, "optimism": optimism, "kl_weight": kl_weight}
    return state, metrics


def coefficient_step(explorer: Explorer, state: BROState, kl: Array) -> BROState:
    """One optimiser step on optimism and KL weight.

    Below its target, the KL divergence lets optimism rise and the KL weight fall; above it, the reverse.

    Args:
        explorer: the parts of the optimistic actor.
        state: of one seed; only the coefficients and their moments change.
        kl: mean KL divergence, summed over action dimensions; a scalar.
    """
    excess = kl / explorer.base.spec.action_size - explorer.kl_target

    def loss(x: Array) -> Array:
        optimism, kl_weight = coefficient(x)
        total: Array = optimism * excess - kl_weight * excess
        return total

    change, moments = explorer.coefficient_optimiser.update(
        jax.grad(loss)(state.coefficients), state.coefficient_moments
    )
    return state._replace(coefficients=state.coefficients + change, coefficient_moments=moments)


def explore(
    explorer: Explorer, state: BROState, memory: Tree, observation: Array, decision: Array
) -> tuple[Array, Tree]:
    """A stochastic action of the optimistic policy; see `types.Explore`."""
    key = random_key(state.base.key, KeyStream.DECISION, decision)
    gaussian = optimistic_gaussian(explorer, state, state.shift.params, observation[None])
    return optimistic_action(explorer, *gaussian, key)[0], memory


def optimistic_gaussian(
    explorer: Explorer, state: BROState, params: Tree, observation: Array
) -> tuple[Array, Array, Array]:
    """The base policy's Gaussian before the tanh, and the shift of its mean.

    Args:
        explorer: the parts of the optimistic actor.
        state: of one seed.
        params: of the network that shifts the mean; gradients reach only these.
        observation: [B, observation_size].

    Returns:
        Mean, log standard deviation and shift, each [B, action_size].
    """
    output = predict(explorer.base.actor, state.base.actor, observation)
    mu, log_std = jax.lax.stop_gradient(explorer.base.policy.gaussian(output))
    x = jnp.concatenate([observation, mu], -1)
    shift, _ = explorer.shift.apply(params, state.shift.stats, x, train=True)
    return mu, log_std, shift


def optimistic_action(explorer: Explorer, mu: Array, log_std: Array, shift: Array, key: Array) -> Array:
    """Draws an action [B, action_size] from the shifted and narrowed policy.

    Args:
        explorer: gives the factor of the standard deviation.
        mu: the base policy's mean before the tanh, [B, action_size].
        log_std: its log standard deviation, [B, action_size].
        shift: of the mean, [B, action_size].
        key: random key.
    """
    return squashed_sample(mu + shift, log_std + jnp.log(explorer.std), key)[0]


def upper_bound(q: Array, optimism: Array | float) -> Array:
    """The optimistic value (Q1 + Q2) / 2 + beta |Q1 - Q2| / 2, averaged over quantiles.

    Args:
        q: [critic, B, quantile], of two critics; with one critic there is no disagreement and so no optimism.
        optimism: beta.

    Returns:
        [B].
    """
    return jnp.mean(jnp.mean(q, 0) + optimism * 0.5 * (jnp.max(q, 0) - jnp.min(q, 0)), -1)


def coefficient(x: Array) -> Array:
    """exp(-10 + 17.5 (1 + tanh x) / 2): maps any number to a positive one within [exp(-10), exp(7.5)]."""
    return jnp.exp(-10.0 + 8.75 * (1.0 + jnp.tanh(x)))


def inverse_coefficient(value: float) -> float:
    """The x that `coefficient` maps to a value."""
    return float(np.arctanh((np.log(value) + 10.0) / 8.75 - 1.0))


# Table 1, column BRO, corrected by the authors' code, whose discount and action repeat hold on all suites.
# The table prints a warm-up of 10,000, one critic and a target entropy of |A|; see the preset `paper-v2`.
_CODE = BROSettings(utd=10, batch_size=128, warmup=2_500, discount=0.99, action_repeat=1)
PRESETS = {
    "default": Preset(
        _CODE,
        "paper v2, Table 1, and the authors' code (Nauman et al. 2024), "
        "which uses --no-terminations on MyoSuite",
    ),
    "paper-v2": Preset(
        replace(_CODE, warmup=10_000, critics=1, target_entropy_scale=1.0), "paper v2, Table 1 as printed"
    ),
}
FAST_PRESETS = {
    "default": Preset(
        replace(_CODE, utd=2, resets=(15_001,)), "BRO's code at UTD 2, which keeps only the first reset"
    )
}

BRO = Recipe(
    summary="large residual quantile critics, optimistic exploration, resets, UTD 10",
    settings=BROSettings,
    presets=PRESETS,
    make=parts,
    # Layer norm removes the effect of hidden weights' scale, whose growth only the weight decay counteracts.
    critic=lambda settings: CriticTraits(scale_free=True, remedy="--algorithm crossq-wn"),
)
BRO_FAST = BRO._replace(summary="BRO at UTD 2 with one reset", presets=FAST_PRESETS)
