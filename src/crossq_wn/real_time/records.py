"""Decisions as records of fixed size with a checksum, for passing between processes and for the disk."""

import math
import zlib
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.core import Episode, Transition


class Decision(NamedTuple):
    """One decision of the acting side."""

    number: int  # of training, from 0
    observation: np.ndarray  # float32 [observation_size], on which it was made
    action: np.ndarray  # float32 [action_size] in [-1, 1], as the robot got it
    transition: Transition
    lateness: float  # seconds between when the action could have been given and when it was
    busy: float  # seconds that the environment's step took
    learned: int  # decisions that the learner had received when it handed over the weights; its own number
    # for a random action of the warm-up
    safe: bool = False  # whether the action is the robot's safe one
    intervened: bool = False  # whether the action is a person's

    @property
    def staleness(self) -> int:
        """How many decisions old the policy was."""
        return max(0, self.number - self.learned)


def record_type(observation_size: int, action_size: int) -> np.dtype[Any]:
    """The layout of a record, the same on every machine.

    Args:
        observation_size: float32 numbers in an observation.
        action_size: float32 numbers in an action.
    """
    return np.dtype(
        [
            ("number", "<u8"), ("observation", "<f4", (observation_size,)), ("action", "<f4", (action_size,)),
            ("next_observation", "<f4", (observation_size,)), ("reward", "<f8"), ("terminated", "u1"),
            ("truncated", "u1"), ("over", "u1"), ("total_reward", "<f8"), ("frames", "<u8"),
            ("success", "<f4"), ("lateness", "<f8"), ("busy", "<f8"), ("learned", "<u8"), ("safe", "u1"),
            ("intervened", "u1"), ("checksum", "<u4"),
        ]
    )  # fmt: skip


def pack(kind: np.dtype[Any], decision: Decision) -> bytes:
    """The record of a decision."""
    _, _, _, after, lateness, busy, learned, safe, intervened = decision
    total, frames, success = after.episode or (0.0, 0, None)
    row = np.zeros(1, kind)
    row[0] = (
        decision.number, decision.observation, decision.action, after.next_observation, after.reward,
        after.terminated, after.truncated, after.episode is not None, total, frames,
        math.nan if success is None else success, lateness, busy, learned, safe, intervened, 0,
    )  # fmt: skip
    # The last four bytes are the checksum's own.
    row["checksum"] = zlib.crc32(row.tobytes()[:-4])
    return row.tobytes()


def unpack(kind: np.dtype[Any], content: bytes) -> Decision | None:
    """The decision in a record; None if it is incomplete, torn or damaged.

    Args:
        kind: from `record_type`.
        content: of one record, from memory or the disk.
    """
    if len(content) != kind.itemsize:
        return None
    row: Any = np.frombuffer(content, kind)[0]
    if zlib.crc32(content[:-4]) != row["checksum"]:
        return None
    success = None if math.isnan(row["success"]) else bool(row["success"])
    episode = Episode(float(row["total_reward"]), int(row["frames"]), success) if row["over"] else None
    after = Transition(
        np.array(row["next_observation"]), float(row["reward"]), bool(row["terminated"]),
        bool(row["truncated"]), episode,
    )  # fmt: skip
    return Decision(
        int(row["number"]), np.array(row["observation"]), np.array(row["action"]), after,
        float(row["lateness"]), float(row["busy"]), int(row["learned"]), bool(row["safe"]),
        bool(row["intervened"]),
    )  # fmt: skip
