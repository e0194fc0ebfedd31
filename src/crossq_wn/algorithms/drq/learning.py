"""DR.Q's losses and its update.

Updates come in turns of `period`: first so many of the world model, in one burst, then so many of the value
functions and the policy. All target networks are copied right before a burst, so what predicts the burst's
targets is the encoder as it was then.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from functools import partial

from crossq_wn.algorithms.drq.model import (
    Model,
    State,
    World,
    WorldMetrics,
    parameters,
    policy_action,
    together,
    with_parameters,
)
from crossq_wn.algorithms.returns import discounted
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import predict
from crossq_wn.types import ERRORS, Array, Batch, CriticView, Metrics, Tree, Vars

# The world model


def world_loss(
    model: Model, state: State, batch: Batch, params: tuple[Tree, ...]
) -> tuple[Array, WorldMetrics]:
    """Errors of predicted latents and rewards along a sample, summed over its decisions.

    Args:
        model: the networks.
        state: of one seed; its target encoder gives the latents to predict.
        batch: leaves [B, H, ...]; the model starts from the first observation.
        params: the world's parameters, of which the loss is a function.
    """
    world = with_parameters(state.online.world, params)
    encoded = jax.lax.stop_gradient(
        predict(model.encoder, state.target.world.encoder, batch.next_observation)
    )
    z = predict(model.encoder, world.encoder, batch.observation[:, 0])
    mask = jnp.ones_like(batch.mask[:, 0])  # 0 behind a termination
    dynamics = rewards = contrast = jnp.zeros(())
    for step in range(batch.reward.shape[1]):
        z, logits = predicted(model, world, z, batch.action[:, step])
        y = encoded[:, step]
        dynamics += jnp.mean(mask[:, None] * jnp.square(z - y))
        rewards += jnp.mean(mask * model.bins.loss(logits, batch.reward[:, step]))
        # The authors' code multiplies [B] by [B, 1] here, whose mean is this product.
        contrast += jnp.mean(mask) * jnp.mean(info_nce(z, y, model.contrast_temperature))
        mask = mask * batch.mask[:, step]
    total = (
        model.dynamics_weight * dynamics + model.reward_weight * rewards + model.contrast_weight * contrast
    )
    return total, WorldMetrics(total, dynamics, rewards, contrast)


def predicted(model: Model, world: World, z: Array, action: Array) -> tuple[Array, Array]:
    """The next latent, a bare linear output, and the reward's logits.

    Args:
        model: the networks.
        world: their variables.
        z: latents, [B, latent_size].
        action: [B, action_size].

    Returns:
        [B, latent_size] and [B, bin].
    """
    out = predict(model.head, world.head, together(model, world, z, action))
    return out[:, 1 : 1 + model.latent_size], out[:, 1 + model.latent_size :]


def info_nce(z: Array, y: Array, temperature: float) -> Array:
    """The cross-entropy of picking each row's own target among the batch's, by cosine.

    Args:
        z: predicted latents, [B, latent_size].
        y: encoded ones, [B, latent_size]; row i belongs to row i of `z`.
        temperature: cosines are divided by it.

    Returns:
        [B].

    Source:
        van den Oord et al. 2018 (arXiv 1807.03748), equation 4.
    """
    similarity = unit(z) @ unit(y).T / temperature
    own: Array = -jnp.diagonal(jax.nn.log_softmax(similarity))
    return own


def unit(x: Array) -> Array:
    """The rows of x at length 1; rows shorter than 1e-12 are divided by that."""
    # The root of a floored square and not a floored root, whose gradient at 0 would be infinite.
    return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-24))


def world_step(model: Model, state: State, batch: Batch) -> State:
    """One optimiser step on `world_loss`.

    Args:
        model: the networks and the optimiser.
        state: of one seed.
        batch: leaves [B, H, ...].
    """
    params = parameters(state.online.world)
    loss = partial(world_loss, model, state, batch)
    (_, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    change, moments = model.world_optimiser.update(gradients, state.world_moments, params)
    world = with_parameters(state.online.world, optax.apply_updates(params, change))
    return state._replace(
        online=state.online._replace(world=world), world_moments=moments, world_metrics=metrics
    )


# Value functions and policy


def targets(model: Model, state: State, batch: Batch, key: Array) -> Array:
    """y = sum of n discounted rewards, plus the smaller target value after them, [B].

    The target policy's action there is smoothed by clipped noise (TD3, Fujimoto et al. 2018, section 5.3).

    Args:
        model: the networks.
        state: of one seed; all networks used are the target ones.
        batch: leaves [B, H, ...], of which the first n decisions count.
        key: random key of the noise.

    Returns:
        [B].
    """
    n, (world, policy, values) = model.n_step, state.target
    total, mask = discounted(batch.reward[:, :n], batch.mask[:, :n], model.spec.discount)
    z = predict(model.encoder, world.encoder, batch.next_observation[:, n - 1])
    action = policy_action(model, *policy, z)
    noise = model.target_noise * jax.random.normal(key, action.shape)
    noise = jnp.clip(noise, -model.target_clip, model.target_clip)
    action = jnp.clip(action + noise, -1.0, 1.0)
    q = predict(model.values, values, together(model, world, z, action))
    return total + model.spec.discount * mask * jnp.min(q[..., 0], 0)


def value_loss(model: Model, values: Vars, z_sa: Array, y: Array, params: Tree) -> tuple[Array, Array]:
    """The mean Huber loss of both value functions.

    Args:
        model: the networks.
        values: the variables whose statistics are used.
        z_sa: encoded observation and action, [B, latent_size].
        y: targets, [B].
        params: the value functions' parameters, of which the loss is a function.

    Returns:
        The loss, and q [value function, B].
    """
    q = model.values.apply(params, values.stats, z_sa, train=True)[0][..., 0]
    return jnp.mean(optax.losses.huber_loss(q, y[None], delta=1.0)), q


def value_step(model: Model, state: State, batch: Batch, z: Array, key: Array) -> tuple[State, Array]:
    """One optimiser step on `value_loss`; returns the new state and the absolute errors [B] before it.

    Args:
        model: the networks.
        state: of one seed.
        batch: leaves [B, H, ...].
        z: the first observations, encoded, [B, latent_size].
        key: random key.
    """
    y = targets(model, state, batch, key)
    z_sa = together(model, state.online.world, z, batch.action[:, 0])
    values = state.online.values
    loss = partial(value_loss, model, values, z_sa, y)
    (value, q), gradients = jax.value_and_grad(loss, has_aux=True)(values.params)
    change, moments = model.value_optimiser.update(gradients, state.value_moments, values.params)
    values = Vars(optax.apply_updates(values.params, change), values.stats)
    metrics = state.value_metrics._replace(loss=value, q=jnp.mean(q), target_q=jnp.mean(y))
    state = state._replace(
        online=state.online._replace(values=values), value_moments=moments, value_metrics=metrics
    )
    return state, jnp.max(jnp.abs(q - y), 0)


def policy_loss(model: Model, state: State, z: Array, params: Tree) -> Array:
    """Minus the mean of both value functions at the policy's actions.

    Args:
        model: the networks.
        state: of one seed.
        z: encoded observations, [B, latent_size]; no gradient reaches the encoder.
        params: the policy's parameters, of which the loss is a function.
    """
    action = policy_action(model, params, state.online.policy.stats, z)
    z_sa = together(model, state.online.world, z, action)
    return -jnp.mean(predict(model.values, state.online.values, z_sa))


def policy_step(model: Model, state: State, z: Array) -> State:
    """One optimiser step on `policy_loss`.

    Args:
        model: the networks and the optimiser.
        state: of one seed.
        z: encoded observations, [B, latent_size].
    """
    params, stats = state.online.policy
    loss, gradients = jax.value_and_grad(partial(policy_loss, model, state, z))(params)
    change, moments = model.policy_optimiser.update(gradients, state.policy_moments, params)
    policy = Vars(optax.apply_updates(params, change), stats)
    return state._replace(
        online=state.online._replace(policy=policy),
        policy_moments=moments,
        value_metrics=state.value_metrics._replace(policy_loss=loss),
    )


# All together


def update(model: Model, state: State, batch: Batch, count: Array) -> tuple[State, Metrics]:
    """One gradient update of the world model, or one of value functions and policy; see `types.Update`."""

    def learn_world(state: State) -> tuple[State, Array]:
        copied = state._replace(target=state.online)
        due = count % (2 * model.period) == 0
        state = State(*jax.lax.cond(due, lambda: copied, lambda: state))
        return world_step(model, state, batch), jnp.full_like(batch.reward[:, 0], jnp.nan)  # priorities stay

    def learn_values(state: State) -> tuple[State, Array]:
        z = predict(model.encoder, state.online.world.encoder, batch.observation[:, 0])
        key = random_key(state.key, KeyStream.UPDATE, count)
        state, errors = value_step(model, state, batch, z, key)
        return policy_step(model, state, z), errors

    # `count` has no seed axis, so under vmap this stays a real branch.
    burst = count % (2 * model.period) < model.period
    state, errors = jax.lax.cond(burst, learn_world, learn_values, state)
    world, values = state.world_metrics, state.value_metrics
    return state, {
        "world_loss": world.loss,
        "dynamics_loss": world.dynamics_loss,
        "reward_loss": world.reward_loss,
        "contrast_loss": world.contrast_loss,
        "critic_loss": values.loss,
        "q_mean": values.q,
        "target_q_mean": values.target_q,
        "actor_loss": values.policy_loss,
        ERRORS: errors,
    }


def view(model: Model, state: State, batch: Batch, count: Array) -> CriticView:
    """The value functions, with the rest of the networks fixed; see `types.View`."""
    y = targets(model, state, batch, random_key(state.key, KeyStream.UPDATE, count))
    z = predict(model.encoder, state.online.world.encoder, batch.observation[:, 0])
    z_sa = together(model, state.online.world, z, batch.action[:, 0])
    params, stats = state.online.values
    return CriticView(
        params=params,
        loss=lambda params: value_loss(model, state.online.values, z_sa, y, params)[0],
        learning_rate=model.learning_rate,
        hidden=model.values.hidden(params, stats, z_sa),
        stats=stats,
        # No layer of the value functions keeps statistics.
        new_stats=stats,
        target=y,
    )
