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
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States, int], list[Tree]]
    memory: Callable[[int], States]
    explore: Callable[[States, States, np.ndarray, int], tuple[np.ndarray, States]]
    exploit: Callable[[States, States, np.ndarray], tuple[np.ndarray, States]]
    observe: Callable[[States, np.ndarray, np.ndarray, np.ndarray], States] | None
    transfer: Callable[[Sequence[Batch]], Any]
    update: Callable[[States, Any, int], tuple[States, list[Metrics]]]


def _updates(algorithm: Algorithm, over_seeds: Callable[..., Any]) -> Callable[..., Any]:
    """(state, batch [U, ...], first update) -> (state, metrics of the last update)."""

    def updates(state: Tree, batch: Batch, first: Array) -> tuple[Tree, Tree]:
        count = jax.tree.leaves(batch)[0].shape[0]

        def one(state: Tree, x: tuple[Batch, Array]) -> tuple[Tree, Tree]:
            return over_seeds(algorithm.update)(state, *x)  # type: ignore[no-any-return]

        state, metrics = jax.lax.scan(one, state, (batch, first + jnp.arange(count)))
        return state, jax.tree.map(lambda m: m[-1], metrics)

    return jax.jit(updates, donate_argnums=0)


def one_by_one(algorithm: Algorithm) -> Learner:
    """The same compiled program for each seed in turn."""
    explore, exploit = jax.jit(algorithm.explore), jax.jit(algorithm.exploit)
    update = _updates(algorithm, lambda function: function)

    def explore_all(
        states: States, memories: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, States]:
        step = np.int32(decision)
        done = [explore(*each, step) for each in zip(states, memories, observations, strict=True)]
        return np.stack([action for action, _ in done]), [memory for _, memory in done]

    def exploit_all(states: States, memories: States, observations: np.ndarray) -> tuple[np.ndarray, States]:
        done = [exploit(*each) for each in zip(states, memories, observations, strict=True)]
        return np.stack([action for action, _ in done]), [memory for _, memory in done]

    observe_all = None
    if algorithm.observe is not None:
        observe = jax.jit(algorithm.observe, donate_argnums=0)

        def observe_all(states: States, *seen: np.ndarray) -> States:
            return [observe(*each) for each in zip(states, *seen, strict=True)]

    def update_all(states: States, batches: Sequence[Batch], first: int) -> tuple[States, list[Metrics]]:
        done = [update(s, b, np.int32(first)) for s, b in zip(states, batches, strict=True)]
        return [state for state, _ in done], [metrics for _, metrics in done]

    return Learner(
        join=list,
        split=lambda states, count: list(states),
        memory=lambda count: [algorithm.memory] * count,
        explore=explore_all,
        exploit=exploit_all,
        observe=observe_all,
        transfer=jax.device_put,
        update=update_all,
    )


def vectorised(algorithm: Algorithm) -> Learner:
    """One program mapped over a leading seed axis."""
    explore = jax.jit(jax.vmap(algorithm.explore, in_axes=(0, 0, 0, None)))
    exploit = jax.jit(jax.vmap(algorithm.exploit))
    # The update index has no seed axis, so that skipped actor updates are skipped and not masked.
    update = _updates(algorithm, lambda function: jax.vmap(function, in_axes=(0, 0, None)))

    def join(states: Sequence[Tree]) -> States:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def split(states: States, count: int) -> list[Tree]:
        return [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(count)]

    def explore_all(
        states: States, memories: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, States]:
        actions, memories = explore(states, memories, observations, np.int32(decision))
        return np.asarray(actions), memories

    def exploit_all(states: States, memories: States, observations: np.ndarray) -> tuple[np.ndarray, States]:
        actions, memories = exploit(states, memories, observations)
        return np.asarray(actions), memories

    def transfer(batches: Sequence[Batch]) -> Batch:
        return Batch(*map(jax.device_put, (np.stack(leaves, 1) for leaves in zip(*batches, strict=True))))

    def update_all(states: States, batches: Batch, first: int) -> tuple[States, list[Metrics]]:
        states, metrics = update(states, batches, np.int32(first))
        return states, [{k: v[i] for k, v in metrics.items()} for i in range(batches.reward.shape[1])]

    return Learner(
        join=join,
        split=split,
        memory=lambda count: join([algorithm.memory] * count),
        explore=explore_all,
        exploit=exploit_all,
        observe=algorithm.observe and jax.jit(jax.vmap(algorithm.observe), donate_argnums=0),
        transfer=transfer,
        update=update_all,
    )


def metric_names(algorithm: Algorithm, observation_size: int, action_size: int) -> list[str]:
    """What the algorithm's updates report; nothing is computed."""
    generator = np.random.default_rng(0)
    shape = (2,) if algorithm.horizon == 1 else (2, algorithm.horizon)
    batch = random_batch(generator, observation_size, action_size, *shape)
    _, metrics = jax.eval_shape(algorithm.update, algorithm.init(generator), batch, np.int32(0))
    return list(metrics)


def make(algorithm: Algorithm) -> Learner:
    """The learner that suits this machine's device."""
    return one_by_one(algorithm) if jax.default_backend() == "cpu" else vectorised(algorithm)
