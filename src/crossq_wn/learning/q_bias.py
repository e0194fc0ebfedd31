"""Do the critics promise more than the policy earns? Q(s, a) against the return that follows (REDQ protocol).

Chen et al. 2021; paper v1, figure 2. A constant bias does no harm, so the standard deviation matters most.
"""

from collections.abc import Sequence
from itertools import count

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Transition
from crossq_wn.environments.pool import Pool
from crossq_wn.learning.evaluation import play
from crossq_wn.learning.learner import Learner, States

PAIRS = 1000  # state-action pairs at least
_LONGEST = 1000  # decisions per episode at most
_FLOOR = 10.0  # of |G| when dividing by it


def counted(time_limit: int | None) -> int:
    """The first decisions of an episode that count; the later ones' returns are cut off by the time limit.

    40 % of the time limit (200 decisions of DeepMind Control's 500: 0.99^300 = 5 % are missing there); the
    350 of Chen et al. where there is none. What an environment truncates by itself tells its time limit.
    """
    return 350 if time_limit is None else max(1, 2 * time_limit // 5)


def returns_to_go(rewards: Sequence[float], bonuses: Sequence[float], discount: float) -> np.ndarray:
    """G_t = r_t + gamma (G_{t+1} - alpha log pi(a_{t+1}|s_{t+1})), and G = r at the end.

    Args:
        rewards: [T] of an episode's decisions.
        bonuses: [T], -alpha log pi of each action.
        discount: gamma, per decision.
    """
    result = np.array(rewards, float)
    for t in reversed(range(len(result) - 1)):
        result[t] += discount * (result[t + 1] + bonuses[t + 1])
    return result


def q_bias(
    learner: Learner,
    states: States,
    pool: Pool,
    indices: Sequence[int],
    seeds: Sequence[int],
    discount: float,
    time_limit: int | None,
    decisions: int,
) -> list[dict[str, float] | EnvironmentFaultError]:
    """Mean and standard deviation of (Q - G) / max(|G|, 10) under the stochastic policy, per training seed.

    Args:
        states: of the seeds at `indices`, in that order.
        pool: evaluation environments, one per seed of the run.
        seeds: where each seed's first episode starts from.
        discount: gamma, per decision.
        time_limit: decisions per episode; None if the environment has none of its own.
        decisions: that training has taken, so that no evaluation repeats another's action noise.
    """
    appraise = learner.appraise
    assert appraise is not None
    biases: list[list[np.ndarray]] = [[] for _ in indices]
    episodes: list[list[tuple[float, float, float]]] = [[] for _ in indices]  # reward, bonus, Q
    numbers = count(decisions)
    bonuses = values = np.zeros(len(indices))

    def begin(k: int) -> None:
        episodes[k] = []

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal bonuses, values
        actions, bonuses, values = appraise(states, observations, next(numbers))
        return actions

    def take(k: int, result: Transition) -> bool:
        episodes[k].append((result.reward, bonuses[k], values[k]))
        over = result.episode is not None or len(episodes[k]) == _LONGEST
        if over:
            rewards, bonus, q = np.array(episodes[k]).T
            limit = len(q) if time_limit is None and result.truncated else time_limit
            known = returns_to_go(rewards.tolist(), bonus.tolist(), discount)[: counted(limit)]
            biases[k].append((q[: len(known)] - known) / np.maximum(np.abs(known), _FLOOR))
        return over

    faults = play(pool, indices, seeds, begin, act, take, lambda k: sum(map(len, biases[k])) < PAIRS)
    return [faults[k] if k in faults else _summary(np.concatenate(b)) for k, b in enumerate(biases)]


def _summary(bias: np.ndarray) -> dict[str, float]:
    return {"q_bias_mean": float(bias.mean()), "q_bias_std": float(bias.std())}
