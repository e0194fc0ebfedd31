"""What a soft actor-critic carries from update to update, and where its random numbers come from."""

from enum import IntEnum
from typing import NamedTuple

from crossq_wn.lazy import jax
from crossq_wn.types import Array, Tree, Vars


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
    """Everything that one seed's learner carries from update to update.

    Checkpoints know the fields by their names. The three `moments` are the optimisers' own.
    """

    key: Array  # uint32[2], constant: counters select the random numbers
    actor: Vars
    critic: Vars  # theta and its running statistics
    target: Tree  # theta_bar
    log_temperature: Array  # log alpha
    actor_moments: Tree
    critic_moments: Tree
    temperature_moments: Tree
    critic_metrics: CriticMetrics
    actor_metrics: ActorMetrics


class KeyStream(IntEnum):
    """What a seed's random numbers are for; each stream has a counter of its own."""

    UPDATE = 0  # counts gradient updates
    DECISION = 1  # counts agent decisions of training
    EXTENSION = 2  # what an algorithm adds to these two: BRO's explorer, TD-MPC2's evaluations


def random_key(key: Array, stream: KeyStream, count: Array) -> Array:
    """The random key of one place in a stream.

    Args:
        key: uint32[2], constant per seed.
        stream: what the random numbers are for.
        count: place in the stream.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), stream), count)
