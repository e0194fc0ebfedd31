"""Evaluation: episodes of the deterministic policy, in separate environments with their own random seeds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Episode, Result, Transition
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import option
from crossq_wn.learning.axis import Join, Split
from crossq_wn.learning.interface import Exploit, FreshMemories, States

Evaluation = list[Episode] | EnvironmentFaultError

_ENDLESS = 100_000  # decisions, after which an episode counts as endless


class BrokenOff(BaseException):  # no error, as KeyboardInterrupt is none
    """Says that a game was broken off, and that its results are worth nothing."""


def _nothing() -> None:
    pass


class Arena(NamedTuple):
    """The environments in which several players play side by side; k counts the players."""

    pool: Pool
    indices: Sequence[int]  # each player's environment in the pool
    seeds: Sequence[int]  # of each first reset; later resets continue the environment's random stream
    before_decision: Callable[[], None] = _nothing  # is called; may raise BrokenOff


class Players(Protocol):
    """Policies that play side by side."""

    def begin(self, k: int) -> None:
        """Is told that player k starts an episode."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The actions of all players [players, action_size], for observations [players, observation_size]."""

    def take(self, k: int, result: Transition) -> bool:
        """Receives the result of player k's decision; returns whether its episode is over.

        Args:
            k: the number of the player.
            result: the transition that its newest action led to.
        """

    def go_on(self, k: int) -> bool:
        """Whether player k has more to play."""


class Actors(Protocol):
    """The part of a `Learner` that evaluations need."""

    @property
    def join(self) -> Join:
        """See `Learner`."""

    @property
    def split(self) -> Split:
        """See `Learner`."""

    @property
    def fresh_memories(self) -> FreshMemories:
        """See `Learner`."""

    @property
    def exploit(self) -> Exploit:
        """See `Learner`."""


def evaluate(learner: Actors, states: States, arena: Arena, episodes: int) -> list[Evaluation]:
    """Plays episodes with the deterministic policy of every seed, side by side.

    Args:
        learner: over these seeds.
        states: of all seeds, joined in the order of the arena's environments.
        arena: one environment per seed.
        episodes: number of episodes per seed.

    Returns:
        For each seed its finished episodes, or the fault of its environment.
    """
    players = _Policies(learner, states, len(arena.indices), episodes)
    faults = play(arena, players)
    return [faults.get(k, finished) for k, finished in enumerate(players.done)]


class _Policies:
    """The deterministic policies of all seeds, and the episodes that they have finished."""

    def __init__(self, learner: Actors, states: States, count: int, episodes: int) -> None:
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
    """Plays episodes side by side until no player has more to play.

    Args:
        arena: one environment per player.
        players: what acts, and takes the results.

    Returns:
        The faults of environments by player, such as episodes that do not end; a player stops at a fault.

    Raises:
        BrokenOff: if `arena.before_decision` does.
    """
    pool, indices = arena.pool, arena.indices
    observations = np.zeros((len(indices), pool.environments[0].observation_size), np.float32)
    lengths = [0] * len(indices)  # decisions of the current episodes
    faults: dict[int, EnvironmentFaultError] = {}

    def begin(which: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        for k, first in zip(which, pool.resets([indices[k] for k in which], seeds), strict=True):
            players.begin(k)
            lengths[k] = 0
            if isinstance(first, EnvironmentFaultError):
                faults[k] = first
            else:
                observations[k] = first

    begin(range(len(indices)), arena.seeds)
    while running := [k for k in range(len(indices)) if k not in faults and players.go_on(k)]:
        arena.before_decision()
        actions = players.act(observations)
        results = pool.step([indices[k] for k in running], actions[running])
        over = []
        for k, result in zip(running, results, strict=True):
            lengths[k] += 1
            found = in_time(result, lengths[k], pool.environments[indices[k]].task.name)
            if isinstance(found, EnvironmentFaultError):
                faults[k] = found
                continue
            observations[k] = found.next_observation
            if players.take(k, found) and players.go_on(k):
                over.append(k)
        if over:
            begin(over)
    return faults


def in_time(result: Result, decisions: int, task: str) -> Result:
    """The result of an episode's decision, or a fault if the episode does not end.

    Args:
        result: of the decision.
        decisions: of the episode so far.
        task: its name.
    """
    if isinstance(result, EnvironmentFaultError) or result.episode is not None or decisions < _ENDLESS:
        return result
    return EnvironmentFaultError(
        f"{task}: an evaluation episode has not ended after {_ENDLESS:,} decisions: return truncated=True "
        f"from its step at a time limit, or begin a new run with {option('episode_frames')}"
    )
