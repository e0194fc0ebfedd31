"""TD-MPC2's losses and its update.

From an encoded observation the model is unrolled for H decisions. The loss sums three errors over them, with
weight rho^t for decision t: of predicted latents against encoded ones (consistency), of rewards, and of
values. The policy maximises the values of the predicted latents.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from functools import partial

from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.algorithms.tdmpc2.model import (
    POLICY,
    Model,
    State,
    act,
    parameters,
    two_values,
    with_parameters,
)
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import predict
from crossq_wn.nets.policies import squashed_sample
from crossq_wn.types import Array, Batch, CriticView, Metrics, Tree, Vars

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
    # Of the first latents alone: those are of observed states, the others are predicted.
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
    """One optimiser step on `world_loss`.

    Args:
        model: the networks and the optimiser.
        state: of one seed.
        batch: with leaves [H, B, ...].
        key: random key, for the targets.

    Returns:
        The new state, the predicted latents [H + 1, B, latent_size] and metrics.
    """
    params = parameters(state.world)
    loss = partial(world_loss, model, state, batch, key)
    (value, (latents, metrics, stats)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    change, moments = model.world_optimiser.update(gradients, state.world_moments, params)
    world = with_parameters(state.world, optax.apply_updates(params, change))
    world = world._replace(values=Vars(world.values.params, stats))
    return state._replace(world=world, world_moments=moments), latents, {"world_loss": value} | metrics


def policy_step(model: Model, state: State, latents: Array, key: Array) -> tuple[State, Metrics]:
    """One optimiser step on `policy_loss`, which also moves the scale of values.

    Args:
        model: the networks and the optimiser.
        state: of one seed.
        latents: [H + 1, B, latent_size], without gradient.
        key: random key.

    Returns:
        The new state, and metrics.
    """
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
        # A training pass changes no statistics but the key of dropout.
        new_stats=stats,
        target=targets(model, state, encoded, batch, key)[0],
    )
