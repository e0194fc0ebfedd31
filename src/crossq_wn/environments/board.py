"""The board: memory that worker processes share with their parent, with a line for each environment.

It is an anonymous mapping: a file without a name, which every worker inherits as a descriptor. Named segments
(`multiprocessing.shared_memory`) outlive a process that is killed; this one goes with the last process that
maps it, however that ends.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.core import Environment, Episode, Transition


class Line(NamedTuple):
    """The numbers of one environment, all of which float64 represents exactly."""

    faulty: float = 0  # whether the step ended in a fault, which the worker keeps
    reward: float = 0
    terminated: float = 0
    truncated: float = 0
    over: float = 0  # whether the episode has ended, and the next three are valid
    total_reward: float = 0
    frames: float = 0
    success: float = 0  # NaN where the episode never said
    largest_observation: float = 0
    largest_reward: float = 0


class Board(NamedTuple):
    """Arrays on the shared memory; the parent writes the first two, the workers the others."""

    asked: np.ndarray  # bool [seats]: whether an environment is to be stepped
    actions: np.ndarray  # float32 [seats, action_size]
    observations: np.ndarray  # float32 [seats, observation_size]
    lines: np.ndarray  # float64 [seats, len(Line)]


class Shape(NamedTuple):
    """The sizes that decide where on the board each number is."""

    seats: int
    observation_size: int
    action_size: int


def new_memory(shape: Shape) -> int:
    """Returns the descriptor of a new file without a name, of zeros, in which a board has room."""
    memory = unnamed_file()
    os.ftruncate(memory, sum(_sizes(shape)))
    return memory


def unnamed_file() -> int:
    """Returns the descriptor of a new, empty file without a name, for memory that processes share."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("crossq-wn")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    return memory


def board_on(memory: int, shape: Shape) -> Board:
    """Maps a board.

    Args:
        memory: descriptor of what `new_memory` returned, here or in another process.
        shape: the same as there.
    """
    mapped, start, parts = mmap.mmap(memory, sum(_sizes(shape))), 0, []
    for size, kind in zip(_sizes(shape), (bool, np.float32, np.float32, np.float64), strict=True):
        part = np.frombuffer(mapped, kind, size // np.dtype(kind).itemsize, start)
        parts.append(part.reshape(shape.seats, -1))
        start += size
    asked, actions, observations, lines = parts
    return Board(
        asked[:, 0],
        actions[:, : shape.action_size],
        observations[:, : shape.observation_size],
        lines[:, : len(Line._fields)],
    )


def _sizes(shape: Shape) -> list[int]:
    """Bytes of the four arrays, where each environment has whole cache lines to itself."""
    each = 1, 4 * shape.action_size, 4 * shape.observation_size, 8 * len(Line._fields)
    return [shape.seats * 64 * -(-size // 64) for size in each]


def note(board: Board, seat: int, environment: Environment, transition: Transition) -> None:
    """Writes what a step of an environment returned.

    Args:
        board: of the parent and all workers.
        seat: the place of the environment.
        environment: gives the largest numbers so far.
        transition: what its step returned.
    """
    observation, reward, terminated, truncated, episode = transition
    total, frames, said = episode or (0, 0, None)
    success = math.nan if said is None else said
    largest = environment.largest_observation, environment.largest_reward
    board.observations[seat] = observation
    over = episode is not None
    board.lines[seat] = Line(0, reward, terminated, truncated, over, total, frames, success, *largest)


def transition_of(line: Sequence[float], observation: np.ndarray) -> Transition:
    """The transition that `note` wrote.

    Args:
        line: its numbers, as `Line` names them.
        observation: a copy, because the board is written to again.
    """
    _, reward, terminated, truncated, over, total, frames, success, *_ = line
    solved = None if math.isnan(success) else success != 0
    episode = Episode(total, int(frames), solved) if over else None
    return Transition(observation, reward, terminated != 0, truncated != 0, episode)
