"""The soft actor-critic update, once for every algorithm that is made of `Parts`.

A gradient update is a `critic_step` and, once per `policy_delay` updates, an `actor_step` with its
`temperature_step`. Every function takes the parts and the state of one seed; `soft_actor_critic` binds the
parts. Equations are numbered as in the paper (v2), and symbols are the paper's:

    theta, theta_bar    parameters of the critics and of their target
    gamma, alpha        discount, temperature
    s, a, s', a'        a replayed transition, and the policy's action in its next state
    H, H_bar            the policy's entropy, and its target
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.settings import ActorCriticSettings
from crossq_wn.algorithms.state import ActorMetrics, CriticMetrics, KeyStream, State, random_key
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.layers import Layer, predict
from crossq_wn.nets.losses import Readout, Reduce, minimum
from crossq_wn.nets.optimisers import Optimiser, Target, adamw
from crossq_wn.nets.policies import Policy
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, CriticView, Metrics, Spec, Tree, Vars, never

# How Q(s, a) and Q(s', a') are computed, for x = (s, a) and next_x = (s', a'), each [B, .]

Passed = tuple[Array, Array, Tree]  # outputs [critic, B, atom] on x and on next_x, new online statistics
QPair = Callable[[Layer, Tree, State, Array, Array], Passed]  # (critic, theta, state, x, next_x)


def separate(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array) -> Passed:
    """SAC: the online critic on (s, a), the target critic on (s', a')."""
    # Statistics go through both passes so that dropout draws anew; networks without any do not notice.
    next_q, stats = critic.apply(state.target, state.critic.stats, next_x, train=True)
    q, stats = critic.apply(theta, stats, x, train=True)
    return q, next_q, stats


def joint(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array) -> Passed:
    """CrossQ (section 2): one pass over both halves, so that they share batch statistics; no target."""
    both, stats = critic.apply(theta, state.critic.stats, jnp.concatenate([x, next_x]), train=True)
    q, next_q = jnp.split(both, 2, axis=1)
    return q, next_q, stats


def joint_target(critic: Layer, theta: Tree, state: State, x: Array, next_x: Array) -> Passed:
    """CrossQ + WN (section 4): the joint pass through critic and target critic, both in training mode.

    Batch norm in training mode reads no running statistics. Batch renorm does, and then target and
    prediction must be renormalised alike, so the target uses the online critic's.
    """
    both = jnp.concatenate([x, next_x])
    q, stats = critic.apply(theta, state.critic.stats, both, train=True)
    target_q, _ = critic.apply(state.target, state.critic.stats, both, train=True)
    return q[:, : len(x)], target_q[:, len(x) :], stats


# In which order actor and critic change

Step = Callable[[State], State]
Order = Callable[[State, Step, Step], State]  # (state, critic step, actor step) -> state


def critic_first(state: State, critic: Step, actor: Step) -> State:
    """The actor and the temperature follow the critic just updated (jaxrl, CrossQ)."""
    return actor(critic(state))


def actor_first(state: State, critic: Step, actor: Step) -> State:
    """The critic's target uses the actor and the temperature just updated (SimBa)."""
    return critic(actor(state))


class Parts(NamedTuple):
    """Everything that one soft actor-critic is made of; an algorithm's page returns it."""

    spec: Spec
    actor: Layer  # observation -> policy output
    policy: Policy  # what the actor's output means
    critic: Layer  # [observation, action] -> output [critic, B, atom]
    q_pair: QPair  # `separate`, `joint` or `joint_target`
    target: Target
    readout: Readout  # what the critics' outputs mean
    actor_optimiser: Optimiser
    critic_optimiser: Optimiser
    temperature_optimiser: optax.GradientTransformation  # of log alpha
    initial_temperature: float
    target_entropy: float  # H_bar
    policy_delay: int = 1  # the actor and the temperature change once per so many gradient updates
    reduce: Reduce = minimum  # how the actor sees several critics
    order: Order = critic_first
    resets: Callable[[int], bool] = never  # as in `Algorithm`
    around: tuple[Callable[[Algorithm], Algorithm], ...] = ()  # what wraps the algorithm, innermost first


def compose(
    spec: Spec,
    settings: ActorCriticSettings,
    *,
    actor: Layer,
    policy: Policy,
    critic: Layer,
    q_pair: QPair,
    target: Target,
    readout: Readout,
    actor_weight_decay: float = 0.0,
    critic_weight_decay: float = 0.0,
) -> Parts:
    """Parts whose optimisers, temperature and policy delay are as the settings say.

    What only few algorithms have keeps its default; they set it with `_replace`.
    """

    def optimiser(layer: Layer, learning_rate: float, weight_decay: float) -> Optimiser:
        return adamw(layer, settings.schedule(learning_rate), weight_decay, settings.adam_beta1)

    return Parts(
        spec=spec,
        actor=actor,
        policy=policy,
        critic=critic,
        q_pair=q_pair,
        target=target,
        readout=readout,
        actor_optimiser=optimiser(actor, settings.actor_learning_rate, actor_weight_decay),
        critic_optimiser=optimiser(critic, settings.critic_learning_rate, critic_weight_decay),
        temperature_optimiser=optax.adam(settings.schedule(settings.temperature_learning_rate)),
        initial_temperature=settings.initial_temperature,
        target_entropy=-settings.target_entropy_scale * spec.action_size,
        policy_delay=settings.policy_delay,
    )


def soft_actor_critic(parts: Parts) -> Algorithm:
    """The algorithm that is made of the parts, for one seed."""
    algorithm = Algorithm(
        init=partial(init, parts),
        explore=partial(explore, parts),
        exploit=partial(exploit, parts),
        update=partial(update, parts),
        resets=parts.resets,
        period=parts.policy_delay,
        view=partial(view, parts),
        appraise=partial(appraise, parts),
    )
    for wrap in parts.around:
        algorithm = wrap(algorithm)
    return algorithm


# Learning


def init(parts: Parts, generator: np.random.Generator) -> State:
    """A fresh state; see `types.Init`."""
    key_stream, actor_stream, critic_stream = generator.spawn(3)
    observation_size, action_size, _ = parts.spec
    actor = layers.create(parts.actor, actor_stream, observation_size)
    critic = layers.create(parts.critic, critic_stream, observation_size + action_size)
    log_temperature = np.log(np.float32(parts.initial_temperature))
    state = State(
        key=jnp.asarray(key_stream.integers(0, 2**32, 2, np.uint32)),
        actor=actor,
        critic=critic,
        target=parts.target.init(critic.params),
        log_temperature=log_temperature,
        actor_moments=parts.actor_optimiser.init(actor.params),
        critic_moments=parts.critic_optimiser.init(critic.params),
        temperature_moments=parts.temperature_optimiser.init(log_temperature),
        critic_metrics=CriticMetrics(*np.zeros(3, np.float32)),
        actor_metrics=ActorMetrics(*np.zeros(2, np.float32)),
    )
    return State(*jax.tree.map(jnp.asarray, state))


def update(parts: Parts, state: State, batch: Batch, count: Array) -> tuple[State, Metrics]:
    """One gradient update; see `types.Update`."""
    critic_key, actor_key = jax.random.split(random_key(state.key, KeyStream.UPDATE, count))

    def improve_critic(state: State) -> State:
        return critic_step(parts, state, batch, critic_key)

    def improve_actor(state: State) -> State:
        return temperature_step(parts, actor_step(parts, state, batch, actor_key))

    def improve_actor_if_due(state: State) -> State:
        # `count` has no seed axis: under vmap the condition stays a branch, and skipped work is skipped.
        due = count % parts.policy_delay == parts.policy_delay - 1
        return State(*jax.lax.cond(due, improve_actor, lambda state: state, state))

    state = parts.order(state, improve_critic, improve_actor_if_due)
    return state, {
        "critic_loss": state.critic_metrics.loss,
        "q_mean": state.critic_metrics.q,
        "target_q_mean": state.critic_metrics.target_q,
        "actor_loss": state.actor_metrics.loss,
        "entropy": state.actor_metrics.entropy,
        "temperature": jnp.exp(state.log_temperature),
    }


class Regression(NamedTuple):
    """What one critic update is computed from."""

    x: Array  # [B, .], (s, a)
    next_x: Array  # [B, .], (s', a')
    reward: Array  # [B]
    continuation: Array  # [B], gamma, but 0 on a true termination
    bonus: Array  # [B], -alpha log pi(a'|s')
    key: Array  # for targets that choose among critics at random


def regression(parts: Parts, state: State, batch: Batch, key: Array) -> Regression:
    """Draws a' ~ pi(.|s'), with running statistics; the critic's gradient never reaches the actor."""
    output = predict(parts.actor, state.actor, batch.next_observation)
    next_action, next_log_density = parts.policy.sample(output, key)
    return Regression(
        x=jnp.concatenate([batch.observation, batch.action], -1),
        next_x=jnp.concatenate([batch.next_observation, next_action], -1),
        reward=batch.reward,
        continuation=parts.spec.discount * batch.mask,
        bonus=-jnp.exp(state.log_temperature) * next_log_density,
        key=jax.random.fold_in(key, 0),
    )


def critic_loss(
    parts: Parts, state: State, data: Regression, theta: Tree
) -> tuple[Array, tuple[Tree, Array, Array]]:
    """The squared Bellman error (section 2), or what the readout has in its place.

    Equation 1 with SAC's entropy term: V(s') = Q_theta_bar(s', a') - alpha log pi(a'|s'), and
    y = r + gamma V(s').

    Returns:
        The loss, and beside it: new statistics, outputs q(s, a) [critic, B, atom], targets y [B, atom].
    """
    q, next_q, stats = parts.q_pair(parts.critic, theta, state, data.x, data.next_x)
    y = parts.readout.target(next_q, data.reward, data.continuation, data.bonus, data.key)
    y = jax.lax.stop_gradient(y)
    return parts.readout.loss(q, y) + parts.critic.penalty(theta), (stats, q, y)


def critic_step(parts: Parts, state: State, batch: Batch, key: Array) -> State:
    """Moves theta down the gradient of `critic_loss`, projects it (equation 2), and lets theta_bar follow."""
    loss = partial(critic_loss, parts, state, regression(parts, state, batch, key))
    (value, (stats, q, y)), gradients = jax.value_and_grad(loss, has_aux=True)(state.critic.params)
    theta, moments = parts.critic_optimiser.step(gradients, state.critic_moments, state.critic.params)
    mean_q, mean_y = jnp.mean(parts.readout.value(q)), jnp.mean(parts.readout.expected(y))
    return state._replace(
        critic=Vars(theta, stats),
        target=parts.target.follow(state.target, theta),
        critic_moments=moments,
        critic_metrics=CriticMetrics(value, mean_q, mean_y),
    )


def actor_loss(
    parts: Parts, state: State, observation: Array, key: Array, params: Tree
) -> tuple[Array, tuple[Tree, Array]]:
    """Mean of alpha log pi(a|s) - Q(s, a) over a ~ pi(.|s) (SAC, arXiv 1812.05905, equation 7).

    Returns:
        The loss, and beside it: the actor's new statistics, the entropy H.
    """
    alpha = jnp.exp(state.log_temperature)
    output, stats = parts.actor.apply(params, state.actor.stats, observation, train=True)
    action, log_density = parts.policy.sample(output, key)
    # The critic is evaluated, with running statistics.
    q = predict(parts.critic, state.critic, jnp.concatenate([observation, action], -1))
    q = parts.reduce(parts.readout.value(q), jax.random.fold_in(key, 0))
    return jnp.mean(alpha * log_density - q), (stats, -jnp.mean(log_density))


def actor_step(parts: Parts, state: State, batch: Batch, key: Array) -> State:
    """Moves the actor down the gradient of `actor_loss`."""
    loss = partial(actor_loss, parts, state, batch.observation, key)
    (value, (stats, entropy)), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
    params, moments = parts.actor_optimiser.step(gradients, state.actor_moments, state.actor.params)
    return state._replace(
        actor=Vars(params, stats), actor_moments=moments, actor_metrics=ActorMetrics(value, entropy)
    )


def temperature_step(parts: Parts, state: State) -> State:
    """Moves log alpha down the gradient of alpha (H - H_bar), H of the last actor step (SAC, section 5)."""
    gradient = jnp.exp(state.log_temperature) * (state.actor_metrics.entropy - parts.target_entropy)
    change, moments = parts.temperature_optimiser.update(gradient, state.temperature_moments)
    return state._replace(log_temperature=state.log_temperature + change, temperature_moments=moments)


# Acting

Acted = tuple[Array, Tree]  # an action [action_size], and the memory for the next decision


def drawn(parts: Parts, state: State, observation: Array, decision: Array) -> tuple[Array, Array]:
    """A stochastic action [1, action_size] and its log density [1], for one observation."""
    output = predict(parts.actor, state.actor, observation[None])
    return parts.policy.sample(output, random_key(state.key, KeyStream.DECISION, decision))


def explore(parts: Parts, state: State, memory: Tree, observation: Array, decision: Array) -> Acted:
    """A stochastic action; see `types.Explore`."""
    return drawn(parts, state, observation, decision)[0][0], memory


def exploit(parts: Parts, state: State, memory: Tree, observation: Array) -> Acted:
    """The policy's mode; see `types.Exploit`."""
    return parts.policy.mode(predict(parts.actor, state.actor, observation[None]))[0], memory


# Looking inside


def view(parts: Parts, state: State, batch: Batch, count: Array) -> CriticView:
    """The critic as the update of the same arguments sees it; see `types.View`."""
    critic_key, _ = jax.random.split(random_key(state.key, KeyStream.UPDATE, count))
    data = regression(parts, state, batch, critic_key)
    loss = partial(critic_loss, parts, state, data)
    theta, stats = state.critic
    _, (_, _, y) = loss(theta)
    both = jnp.concatenate([data.x, data.next_x])
    return CriticView(
        params=theta,
        loss=lambda params: loss(params)[0],
        learning_rate=parts.critic_optimiser.learning_rate(state.critic_moments),
        hidden=parts.critic.hidden(theta, stats, both),
        stats=stats,
        new_stats=parts.critic.apply(theta, stats, both, train=True)[1],
        target=parts.readout.expected(y),
    )


def appraise(parts: Parts, state: State, observation: Array, decision: Array) -> Appraisal:
    """A stochastic action and its soft value; see `types.Appraise`."""
    action, log_density = drawn(parts, state, observation, decision)
    q = predict(parts.critic, state.critic, jnp.concatenate([observation[None], action], -1))
    bonus = -jnp.exp(state.log_temperature) * log_density[0]
    return Appraisal(action[0], bonus, jnp.mean(parts.readout.value(q)))
