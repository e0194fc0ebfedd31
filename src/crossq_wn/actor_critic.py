"""How does one gradient update work? Soft actor-critic, once; algorithms are this file with other parts."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from crossq_wn import networks
from crossq_wn.networks import Layer, predict
from crossq_wn.optimisers import Optimiser, Target
from crossq_wn.policies import Policy
from crossq_wn.types import Algorithm, Array, Batch, Metrics, Tree, Vars


class Parts(NamedTuple):
    """What distinguishes one soft actor-critic from another."""

    actor: Layer  # observation -> policy output
    policy: Policy
    critic: Layer  # [observation, action] -> q[critic, sample, atom]
    actor_optimiser: Optimiser
    critic_optimiser: Optimiser
    q_pair: "QPair"  # how Q(s, a) and Q(s', a') are computed: `separate`, `joint` or `joint_target`
    target: Target
    td_loss: Callable[[Array, Array], Array]  # (q[critic, sample, atom], y[sample, atom]) -> scalar
    discount: float  # gamma
    initial_temperature: float  # alpha_0
    temperature_optimiser: optax.GradientTransformation
    target_entropy: float  # H_bar
    policy_delay: int = 1  # actor and temperature change once per so many gradient updates
    reduce: Callable[[Array], Array] = lambda q: jnp.min(q, 0)  # q[critic, ...] -> [...]


class ActorMetrics(NamedTuple):
    """Of the last actor update that was applied."""

    loss: Array
    entropy: Array  # H = -mean log pi


class State(NamedTuple):
    """Everything that one seed's learner carries from update to update."""

    key: Array  # uint32[2], constant: counters select the random numbers
    actor: Vars
    critic: Vars
    target: Tree  # the target critic's parameters
    log_temperature: Array
    actor_moments: Tree
    critic_moments: Tree
    temperature_moments: Tree
    actor_metrics: ActorMetrics


# (critic, critic params under differentiation, state, [s, a], [s', a'])
#   -> (q(s, a), q(s', a'), new running statistics of the online critic)
QPair = Callable[[Layer, Tree, State, Array, Array], tuple[Array, Array, Tree]]


def separate(critic: Layer, params: Tree, state: State, x: Array, next_x: Array) -> tuple[Array, Array, Tree]:
    """SAC: the online critic on (s, a), the target critic on (s', a')."""
    q, stats = critic.apply(params, state.critic.stats, x, True)
    next_q, _ = critic.apply(state.target, state.critic.stats, next_x, True)
    return q, next_q, stats


def joint(critic: Layer, params: Tree, state: State, x: Array, next_x: Array) -> tuple[Array, Array, Tree]:
    """CrossQ: one training-mode pass over both halves, so that they share batch statistics; no target."""
    both, stats = critic.apply(params, state.critic.stats, jnp.concatenate([x, next_x]), True)
    q, next_q = jnp.split(both, 2, axis=1)
    return q, next_q, stats


def joint_target(
    critic: Layer, params: Tree, state: State, x: Array, next_x: Array
) -> tuple[Array, Array, Tree]:
    """CrossQ + WN: the joint pass through critic and target critic, both in training mode (v2, section 4).

    Batch norm in training mode reads no running statistics; batch renorm does, and then target and prediction
    must be renormalised alike, so the target uses the online critic's.
    """
    both = jnp.concatenate([x, next_x])
    q, stats = critic.apply(params, state.critic.stats, both, True)
    target_q, _ = critic.apply(state.target, state.critic.stats, both, True)
    return q[:, : len(x)], target_q[:, len(x) :], stats


def soft_actor_critic(observation_size: int, action_size: int, parts: Parts) -> Algorithm:
    """Composes the parts into an algorithm for one seed; update order: critic, target, actor, temperature."""
    actor, policy, critic = parts.actor, parts.policy, parts.critic

    def init(generator: np.random.Generator) -> State:
        key_stream, actor_stream, critic_stream = generator.spawn(3)
        actor_vars = networks.create(actor, actor_stream, observation_size)
        critic_vars = networks.create(critic, critic_stream, observation_size + action_size)
        log_temperature = np.log(np.float32(parts.initial_temperature))
        state = State(
            key=jnp.asarray(key_stream.integers(0, 2**32, 2, np.uint32)),
            actor=actor_vars,
            critic=critic_vars,
            target=parts.target.init(critic_vars.params),
            log_temperature=log_temperature,
            actor_moments=parts.actor_optimiser.init(actor_vars.params),
            critic_moments=parts.critic_optimiser.init(critic_vars.params),
            temperature_moments=parts.temperature_optimiser.init(log_temperature),
            actor_metrics=ActorMetrics(jnp.zeros(()), jnp.zeros(())),
        )
        arrays: State = jax.tree.map(jnp.asarray, state)
        return arrays

    def critic_step(state: State, batch: Batch, key: Array) -> tuple[State, Metrics]:
        # a' ~ pi(.|s') with running statistics; its gradient never reaches the actor.
        output = predict(actor, state.actor, batch.next_observation)
        next_action, next_log_density = policy.sample(output, key)
        temperature = jnp.exp(state.log_temperature)
        x = jnp.concatenate([batch.observation, batch.action], -1)
        next_x = jnp.concatenate([batch.next_observation, next_action], -1)

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Array, Array]]:
            q, next_q, stats = parts.q_pair(critic, params, state, x, next_x)
            # Equation 1 with the entropy term: V(s') = Q(s', a') - alpha log pi(a'|s').
            value = parts.reduce(next_q) - temperature * next_log_density[:, None]
            y = batch.reward[:, None] + parts.discount * batch.mask[:, None] * value
            y = jax.lax.stop_gradient(y)
            return parts.td_loss(q, y), (stats, q, y)

        (value, (stats, q, y)), gradients = jax.value_and_grad(loss, has_aux=True)(state.critic.params)
        params, moments = parts.critic_optimiser.step(gradients, state.critic_moments, state.critic.params)
        online = Vars(params, stats)
        target = parts.target.follow(state.target, params)
        metrics = {"critic_loss": value, "q_mean": jnp.mean(q), "target_q_mean": jnp.mean(y)}
        return state._replace(critic=online, target=target, critic_moments=moments), metrics

    def actor_step(state: State, batch: Batch, key: Array) -> State:
        temperature = jnp.exp(state.log_temperature)

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Array]]:
            output, stats = actor.apply(params, state.actor.stats, batch.observation, True)
            action, log_density = policy.sample(output, key)
            # The critic just updated, with running statistics.
            q = predict(critic, state.critic, jnp.concatenate([batch.observation, action], -1))
            value = jnp.mean(temperature * log_density - jnp.mean(parts.reduce(q), -1))
            return value, (stats, -jnp.mean(log_density))

        (value, (stats, entropy)), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        params, moments = parts.actor_optimiser.step(gradients, state.actor_moments, state.actor.params)
        state = state._replace(
            actor=Vars(params, stats), actor_moments=moments, actor_metrics=ActorMetrics(value, entropy)
        )
        return temperature_step(state, entropy)

    def temperature_step(state: State, entropy: Array) -> State:
        # loss = alpha (H - H_bar), differentiated with respect to log alpha.
        gradient = jnp.exp(state.log_temperature) * (entropy - parts.target_entropy)
        change, moments = parts.temperature_optimiser.update(gradient, state.temperature_moments)
        log_temperature = state.log_temperature + change
        return state._replace(log_temperature=log_temperature, temperature_moments=moments)

    def update(state: State, batch: Batch, step: Array) -> tuple[State, Metrics]:
        critic_key, actor_key = jax.random.split(_key(state, 0, step))
        state, metrics = critic_step(state, batch, critic_key)
        # `step` has no seed axis: under vmap the condition stays a branch, and skipped work is skipped.
        state = jax.lax.cond(
            step % parts.policy_delay == parts.policy_delay - 1,
            lambda s: actor_step(s, batch, actor_key),
            lambda s: s,
            state,
        )
        metrics |= {"actor_loss": state.actor_metrics.loss, "entropy": state.actor_metrics.entropy}
        return state, metrics | {"temperature": jnp.exp(state.log_temperature)}

    def explore(state: State, observation: Array, decision: Array) -> Array:
        output = predict(actor, state.actor, observation[None])
        return policy.sample(output, _key(state, 1, decision))[0][0]

    def exploit(state: State, observation: Array) -> Array:
        return policy.mode(predict(actor, state.actor, observation[None]))[0]

    return Algorithm(init, explore, exploit, update)


def _key(state: State, stream: int, count: Array) -> Array:
    key = jax.random.wrap_key_data(state.key)
    return jax.random.fold_in(jax.random.fold_in(key, stream), count)
