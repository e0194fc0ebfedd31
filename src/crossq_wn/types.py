"""Which nouns does the numeric core speak? Every shared type of the learner, defined once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
HostArray = np.ndarray[Any, np.dtype[Any]]
Tree = Any  # a pytree of arrays
Metrics = dict[str, Array]


class Batch(NamedTuple):
    """Transitions drawn from replay; one minibatch as an algorithm sees it (`B` samples, one seed)."""

    observation: Array  # [B, observation_size]
    action: Array  # [B, action_size], each entry in [-1, 1]
    reward: Array  # [B], summed over the frames of one decision
    mask: Array  # [B], 0 only where the environment truly terminated; a time limit keeps 1
    next_observation: Array  # [B, observation_size], the observation before any reset


class Vars(NamedTuple):
    """A network's variables."""

    params: Tree  # what the optimiser changes
    stats: Tree  # batch-norm running moments; empty for networks without any


class Algorithm(NamedTuple):
    """An algorithm is a record of pure functions, written for ONE seed; `learner` adds the seed axis.

    `update` counts gradient updates, `explore` counts agent decisions; both counters select the random
    numbers, so that a state and its two counters are all there is to resume from.
    """

    init: Callable[[np.random.Generator], Tree]  # host-side, from an explicit random generator
    explore: Callable[[Tree, Array, Array], Array]  # (state, observation, decision) -> action
    exploit: Callable[[Tree, Array], Array]  # (state, observation) -> deterministic action
    update: Callable[[Tree, Batch, Array], tuple[Tree, Metrics]]  # (state, batch, update index)
