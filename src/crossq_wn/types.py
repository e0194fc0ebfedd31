"""Which nouns does the numeric core speak? Every shared type of the learner, defined once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jax import Array as Array
else:
    Array = Any  # JAX is not loaded for a type


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


class CriticView(NamedTuple):
    """The critic in one gradient update, as diagnostics see it; params and stats are tuples over critics."""

    params: Tree
    loss: Callable[[Tree], Array]  # params -> what the update minimises, on its own minibatch and targets
    learning_rate: Array | float
    hidden: tuple[Array, ...]  # per non-linearity [critic, sample, unit]: its outputs in training mode
    stats: Tree  # running statistics, and what they are
    new_stats: Tree  # after one more training pass
    target: Array  # [B], the expectation of each target


class Appraisal(NamedTuple):
    """One stochastic action and what the critics think of it."""

    action: Array  # [action_size]
    bonus: Array  # -alpha log pi(a|s), which a soft value adds to the reward
    q: Array  # Q(s, a), the mean of the critics


class Algorithm(NamedTuple):
    """An algorithm is a record of pure functions, written for ONE seed; `learner` adds the seed axis.

    `update` counts gradient updates, `explore` counts agent decisions; both counters select the random
    numbers, so that a state and its two counters are all there is to resume from.

    What follows the first four has a default that most algorithms keep:

    memory: what acting remembers from decision to decision of an episode, as it is at an episode's start.
    observe: (state, observation, reward, ended) -> state, told each training transition once, before it can
        be drawn from replay; for running statistics.
    resets: decision -> whether the learner is reset before that decision's updates.
    reset: (state, fresh state) -> state; what a reset keeps.
    horizon: transitions per sample; above 1 a batch's leaves are [B, horizon, ...], from one episode each.
    first_updates: gradient updates at the end of the warm-up, before the usual ones.
    period: the number of updates after which the pattern of work repeats (a policy delay).
    view: (state, batch, update index) -> the critic as that update sees it; None: no diagnostics.
    appraise: (state, observation, decision) -> a stochastic action and its value; None: no Q-bias.
    """

    init: Callable[[np.random.Generator], Tree]  # host-side, from an explicit random generator
    explore: Callable[[Tree, Tree, Array, Array], tuple[Array, Tree]]
    # (state, memory, observation, decision) -> (action, memory)
    exploit: Callable[[Tree, Tree, Array], tuple[Array, Tree]]
    # (state, memory, observation) -> (deterministic action, memory)
    update: Callable[[Tree, Batch, Array], tuple[Tree, Metrics]]  # (state, batch, update index)
    memory: Tree = ()
    observe: Callable[[Tree, Array, Array, Array], Tree] | None = None
    resets: Callable[[int], bool] = lambda decision: False
    reset: Callable[[Tree, Tree], Tree] = lambda state, fresh: fresh
    horizon: int = 1
    first_updates: int = 0
    period: int = 1
    view: Callable[[Tree, Batch, Array], CriticView] | None = None
    appraise: Callable[[Tree, Array, Array], Appraisal] | None = None
