"""TD-MPC2's world model: its networks and their variables.

The model encodes an observation as a latent state z, and predicts from z and an action the next z, the reward
and the value. `z` is always [..., latent_size]. `learning.py` trains it, and `planning.py` searches in it.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
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
from crossq_wn.types import Appraisal, Array, Spec, Tree, Vars

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
    """A hidden layer: linear, dropout, layer norm, Mish.

    Args:
        width: units.
        drop: dropout rate; at 0 there is no dropout, and no key among the statistics.
    """
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
    """Draws an action [..., action_size] of the policy; returns it with its log density [...].

    Args:
        model: the networks.
        policy: its variables.
        z: latent states, [..., latent_size].
        key: random key.
    """
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

    # The pair takes two members' variables, so it computes only them; which two is known when the program
    # runs, so the members are stacked to be indexed.
    def pick(members: tuple[Tree, ...]) -> tuple[Tree, ...]:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return tuple(jax.tree.map(itemgetter(i), stacked) for i in chosen)

    return model.bins.decode(model.value_pair.apply(pick(params), pick(stats), x, train=train)[0])


def appraise(model: Model, state: State, observation: Array, decision: Array) -> Appraisal:
    """An action of the policy (without planning) and its value; see `types.Appraise`.

    The value functions estimate the policy's return without entropy, so the bonus is zero.
    """
    z = predict(model.encoder, state.world.encoder, observation[None])
    action, _ = act(model, state.policy, z, random_key(state.key, KeyStream.DECISION, decision))
    logits = predict(model.values, state.world.values, jnp.concatenate([z, action], -1))
    return Appraisal(action[0], jnp.zeros(()), jnp.mean(model.bins.decode(logits)))
