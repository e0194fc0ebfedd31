"""The learner: an algorithm over several seeds, and over all gradient updates of a decision.

An algorithm is written for one seed and one gradient update. The seed axis (see `axis`) and the UTD ratio are
added here and nowhere else. The updates of a decision are a scan inside one compiled call, whose compile time
does not grow with the UTD ratio.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.axis import Axis, Devices, Function, Join, Split, apart, stacked, zeros
from crossq_wn.learning.diagnostics import DIAGNOSTICS, Diagnostic, diagnose
from crossq_wn.learning.minibatches import Batches, Fed, Feed, Load, Pack, fits, gathered, resident
from crossq_wn.learning.products import minibatch_shapes, state_shapes
from crossq_wn.types import Algorithm, Array, Batch, Metrics, Spec, Tree, View
from crossq_wn.types import Update as OneUpdate

States = Any  # the states of all seeds, joined; `update` and `observe` donate them
Memories = Any  # the memory of acting in each seed's current episode, joined


class FreshMemories(Protocol):
    """Makes the memories of acting at the start of episodes."""

    def __call__(self, count: int, /) -> Memories:
        """Returns those of the given number of seeds, joined."""


class Explore(Protocol):
    """Chooses the actions of a training decision, for all seeds."""

    def __call__(
        self, states: States, memories: Memories, observations: np.ndarray, decision: int, /
    ) -> tuple[np.ndarray, Memories]:
        """Takes observations [S, observation_size] and the number of decisions so far.

        Returns:
            Actions [S, action_size], and the new memories.
        """


class Exploit(Protocol):
    """Chooses the actions of an evaluation decision deterministically, for all seeds."""

    def __call__(
        self, states: States, memories: Memories, observations: np.ndarray, /
    ) -> tuple[np.ndarray, Memories]:
        """Takes observations [S, observation_size]; returns actions [S, action_size] and the new memories."""


class Observe(Protocol):
    """Shows every seed's learner its newest transition."""

    def __call__(
        self, states: States, observations: np.ndarray, rewards: np.ndarray, ended: np.ndarray, /
    ) -> States:
        """Takes observations [S, observation_size], rewards [S] and ended [S]; donates the states."""


class Update(Protocol):
    """Makes the gradient updates of one decision, for all seeds."""

    def __call__(self, states: States, fed: Fed, first: int, /) -> tuple[States, Any]:
        """Makes U updates per seed.

        Args:
            states: of all seeds, which are donated.
            fed: the minibatches, as `load` returns them.
            first: gradient updates per seed before these.

        Returns:
            The new states, and the metrics of the last update, joined.
        """


class Diagnose(Protocol):
    """Computes the diagnostics of every seed's critic."""

    def __call__(self, states: States, fed: Fed, last: int, /) -> list[Metrics]:
        """Takes the minibatches of the newest decision, and the number `last` of its last update.

        Returns:
            Per seed the diagnostics of that update's critic and minibatch, on the host.
        """


class Appraise(Protocol):
    """Asks every seed's critics for the value of a stochastic action."""

    def __call__(
        self, states: States, observations: np.ndarray, decision: int, /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Takes observations [S, observation_size], and the number that selects the action noise.

        Returns:
            Actions [S, action_size], -alpha log pi of each [S], and Q of each [S].
        """


class Learner(NamedTuple):
    """An algorithm over S seeds, with U gradient updates per decision."""

    join: Join  # of states, metrics and memories
    split: Split
    fresh_memories: FreshMemories
    explore: Explore
    exploit: Exploit
    observe: Observe | None  # None: the algorithm does not follow the transitions of training
    pack: Pack
    load: Load
    update: Update
    diagnose: Diagnose | None  # None: the algorithm has no diagnostics
    appraise: Appraise | None  # None: the algorithm's Q-bias cannot be measured


def make(algorithm: Algorithm, seeds: int, replay_bytes: int) -> Learner:
    """Makes the learner that suits this machine: a program per seed on a CPU, one for all on accelerators.

    Args:
        algorithm: for one seed.
        seeds: number of seeds.
        replay_bytes: size of one seed's replay; the replays are copied to the accelerator if they fit.
    """
    if jax.default_backend() == "cpu":
        return one_by_one(algorithm)
    devices = jax.devices()
    return vectorised(algorithm, devices, replay_on_device=fits(replay_bytes, seeds, devices))


def one_by_one(algorithm: Algorithm) -> Learner:
    """Runs the same compiled program for each seed; for CPUs."""
    axis = apart()
    return _over(axis, gathered(axis.put, algorithm.horizon), algorithm)


def vectorised(
    algorithm: Algorithm, devices: Devices | None = None, *, replay_on_device: bool = False
) -> Learner:
    """Runs one program mapped over a leading seed axis; for accelerators.

    Args:
        algorithm: for one seed.
        devices: share the seeds; as many are used as divide the number of seeds. By default the first device.
        replay_on_device: whether minibatches are gathered from a copy of replay on the device.
    """
    usable = jax.devices()[:1] if devices is None else devices
    axis = stacked(usable)
    feed = gathered(axis.put, algorithm.horizon)
    if replay_on_device:
        feed = resident(axis.put, partial(zeros, usable), algorithm.horizon)
    return _over(axis, feed, algorithm)


def metric_names(algorithm: Algorithm, spec: Spec, *, diagnostics: bool, batch_size: int = 2) -> list[str]:
    """The names of an update's metrics and, if wanted, of the diagnostics; traces, but computes nothing.

    Args:
        algorithm: for one seed.
        spec: the problem.
        diagnostics: whether to add those, if the algorithm has any.
        batch_size: samples per minibatch; where it is that of the training, training does not trace again.
    """
    batch = minibatch_shapes(algorithm, spec, batch_size)
    state = state_shapes(algorithm)
    _, metrics = jax.eval_shape(_traced_once(algorithm.update), state, batch, np.int32(0))
    if not diagnostics or algorithm.view is None:
        return list(metrics)
    found = jax.eval_shape(_diagnosing(algorithm.view), state, batch, np.int32(0))
    return [*metrics, *found]


def _traced_once(update: OneUpdate) -> OneUpdate:
    """The update, which JAX traces only once for all callers; their programs contain it inline."""
    return _inlined(update) if isinstance(update, Hashable) else update


def _diagnosing(view: View) -> Callable[..., Metrics]:
    """The diagnostics of a view, which JAX traces only once, too."""
    if not isinstance(view, Hashable):
        return partial(_diagnosed, view, tuple(DIAGNOSTICS.values()))
    inlined: Callable[..., Metrics] = _inlined(_diagnosing_program(view, tuple(DIAGNOSTICS.values())))
    return inlined


@lru_cache(maxsize=8)
def _inlined(function: Callable[..., Any]) -> Any:
    return jax.jit(function, inline=True)


@lru_cache(maxsize=8)
def _diagnosing_program(view: View, table: tuple[Diagnostic, ...]) -> Callable[..., Metrics]:
    """Always the same object for a view and a table of diagnostics, so that JAX finds its trace again."""
    return partial(_diagnosed, view, table)


def _diagnosed(view: View, table: tuple[Diagnostic, ...], state: Tree, batch: Batch, count: Array) -> Metrics:
    """The table is an argument because JAX reuses the trace of equal functions."""
    return diagnose(view(state, batch, count))


def _over(axis: Axis, feed: Feed, algorithm: Algorithm) -> Learner:
    """Builds the learner of an algorithm on a seed axis."""
    observe = diagnose_all = appraise = None
    if algorithm.observe is not None:
        observe = partial(_observe, axis.spread(partial(_observe_one, algorithm), donate=True))
    if algorithm.view is not None:
        newest = partial(_diagnose_one, algorithm, feed.batches)
        diagnose_all = partial(_diagnose, axis, axis.spread(newest))
    if algorithm.appraise is not None:
        appraise = partial(_appraise, axis.spread(algorithm.appraise))
    return Learner(
        join=axis.join,
        split=axis.split,
        fresh_memories=lambda count: axis.join([algorithm.memory] * count),
        explore=partial(_explore, axis.spread(algorithm.explore)),
        exploit=partial(_exploit, axis.spread(partial(_exploit_one, algorithm))),
        observe=observe,
        pack=feed.pack,
        load=feed.load,
        update=partial(_update, axis.spread(partial(_updates_of_one, algorithm, feed.batches), donate=True)),
        diagnose=diagnose_all,
        appraise=appraise,
    )


# Functions of one seed, which JAX traces. Their last argument is the one that all seeds share.


def _updates_of_one(
    algorithm: Algorithm, batches: Batches, state: Tree, fed: Fed, first: Array
) -> tuple[Tree, Metrics]:
    update = _traced_once(algorithm.update)
    rows, batch = batches(fed)

    def one(state: Tree, x: tuple[Tree, Array]) -> tuple[Tree, Metrics]:
        return update(state, batch(x[0]), x[1])

    count = jax.tree.leaves(rows)[0].shape[0]
    state, metrics = jax.lax.scan(one, state, (rows, first + jnp.arange(count)))
    return state, jax.tree.map(lambda m: m[-1], metrics)


def _diagnose_one(
    algorithm: Algorithm, batches: Batches, state: Tree, fed: Fed, last: Array
) -> tuple[Metrics]:
    assert algorithm.view is not None
    rows, batch = batches(fed)
    newest = batch(jax.tree.map(lambda leaf: leaf[-1], rows))
    return (_diagnosing(algorithm.view)(state, newest, last),)


def _exploit_one(
    algorithm: Algorithm, state: Tree, memory: Tree, observation: Array, _: None
) -> tuple[Array, Tree]:
    return algorithm.exploit(state, memory, observation)


def _observe_one(
    algorithm: Algorithm, state: Tree, observation: Array, reward: Array, ended: Array, _: None
) -> tuple[Tree]:
    assert algorithm.observe is not None
    return (algorithm.observe(state, observation, reward, ended),)


# Functions of all seeds on the host. `run` is a function of one seed that an axis has spread over the seeds.


def _explore(
    run: Function, states: States, memories: Memories, observations: np.ndarray, decision: int
) -> tuple[np.ndarray, Memories]:
    actions, memories = run(states, memories, observations, np.int32(decision))
    return np.asarray(actions), memories


def _exploit(
    run: Function, states: States, memories: Memories, observations: np.ndarray
) -> tuple[np.ndarray, Memories]:
    actions, memories = run(states, memories, observations, None)
    return np.asarray(actions), memories


def _observe(
    run: Function, states: States, observations: np.ndarray, rewards: np.ndarray, ended: np.ndarray
) -> States:
    return run(states, observations, rewards, ended, None)[0]


def _update(run: Function, states: States, fed: Fed, first: int) -> tuple[States, Any]:
    states, metrics = run(states, fed, np.int32(first))
    return states, metrics


def _diagnose(axis: Axis, run: Function, states: States, fed: Fed, last: int) -> list[Metrics]:
    (found,) = jax.device_get(run(states, fed, np.int32(last)))
    return axis.split(found, axis.count(found))


def _appraise(
    run: Function, states: States, observations: np.ndarray, decision: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    actions, bonuses, values = run(states, observations, np.int32(decision))
    return np.asarray(actions), np.asarray(bonuses), np.asarray(values)
