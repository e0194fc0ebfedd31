"""How does one gradient update work? Soft actor-critic, once; algorithms are this file with other parts."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.layers import Layer, predict
from crossq_wn.nets.losses import Readout, Reduce, minimum
from crossq_wn.nets.optimisers import Optimiser, Target
from crossq_wn.nets.policies import Policy
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, CriticView, Metrics, Tree, Vars

Step = Callable[["State"], "State"]
Order = Callable[["State", Step, Step], "State"]  # (state, critic step, actor step) -> state


def critic_first(state: State, critic: Step, actor: Step) -> State:
    """The actor and the temperature follow the critic just updated (jaxrl, CrossQ)."""
    return actor(critic(state))


def actor_first(state: State, critic: Step, actor: Step) -> State:
    """The critic's target uses the actor and the temperature just updated (SimBa)."""
    return critic(actor(state))


class Parts(NamedTuple):
    """What distinguishes one soft actor-critic from another."""

    actor: Layer  # observation -> policy output
    policy: Policy
    critic: Layer  # [observation, action] -> output[critic, sample, atom]
    actor_optimiser: Optimiser
    critic_optimiser: Optimiser
    q_pair: QPair  # how Q(s, a) and Q(s', a') are computed: `separate`, `joint` or `joint_target`
    target: Target
    readout: Readout  # what the critics' outputs mean
    discount: float  # gamma
    initial_temperature: float  # alpha_0
    temperature_optimiser: optax.GradientTransformation
    target_entropy: float  # H_bar
    policy_delay: int = 1  # actor and temperature change once per so many gradient updates
    reduce: Reduce = minimum  # how the actor sees several critics
    order: Order = critic_first


class CriticMetrics(NamedTuple):
    """Of the last critic update."""

    loss: Array
    q: Array  # mean of the predictions
    target_q: Array  # mean of the targets


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
    critic_metrics: CriticMetrics
    actor_metrics: ActorMetrics


class Regression(NamedTuple):
    """What a critic update fits."""

    x: Array  # [B, .], the minibatch's [s, a]
    next_x: Array  # [B, .], [s', a'] with the policy's a'
    loss: Callable[[Tree], tuple[Array, tuple[Tree, Array, Array]]]  # params -> loss, (new stats, q, y)


# (critic, critic params under differentiation, state, [s, a], [s', a'])
#   -> (q(s, a), q(s', a'), new running statistics of the online critic)
QPair = Callable[[Layer, Tree, State, Array, Array], tuple[Array, Array, Tree]]


def separate(critic: Layer, params: Tree, state: State, x: Array, next_x: Array) -> tuple[Array, Array, Tree]:
    """SAC: the online critic on (s, a), the target critic on (s', a')."""
    # Statistics go through both passes, so that dropout draws anew; networks without any do not notice.
    next_q, stats = critic.apply(state.target, state.critic.stats, next_x, True)
    q, stats = critic.apply(params, stats, x, True)
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
    """Composes the parts into an algorithm for one seed.

    A critic step ends with the target, an actor step with the temperature; `parts.order` puts them in order.
    """
    actor, policy, critic, readout = parts.actor, parts.policy, parts.critic, parts.readout

    def init(generator: np.random.Generator) -> State:
        key_stream, actor_stream, critic_stream = generator.spawn(3)
        actor_vars = layers.create(actor, actor_stream, observation_size)
        critic_vars = layers.create(critic, critic_stream, observation_size + action_size)
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
            critic_metrics=CriticMetrics(*np.zeros(3, np.float32)),
            actor_metrics=ActorMetrics(*np.zeros(2, np.float32)),
        )
        arrays: State = jax.tree.map(jnp.asarray, state)
        return arrays

    def regression(state: State, batch: Batch, key: Array) -> Regression:
        reduce_key = jax.random.fold_in(key, 0)
        # a' ~ pi(.|s') with running statistics; its gradient never reaches the actor.
        output = predict(actor, state.actor, batch.next_observation)
        next_action, next_log_density = policy.sample(output, key)
        x = jnp.concatenate([batch.observation, batch.action], -1)
        next_x = jnp.concatenate([batch.next_observation, next_action], -1)
        continuation = parts.discount * batch.mask
        bonus = -jnp.exp(state.log_temperature) * next_log_density

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Array, Array]]:
            q, next_q, stats = parts.q_pair(critic, params, state, x, next_x)
            # Equation 1 with the entropy term: V(s') = Q(s', a') - alpha log pi(a'|s').
            y = readout.target(next_q, batch.reward, continuation, bonus, reduce_key)
            y = jax.lax.stop_gradient(y)
            return readout.loss(q, y) + critic.penalty(params), (stats, q, y)

        return Regression(x, next_x, loss)

    def critic_step(state: State, batch: Batch, key: Array) -> State:
        loss = regression(state, batch, key).loss
        (value, (stats, q, y)), gradients = jax.value_and_grad(loss, has_aux=True)(state.critic.params)
        params, moments = parts.critic_optimiser.step(gradients, state.critic_moments, state.critic.params)
        return state._replace(
            critic=Vars(params, stats),
            target=parts.target.follow(state.target, params),
            critic_moments=moments,
            critic_metrics=CriticMetrics(value, jnp.mean(readout.value(q)), jnp.mean(readout.expected(y))),
        )

    def actor_step(state: State, batch: Batch, key: Array) -> State:
        reduce_key = jax.random.fold_in(key, 0)
        temperature = jnp.exp(state.log_temperature)

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Array]]:
            output, stats = actor.apply(params, state.actor.stats, batch.observation, True)
            action, log_density = policy.sample(output, key)
            # The critic with running statistics.
            q = predict(critic, state.critic, jnp.concatenate([batch.observation, action], -1))
            value = jnp.mean(temperature * log_density - parts.reduce(readout.value(q), reduce_key))
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
        critic_key, actor_key = jax.random.split(random_key(state.key, 0, step))

        def delayed_actor_step(state: State) -> State:
            # `step` has no seed axis: under vmap the condition stays a branch, and skipped work is skipped.
            due = step % parts.policy_delay == parts.policy_delay - 1
            after: State = jax.lax.cond(due, lambda s: actor_step(s, batch, actor_key), lambda s: s, state)
            return after

        state = parts.order(state, lambda s: critic_step(s, batch, critic_key), delayed_actor_step)
        return state, {
            "critic_loss": state.critic_metrics.loss,
            "q_mean": state.critic_metrics.q,
            "target_q_mean": state.critic_metrics.target_q,
            "actor_loss": state.actor_metrics.loss,
            "entropy": state.actor_metrics.entropy,
            "temperature": jnp.exp(state.log_temperature),
        }

    def explore(state: State, memory: Tree, observation: Array, decision: Array) -> tuple[Array, Tree]:
        output = predict(actor, state.actor, observation[None])
        return policy.sample(output, random_key(state.key, 1, decision))[0][0], memory

    def exploit(state: State, memory: Tree, observation: Array) -> tuple[Array, Tree]:
        return policy.mode(predict(actor, state.actor, observation[None]))[0], memory

    def view(state: State, batch: Batch, step: Array) -> CriticView:
        critic_key, _ = jax.random.split(random_key(state.key, 0, step))
        x, next_x, loss = regression(state, batch, critic_key)
        params = state.critic.params
        _, (_, _, y) = loss(params)
        both = jnp.concatenate([x, next_x])
        return CriticView(
            params=params,
            loss=lambda params: loss(params)[0],
            learning_rate=parts.critic_optimiser.learning_rate(state.critic_moments),
            hidden=critic.hidden(params, state.critic.stats, both, True),
            stats=state.critic.stats,
            new_stats=critic.apply(params, state.critic.stats, both, True)[1],
            target=readout.expected(y),
        )

    def appraise(state: State, observation: Array, decision: Array) -> Appraisal:
        output = predict(actor, state.actor, observation[None])
        action, log_density = policy.sample(output, random_key(state.key, 1, decision))
        q = readout.value(predict(critic, state.critic, jnp.concatenate([observation[None], action], -1)))
        return Appraisal(action[0], -jnp.exp(state.log_temperature) * log_density[0], jnp.mean(q))

    return Algorithm(init, explore, exploit, update, period=parts.policy_delay, view=view, appraise=appraise)


def random_key(key: Array, stream: int, count: Array) -> Array:
    """The key of an update (stream 0), of a decision (1) or of an extension (2 and up), by its counter."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), stream), count)
