"""Q-bias: how far the critics' Q(s, a) is from the return that follows.

The protocol is that of REDQ (Chen et al. 2021; paper v1, figure 2). A bias that is the same everywhere does
not change which action is best, so the standard deviation of the bias matters most.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Transition
from crossq_wn.learning.evaluation import Arena, play
from crossq_wn.learning.interface import Appraise, Learner, States

Bias = dict[str, float]  # q_bias_mean and q_bias_std

PAIRS = 1000  # the least number of state-action pairs to measure
_LONGEST = 1000  # decisions after which an episode is cut off
_FLOOR = 10.0  # the least |G| to divide by


def counted(time_limit: int | None) -> int:
    """How many of an episode's first decisions count; a time limit truncates the returns of later ones.

    With a time limit it is 40 % of it: of DeepMind Control's 500 decisions the first 200, whose returns lack
    at most 0.99^300 = 5 %. Without a time limit it is 350, as in Chen et al.

    Args:
        time_limit: agent decisions per episode, or None.
    """
    return 350 if time_limit is None else max(1, 2 * time_limit // 5)


def returns_to_go(rewards: Sequence[float], bonuses: Sequence[float], discount: float) -> np.ndarray:
    """G_t = r_t + gamma (G_{t+1} - alpha log pi(a_{t+1}|s_{t+1})), where the last G is the last reward.

    Args:
        rewards: [T], of an episode's decisions.
        bonuses: [T], -alpha log pi of each action.
        discount: gamma, per agent decision.

    Returns:
        [T].
    """
    result = np.array(rewards, float)
    for t in reversed(range(len(result) - 1)):
        result[t] += discount * (result[t + 1] + bonuses[t + 1])
    return result


def q_bias(
    learner: Learner,
    states: States,
    arena: Arena,
    *,
    discount: float,
    time_limit: int | None,
    decisions: int,
) -> list[Bias | EnvironmentFaultError]:
    """Measures (Q - G) / max(|G|, 10) under the stochastic policy.

    Args:
        learner: over these seeds; its algorithm can appraise.
        states: of all seeds, joined in the order of the arena's environments.
        arena: one environment per seed.
        discount: gamma, per agent decision.
        time_limit: agent decisions per episode; None if only the environment knows it, in which case the
            length of an episode that it truncates is taken.
        decisions: agent decisions of training so far, which select the action noise of this measurement.

    Returns:
        For each seed the mean and the standard deviation, or the fault of its environment.
    """
    assert learner.appraise is not None
    players = _Critics(learner.appraise, states, len(arena.indices), discount, time_limit)
    players.decision = decisions
    faults = play(arena, players)
    return [faults[k] if k in faults else players.bias(k) for k in range(len(arena.indices))]


class _Pair(NamedTuple):
    """One state-action pair, and what followed from it."""

    reward: float
    bonus: float  # -alpha log pi
    q: float


class _Critics:
    """Stochastic policies with their critics' estimates, and the bias measured so far."""

    def __init__(
        self, appraise: Appraise, states: States, count: int, discount: float, time_limit: int | None
    ) -> None:
        self._appraise, self._states = appraise, states
        self._discount, self._time_limit = discount, time_limit
        self.decision = 0  # selects the action noise
        self._bonuses = self._values = np.zeros(count)  # of the newest actions
        self._episodes: list[list[_Pair]] = [[] for _ in range(count)]  # the current ones
        self._biases: list[list[np.ndarray]] = [[] for _ in range(count)]  # of each finished episode

    def begin(self, k: int) -> None:
        self._episodes[k] = []

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions, self._bonuses, self._values = self._appraise(self._states, observations, self.decision)
        self.decision += 1
        return actions

    def take(self, k: int, result: Transition) -> bool:
        episode = self._episodes[k]
        episode.append(_Pair(result.reward, self._bonuses[k], self._values[k]))
        if result.episode is None and len(episode) < _LONGEST:
            return False
        own_limit = self._time_limit is None and result.truncated
        self._judge(k, len(episode) if own_limit else self._time_limit)
        return True

    def go_on(self, k: int) -> bool:
        return sum(map(len, self._biases[k])) < PAIRS

    def _judge(self, k: int, time_limit: int | None) -> None:
        """Compares the values of a finished episode with the returns that followed."""
        rewards, bonuses, q = np.array(self._episodes[k]).T
        returns = returns_to_go(rewards.tolist(), bonuses.tolist(), self._discount)[: counted(time_limit)]
        self._biases[k].append((q[: len(returns)] - returns) / np.maximum(np.abs(returns), _FLOOR))

    def bias(self, k: int) -> Bias:
        """The mean and standard deviation over k's state-action pairs."""
        bias = np.concatenate(self._biases[k])
        return {"q_bias_mean": float(bias.mean()), "q_bias_std": float(bias.std())}
