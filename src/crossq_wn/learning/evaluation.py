"""Evaluation: episodes with the deterministic policy, on environments and from seeds of their own."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Episode, Transition
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import UserError
from crossq_wn.learning.learner import Learner, States

Evaluation = list[Episode] | EnvironmentFaultError

_ENDLESS = 100_000  # decisions


class Arena(NamedTuple):
    """Where several players play, each in an environment of its own; k counts the players."""

    pool: Pool
    indices: Sequence[int]  # of the players' environments in the pool
    seeds: Sequence[int]  # where each one's first episode starts; later ones continue its random stream


class Players(Protocol):
    """Policies that play side by side."""

    def begin(self, k: int) -> None:
        """Takes note that k begins an episode."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Everybody's actions, for observations [len(indices), observation_size]."""

    def take(self, k: int, result: Transition) -> bool:
        """Takes what k's decision led to; returns whether its episode is over."""

    def go_on(self, k: int) -> bool:
        """Whether k has to play on."""


def evaluate(learner: Learner, states: States, arena: Arena, episodes: int) -> list[Evaluation]:
    """Plays episodes with every seed's deterministic policy, the seeds side by side.

    Args:
        learner: over these seeds.
        states: of the learners, joined in the order of the arena's environments.
        arena: one environment per seed.
        episodes: per seed.

    Returns:
        Per seed its finished episodes, or the fault of its environment.
    """
    players = _Policies(learner, states, len(arena.indices), episodes)
    faults = play(arena, players)
    return [faults.get(k, finished) for k, finished in enumerate(players.done)]


class _Policies:
    """Deterministic policies and the episodes that they have finished."""

    def __init__(self, learner: Learner, states: States, count: int, episodes: int) -> None:
        self._learner, self._states, self._episodes = learner, states, episodes
        self._fresh = learner.split(learner.fresh_memories(count), count)
        self._memories = list(self._fresh)
        self.done: list[list[Episode]] = [[] for _ in range(count)]

    def begin(self, k: int) -> None:
        self._memories[k] = self._fresh[k]

    def act(self, observations: np.ndarray) -> np.ndarray:
        memories = self._learner.join(self._memories)
        actions, memories = self._learner.exploit(self._states, memories, observations)
        self._memories = self._learner.split(memories, len(self._memories))
        return actions

    def take(self, k: int, result: Transition) -> bool:
        if result.episode is not None:
            self.done[k].append(result.episode)
        return result.episode is not None

    def go_on(self, k: int) -> bool:
        return len(self.done[k]) < self._episodes


def play(arena: Arena, players: Players) -> dict[int, EnvironmentFaultError]:
    """Plays episodes side by side for as long as some player has to go on.

    Returns:
        The faults of environments that had one, by k; their players stop.

    Raises:
        UserError: an episode does not end.
    """
    pool, indices = arena.pool, arena.indices
    observations = np.zeros((len(indices), pool.environments[0].observation_size), np.float32)
    lengths = [0] * len(indices)  # decisions of the present episodes
    faults: dict[int, EnvironmentFaultError] = {}

    def begin(k: int, seed: int | None = None) -> None:
        players.begin(k)
        lengths[k] = 0
        try:
            observations[k] = pool.reset(indices[k], seed)
        except EnvironmentFaultError as fault:
            faults[k] = fault

    for k, seed in enumerate(arena.seeds):
        begin(k, seed)
    while running := [k for k in range(len(indices)) if k not in faults and players.go_on(k)]:
        actions = players.act(observations)
        results = pool.step([indices[k] for k in running], actions[running])
        for k, result in zip(running, results, strict=True):
            if isinstance(result, EnvironmentFaultError):
                faults[k] = result
                continue
            observations[k] = result.next_observation
            lengths[k] += 1
            _check_length(lengths[k])
            if players.take(k, result) and players.go_on(k):
                begin(k)
    return faults


def _check_length(decisions: int) -> None:
    if decisions == _ENDLESS:
        raise UserError(
            f"an evaluation episode has not ended after {_ENDLESS:,} decisions: give the environment a time "
            "limit with --episode-frames"
        )
