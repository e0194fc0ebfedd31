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

from crossq_wn.types import Algorithm, Array, Batch, Metrics, Tree

States = Any  # of all seeds; made by `join`, and donated by `update`


class Learner(NamedTuple):
    """An algorithm over several seeds (S of them), UTD (U) updates at a time.

    join:    list of one state per seed -> states
    split:   states -> list of one state per seed
    explore: (states, observations [S, observation_size], decision) -> actions [S, action_size]
    exploit: (states, observations) -> deterministic actions
    transfer: one host Batch [U, B, ...] per seed -> batches on the device
    update:  (states, batches on the device, index of the first update)
             -> (states, metrics of the last update, one dict per seed); the old states are gone
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States], list[Tree]]
    explore: Callable[[States, np.ndarray, int], np.ndarray]
    exploit: Callable[[States, np.ndarray], np.ndarray]
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

    def explore_all(states: States, observations: np.ndarray, decision: int) -> np.ndarray:
        step = np.int32(decision)
        return np.stack([explore(s, o, step) for s, o in zip(states, observations, strict=True)])

    def exploit_all(states: States, observations: np.ndarray) -> np.ndarray:
        return np.stack([exploit(s, o) for s, o in zip(states, observations, strict=True)])

    def update_all(states: States, batches: Sequence[Batch], first: int) -> tuple[States, list[Metrics]]:
        done = [update(s, b, np.int32(first)) for s, b in zip(states, batches, strict=True)]
        return [state for state, _ in done], [metrics for _, metrics in done]

    return Learner(list, list, explore_all, exploit_all, jax.device_put, update_all)


def vectorised(algorithm: Algorithm) -> Learner:
    """One program mapped over a leading seed axis."""
    explore = jax.jit(jax.vmap(algorithm.explore, in_axes=(0, 0, None)))
    exploit = jax.jit(jax.vmap(algorithm.exploit))
    # The update index has no seed axis, so that skipped actor updates are skipped and not masked.
    update = _updates(algorithm, lambda function: jax.vmap(function, in_axes=(0, 0, None)))

    def join(states: Sequence[Tree]) -> States:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def split(states: States) -> list[Tree]:
        count = jax.tree.leaves(states)[0].shape[0]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(count)]

    def explore_all(states: States, observations: np.ndarray, decision: int) -> np.ndarray:
        return np.asarray(explore(states, observations, np.int32(decision)))

    def exploit_all(states: States, observations: np.ndarray) -> np.ndarray:
        return np.asarray(exploit(states, observations))

    def transfer(batches: Sequence[Batch]) -> Batch:
        return Batch(*map(jax.device_put, (np.stack(leaves, 1) for leaves in zip(*batches, strict=True))))

    def update_all(states: States, batches: Batch, first: int) -> tuple[States, list[Metrics]]:
        states, metrics = update(states, batches, np.int32(first))
        return states, [{k: v[i] for k, v in metrics.items()} for i in range(batches.reward.shape[1])]

    return Learner(join, split, explore_all, exploit_all, transfer, update_all)


def make(algorithm: Algorithm) -> Learner:
    """The learner that suits this machine's device."""
    return one_by_one(algorithm) if jax.default_backend() == "cpu" else vectorised(algorithm)
