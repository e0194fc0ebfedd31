"""Training seeds: their random streams, and what each one carries from one decision to the next."""

from __future__ import annotations  # JAX's types are loaded on first use

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from crossq_wn.environments import Episode
from crossq_wn.learning.replay import Replay
from crossq_wn.types import Tree


class Stream(IntEnum):
    """The random streams of a training seed. All numbers depend on these values, so they never change."""

    ENVIRONMENT = 0  # where the training environment begins
    WARMUP = 1  # the actions of the warm-up
    REPLAY = 2  # which transitions are drawn from replay
    EVALUATION = 3  # where evaluations begin
    LEARNER = 4  # the learner's first state, to which a reset returns
    FRESH = 5  # where episodes of a trained policy begin, which training never saw
    Q_BIAS = 6  # where measurements of the Q-bias begin
    NOISE = 7  # the noise of actions in real time
    MAKING = 8  # what environments draw while they are made, the same for training and evaluation


def stream(seed: int, name: Stream, count: int = 0) -> np.random.SeedSequence:
    """A random stream of a training seed, the same whether the seed trains alone or among others.

    Args:
        seed: the training seed.
        name: which of its streams.
        count: distinguishes several uses of one stream, such as by the environment frame of an evaluation.
    """
    return np.random.SeedSequence(seed, spawn_key=(int(name), count))


def integer(sequence: np.random.SeedSequence) -> int:
    """Draws a seed for libraries that want a non-negative 31-bit integer."""
    return int(sequence.generate_state(1)[0] >> 1)


@dataclass
class Seed:
    """What a training seed carries, apart from the state of its learner and its environments."""

    number: int  # the training seed
    index: int  # of its environments in the pools
    replay: Replay
    warmup: np.random.Generator
    sampling: np.random.Generator
    observation: np.ndarray  # float32 [observation_size], what it acts on next
    memory: Tree  # what acting remembers of the present episode
    earlier_memory: Tree = None  # and before the newest decision of the policy
    episodes: int = 0
    last_episode: dict[str, Any] = field(default_factory=dict)  # columns of metrics.csv
    evaluation: float | None = None  # the newest
    resets: int = 0

    def end_episode(self, episode: Episode) -> None:
        """Counts a finished training episode."""
        self.episodes += 1
        self.last_episode = {
            "episode_return": episode.total_reward,
            "episode_frames": episode.frames,
        }
        if episode.success is not None:
            self.last_episode["episode_success"] = int(episode.success)

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps of this, apart from replay and the acting memory."""
        priorities = self.replay.save_priorities()
        return ({} if priorities is None else {"priorities": priorities}) | {
            "warmup": self.warmup.bit_generator.state,
            "sampling": self.sampling.bit_generator.state,
            "observation": self.observation,
            "episodes": self.episodes,
            "last_episode": self.last_episode,
            "evaluation": self.evaluation,
            "resets": self.resets,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Restores what `save` returned."""
        self.warmup.bit_generator.state = saved["warmup"]
        self.sampling.bit_generator.state = saved["sampling"]
        self.observation = saved["observation"]
        self.episodes, self.last_episode = saved["episodes"], saved["last_episode"]
        self.evaluation, self.resets = saved["evaluation"], saved["resets"]


def new_seed(number: int, index: int, replay: Replay, memory: Tree) -> Seed:
    """Makes a seed that has not trained yet.

    Args:
        number: the training seed.
        index: the place of its environments in the pools.
        replay: an empty replay.
        memory: the acting memory at the start of an episode.
    """
    return Seed(
        number=number,
        index=index,
        replay=replay,
        warmup=np.random.default_rng(stream(number, Stream.WARMUP)),
        sampling=np.random.default_rng(stream(number, Stream.REPLAY)),
        observation=np.zeros(0, np.float32),  # until its first episode begins
        memory=memory,
    )
