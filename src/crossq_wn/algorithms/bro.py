"""BRO (Nauman et al. 2024): a large residual quantile critic, optimistic exploration, resets.

Critic: dense, layer norm, relu, then residual blocks x + LN(dense(relu(LN(dense(x))))), 100 quantiles;
targets and policy average two critics (`losses.quantile`, `actor_critic`, as for the others). A second,
optimistic actor collects the data: it shifts the base policy's mean towards actions on which the critics
disagree, as far as a bound on the KL divergence lets it:

    shift:           -mean(Q + beta |Q1 - Q2| / 2) + tau KL,   KL = sum_i shift_i^2 / (2 sigma_i^2)
    optimism beta:    beta (KL / |A| - target)
    KL weight tau:   -tau (KL / |A| - target)
"""

from __future__ import annotations  # JAX's types are loaded on first use

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.actor_critic import Parts, State, random_key, separate, soft_actor_critic
from crossq_wn.algorithms.assemble import assemble
from crossq_wn.algorithms.resets import at
from crossq_wn.algorithms.settings import PolyakSettings, require, require_positive
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.layers import (
    Layer,
    dense,
    ensemble,
    layer_norm,
    linear,
    orthogonal,
    predict,
    relu,
    residual,
    serial,
)
from crossq_wn.nets.losses import mean, quantile
from crossq_wn.nets.optimisers import Optimiser, adamw, polyak
from crossq_wn.nets.policies import gaussian_head, squashed_sample, squeezed
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, CriticView, Metrics, Tree, Vars


@dataclass(frozen=True, kw_only=True)
class BROSettings(PolyakSettings):
    """Hyperparameters of BRO."""

    actor_blocks: int
    """Residual blocks of both actors."""
    critic_blocks: int
    """Residual blocks of each critic."""
    quantiles: int
    """Quantiles of each critic."""
    weight_decay: float
    """AdamW decay of all parameters of actors and critics."""
    optimism_learning_rate: float
    """Adam learning rate (with beta1 0.5) of the optimism and of the KL weight."""
    kl_target: float
    """KL divergence per action dimension between optimistic and base policy that these two hold."""
    exploration_std: float
    """Standard deviation of the optimistic policy over that of the base policy."""
    resets: tuple[int, ...]
    """Decisions before whose updates everything is reset."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "resets", tuple(self.resets))  # JSON has lists
        super().__post_init__()
        require_positive(self, "actor_blocks", "critic_blocks", "quantiles")
        for name in ("weight_decay", "optimism_learning_rate", "kl_target", "exploration_std"):
            require(self, name, getattr(self, name) >= 0, "0 or above")


class Explorer(NamedTuple):
    """How the optimistic actor is built and trained."""

    shift: Layer  # [observation, base mean] -> shift of the mean, before the tanh
    optimiser: Optimiser
    coefficient_optimiser: optax.GradientTransformation
    std: float
    kl_target: float


class BROState(NamedTuple):
    """A soft actor-critic's state and its explorer's."""

    base: State
    shift: Vars
    shift_moments: Tree
    coefficients: Array  # [2], unsquashed: optimism (beta) and KL weight (tau)
    coefficient_moments: Tree


def coefficient(x: Array) -> Array:
    """exp(-10 + 17.5 (1 + tanh x) / 2): positive and bounded."""
    return jnp.exp(-10.0 + 8.75 * (1.0 + jnp.tanh(x)))


def inverse_coefficient(value: float) -> float:
    """The x that `coefficient` maps to a value."""
    return float(np.arctanh((np.log(value) + 10.0) / 8.75 - 1.0))


def upper_bound(q: Array, optimism: Array | float) -> Array:
    """(Q1 + Q2) / 2 + beta |Q1 - Q2| / 2 per quantile, averaged: q [critics, B, quantiles] -> [B]."""
    return jnp.mean(jnp.mean(q, 0) + optimism * 0.5 * (jnp.max(q, 0) - jnp.min(q, 0)), -1)


def explore_optimistically(
    explorer: Explorer, observation_size: int, action_size: int, parts: Parts
) -> Algorithm:
    """A soft actor-critic that acts by an optimistic copy of its policy while it trains."""
    base = soft_actor_critic(observation_size, action_size, parts)
    initial = np.asarray([inverse_coefficient(1.0), inverse_coefficient(0.25)], np.float32)

    def init(generator: np.random.Generator) -> BROState:
        base_stream, shift_stream = generator.spawn(2)
        shift = layers.create(explorer.shift, shift_stream, observation_size + action_size)
        state = BROState(
            base=base.init(base_stream),
            shift=shift,
            shift_moments=explorer.optimiser.init(shift.params),
            coefficients=initial,  # type: ignore[arg-type]
            coefficient_moments=explorer.coefficient_optimiser.init(initial),
        )
        arrays: BROState = jax.tree.map(jnp.asarray, state)
        return arrays

    def gaussian(state: BROState, params: Tree, observation: Array) -> tuple[Array, Array, Array]:
        """Mean and log-std of the base policy, and the shift of the mean; [B, action_size] each."""
        output = predict(parts.actor, state.base.actor, observation)
        mu, log_std = jax.lax.stop_gradient(parts.policy.gaussian(output))
        shift, _ = explorer.shift.apply(
            params, state.shift.stats, jnp.concatenate([observation, mu], -1), True
        )
        return mu, log_std, shift

    def optimistic(mu: Array, log_std: Array, shift: Array, key: Array) -> Array:
        return squashed_sample(mu + shift, log_std + jnp.log(explorer.std), key)[0]

    def explorer_step(state: BROState, batch: Batch, key: Array) -> tuple[BROState, Metrics]:
        optimism, kl_weight = coefficient(state.coefficients)

        def loss(params: Tree) -> tuple[Array, Array]:
            mu, log_std, shift = gaussian(state, params, batch.observation)
            x = jnp.concatenate([batch.observation, optimistic(mu, log_std, shift, key)], -1)
            upper = upper_bound(predict(parts.critic, state.base.critic, x), optimism)
            kl = jnp.mean(jnp.sum(jnp.square(shift) / (2 * jnp.exp(2 * log_std)), -1))
            return -jnp.mean(upper) + kl_weight * kl, kl

        (value, kl), gradients = jax.value_and_grad(loss, has_aux=True)(state.shift.params)
        params, moments = explorer.optimiser.step(gradients, state.shift_moments, state.shift.params)

        def coefficient_loss(x: Array) -> Array:
            optimism, kl_weight = coefficient(x)
            excess = kl / action_size - explorer.kl_target
            loss: Array = optimism * excess - kl_weight * excess
            return loss

        change, coefficient_moments = explorer.coefficient_optimiser.update(
            jax.grad(coefficient_loss)(state.coefficients), state.coefficient_moments
        )
        return state._replace(
            shift=Vars(params, state.shift.stats),
            shift_moments=moments,
            coefficients=state.coefficients + change,
            coefficient_moments=coefficient_moments,
        ), {"explorer_loss": value, "explorer_kl": kl, "optimism": optimism, "kl_weight": kl_weight}

    def update(state: BROState, batch: Batch, step: Array) -> tuple[BROState, Metrics]:
        updated, metrics = base.update(state.base, batch, step)
        state, more = explorer_step(state._replace(base=updated), batch, random_key(updated.key, 2, step))
        return state, metrics | more

    def explore(state: BROState, memory: Tree, observation: Array, decision: Array) -> tuple[Array, Tree]:
        key = random_key(state.base.key, 1, decision)
        return optimistic(*gaussian(state, state.shift.params, observation[None]), key)[0], memory

    def exploit(state: BROState, memory: Tree, observation: Array) -> tuple[Array, Tree]:
        return base.exploit(state.base, memory, observation)

    def view(state: BROState, batch: Batch, step: Array) -> CriticView:
        assert base.view is not None
        return base.view(state.base, batch, step)

    def appraise(state: BROState, observation: Array, decision: Array) -> Appraisal:
        """Of the base policy, whose values the critics estimate."""
        assert base.appraise is not None
        return base.appraise(state.base, observation, decision)

    return base._replace(
        init=init, explore=explore, exploit=exploit, update=update, view=view, appraise=appraise
    )


def bro(observation_size: int, action_size: int, discount: float, settings: BROSettings) -> Algorithm:
    """Soft actor-critic with BRO's networks behind an optimistic explorer."""
    actor = _network(settings.actor_width, settings.actor_blocks, gaussian_head(action_size))
    member = _network(settings.critic_width, settings.critic_blocks, dense(settings.quantiles))
    shift = _network(settings.actor_width, settings.actor_blocks, linear(action_size, orthogonal(0.01)))
    explorer = Explorer(
        shift,
        adamw(
            shift,
            settings.schedule(settings.actor_learning_rate),
            settings.weight_decay,
            settings.adam_beta1,
        ),
        optax.adam(settings.optimism_learning_rate, b1=0.5),
        settings.exploration_std,
        settings.kl_target,
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
        readout=quantile(settings.quantiles),
        actor_weight_decay=settings.weight_decay,
        critic_weight_decay=settings.weight_decay,
        temperature_optimiser=optax.adam(settings.schedule(settings.temperature_learning_rate), b1=0.5),
        reduce=mean,
        build=partial(explore_optimistically, explorer),
    )
    return algorithm._replace(resets=at(settings.resets))


def _network(width: int, blocks: int, head: Layer) -> Layer:
    def block() -> Layer:
        return residual(dense(width), layer_norm(), relu(), dense(width), layer_norm())

    return serial(dense(width), layer_norm(), relu(), *(block() for _ in range(blocks)), head)
