"""How good is the policy? Its deterministic action, on environments of its own, from seeds of its own."""

from collections.abc import Sequence

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Episode
from crossq_wn.environments.pool import Pool
from crossq_wn.learner import Learner, States


def evaluate(
    learner: Learner, states: States, pool: Pool, indices: Sequence[int], seeds: Sequence[int], episodes: int
) -> list[list[Episode]]:
    """Runs `episodes` episodes per seed, the seeds side by side.

    Args:
        states: of the seeds at `indices`, in that order.
        pool: evaluation environments, one per seed of the run.
        seeds: where each seed's first episode starts from; later episodes continue its random stream.

    Returns:
        One list of finished episodes per entry of `indices`.

    Raises:
        EnvironmentFaultError: an environment returned NaN or raised.
    """
    done: list[list[Episode]] = [[] for _ in indices]
    observations = np.stack([pool.reset(i, seed) for i, seed in zip(indices, seeds, strict=True)])
    while any(len(finished) < episodes for finished in done):
        actions = learner.exploit(states, observations)
        running = [k for k, finished in enumerate(done) if len(finished) < episodes]
        for k, result in zip(
            running, pool.step([indices[k] for k in running], actions[running]), strict=True
        ):
            if isinstance(result, EnvironmentFaultError):
                raise result
            observations[k] = result.next_observation
            if result.episode is not None:
                done[k].append(result.episode)
                if len(done[k]) < episodes:
                    observations[k] = pool.reset(indices[k])
    return done
