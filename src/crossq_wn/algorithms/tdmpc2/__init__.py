"""TD-MPC2 (Hansen et al. 2024), single task: a latent world model, and planning in it.

Encoder z = h(s), dynamics z' = d(z, a), reward R(z, a), five value functions Q(z, a) and a policy p(z), all
MLPs with layer norm and Mish. Latent states are groups of softmax (SimNorm). Rewards and values are
classified into 101 two-hot bins of symlog space. The loss over H steps from an encoded start sums consistency
of predicted latents with encoded ones, reward and value errors, weighted by rho^t; the policy maximises the
value of the predicted latents. Acting plans with `planning.plan`.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.actor_critic import random_key
from crossq_wn.algorithms.settings import Settings, require, require_positive
from crossq_wn.algorithms.tdmpc2.planning import Model, Plan, Planner, plan
from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets import layers
from crossq_wn.nets.layers import (
    Initialiser,
    Layer,
    activation,
    dense,
    dropout,
    ensemble,
    layer_norm,
    predict,
    serial,
)
from crossq_wn.nets.optimisers import polyak
from crossq_wn.nets.policies import squashed_sample, squeezed
from crossq_wn.nets.twohot import two_hot
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, CriticView, Metrics, Tree, Vars

_SIMNORM_GROUP = 8
_POLICY = squeezed(-10.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class TDMPC2Settings(Settings):
    """Hyperparameters of TD-MPC2."""

    encoder_width: int
    """Units of the encoder's hidden layer."""
    latent_size: int
    """Size of the latent state, a multiple of 8."""
    width: int
    """Units per hidden layer of dynamics, reward, value functions and policy."""
    value_functions: int
    """Number of value functions; two random ones make a target."""
    dropout: float
    """Dropout in the first layer of the value functions."""
    bins: int
    """Bins of the two-hot rewards and values."""
    bin_limit: float
    """The bins' symlog range is from minus this to this."""
    learning_rate: float
    """Adam learning rate."""
    encoder_rate: float
    """The encoder's learning rate over the others'."""
    gradient_clip: float
    """Largest norm of a gradient."""
    tau: float
    """Polyak rate of the target value functions and of the scale of values, per gradient update."""
    horizon: int
    """Decisions that the model is unrolled for, in training and in planning."""
    rho: float
    """Weight of each further step of the loss."""
    consistency_weight: float
    """Weight of the latent consistency loss."""
    reward_weight: float
    """Weight of the reward loss."""
    value_weight: float
    """Weight of the value loss."""
    entropy_weight: float
    """Weight of the policy's entropy."""
    iterations: int
    """Iterations of the planner, and two more with 20 action dimensions or more."""
    samples: int
    """Action sequences per iteration."""
    policy_samples: int
    """How many of them come from the policy."""
    elites: int
    """The best sequences, which the next iteration follows."""
    min_std: float
    """Smallest standard deviation of the search."""
    max_std: float
    """Largest standard deviation of the search."""
    planner_temperature: float
    """Sharpness of the elites' weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "encoder_width", "latent_size", "width", "iterations", "samples", "elites")
        require(self, "horizon", self.horizon >= 2, "a whole number of at least 2")
        require(self, "latent_size", self.latent_size % _SIMNORM_GROUP == 0, "a multiple of 8")
        require(self, "value_functions", self.value_functions >= 2, "a whole number of at least 2")
        require(self, "bins", self.bins >= 2, "a whole number of at least 2")
        require(self, "tau", 0 <= self.tau <= 1, "in [0, 1]")
        require(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        require(self, "learning_rate", 0 <= self.learning_rate < 1, "in [0, 1)")
        require(self, "rho", 0 < self.rho <= 1, "above 0 and at most 1")
        for name in ("consistency_weight", "reward_weight", "value_weight", "entropy_weight", "encoder_rate"):
            require(self, name, getattr(self, name) >= 0, "0 or above")
        for name in ("bin_limit", "gradient_clip", "min_std", "planner_temperature"):
            require(self, name, getattr(self, name) > 0, "above 0")
        require(self, "max_std", self.max_std >= self.min_std, f"at least --min-std ({self.min_std})")
        require(
            self, "policy_samples", 0 < self.policy_samples < self.samples, f"from 1 to {self.samples - 1}"
        )
        require(self, "elites", self.elites <= self.samples, f"at most --samples ({self.samples})")


class World(NamedTuple):
    """The model's variables; the policy has its own."""

    encoder: Vars
    dynamics: Vars
    reward: Vars
    values: Vars


class State(NamedTuple):
    """Everything that one seed's learner carries from update to update."""

    key: Array  # uint32[2], constant: counters select the random numbers
    world: World
    policy: Vars
    target: Tree  # the target value functions' parameters
    world_moments: Tree
    policy_moments: Tree
    scale: Array  # of values, running


def tdmpc2(observation_size: int, action_size: int, discount: float, settings: TDMPC2Settings) -> Algorithm:
    """Composes model, losses and planner for one seed."""
    width, bins = settings.width, two_hot(settings.bins, settings.bin_limit)
    zero = _constant(0.0)
    encoder = serial(_normed(settings.encoder_width), _simnormed(settings.latent_size))
    dynamics = serial(_normed(width), _normed(width), _simnormed(settings.latent_size))
    reward = serial(_normed(width), _normed(width), dense(settings.bins, zero))
    one_value = serial(_normed(width, settings.dropout), _normed(width), dense(settings.bins, zero))
    values, pair = ensemble(one_value, settings.value_functions), ensemble(one_value, 2)
    policy = serial(_normed(width), _normed(width), dense(2 * action_size, _narrow))
    planner = Planner(
        horizon=settings.horizon,
        iterations=settings.iterations + 2 * (action_size >= 20),  # as the authors' code
        samples=settings.samples,
        policy_samples=settings.policy_samples,
        elites=settings.elites,
        min_std=settings.min_std,
        max_std=settings.max_std,
        temperature=settings.planner_temperature,
    )
    world_optimiser = _clipped_adam(settings)
    policy_optimiser = optax.chain(
        optax.clip_by_global_norm(settings.gradient_clip), optax.adam(settings.learning_rate, eps=1e-5)
    )
    target_network = polyak(settings.tau)
    steps = settings.rho ** jnp.arange(settings.horizon + 1)

    def init(generator: np.random.Generator) -> State:
        streams = generator.spawn(6)
        n = settings.latent_size
        world = World(
            layers.create(encoder, streams[0], observation_size),
            layers.create(dynamics, streams[1], n + action_size),
            layers.create(reward, streams[2], n + action_size),
            layers.create(values, streams[3], n + action_size),
        )
        actor = layers.create(policy, streams[4], n)
        state = State(
            key=jnp.asarray(streams[5].integers(0, 2**32, 2, np.uint32)),
            world=world,
            policy=actor,
            target=target_network.init(world.values.params),
            world_moments=world_optimiser.init(_params(world)),
            policy_moments=policy_optimiser.init(actor.params),
            scale=np.float32(1.0),  # type: ignore[arg-type]
        )
        arrays: State = jax.tree.map(jnp.asarray, state)
        return arrays

    def act(actor: Vars, z: Array, key: Array) -> tuple[Array, Array]:
        return squashed_sample(*_POLICY.gaussian(predict(policy, actor, z)), key)

    def two_values(params: Tree, world: World, x: Array, key: Array, train: bool = False) -> Array:
        """Two random value functions' expectations, [2, ...], the only ones computed; dropout in training."""
        chosen = jax.random.choice(key, settings.value_functions, (2,), replace=False)

        def pick(members: tuple[Tree, ...]) -> tuple[Tree, ...]:
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
            return tuple(jax.tree.map(itemgetter(i), stacked) for i in chosen)

        return bins.decode(pair.apply(pick(params), pick(world.values.stats), x, train)[0])

    def targets(state: State, z: Array, batch: Batch, key: Array) -> Array:
        """y = r + gamma min of two target values at the encoded next state; [H, B]."""
        action_key, value_key = jax.random.split(key)
        action, _ = act(state.policy, z, action_key)
        x = jnp.concatenate([z, action], -1)
        q = jax.vmap(lambda x: two_values(state.target, state.world, x, value_key))(x)
        return batch.reward + discount * batch.mask * jnp.min(q, 1)

    def world_loss(
        params: Tree, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Array, Metrics, Tree]]:
        world = World(*(Vars(p, v.stats) for p, v in zip(params, state.world, strict=True)))
        encoded = jax.lax.stop_gradient(predict(encoder, state.world.encoder, batch.next_observation))
        y = jax.lax.stop_gradient(targets(state, encoded, batch, key))
        z = predict(encoder, world.encoder, batch.observation[0])
        latents, stats = [z], state.world.values.stats
        consistency = reward_loss = value_loss = jnp.zeros(())
        for t in range(settings.horizon):
            x = jnp.concatenate([z, batch.action[t]], -1)
            logits, stats = values.apply(world.values.params, stats, x, True)
            value_loss += steps[t] * jnp.mean(bins.loss(logits, y[t]))
            reward_loss += steps[t] * jnp.mean(bins.loss(predict(reward, world.reward, x), batch.reward[t]))
            z = predict(dynamics, world.dynamics, x)
            consistency += steps[t] * jnp.mean(jnp.square(z - encoded[t]))
            latents.append(z)
        metrics = {
            "consistency_loss": consistency / settings.horizon,
            "reward_loss": reward_loss / settings.horizon,
            "value_loss": value_loss / settings.horizon,
            "target_q_mean": jnp.mean(y),
        }
        total = (
            settings.consistency_weight * metrics["consistency_loss"]
            + settings.reward_weight * metrics["reward_loss"]
            + settings.value_weight * metrics["value_loss"]
        )
        return total, (jax.lax.stop_gradient(jnp.stack(latents)), metrics, stats)

    def policy_loss(
        params: Tree, state: State, latents: Array, key: Array
    ) -> tuple[Array, tuple[Array, Metrics]]:
        action_key, value_key = jax.random.split(key)
        mean, log_std = _POLICY.gaussian(predict(policy, Vars(params, state.policy.stats), latents))
        action, log_density = squashed_sample(mean, log_std, action_key)
        x = jnp.concatenate([latents, action], -1)
        params_q = state.world.values.params
        q = jnp.mean(jax.vmap(lambda x: two_values(params_q, state.world, x, value_key, True))(x), 1)
        low, high = jnp.percentile(jax.lax.stop_gradient(q[0]), jnp.asarray([5.0, 95.0]))
        scale = state.scale + settings.tau * (jnp.maximum(high - low, 1.0) - state.scale)
        entropy = action_size * jnp.sum(log_std, -1)  # before the tanh, without its constant
        value = -jnp.mean(steps * jnp.mean(settings.entropy_weight * entropy + q / scale, -1))
        metrics = {"policy_loss": value, "entropy": -jnp.mean(log_density), "value_scale": scale}
        return value, (scale, metrics | {"q_mean": jnp.mean(q)})

    def update(state: State, batch: Batch, step: Array) -> tuple[State, Metrics]:
        target_key, policy_key = jax.random.split(random_key(state.key, 0, step))
        batch = Batch(*(jnp.swapaxes(leaf, 0, 1) for leaf in batch))  # [H, B, ...]
        params = _params(state.world)
        (loss, (latents, metrics, stats)), gradients = jax.value_and_grad(world_loss, has_aux=True)(
            params, state, batch, target_key
        )
        change, world_moments = world_optimiser.update(gradients, state.world_moments, params)
        params = optax.apply_updates(params, change)
        world = World(*(Vars(p, v.stats) for p, v in zip(params, state.world, strict=True)))
        world = world._replace(values=Vars(world.values.params, stats))
        state = state._replace(world=world, world_moments=world_moments)

        (_, (scale, more)), gradients = jax.value_and_grad(policy_loss, has_aux=True)(
            state.policy.params, state, latents, policy_key
        )
        change, policy_moments = policy_optimiser.update(gradients, state.policy_moments)
        actor = Vars(optax.apply_updates(state.policy.params, change), state.policy.stats)
        target = target_network.follow(state.target, world.values.params)
        state = state._replace(policy=actor, policy_moments=policy_moments, scale=scale, target=target)
        return state, {"world_loss": loss} | metrics | more

    def model(state: State) -> Model:
        def advance(z: Array, action: Array) -> tuple[Array, Array]:
            x = jnp.concatenate([z, action], -1)
            return (
                predict(dynamics, state.world.dynamics, x),
                bins.decode(predict(reward, state.world.reward, x)),
            )

        def value(z: Array, key: Array) -> Array:
            action_key, value_key = jax.random.split(key)
            x = jnp.concatenate([z, act(state.policy, z, action_key)[0]], -1)
            return jnp.mean(two_values(state.world.values.params, state.world, x, value_key), 0)

        return Model(advance, value, lambda z, key: act(state.policy, z, key)[0])

    def search(state: State, memory: Plan, observation: Array, key: Array) -> tuple[Array, Array, Plan]:
        z = predict(encoder, state.world.encoder, observation[None])[0]
        shifted = jnp.concatenate([memory.mean[1:], jnp.zeros((1, action_size))])
        action, std, mean = plan(planner, model(state), discount, z, shifted, key)
        return action, std, Plan(mean, memory.decision + 1)

    def explore(state: State, memory: Plan, observation: Array, decision: Array) -> tuple[Array, Plan]:
        plan_key, noise_key = jax.random.split(random_key(state.key, 1, decision))
        action, std, memory = search(state, memory, observation, plan_key)
        noisy = action + std * jax.random.normal(noise_key, action.shape)
        return jnp.clip(noisy, -1.0, 1.0), memory

    def exploit(state: State, memory: Plan, observation: Array) -> tuple[Array, Plan]:
        action, _, memory = search(state, memory, observation, random_key(state.key, 2, memory.decision))
        return action, memory

    def view(state: State, batch: Batch, step: Array) -> CriticView:
        """Of the value functions, the rest of the model held as it is."""
        key, _ = jax.random.split(random_key(state.key, 0, step))
        batch = Batch(*(jnp.swapaxes(leaf, 0, 1) for leaf in batch))  # [H, B, ...]
        others, (params, stats) = _params(state.world)[:-1], state.world.values
        z = predict(encoder, state.world.encoder, batch.observation[0])
        x = jnp.concatenate([z, batch.action[0]], -1)
        encoded = predict(encoder, state.world.encoder, batch.next_observation)
        return CriticView(
            params=params,
            loss=lambda params: world_loss((*others, params), state, batch, key)[0],
            learning_rate=settings.learning_rate,
            hidden=values.hidden(params, stats, x, True),
            stats=stats,
            new_stats=stats,
            target=targets(state, encoded, batch, key)[0],
        )

    def appraise(state: State, observation: Array, decision: Array) -> Appraisal:
        """Of the policy alone, whose values the value functions estimate; without entropy, as they are."""
        z = predict(encoder, state.world.encoder, observation[None])
        action, _ = act(state.policy, z, random_key(state.key, 1, decision))
        logits = predict(values, state.world.values, jnp.concatenate([z, action], -1))
        return Appraisal(action[0], jnp.zeros(()), jnp.mean(bins.decode(logits)))

    beginning = Plan(*map(jnp.asarray, (np.zeros((settings.horizon, action_size), np.float32), np.int32(0))))
    return Algorithm(
        init,
        explore,
        exploit,
        update,
        memory=beginning,
        horizon=settings.horizon,
        first_updates=settings.warmup,
        view=view,
        appraise=appraise,
    )


def _normed(width: int, drop: float = 0.0) -> Layer:
    """Linear, dropout, layer norm, Mish."""
    middle = [dropout(drop)] if drop else []
    return serial(dense(width, _narrow), *middle, layer_norm(1e-5), activation(jax.nn.mish))


def _simnormed(width: int) -> Layer:
    """Linear, layer norm, softmax within groups of 8."""

    def simnorm(x: Array) -> Array:
        return jax.nn.softmax(x.reshape(*x.shape[:-1], -1, _SIMNORM_GROUP)).reshape(x.shape)

    return serial(dense(width, _narrow), layer_norm(1e-5), activation(simnorm))


def _narrow(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """Normal of standard deviation 0.02. (The authors' code cuts it off at 2, a hundred deviations away.)"""
    return generator.normal(0.0, 0.02, (n_in, n_out)).astype(np.float32)


def _constant(value: float) -> Initialiser:
    return lambda generator, n_in, n_out: np.full((n_in, n_out), value, np.float32)


def _clipped_adam(settings: TDMPC2Settings) -> optax.GradientTransformation:
    """Adam for the world model behind a clip of the whole gradient; the encoder learns more slowly."""

    def slower(changes: Tree) -> Tree:
        encoder, *others = changes
        return (jax.tree.map(lambda leaf: settings.encoder_rate * leaf, encoder), *others)

    scale = optax.stateless(lambda changes, params: slower(changes))
    return optax.chain(
        optax.clip_by_global_norm(settings.gradient_clip), optax.adam(settings.learning_rate), scale
    )


def _params(world: World) -> tuple[Tree, ...]:
    return tuple(variables.params for variables in world)
