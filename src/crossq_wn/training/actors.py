"""How a trained policy chooses actions: in numpy, or by its algorithm's own functions in JAX."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.interface import check_sound
from crossq_wn.acting.policy import Actor
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

    An observation that comes alone counts as the beginning of an episode: nothing is remembered.

    Args:
        algorithm: acts.
        state: of its learner.
        name: how messages call the policy.
        size: numbers in an observation of the environment.
    """

    def __init__(self, algorithm: Algorithm, state: Tree, name: str, size: int) -> None:
        def exploit(observation: Any) -> Any:
            return algorithm.exploit(state, algorithm.memory, observation)[0]

        def explore(observation: Any, decision: Any) -> Any:
            return algorithm.explore(state, algorithm.memory, observation, decision)[0]

        self._exploit, self._explore = jax.jit(jax.vmap(exploit)), jax.jit(jax.vmap(explore))
        self._name, self._size, self._generator = name, size, np.random.default_rng()

    def choose(
        self, flat: np.ndarray, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses actions in [-1, 1]; as `acting.policy.Actor.choose`."""
        rows = np.atleast_2d(flat)
        if deterministic:
            chosen = np.asarray(self._exploit(rows))
        else:  # the number of a decision selects its random numbers
            numbers = (generator or self._generator).integers(2**31, size=len(rows), dtype=np.int32)
            chosen = np.asarray(self._explore(rows, numbers))
        check_sound(rows, chosen, self._name, self._size)
        return chosen if flat.ndim == 2 else chosen[0]


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
