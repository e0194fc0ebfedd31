"""How good is the policy? Its deterministic action, on environments of its own, from seeds of its own."""

from collections.abc import Sequence

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Episode
from crossq_wn.environments.pool import Pool
from crossq_wn.learner import Learner, States

Evaluation = list[Episode] | EnvironmentFaultError


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
    faults: dict[int, EnvironmentFaultError] = {}
    observations = np.zeros((len(indices), pool.environments[0].observation_size), np.float32)
    memories = learner.split(learner.memory(len(indices)), len(indices))
    fresh = list(memories)

    def reset(k: int, seed: int | None = None) -> None:
        memories[k] = fresh[k]
        try:
            observations[k] = pool.reset(indices[k], seed)
        except EnvironmentFaultError as fault:
            faults[k] = fault

    for k, seed in enumerate(seeds):
        reset(k, seed)
    while running := [k for k, finished in enumerate(done) if len(finished) < episodes and k not in faults]:
        actions, joined = learner.exploit(states, learner.join(memories), observations)
        memories = learner.split(joined, len(indices))
        results = pool.step([indices[k] for k in running], actions[running])
        for k, result in zip(running, results, strict=True):
            if isinstance(result, EnvironmentFaultError):
                faults[k] = result
                continue
            observations[k] = result.next_observation
            if result.episode is not None:
                done[k].append(result.episode)
                if len(done[k]) < episodes:
                    reset(k)
    return [faults.get(k, finished) for k, finished in enumerate(done)]
