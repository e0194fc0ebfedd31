"""Observations on which an export is checked: from episodes of the policy, or from the run's replay."""

from typing import NamedTuple

import numpy as np

from crossq_wn.acting.policy import Actor
from crossq_wn.environments import Environment
from crossq_wn.errors import UserError
from crossq_wn.runs import checksums
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.training.policy import EXPORT, TrainedPolicy
from crossq_wn.training.seeds import Stream, integer, stream

COUNT = 256  # agent decisions


class Observations(NamedTuple):
    """Observations, and where they are from."""

    rows: np.ndarray  # float32 [n, observation_size], stacked if the policy was trained on stacked ones
    source: str


def observe(policy: TrainedPolicy, actor: Actor, environment: Environment | None) -> Observations:
    """Records what the policy sees.

    Args:
        policy: that is exported.
        actor: what acts.
        environment: like that of training; None if it cannot be made, and replay has to do.

    Raises:
        UserError: the environment fails, or there is no replay either.
    """
    if environment is None:
        return Observations(_replayed(policy), "the replay of training")
    rows = np.zeros((COUNT, policy.spec.observation_size), np.float32)
    rows[0] = environment.reset(integer(stream(policy.seed, Stream.FRESH, EXPORT)))
    for k in range(COUNT - 1):
        result = environment.step(actor.choose(rows[k]))
        rows[k + 1] = result.next_observation if result.episode is None else environment.reset()
    return Observations(rows, "episodes of the exported policy")


def _replayed(policy: TrainedPolicy) -> np.ndarray:
    """The newest observations in replay on disk."""
    segments = policy.saved.segments(policy.seed)
    folder = policy.saved.path.parent / "replay"
    try:
        newest = segments[-1]
        rows = checksums.read_tensors(folder / newest["file"], newest["sha256"])["observation"][-COUNT:]
    except (DamagedError, IndexError, KeyError) as error:
        raise UserError(
            f"nothing to check the export of {policy.path} on: its environment cannot be made here, and its "
            f"replay cannot be read ({error})"
        ) from None
    return np.asarray(rows, np.float32)
