"""Planning by model predictive path integral control (MPPI), and acting by plans, as in TD-MPC2.

Many action sequences are drawn around a mean, unrolled in the model and weighted by their values. Mean and
spread are fitted to the best of them, and this is repeated a few times. The next decision starts from the
resulting mean, shifted by one.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.acting.operations import Network
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.algorithms.tdmpc2.model import POLICY, Model, State, act, two_values
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets import policies
from crossq_wn.nets.layer import operations
from crossq_wn.nets.layers import predict
from crossq_wn.types import Array, Tree


class Simulator(NamedTuple):
    """The planner's view of the world; z is a latent state [n, latent_size]."""

    step: Callable[[Array, Array], tuple[Array, Array]]  # (z, action) -> (next z, reward [n])
    value: Callable[[Array, Array], Array]  # (z, key) -> [n], the return expected from z on
    policy: Callable[[Array, Array], Array]  # (z, key) -> action [n, action_size]


class Planner(NamedTuple):
    """The settings of the search."""

    horizon: int  # agent decisions per sequence
    iterations: int
    samples: int  # sequences per iteration, those of the policy included
    policy_samples: int  # sequences that the policy proposes
    elites: int  # best sequences, to which mean and spread are fitted
    min_std: float
    max_std: float
    temperature: float  # factor of the values in the softmax that weights the elites


class Plan(NamedTuple):
    """What one decision hands on to the next."""

    mean: Array  # [horizon, action_size]
    decision: Array  # decisions made in this episode; selects the random numbers of an evaluation


# Searching


def plan(
    planner: Planner, simulator: Simulator, discount: float, z: Array, before: Array, key: Array
) -> tuple[Array, Array, Array]:
    """Searches for a good sequence of actions from one latent state.

    Args:
        planner: settings of the search.
        simulator: the world to search in.
        discount: gamma, per agent decision.
        z: [latent_size].
        before: the mean to start from, [horizon, action_size].
        key: random key.

    Returns:
        The first action of one elite, drawn by weight; the standard deviation of first actions; and the mean
        of the sequences [horizon, action_size].
    """
    policy_key, elite_key, search_key = jax.random.split(key, 3)
    own = _policy_sequences(planner, simulator, z, policy_key)
    start = jnp.broadcast_to(z, (planner.samples, z.size))
    value = partial(_returns, simulator, discount, start)
    spread = jnp.full_like(before, planner.max_std)
    keys = jax.random.split(search_key, planner.iterations)
    iteration = partial(_iteration, planner, value, own)
    (mean, std), (elites, weights) = jax.lax.scan(iteration, (before, spread), keys)
    chosen = jax.random.categorical(elite_key, jnp.log(weights[-1]))
    return elites[-1][chosen], std[0], mean


def _iteration(
    planner: Planner,
    value: Callable[[Array, Array], Array],
    own: Array,
    carry: tuple[Array, Array],
    key: Array,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Draws sequences, values them and fits mean and spread [horizon, action_size] to the best."""
    mean, std = carry
    noise_key, value_key = jax.random.split(key)
    count = planner.samples - planner.policy_samples
    noise = jax.random.normal(noise_key, (planner.horizon, count, mean.shape[-1]))
    drawn = jnp.clip(mean[:, None] + std[:, None] * noise, -1.0, 1.0)
    sequences = jnp.concatenate([own, drawn], 1)  # [horizon, samples, action_size]
    values = value(sequences, value_key)
    # The nan of a model that has diverged counts as 0, because it has no order.
    best, index = jax.lax.top_k(jnp.nan_to_num(values), planner.elites)
    elites = sequences[:, index]
    weights = jax.nn.softmax(planner.temperature * best)[:, None]
    mean = jnp.sum(weights * elites, 1)
    std = jnp.sqrt(jnp.sum(weights * jnp.square(elites - mean[:, None]), 1))
    std = jnp.clip(std, planner.min_std, planner.max_std)
    return (mean, std), (elites[0], weights[:, 0])


def _policy_sequences(planner: Planner, simulator: Simulator, z: Array, key: Array) -> Array:
    """The sequences that the policy proposes, [horizon, policy_samples, action_size]."""

    def step(z: Array, key: Array) -> tuple[Array, Array]:
        action = simulator.policy(z, key)
        return simulator.step(z, action)[0], action

    start = jnp.broadcast_to(z, (planner.policy_samples, z.size))
    return jax.lax.scan(step, start, jax.random.split(key, planner.horizon))[1]


def _returns(simulator: Simulator, discount: float, z: Array, sequences: Array, key: Array) -> Array:
    """The discounted rewards along each sequence plus the value of its last state, [samples]."""

    def step(carry: tuple[Tree, Array], action: Array) -> tuple[tuple[Tree, Array], Array]:
        z, weight = carry
        z, reward = simulator.step(z, action)
        return (z, weight * discount), weight * reward

    (z, weight), rewards = jax.lax.scan(step, (z, jnp.ones(())), sequences)
    return jnp.sum(rewards, 0) + weight * simulator.value(z, key)


# Acting


def no_plan(planner: Planner, action_size: int) -> Plan:
    """The memory at the start of an episode: a mean of zeros.

    Args:
        planner: settings of the search, which give the horizon.
        action_size: number of action dimensions.
    """
    mean, decision = np.zeros((planner.horizon, action_size), np.float32), np.int32(0)
    return Plan(mean, decision)  # type: ignore[arg-type]


def explore(
    planner: Planner, model: Model, state: State, memory: Plan, observation: Array, decision: Array
) -> tuple[Array, Plan]:
    """The first action of a plan, with noise as wide as the plan's own spread; see `types.Explore`."""
    plan_key, noise_key = jax.random.split(random_key(state.key, KeyStream.DECISION, decision))
    action, std, memory = search(planner, model, state, memory, observation, plan_key)
    noisy = action + std * jax.random.normal(noise_key, action.shape)
    return jnp.clip(noisy, -1.0, 1.0), memory


def exploit(
    planner: Planner, model: Model, state: State, memory: Plan, observation: Array
) -> tuple[Array, Plan]:
    """The first action of a plan; see `types.Exploit`."""
    # Evaluations draw from a stream of their own, counted per episode: equal episodes get equal plans.
    key = random_key(state.key, KeyStream.EXTENSION, memory.decision)
    action, _, memory = search(planner, model, state, memory, observation, key)
    return action, memory


def search(
    planner: Planner, model: Model, state: State, memory: Plan, observation: Array, key: Array
) -> tuple[Array, Array, Plan]:
    """Plans from an observation, starting from the plan of the decision before.

    Args:
        planner: settings of the search.
        model: the networks.
        state: of one seed.
        memory: the plan of the decision before.
        observation: [observation_size].
        key: random key.

    Returns:
        An action [action_size], its standard deviation, and the new plan.
    """
    z = predict(model.encoder, state.world.encoder, observation[None])[0]
    # One decision has passed, so what was planned for the second is now first.
    shifted = jnp.concatenate([memory.mean[1:], jnp.zeros((1, model.spec.action_size))])
    simulator = Simulator(
        partial(imagined_step, model, state),
        partial(imagined_value, model, state),
        partial(imagined_action, model, state),
    )
    action, std, mean = plan(planner, simulator, model.spec.discount, z, shifted, key)
    return action, std, Plan(mean, memory.decision + 1)


def imagined_step(model: Model, state: State, z: Array, action: Array) -> tuple[Array, Array]:
    """The next latent state and the reward that the model predicts.

    Args:
        model: the networks.
        state: of one seed.
        z: latent states, [n, latent_size].
        action: [n, action_size].

    Returns:
        The next latent states [n, latent_size], and rewards [n].
    """
    x = jnp.concatenate([z, action], -1)
    reward = model.bins.decode(predict(model.reward, state.world.reward, x))
    return predict(model.dynamics, state.world.dynamics, x), reward


def imagined_value(model: Model, state: State, z: Array, key: Array) -> Array:
    """The mean of two random value functions at an action of the policy, [n].

    Args:
        model: the networks.
        state: of one seed.
        z: latent states, [n, latent_size].
        key: random key, of the action and of the choice of functions.
    """
    action_key, value_key = jax.random.split(key)
    x = jnp.concatenate([z, act(model, state.policy, z, action_key)[0]], -1)
    params, stats = state.world.values
    return jnp.mean(two_values(model, params, stats, x, value_key), 0)


def imagined_action(model: Model, state: State, z: Array, key: Array) -> Array:
    """An action of the policy, [n, action_size].

    Args:
        model: the networks.
        state: of one seed.
        z: latent states, [n, latent_size].
        key: random key.
    """
    return act(model, state.policy, z, key)[0]


# Acting without a search


def prior(model: Model, state: State, memory: Tree, observation: Array) -> tuple[Array, Tree]:
    """The policy's own deterministic action, without a search; see `types.Exploit`."""
    z = predict(model.encoder, state.world.encoder, observation[None])
    return POLICY.mode(predict(model.policy, state.policy, z))[0], memory


def network(model: Model, state: State) -> Network:
    """What `prior` computes, in numpy; see `types.network_of`."""
    encoder, policy = state.world.encoder, state.policy
    encoding = operations(model.encoder, encoder.params, encoder.stats)
    return policies.network(POLICY, (*encoding, *operations(model.policy, policy.params, policy.stats)))
