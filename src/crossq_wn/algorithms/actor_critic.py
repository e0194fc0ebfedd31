"""The soft actor-critic update, shared by every algorithm that is made of `Parts`.

A gradient update consists of a `critic_step` and, every `policy_delay` updates, of an `actor_step` and a
`temperature_step`. Equations are numbered as in the paper (v2) unless another source is named; symbols are
the paper's. The functions share these arguments and symbols:

    parts, state        what distinguishes the algorithm, bound by `soft_actor_critic`; of one seed's learner
    batch, key          one minibatch, whose leaves are [B, ...]; a random key
    theta, params       parameters of which a loss is a function: the critics', and the actor's
    theta_bar           parameters of the target critics
    gamma, alpha        discount, temperature
    s, a, s', a'        a replayed transition, and the policy's action in its next state
    H, H_bar            the policy's entropy, and its target
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.acting.operations import Network
from crossq_wn.algorithms.own_networks import own_network
from crossq_wn.algorithms.passes import ActorPass, QPair, own_states
from crossq_wn.algorithms.returns import over_steps
from crossq_wn.algorithms.settings import ActorCriticSettings
from crossq_wn.algorithms.state import ActorMetrics, CriticMetrics, KeyStream, State, random_key
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers, policies
from crossq_wn.nets.layer import Layer, operations, predict
from crossq_wn.nets.losses import Readout, Reduce, minimum
from crossq_wn.nets.optimisers import Optimiser, Target, adamw, deferred
from crossq_wn.types import (
    Algorithm,
    Appraisal,
    Array,
    Batch,
    CriticView,
    InNumpy,
    Metrics,
    Spec,
    Tree,
    Vars,
    never,
)

# The order in which actor and critic are updated

Step = Callable[[State], State]
Order = Callable[[State, Step, Step], State]  # (state, critic step, actor step) -> state


def critic_first(state: State, critic: Step, actor: Step) -> State:
    """The actor and the temperature use the critic that was just updated (jaxrl, CrossQ)."""
    return actor(critic(state))


def actor_first(state: State, critic: Step, actor: Step) -> State:
    """The critic's target uses the actor and the temperature that were just updated (SimBa)."""
    return critic(actor(state))


class Parts(NamedTuple):
    """Everything that distinguishes one soft actor-critic from another; an algorithm's page returns it."""

    spec: Spec
    actor: Layer  # observation -> policy output
    policy: policies.Policy  # how the actor's output becomes an action
    critic: Layer  # [observation, action] -> output [critic, B, atom]
    q_pair: QPair  # `separate`, `separate_subset`, `joint` or `joint_target`
    target: Target
    readout: Readout  # how the critics' outputs become values, targets and a loss
    actor_optimiser: Optimiser
    critic_optimiser: Optimiser
    temperature_optimiser: optax.GradientTransformation  # of log alpha
    initial_temperature: float
    target_entropy: float  # H_bar
    policy_delay: int = 1  # gradient updates per update of the actor and the temperature
    n_step: int = 1  # agent decisions whose rewards a target counts; see `returns`
    actor_turn: int = -1  # which of these updates the actor: 0 is the first, -1 the last
    actor_pass: ActorPass = own_states  # what the actor is given in training: `own_states` or `joint_states`
    reduce: Reduce = minimum  # how several critics become the one value that the actor maximises
    order: Order = critic_first
    resets: Callable[[int], bool] = never  # as in `Algorithm`
    around: tuple[Callable[[Algorithm], Algorithm], ...] = ()  # wrappers of the algorithm, innermost first


def compose(
    spec: Spec,
    settings: ActorCriticSettings,
    *,
    actor: Layer,
    policy: policies.Policy,
    critic: Layer,
    q_pair: QPair,
    target: Target,
    readout: Readout,
    actor_weight_decay: float = 0.0,
    critic_weight_decay: float = 0.0,
) -> Parts:
    """Assembles parts, with a user's own networks, optimisers and policy delay as the settings say.

    The keyword arguments are fields of `Parts`, but for the weight decays: AdamW's, of what the layers let
    decay. What few algorithms change keeps its default here; these use `_replace`.
    """
    actor = own_network("actor_network", spec, settings, 2 * spec.action_size) or actor
    if member := own_network("critic_network", spec, settings, readout.atoms):
        critic = layers.ensemble(member, settings.critics)

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
        temperature_optimiser=deferred(
            lambda: optax.adam(settings.schedule(settings.temperature_learning_rate))
        ),
        initial_temperature=settings.initial_temperature,
        target_entropy=-settings.target_entropy_scale * spec.action_size,
        policy_delay=settings.policy_delay,
        n_step=settings.n_step,
    )


def soft_actor_critic(parts: Parts) -> Algorithm:
    """Builds the algorithm for one seed from its parts."""
    deterministic, stochastic = partial(exploit, parts), partial(explore, parts)
    algorithm = Algorithm(
        init=partial(init, parts),
        explore=stochastic,
        exploit=deterministic,
        update=partial(update, parts),
        resets=parts.resets,
        period=parts.policy_delay,
        view=partial(view, parts),
        appraise=partial(appraise, parts),
        in_numpy=InNumpy(deterministic, partial(network, parts)),
        gaussian=stochastic,
    )
    for wrap in parts.around:
        algorithm = wrap(algorithm)
    return over_steps(algorithm, parts.n_step, parts.spec.discount)


# Learning


def init(parts: Parts, generator: np.random.Generator) -> State:
    """The initial state; see `types.Init`."""
    key_stream, actor_stream, critic_stream = generator.spawn(3)
    observation_size, action_size, _ = parts.spec
    actor = layers.create(parts.actor, actor_stream, observation_size)
    critic = layers.create(parts.critic, critic_stream, observation_size + action_size)
    log_temperature = np.log(np.float32(parts.initial_temperature))
    state = State(
        key=key_stream.integers(0, 2**32, 2, np.uint32),  # type: ignore[arg-type]
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
    return State(*jax.device_put(state))


def update(parts: Parts, state: State, batch: Batch, count: Array) -> tuple[State, Metrics]:
    """One gradient update; see `types.Update`."""
    critic_key, actor_key = jax.random.split(random_key(state.key, KeyStream.UPDATE, count))

    def improve_critic(state: State) -> State:
        return critic_step(parts, state, batch, critic_key)

    def improve_actor(state: State) -> State:
        return temperature_step(parts, actor_step(parts, state, batch, actor_key))

    def improve_actor_if_due(state: State) -> State:
        # `count` has no seed axis, so under vmap this stays a real branch and the skipped work is not done.
        due = count % parts.policy_delay == parts.actor_turn % parts.policy_delay
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
    """The data of one critic update."""

    x: Array  # [B, .], (s, a)
    next_x: Array  # [B, .], (s', a')
    reward: Array  # [B]
    continuation: Array  # [B], gamma, but 0 on a true termination
    bonus: Array  # [B], -alpha log pi(a'|s')
    key: Array  # for readouts that choose critics at random


def regression(parts: Parts, state: State, batch: Batch, key: Array) -> Regression:
    """Draws a' ~ pi(.|s'), with running statistics; the critic's gradient does not reach the actor."""
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
    """The critics' loss: the squared Bellman error (section 2), or the readout's own.

    The targets are y = r + gamma V(s'), with V(s') = Q_theta_bar(s', a') - alpha log pi(a'|s'): equation 1
    with SAC's entropy term. A layer's penalty is added.

    Returns:
        The loss, and with it: the critics' new statistics, q(s, a) [critic, B, atom], and y [B, atom].
    """
    q, next_q, stats = parts.q_pair(parts.critic, theta, state, data.x, data.next_x, data.key)
    y = parts.readout.target(next_q, data.reward, data.continuation, data.bonus, data.key)
    y = jax.lax.stop_gradient(y)
    return parts.readout.loss(q, y) + parts.critic.penalty(theta), (stats, q, y)


def critic_step(parts: Parts, state: State, batch: Batch, key: Array) -> State:
    """One optimiser step on `critic_loss`, with projection (equation 2); theta_bar then follows theta."""
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
    parts: Parts, state: State, batch: Batch, key: Array, params: Tree
) -> tuple[Array, tuple[Tree, Array]]:
    """Mean of alpha log pi(a|s) - Q(s, a) over a ~ pi(.|s) (SAC, arXiv 1812.05905, equation 7), + penalty.

    Returns:
        The loss, and with it: the actor's new statistics, and the entropy H.
    """
    alpha = jnp.exp(state.log_temperature)
    output, stats = parts.actor_pass(parts.actor, params, state, batch)
    action, log_density = parts.policy.sample(output, key)
    # The critic is in evaluation mode: it uses its running statistics and does not change them.
    q = predict(parts.critic, state.critic, jnp.concatenate([batch.observation, action], -1))
    q = parts.reduce(parts.readout.value(q), jax.random.fold_in(key, 0))
    return jnp.mean(alpha * log_density - q) + parts.actor.penalty(params), (stats, -jnp.mean(log_density))


def actor_step(parts: Parts, state: State, batch: Batch, key: Array) -> State:
    """One optimiser step on `actor_loss`."""
    loss = partial(actor_loss, parts, state, batch, key)
    (value, (stats, entropy)), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
    params, moments = parts.actor_optimiser.step(gradients, state.actor_moments, state.actor.params)
    return state._replace(
        actor=Vars(params, stats), actor_moments=moments, actor_metrics=ActorMetrics(value, entropy)
    )


def temperature_step(parts: Parts, state: State) -> State:
    """One optimiser step of log alpha on alpha (H - H_bar), H of the last actor step (SAC, equation 18)."""
    gradient = jnp.exp(state.log_temperature) * (state.actor_metrics.entropy - parts.target_entropy)
    change, moments = parts.temperature_optimiser.update(gradient, state.temperature_moments)
    return state._replace(log_temperature=state.log_temperature + change, temperature_moments=moments)


# Acting

Acted = tuple[Array, Tree]  # an action [action_size], and the memory for the next decision


def draw_action(parts: Parts, state: State, observation: Array, decision: Array) -> tuple[Array, Array]:
    """A stochastic action [1, action_size] and its log density [1], for one observation."""
    output = predict(parts.actor, state.actor, observation[None])
    return parts.policy.sample(output, random_key(state.key, KeyStream.DECISION, decision))


def explore(parts: Parts, state: State, memory: Tree, observation: Array, decision: Array) -> Acted:
    """A stochastic action; see `types.Explore`."""
    action, _ = draw_action(parts, state, observation, decision)
    return action[0], memory


def exploit(parts: Parts, state: State, memory: Tree, observation: Array) -> Acted:
    """The policy's mode; see `types.Exploit`."""
    return parts.policy.mode(predict(parts.actor, state.actor, observation[None]))[0], memory


def network(parts: Parts, state: State) -> Network:
    """What `exploit` computes, in numpy; see `types.network_of`."""
    return policies.network(parts.policy, operations(parts.actor, state.actor.params, state.actor.stats))


# For diagnostics


def view(parts: Parts, state: State, batch: Batch, count: Array) -> CriticView:
    """The critic as the update with the same arguments sees it; see `types.View`."""
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
    action, log_density = draw_action(parts, state, observation, decision)
    q = predict(parts.critic, state.critic, jnp.concatenate([observation[None], action], -1))
    bonus = -jnp.exp(state.log_temperature) * log_density[0]
    return Appraisal(action[0], bonus, jnp.mean(parts.readout.value(q)))
