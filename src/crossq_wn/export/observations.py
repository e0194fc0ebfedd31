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
    """The newest observations in replay on disk, of as many segments as it takes."""
    nothing = f"nothing to check the export of {policy.path} on: its environment is not at hand, and its"
    folder = policy.saved.path.parent / "replay"
    rows = np.zeros((0, policy.spec.observation_size), np.float32)
    for segment in reversed(policy.saved.segments(policy.seed)):
        if len(rows) >= COUNT:
            break
        try:
            older = checksums.read_tensors(folder / segment["file"], segment["sha256"])["observation"]
        except (DamagedError, KeyError) as error:
            raise UserError(f"{nothing} replay cannot be read ({error})") from None
        rows = np.concatenate([np.asarray(older, np.float32), rows])
    if not len(rows):
        raise UserError(f"{nothing} replay is empty: train it further")
    return rows[-COUNT:]
