"""TD-MPC2's world model: its networks, its losses and its update.

From an encoded observation the model is unrolled for H decisions. The loss sums three errors over them, with
weight rho^t for decision t: of predicted latents against encoded ones (consistency), of rewards, and of
values. The policy maximises the values of the predicted latents. `z` is always a latent state [...,
latent_size].
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.initialisers import narrow_normal, zero
from crossq_wn.nets.layer import operation
from crossq_wn.nets.layers import Layer, activation, dense, dropout, predict, serial
from crossq_wn.nets.losses import TwoHot
from crossq_wn.nets.normalisation import layer_norm
from crossq_wn.nets.optimisers import Target
from crossq_wn.nets.policies import squashed_sample, squeezed
from crossq_wn.types import Appraisal, Array, Batch, CriticView, Metrics, Spec, Tree, Vars

SIMNORM_GROUP = 8  # latent entries per softmax
POLICY = squeezed(-10.0, 2.0)


class Model(NamedTuple):
    """The parts of one TD-MPC2 without its planner."""

    spec: Spec
    latent_size: int
    encoder: Layer  # observation -> z
    dynamics: Layer  # [z, action] -> next z
    reward: Layer  # [z, action] -> logits of the two-hot reward
    values: Layer  # [z, action] -> logits of the two-hot value [value function, ..., bin]
    value_pair: Layer  # like `values`, but with only two functions
    policy: Layer  # z -> policy output
    bins: TwoHot  # how rewards and values are encoded
    world_optimiser: optax.GradientTransformation
    policy_optimiser: optax.GradientTransformation
    target: Target  # of the value functions
    learning_rate: float
    horizon: int  # H
    step_weights: Callable[[], Array]  # [H + 1], rho^t
    consistency_weight: float
    reward_weight: float
    value_weight: float
    entropy_weight: float
    tau: float  # Polyak rate of the scale of values
    value_functions: int


class World(NamedTuple):
    """The variables of the world model; the policy's are separate."""

    encoder: Vars
    dynamics: Vars
    reward: Vars
    values: Vars


class State(NamedTuple):
    """Everything that one seed's learner carries between updates; checkpoints store the fields by name."""

    key: Array  # uint32[2], constant: counters select the random numbers
    world: World
    policy: Vars
    target: Tree  # the target value functions' parameters
    world_moments: Tree  # state of the world model's optimiser
    policy_moments: Tree  # state of the policy's optimiser
    scale: Array  # running scale of values: the range from their 5th to their 95th percentile, at least 1


# Networks


def normed(width: int, drop: float = 0.0) -> Layer:
    """A hidden layer: linear, dropout, layer norm, Mish."""
    middle = [dropout(drop)] if drop else []
    return serial(dense(width, narrow_normal), *middle, layer_norm(1e-5), mish())


def mish() -> Layer:
    """x tanh(log(1 + exp x))."""
    return activation(lambda x: jax.nn.mish(x), operation("mish"))


def simnormed(width: int) -> Layer:
    """A latent state's layer (SimNorm): linear, layer norm, then softmax within groups of 8 entries."""

    def simnorm(x: Array) -> Array:
        return jax.nn.softmax(x.reshape(*x.shape[:-1], -1, SIMNORM_GROUP)).reshape(x.shape)

    in_numpy = operation("group_softmax", {"size": SIMNORM_GROUP})
    return serial(dense(width, narrow_normal), layer_norm(1e-5), activation(simnorm, in_numpy))


def two_hot_head(bins: int) -> Layer:
    """An output layer whose logits are all zero at first."""
    return dense(bins, zero)


def init(model: Model, generator: np.random.Generator) -> State:
    """The initial state; see `types.Init`."""
    streams = generator.spawn(6)
    observation_size, action_size, _ = model.spec
    n = model.latent_size + action_size
    world = World(
        layers.create(model.encoder, streams[0], observation_size),
        layers.create(model.dynamics, streams[1], n),
        layers.create(model.reward, streams[2], n),
        layers.create(model.values, streams[3], n),
    )
    policy = layers.create(model.policy, streams[4], model.latent_size)
    state = State(
        key=streams[5].integers(0, 2**32, 2, np.uint32),  # type: ignore[arg-type]
        world=world,
        policy=policy,
        target=model.target.init(world.values.params),
        world_moments=model.world_optimiser.init(parameters(world)),
        policy_moments=model.policy_optimiser.init(policy.params),
        scale=np.float32(1.0),  # type: ignore[arg-type]
    )
    return State(*jax.device_put(state))


def parameters(world: World) -> tuple[Tree, ...]:
    """The parameters of encoder, dynamics, reward and value functions."""
    return tuple(variables.params for variables in world)


def with_parameters(world: World, params: tuple[Tree, ...]) -> World:
    """The same world with other parameters."""
    return World(*(Vars(p, v.stats) for p, v in zip(params, world, strict=True)))


def act(model: Model, policy: Vars, z: Array, key: Array) -> tuple[Array, Array]:
    """Draws an action [..., action_size] of the policy; returns it with its log density [...]."""
    return squashed_sample(*POLICY.gaussian(predict(model.policy, policy, z)), key)


def two_values(
    model: Model, params: Tree, stats: Tree, x: Array, key: Array, *, train: bool = False
) -> Array:
    """The values that two randomly chosen value functions expect; the others are not computed.

    Args:
        model: the networks.
        params: of all value functions.
        stats: of all value functions.
        x: [z, action], [..., latent_size + action_size].
        key: random key, which chooses the two.
        train: whether dropout is on.

    Returns:
        [2, ...].
    """
    chosen = jax.random.choice(key, model.value_functions, (2,), replace=False)

    def pick(members: tuple[Tree, ...]) -> tuple[Tree, ...]:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return tuple(jax.tree.map(itemgetter(i), stacked) for i in chosen)

    return model.bins.decode(model.value_pair.apply(pick(params), pick(stats), x, train=train)[0])


# Losses


def targets(model: Model, state: State, z: Array, batch: Batch, key: Array) -> Array:
    """y = r + gamma min of two random target value functions at the next state.

    Args:
        model: the networks.
        state: of one seed.
        z: encoded next observations, [H, B, latent_size].
        batch: with leaves [H, B, ...].
        key: random key.

    Returns:
        [H, B].
    """
    action_key, value_key = jax.random.split(key)
    action, _ = act(model, state.policy, z, action_key)
    x = jnp.concatenate([z, action], -1)
    stats = state.world.values.stats
    q = jax.vmap(lambda x: two_values(model, state.target, stats, x, value_key))(x)
    return batch.reward + model.spec.discount * batch.mask * jnp.min(q, 1)


def world_loss(
    model: Model, state: State, batch: Batch, key: Array, params: tuple[Tree, ...]
) -> tuple[Array, tuple[Array, Metrics, Tree]]:
    """Consistency, reward and value errors over H decisions in the model.

    Args:
        model: the networks.
        state: of one seed.
        batch: with leaves [H, B, ...]; the model starts from the first observation.
        key: random key, for the targets.
        params: the world's parameters, of which the loss is a function.

    Returns:
        The loss, and with it: the latents [H + 1, B, latent_size], metrics, and the value functions' new
            statistics.
    """
    world = with_parameters(state.world, params)
    encoded = predict(model.encoder, state.world.encoder, batch.next_observation)
    encoded = jax.lax.stop_gradient(encoded)
    y = jax.lax.stop_gradient(targets(model, state, encoded, batch, key))
    z = predict(model.encoder, world.encoder, batch.observation[0])
    latents, stats = [z], state.world.values.stats
    consistency = reward_loss = value_loss = jnp.zeros(())
    for t in range(model.horizon):
        weight, x = model.step_weights()[t], jnp.concatenate([z, batch.action[t]], -1)
        logits, stats = model.values.apply(world.values.params, stats, x, train=True)
        value_loss += weight * jnp.mean(model.bins.loss(logits, y[t]))
        reward = predict(model.reward, world.reward, x)
        reward_loss += weight * jnp.mean(model.bins.loss(reward, batch.reward[t]))
        z = predict(model.dynamics, world.dynamics, x)
        consistency += weight * jnp.mean(jnp.square(z - encoded[t]))
        latents.append(z)
    metrics = {
        "consistency_loss": consistency / model.horizon,
        "reward_loss": reward_loss / model.horizon,
        "value_loss": value_loss / model.horizon,
        "target_q_mean": jnp.mean(y),
    }
    total = (
        model.consistency_weight * metrics["consistency_loss"]
        + model.reward_weight * metrics["reward_loss"]
        + model.value_weight * metrics["value_loss"]
    )
    return total, (jax.lax.stop_gradient(jnp.stack(latents)), metrics, stats)


def policy_loss(
    model: Model, state: State, latents: Array, key: Array, params: Tree
) -> tuple[Array, tuple[Array, Metrics]]:
    """Minus the scaled values and the entropy of the policy along the predicted latents.

    Args:
        model: the networks.
        state: of one seed.
        latents: [H + 1, B, latent_size].
        key: random key.
        params: the policy's parameters, of which the loss is a function.

    Returns:
        The loss, and with it: the new scale of values, and metrics.
    """
    action_key, value_key = jax.random.split(key)
    output = predict(model.policy, Vars(params, state.policy.stats), latents)
    mean, log_std = POLICY.gaussian(output)
    action, log_density = squashed_sample(mean, log_std, action_key)
    x = jnp.concatenate([latents, action], -1)
    value_params, stats = state.world.values
    both = jax.vmap(lambda x: two_values(model, value_params, stats, x, value_key, train=True))(x)
    q = jnp.mean(both, 1)
    low, high = jnp.percentile(jax.lax.stop_gradient(q[0]), jnp.asarray([5.0, 95.0]))
    scale = state.scale + model.tau * (jnp.maximum(high - low, 1.0) - state.scale)
    # The authors' code takes the entropy of the Gaussian before the tanh, without its constant.
    entropy = model.spec.action_size * jnp.sum(log_std, -1)
    weighted = model.step_weights() * jnp.mean(model.entropy_weight * entropy + q / scale, -1)
    loss = -jnp.mean(weighted)
    metrics = {
        "policy_loss": loss,
        "entropy": -jnp.mean(log_density),
        "value_scale": scale,
        "q_mean": jnp.mean(q),
    }
    return loss, (scale, metrics)


# Learning


def update(model: Model, state: State, batch: Batch, count: Array) -> tuple[State, Metrics]:
    """One gradient update of the world model, then one of the policy; see `types.Update`."""
    target_key, policy_key = jax.random.split(random_key(state.key, KeyStream.UPDATE, count))
    state, latents, world_metrics = world_step(model, state, horizon_first(batch), target_key)
    state, policy_metrics = policy_step(model, state, latents, policy_key)
    target = model.target.follow(state.target, state.world.values.params)
    return state._replace(target=target), world_metrics | policy_metrics


def world_step(model: Model, state: State, batch: Batch, key: Array) -> tuple[State, Array, Metrics]:
    """One optimiser step on `world_loss`; returns the new state, the predicted latents and metrics."""
    params = parameters(state.world)
    loss = partial(world_loss, model, state, batch, key)
    (value, (latents, metrics, stats)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    change, moments = model.world_optimiser.update(gradients, state.world_moments, params)
    world = with_parameters(state.world, optax.apply_updates(params, change))
    world = world._replace(values=Vars(world.values.params, stats))
    return state._replace(world=world, world_moments=moments), latents, {"world_loss": value} | metrics


def policy_step(model: Model, state: State, latents: Array, key: Array) -> tuple[State, Metrics]:
    """One optimiser step on `policy_loss`, which also moves the scale of values."""
    loss = partial(policy_loss, model, state, latents, key)
    (_, (scale, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(state.policy.params)
    change, moments = model.policy_optimiser.update(gradients, state.policy_moments)
    policy = Vars(optax.apply_updates(state.policy.params, change), state.policy.stats)
    return state._replace(policy=policy, policy_moments=moments, scale=scale), metrics


def horizon_first(batch: Batch) -> Batch:
    """Moves the horizon to the front: leaves [B, H, ...] become [H, B, ...]."""
    moved: Batch = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batch)
    return moved


# For diagnostics


def view(model: Model, state: State, batch: Batch, count: Array) -> CriticView:
    """The value functions, with the rest of the model fixed; see `types.View`."""
    key, _ = jax.random.split(random_key(state.key, KeyStream.UPDATE, count))
    batch = horizon_first(batch)
    others, (params, stats) = parameters(state.world)[:-1], state.world.values
    z = predict(model.encoder, state.world.encoder, batch.observation[0])
    x = jnp.concatenate([z, batch.action[0]], -1)
    encoded = predict(model.encoder, state.world.encoder, batch.next_observation)
    return CriticView(
        params=params,
        loss=lambda params: world_loss(model, state, batch, key, (*others, params))[0],
        learning_rate=model.learning_rate,
        hidden=model.values.hidden(params, stats, x),
        stats=stats,
        new_stats=stats,
        target=targets(model, state, encoded, batch, key)[0],
    )


def appraise(model: Model, state: State, observation: Array, decision: Array) -> Appraisal:
    """An action of the policy (without planning) and its value; see `types.Appraise`.

    The value functions estimate the policy's return without entropy, so the bonus is zero.
    """
    z = predict(model.encoder, state.world.encoder, observation[None])
    action, _ = act(model, state.policy, z, random_key(state.key, KeyStream.DECISION, decision))
    logits = predict(model.values, state.world.values, jnp.concatenate([z, action], -1))
    return Appraisal(action[0], jnp.zeros(()), jnp.mean(model.bins.decode(logits)))
