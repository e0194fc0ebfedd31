"""How a trained policy chooses actions: in numpy, or by its algorithm's own functions in JAX."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.interface import Episodes, Layout
from crossq_wn.acting.policy import Actor
from crossq_wn.acting.readings import check_sound
from crossq_wn.lazy import jax
from crossq_wn.types import Algorithm, Tree


class Choose(Protocol):
    """Chooses actions in [-1, 1]."""

    def __call__(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """As `acting.policy.Actor.choose`: [..., observation_size] -> [..., action_size]."""


class JaxActor:
    """Acts by an algorithm's own functions: one that plans, or whose network is not described in numpy.

    `choose` takes each observation for the first of an episode; `act` remembers, for each episode side by
    side, what the algorithm carries from one decision to the next, such as TD-MPC2's plan.

    Args:
        algorithm: acts.
        state: of its learner.
        name: how messages call the policy.
        layout: of an observation of the environment.
        naming: surrounds calls of these functions, and says what a user's own raise.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        state: Tree,
        name: str,
        layout: Layout,
        naming: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        def exploit(memory: Tree, observation: Any) -> Any:
            return algorithm.exploit(state, memory, observation)

        def explore(memory: Tree, observation: Any, decision: Any) -> Any:
            return algorithm.explore(state, memory, observation, decision)

        self._exploit, self._explore = jax.jit(jax.vmap(exploit)), jax.jit(jax.vmap(explore))
        self._name, self._layout, self._generator = name, layout, np.random.default_rng()
        self._naming = naming
        self._first = jax.tree.map(np.asarray, algorithm.memory)  # the memory at an episode's start
        self._episodes, self._memory = Episodes("what it planned at the decision before"), self._first

    def choose(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses actions in [-1, 1]; as `acting.policy.Actor.choose`."""
        return self._choose(flat, self._fresh(flat), deterministic, generator)[0]

    def act(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """As `choose`, with what is remembered of each episode; an observation that is refused is not."""
        if not jax.tree.leaves(self._first):  # nothing is remembered
            return self.choose(flat, deterministic, generator)
        begin, memory = np.atleast_1d(self._episodes.beginning(flat)), self._fresh(flat)
        if not begin.all():
            memory = jax.tree.map(partial(_where, begin), memory, self._memory)
        chosen, new = self._choose(flat, memory, deterministic, generator)
        self._memory = jax.tree.map(np.asarray, new)
        self._episodes.go_on(flat)
        return chosen

    def reset(self, episodes: Any = None) -> None:
        """Says that the next observation of some episodes is their first; as `Episodes.reset`."""
        self._episodes.reset(episodes)

    def _fresh(self, flat: np.ndarray) -> Tree:
        """The memories at the start of as many episodes as there are observations."""
        count = len(np.atleast_2d(flat))
        return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *leaf.shape)), self._first)

    def _choose(
        self, flat: np.ndarray, memory: Tree, deterministic: bool, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, Tree]:
        rows = np.atleast_2d(flat)
        with self._naming():
            if deterministic:
                chosen, memory = self._exploit(memory, rows)
            else:  # the number of a decision selects its random numbers
                numbers = (generator or self._generator).integers(2**31, size=len(rows), dtype=np.int32)
                chosen, memory = self._explore(memory, rows, numbers)
        actions = np.asarray(chosen)
        check_sound(rows, actions, self._name, self._layout)
        return actions if flat.ndim == 2 else actions[0], memory


def _where(begin: np.ndarray, first: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The entries [n, ...] of `first` where an episode begins, and of `before` elsewhere."""
    return np.where(begin.reshape(-1, *[1] * (first.ndim - 1)), first, before)


class InNumpy(NamedTuple):
    """What evaluations need of a learner (`learning.evaluation.Actors`), of actors in numpy."""

    def join(self, actors: Sequence[Any], /) -> list[Any]:
        """Returns them as they are: actors stay apart, and so do their memories, which are empty."""
        return list(actors)

    def split(self, joined: Sequence[Any], count: int, /) -> list[Any]:
        """Returns them as they are."""
        return list(joined)

    def fresh_memories(self, count: int, /) -> list[tuple[()]]:
        """Returns the memories of so many actors."""
        return [()] * count

    def exploit(
        self, actors: Sequence[Actor], memories: Any, observations: np.ndarray, /
    ) -> tuple[np.ndarray, Any]:
        """Returns the deterministic action of each for its observation; the environment checks them.

        Args:
            actors: one per environment.
            memories: as `fresh_memories` made them; they hold nothing.
            observations: [S, observation_size].

        Returns:
            Actions [S, action_size] in [-1, 1], and the memories as they are.
        """
        each = zip(actors, observations, strict=True)
        return np.stack([actor.compute(observation) for actor, observation in each]), memories
