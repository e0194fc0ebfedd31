"""DR.Q's networks, their variables, and acting.

An encoder f maps an observation to z_s, and g maps z_s and an embedded action to z_sa, from which a linear
head predicts the next z_s and the reward. The policy acts on z_s and the two value functions on z_sa; neither
trains the encoder.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from typing import NamedTuple

import numpy as np

from crossq_wn.acting.operations import Network, Op
from crossq_wn.algorithms.state import KeyStream, random_key
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets import layers
from crossq_wn.nets.initialisers import xavier_uniform
from crossq_wn.nets.layer import operations
from crossq_wn.nets.layers import Layer, dense, elu, ensemble, predict, relu, serial
from crossq_wn.nets.losses import TwoHot
from crossq_wn.nets.normalisation import plain_layer_norm
from crossq_wn.nets.optimisers import Transformation
from crossq_wn.types import Appraisal, Array, Spec, Tree, Vars

_KERNELS = xavier_uniform(2**0.5)  # of all layers, those of outputs included
_NO_NOISE = -20.0  # log standard deviation of a policy that draws nothing


class Model(NamedTuple):
    """The parts of one DR.Q."""

    spec: Spec
    encoder: Layer  # f: observation -> z_s
    action: Layer  # action -> embedded action
    joint: Layer  # g: [z_s, embedded action] -> z_sa
    head: Layer  # z_sa -> termination logit (which nothing trains), next z_s, reward logits
    policy: Layer  # z_s -> what the tanh makes an action
    values: Layer  # z_sa -> [value function, B, 1]
    bins: TwoHot  # how rewards are encoded
    world_optimiser: Transformation  # of encoder, action, joint and head
    policy_optimiser: Transformation
    value_optimiser: Transformation
    learning_rate: float
    latent_size: int
    n_step: int
    period: int  # updates of the world model in a burst, and those of value and policy until the next one
    noise: float  # standard deviation of exploration
    target_noise: float  # standard deviation of the noise on the target's actions
    target_clip: float  # limit of that noise
    dynamics_weight: float
    reward_weight: float
    contrast_weight: float
    contrast_temperature: float


class World(NamedTuple):
    """The variables of what one optimiser trains as the encoder."""

    encoder: Vars
    action: Vars
    joint: Vars
    head: Vars


class Networks(NamedTuple):
    """The variables of all networks."""

    world: World
    policy: Vars
    values: Vars


class WorldMetrics(NamedTuple):
    """Metrics of the last update of the world model."""

    loss: Array
    dynamics_loss: Array
    reward_loss: Array
    contrast_loss: Array


class ValueMetrics(NamedTuple):
    """Metrics of the last update of value functions and policy."""

    loss: Array
    q: Array  # mean of the predictions
    target_q: Array  # mean of the targets
    policy_loss: Array


class State(NamedTuple):
    """Everything that one seed's learner carries between updates; checkpoints store the fields by name."""

    key: Array  # uint32[2], constant: counters select the random numbers
    online: Networks
    target: Networks  # copied from the online ones at each burst
    world_moments: Tree
    policy_moments: Tree
    value_moments: Tree
    world_metrics: WorldMetrics
    value_metrics: ValueMetrics


# Networks


def hidden(width: int, activation: Layer) -> Layer:
    """A hidden layer: linear, layer norm without scale and bias, activation."""
    return serial(dense(width, _KERNELS), plain_layer_norm(width), activation)


def three_layers(width: int, n_out: int, activation: Layer) -> Layer:
    """Two hidden layers and a linear one.

    Args:
        width: units per hidden layer.
        n_out: number of outputs.
        activation: of the hidden layers.
    """
    return serial(hidden(width, activation), hidden(width, activation), dense(n_out, _KERNELS))


def encoder(width: int, latent_size: int) -> Layer:
    """f: observation -> z_s.

    Args:
        width: units per hidden layer.
        latent_size: features of z_s.
    """
    return serial(three_layers(width, latent_size, elu()), plain_layer_norm(latent_size), elu())


def embedding(width: int) -> Layer:
    """Action -> embedded action."""
    return serial(dense(width, _KERNELS), elu())


def head(n_out: int) -> Layer:
    """z_sa -> everything that is predicted from it."""
    return dense(n_out, _KERNELS)


def value_functions(width: int) -> Layer:
    """z_sa -> two values."""
    body = serial(three_layers(width, width, elu()), plain_layer_norm(width), elu())
    return ensemble(serial(body, dense(1, _KERNELS)), 2)


def policy(width: int, action_size: int) -> Layer:
    """z_s -> what the tanh makes an action."""
    return three_layers(width, action_size, relu())


def init(model: Model, generator: np.random.Generator) -> State:
    """The initial state; see `types.Init`."""
    streams = generator.spawn(7)
    action = layers.create(model.action, streams[1], model.spec.action_size)
    embedded = len(action.params[0]["bias"])
    world = World(
        encoder=layers.create(model.encoder, streams[0], model.spec.observation_size),
        action=action,
        joint=layers.create(model.joint, streams[2], model.latent_size + embedded),
        head=layers.create(model.head, streams[3], model.latent_size),
    )
    online = Networks(
        world,
        policy=layers.create(model.policy, streams[4], model.latent_size),
        values=layers.create(model.values, streams[5], model.latent_size),
    )
    state = State(
        key=streams[6].integers(0, 2**32, 2, np.uint32),  # type: ignore[arg-type]
        online=online,
        # A copy, because the update donates its state, and no buffer may be donated twice.
        target=jax.tree.map(lambda leaf: leaf.copy(), online),
        world_moments=model.world_optimiser.init(parameters(world)),
        policy_moments=model.policy_optimiser.init(online.policy.params),
        value_moments=model.value_optimiser.init(online.values.params),
        world_metrics=WorldMetrics(*np.zeros(4, np.float32)),
        value_metrics=ValueMetrics(*np.zeros(4, np.float32)),
    )
    return State(*jax.device_put(state))


def parameters(world: World) -> tuple[Tree, ...]:
    """The parameters of encoder, action embedding, g and head."""
    return tuple(variables.params for variables in world)


def with_parameters(world: World, params: tuple[Tree, ...]) -> World:
    """The same world with other parameters."""
    return World(*(Vars(p, v.stats) for p, v in zip(params, world, strict=True)))


def together(model: Model, world: World, z: Array, action: Array) -> Array:
    """z_sa = g(z_s, a), [B, latent_size].

    Args:
        model: the networks.
        world: their variables.
        z: encoded observations, [B, latent_size].
        action: [B, action_size], entries in [-1, 1].
    """
    embedded = predict(model.action, world.action, action)
    return predict(model.joint, world.joint, jnp.concatenate([z, embedded], -1))


def policy_action(model: Model, params: Tree, stats: Tree, z: Array) -> Array:
    """The policy's action [B, action_size] in [-1, 1].

    Args:
        model: the networks.
        params: of the policy.
        stats: of the policy.
        z: encoded observations, [B, latent_size].
    """
    return jnp.tanh(predict(model.policy, Vars(params, stats), z))


# Acting


def mode(model: Model, state: State, observation: Array) -> Array:
    """The policy's action [1, action_size] for one observation [observation_size].

    Args:
        model: the networks.
        state: of one seed.
        observation: [observation_size].

    Returns:
        [1, action_size].
    """
    z = predict(model.encoder, state.online.world.encoder, observation[None])
    return policy_action(model, *state.online.policy, z)


def explore(
    model: Model, state: State, memory: Tree, observation: Array, decision: Array
) -> tuple[Array, Tree]:
    """The policy's action with noise; see `types.Explore`."""
    action = mode(model, state, observation)[0]
    noise = jax.random.normal(random_key(state.key, KeyStream.DECISION, decision), action.shape)
    return jnp.clip(action + model.noise * noise, -1.0, 1.0), memory


def exploit(model: Model, state: State, memory: Tree, observation: Array) -> tuple[Array, Tree]:
    """The policy's action; see `types.Exploit`."""
    return mode(model, state, observation)[0], memory


def appraise(model: Model, state: State, observation: Array, decision: Array) -> Appraisal:
    """The policy's action and its value; see `types.Appraise`.

    There is neither noise nor a bonus: the value functions estimate the return of the policy by itself.
    """
    action = mode(model, state, observation)
    z = predict(model.encoder, state.online.world.encoder, observation[None])
    z_sa = together(model, state.online.world, z, action)
    return Appraisal(action[0], jnp.zeros(()), jnp.mean(predict(model.values, state.online.values, z_sa)))


def network(model: Model, state: State) -> Network:
    """What `exploit` computes, in numpy; see `types.network_of`. Random actions are the same."""
    online = state.online
    encoding = operations(model.encoder, online.world.encoder.params, online.world.encoder.stats)
    *deciding, last = operations(model.policy, online.policy.params, online.policy.stats)
    # The description is that of a Gaussian policy, whose output also has a log standard deviation: a constant
    # here, so small that draws are the mean.
    wider = last._replace(arrays={name: _with_zeros(array) for name, array in last.arrays.items()})
    wider.arrays["bias"][len(wider.arrays["bias"]) // 2 :] = _NO_NOISE
    return Network((*encoding, *deciding, Op(*wider)), "clip", _NO_NOISE, 0.0)


def _with_zeros(array: np.ndarray) -> np.ndarray:
    """The array [..., n] with n zeros more along its last axis."""
    return np.concatenate([array, np.zeros_like(array)], -1)
