"""Where do the seed axis and the UTD ratio enter? Here, and nowhere else.

An algorithm is written for one seed and one gradient update. One decision's updates are a scan inside one
compiled call, whose compile time does not grow with the UTD ratio. The seeds are added in one of two ways,
which give the same numbers:

* `one_by_one` (CPU): the seeds' states stay apart and the same program runs for each. Its matrix products are
  plain ones, which a CPU runs about twice as fast as batched ones, and a seed's result cannot depend on who
  trains beside it.
* `vectorised` (accelerators): the states are stacked and the program is mapped over the new axis, so that
  all seeds' updates are one launch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossq_wn.diagnostics import diagnose
from crossq_wn.replay import random_batch
from crossq_wn.types import Algorithm, Array, Batch, Metrics, Tree

States = Any  # of all seeds; made by `join`, and donated by `update`


class Learner(NamedTuple):
    """An algorithm over several seeds (S of them), UTD (U) updates at a time.

    join:    list of one tree per seed -> joined; for learners' states and acting memories
    split:   (joined, S) -> list of one tree per seed
    memory:  S -> joined acting memories of episodes that begin
    explore: (states, memories, observations [S, observation_size], decision)
             -> (actions [S, action_size], memories)
    exploit: (states, memories, observations) -> (deterministic actions, memories)
    observe: (states, observations, rewards [S], ended [S]) -> states; the old states are gone. None where
             the algorithm does not watch its transitions
    transfer: one host Batch [U, B, ...] per seed -> batches on the device
    update:  (states, batches on the device, index of the first update)
             -> (states, metrics of the last update, one dict per seed); the old states are gone
    diagnose: (states, batches of the newest updates, index of the last) -> diagnostics, one dict per seed.
             None where the algorithm shows no critic
    appraise: (states, observations, decision) -> (stochastic actions [S, action_size], -alpha log pi [S],
             Q [S]). None likewise
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States, int], list[Tree]]
    memory: Callable[[int], States]
    explore: Callable[[States, States, np.ndarray, int], tuple[np.ndarray, States]]
    exploit: Callable[[States, States, np.ndarray], tuple[np.ndarray, States]]
    observe: Callable[[States, np.ndarray, np.ndarray, np.ndarray], States] | None
    transfer: Callable[[Sequence[Batch]], Any]
    update: Callable[[States, Any, int], tuple[States, list[Metrics]]]
    diagnose: Callable[[States, Any, int], list[Metrics]] | None
    appraise: Callable[[States, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]] | None


class _Axis(NamedTuple):
    """How seeds lie beside each other.

    join, split, transfer: as in `Learner`
    count:  joined, not empty -> S
    spread: (function of one seed that returns a tuple, whether its first argument is donated)
            -> the same function of joined arguments, and of a last argument that all seeds share
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States, int], list[Tree]]
    transfer: Callable[[Sequence[Batch]], Any]
    count: Callable[[States], int]
    spread: Callable[[Callable[..., tuple[Any, ...]], bool], Callable[..., tuple[Any, ...]]]


def one_by_one(algorithm: Algorithm) -> Learner:
    """The same compiled program for each seed in turn."""

    def spread(function: Callable[..., tuple[Any, ...]], donate: bool) -> Callable[..., tuple[Any, ...]]:
        program = jax.jit(function, donate_argnums=0 if donate else ())

        def all_seeds(*arguments: Any) -> tuple[Any, ...]:
            *joined, shared = arguments
            done = [program(*each, shared) for each in zip(*joined, strict=True)]
            return tuple(map(list, zip(*done, strict=True)))

        return all_seeds

    return _over(_Axis(list, lambda joined, count: list(joined), jax.device_put, len, spread), algorithm)


def vectorised(algorithm: Algorithm) -> Learner:
    """One program mapped over a leading seed axis."""

    def join(trees: Sequence[Tree]) -> States:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def split(joined: States, count: int) -> list[Tree]:
        return [jax.tree.map(lambda leaf, i=i: leaf[i], joined) for i in range(count)]

    def spread(function: Callable[..., tuple[Any, ...]], donate: bool) -> Callable[..., tuple[Any, ...]]:
        def all_seeds(*arguments: Any) -> tuple[Any, ...]:
            # What is shared has no seed axis, so that skipped actor updates are skipped and not masked.
            axes = (*(0 for _ in arguments[1:]), None)
            return jax.vmap(function, in_axes=axes)(*arguments)

        return jax.jit(all_seeds, donate_argnums=0 if donate else ())

    def transfer(batches: Sequence[Batch]) -> Batch:
        return Batch(*map(jax.device_put, map(np.stack, zip(*batches, strict=True))))

    def count(joined: States) -> int:
        return int(jax.tree.leaves(joined)[0].shape[0])

    return _over(_Axis(join, split, transfer, count, spread), algorithm)


def _over(axis: _Axis, algorithm: Algorithm) -> Learner:
    """An algorithm over the seeds of an axis."""

    def updates(state: Tree, batch: Batch, first: Array) -> tuple[Tree, Metrics]:
        count = jax.tree.leaves(batch)[0].shape[0]
        state, metrics = jax.lax.scan(
            lambda state, x: algorithm.update(state, *x), state, (batch, first + jnp.arange(count))
        )
        return state, jax.tree.map(lambda m: m[-1], metrics)

    explore_all = axis.spread(algorithm.explore, False)
    exploit_all = axis.spread(lambda state, memory, seen, _: algorithm.exploit(state, memory, seen), False)
    update_all = axis.spread(updates, True)

    def explore(
        states: States, memories: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, States]:
        actions, memories = explore_all(states, memories, observations, np.int32(decision))
        return np.asarray(actions), memories

    def exploit(states: States, memories: States, observations: np.ndarray) -> tuple[np.ndarray, States]:
        actions, memories = exploit_all(states, memories, observations, None)
        return np.asarray(actions), memories

    def update(states: States, batches: Any, first: int) -> tuple[States, list[Metrics]]:
        states, metrics = update_all(states, batches, np.int32(first))
        return states, axis.split(metrics, axis.count(metrics))

    return Learner(
        join=axis.join,
        split=axis.split,
        memory=lambda count: axis.join([algorithm.memory] * count),
        explore=explore,
        exploit=exploit,
        observe=_observer(axis, algorithm),
        transfer=axis.transfer,
        update=update,
        diagnose=_diagnostician(axis, algorithm),
        appraise=_appraiser(axis, algorithm),
    )


def _observer(
    axis: _Axis, algorithm: Algorithm
) -> Callable[[States, np.ndarray, np.ndarray, np.ndarray], States] | None:
    if (observe := algorithm.observe) is None:
        return None
    observe_all = axis.spread(lambda *arguments: (observe(*arguments[:-1]),), True)
    return lambda *arguments: observe_all(*arguments, None)[0]


def _diagnostician(axis: _Axis, algorithm: Algorithm) -> Callable[[States, Any, int], list[Metrics]] | None:
    if (view := algorithm.view) is None:
        return None

    def newest(state: Tree, batches: Batch, last: Array) -> tuple[Metrics]:
        return (diagnose(view(state, jax.tree.map(lambda leaf: leaf[-1], batches), last)),)

    diagnose_all = axis.spread(newest, False)

    def diagnose_seeds(states: States, batches: Any, last: int) -> list[Metrics]:
        (found,) = diagnose_all(states, batches, np.int32(last))
        return axis.split(found, axis.count(found))

    return diagnose_seeds


def _appraiser(
    axis: _Axis, algorithm: Algorithm
) -> Callable[[States, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
    if algorithm.appraise is None:
        return None
    appraise_all = axis.spread(algorithm.appraise, False)

    def appraise(
        states: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        actions, bonuses, values = appraise_all(states, observations, np.int32(decision))
        return np.asarray(actions), np.asarray(bonuses), np.asarray(values)

    return appraise


def metric_names(
    algorithm: Algorithm, observation_size: int, action_size: int, *, diagnostics: bool
) -> list[str]:
    """What the algorithm's updates report, and the diagnostics; nothing is computed."""
    generator = np.random.default_rng(0)
    shape = (2,) if algorithm.horizon == 1 else (2, algorithm.horizon)
    batch = random_batch(generator, observation_size, action_size, *shape)
    state = algorithm.init(generator)
    _, metrics = jax.eval_shape(algorithm.update, state, batch, np.int32(0))
    if not diagnostics or (view := algorithm.view) is None:
        return list(metrics)
    found = jax.eval_shape(lambda *arguments: diagnose(view(*arguments)), state, batch, np.int32(0))
    return [*metrics, *found]


def make(algorithm: Algorithm) -> Learner:
    """The learner that suits this machine's device."""
    return one_by_one(algorithm) if jax.default_backend() == "cpu" else vectorised(algorithm)
