"""The state of a soft actor-critic, and the random streams that it draws from."""

from enum import IntEnum
from typing import NamedTuple

from crossq_wn.lazy import jax
from crossq_wn.types import Array, Tree, Vars


class CriticMetrics(NamedTuple):
    """Metrics of the last critic update."""

    loss: Array
    q: Array  # mean of the predictions
    target_q: Array  # mean of the targets


class ActorMetrics(NamedTuple):
    """Metrics of the last actor update; with a policy delay, most updates leave them as they are."""

    loss: Array
    entropy: Array  # H = -mean log pi


class State(NamedTuple):
    """Everything that one seed's learner carries from update to update.

    Checkpoints store the fields by name. The three `moments` are the states of the optimisers.
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
    """The purposes of a seed's random numbers; each stream has its own counter."""

    UPDATE = 0  # counts gradient updates
    DECISION = 1  # counts agent decisions of training
    EXTENSION = 2  # whatever else an algorithm draws: BRO's explorer, TD-MPC2's evaluations


def random_key(key: Array, stream: KeyStream, count: Array) -> Array:
    """The random key at one place of a stream, the same whether or not training was interrupted before it.

    Args:
        key: uint32[2], constant per seed.
        stream: the purpose of the random numbers.
        count: the stream's counter.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), stream), count)
