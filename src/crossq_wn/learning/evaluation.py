"""How good is the policy? Its deterministic action, on environments of its own, from seeds of its own."""

from collections.abc import Callable, Sequence

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Episode, Transition
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import UserError
from crossq_wn.learning.learner import Learner, States

Evaluation = list[Episode] | EnvironmentFaultError

_ENDLESS = 100_000  # decisions


def evaluate(
    learner: Learner, states: States, pool: Pool, indices: Sequence[int], seeds: Sequence[int], episodes: int
) -> list[Evaluation]:
    """Runs `episodes` episodes per seed, the seeds side by side.

    Args:
        states: of the seeds at `indices`, in that order.
        pool: evaluation environments, one per seed of the run.
        seeds: where each seed's first episode starts from; later episodes continue its random stream.

    Returns:
        Per entry of `indices` its finished episodes, or the fault of its environment.
    """
    done: list[list[Episode]] = [[] for _ in indices]
    fresh = learner.split(learner.memory(len(indices)), len(indices))
    memories = list(fresh)

    def begin(k: int) -> None:
        memories[k] = fresh[k]

    def act(observations: np.ndarray) -> np.ndarray:
        actions, joined = learner.exploit(states, learner.join(memories), observations)
        memories[:] = learner.split(joined, len(indices))
        return actions

    def take(k: int, result: Transition) -> bool:
        if result.episode is not None:
            done[k].append(result.episode)
        return result.episode is not None

    faults = play(pool, indices, seeds, begin, act, take, lambda k: len(done[k]) < episodes)
    return [faults.get(k, finished) for k, finished in enumerate(done)]


def play(
    pool: Pool,
    indices: Sequence[int],
    seeds: Sequence[int],
    begin: Callable[[int], None],
    act: Callable[[np.ndarray], np.ndarray],
    take: Callable[[int, Transition], bool],
    wanted: Callable[[int], bool],
) -> dict[int, EnvironmentFaultError]:
    """Episodes of several environments side by side, as long as something is wanted of one.

    Args:
        pool: the environments, of which those at `indices` play; k counts these.
        indices: of the environments.
        seeds: where each one's first episode starts from; later ones continue its random stream.
        begin: told that k begins an episode.
        act: observations [len(indices), observation_size] -> actions.
        take: (k, what k's decision led to) -> whether its episode is over.
        wanted: whether k shall go on.

    Returns:
        The faults of those that had one, by k; they stop.
    """
    observations = np.zeros((len(indices), pool.environments[0].observation_size), np.float32)
    lengths = [0] * len(indices)  # decisions of the present episodes
    faults: dict[int, EnvironmentFaultError] = {}

    def reset(k: int, seed: int | None = None) -> None:
        begin(k)
        try:
            observations[k] = pool.reset(indices[k], seed)
        except EnvironmentFaultError as fault:
            faults[k] = fault

    for k, seed in enumerate(seeds):
        reset(k, seed)
    while running := [k for k in range(len(indices)) if wanted(k) and k not in faults]:
        actions = act(observations)
        results = pool.step([indices[k] for k in running], actions[running])
        for k, result in zip(running, results, strict=True):
            if isinstance(result, EnvironmentFaultError):
                faults[k] = result
                continue
            observations[k] = result.next_observation
            lengths[k] += 1
            if lengths[k] == _ENDLESS:
                raise UserError(
                    f"an evaluation episode has not ended after {_ENDLESS:,} decisions: give the environment "
                    "a time limit with --episode-frames"
                )
            if take(k, result):
                lengths[k] = 0
                if wanted(k):
                    reset(k)
    return faults
