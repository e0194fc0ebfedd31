"""Uniform replay buffer: a ring of rows that stores each observation once.

A row holds an observation and what was done there; the next row holds where that led. The last observation of
an episode has a row of its own, which starts no transition. Rows are numbered from the beginning of training
and only ever appended, so a checkpoint needs only the rows since the one before it.
"""

from typing import Any, NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.types import Batch, Spec


class Rows(NamedTuple):
    """Rows as arrays, oldest first; what a checkpoint stores."""

    observation: np.ndarray  # float32 [n, observation_size]
    action: np.ndarray  # float32 [n, action_size]
    reward: np.ndarray  # float32 [n]
    mask: np.ndarray  # float32 [n]
    final: np.ndarray  # bool [n], rows that start no transition


class Replay:
    """The replay buffer of one seed.

    Its memory is reserved at once and touched as it fills.

    Args:
        capacity: rows, that is transitions plus one row per episode.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
    """

    def __init__(self, capacity: int, observation_size: int, action_size: int) -> None:
        self.capacity = capacity
        self._rows = Rows(
            # One more than the capacity: the newest transition's next observation.
            np.zeros((capacity + 1, observation_size), np.float32),
            np.zeros((capacity + 1, action_size), np.float32),
            np.zeros(capacity + 1, np.float32),
            np.zeros(capacity + 1, np.float32),
            np.zeros(capacity + 1, bool),
        )
        self.end = 0  # rows ever written
        self._starts = np.zeros(capacity + 1, np.int64)  # ring of the rows that start a transition
        self._oldest, self._newest = 0, 0  # its live range

    @staticmethod
    def bytes(capacity: int, observation_size: int, action_size: int) -> int:
        """Bytes of memory that a full replay takes."""
        return (capacity + 1) * (4 * (observation_size + action_size + 2) + 1 + 8)

    def __len__(self) -> int:
        """How many transitions can be sampled."""
        return self._newest - self._oldest

    def add(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        next_observation: np.ndarray,
        *,
        terminated: bool,
        last: bool,
    ) -> None:
        """Appends a transition.

        Args:
            observation: [observation_size], in which the agent decided.
            action: [action_size].
            reward: of the decision.
            next_observation: [observation_size], before any reset.
            terminated: whether the task truly ended: no value follows.
            last: whether the episode is over, by termination or by a time limit.
        """
        self._append(observation, action, reward, mask=not terminated, final=False)
        self._rows.observation[self.end % (self.capacity + 1)] = next_observation
        if last:
            self._append(next_observation, 0, 0, mask=False, final=True)

    def end_episode(self) -> None:
        """Ends an unfinished episode where it stands, as a time limit would."""
        if self.end and not self._rows.final[(self.end - 1) % (self.capacity + 1)]:
            row = self.end % (self.capacity + 1)
            self._append(self._rows.observation[row].copy(), 0, 0, mask=False, final=True)

    def sample(
        self, generator: np.random.Generator, updates: int, batch_size: int, *, horizon: int = 1
    ) -> Batch:
        """Samples minibatches uniformly, with replacement.

        Args:
            generator: draws the places.
            updates: how many minibatches.
            batch_size: samples in each.
            horizon: transitions per sample, in a row from one episode.

        Returns:
            Transitions whose leaves lead with [updates, batch_size], and with [updates, batch_size, horizon]
            where the horizon is above 1.

        Raises:
            UserError: no episode is as long as the horizon.
        """
        return self.take(self.draw(generator, updates, batch_size, horizon=horizon), horizon)

    def draw(
        self, generator: np.random.Generator, updates: int, batch_size: int, *, horizon: int = 1
    ) -> np.ndarray:
        """Draws where the samples of `sample` begin: places, int32 [updates, batch_size].

        Raises:
            UserError: no episode is as long as the horizon.
        """
        starts = self._draw(generator, (updates, batch_size), horizon)
        return np.asarray(starts % (self.capacity + 1), np.int32)

    def take(self, places: np.ndarray, horizon: int) -> Batch:
        """The transitions that start at these places."""
        return look_up(self._rows, places, horizon)

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...], horizon: int) -> np.ndarray:
        """Draws rows that start `horizon` transitions of one episode, by rejection."""
        starts = self._row(generator.integers(len(self), size=shape))
        for _ in range(1000):
            bad = np.zeros(shape, bool)
            for ahead in range(1, horizon):
                row = starts + ahead
                bad |= (row >= self.end) | self._rows.final[row % (self.capacity + 1)]
            if not bad.any():
                return starts
            starts[bad] = self._row(generator.integers(len(self), size=int(bad.sum())))
        raise UserError(f"no episode has {horizon} decisions in a row to learn from: use a shorter horizon")

    def _row(self, draws: np.ndarray) -> np.ndarray:
        return np.asarray(self._starts[(self._oldest + draws) % (self.capacity + 1)])

    @property
    def begin(self) -> int:
        """The number of the oldest row still held."""
        return max(0, self.end - self.capacity)

    def read(self, first: int, last: int) -> Rows:
        """Copies of rows first .. last - 1."""
        return self.at(np.arange(first, last) % (self.capacity + 1))

    @property
    def filled(self) -> int:
        """How many places hold something; they are the first ones."""
        return min(self.end, self.capacity) + 1

    def newest(self, count: int) -> np.ndarray:
        """The places of the last rows and of the observation after them, int32 [count]."""
        return np.asarray(np.arange(self.end + 1 - count, self.end + 1) % (self.capacity + 1), np.int32)

    def at(self, places: np.ndarray | slice) -> Rows:
        """What lies at these places."""
        return Rows(*(column[places] for column in self._rows))

    def pending(self) -> np.ndarray:
        """The observation to which the newest transition led; it has no row yet."""
        return np.array(self._rows.observation[self.end % (self.capacity + 1)])

    def load(self, end: int, rows: Rows, pending: np.ndarray) -> None:
        """Refills an empty replay with the rows up to `end`."""
        first = end - len(rows.reward)
        self.end = first
        for place in range(len(rows.reward)):
            if not rows.final[place]:
                self._starts[self._newest % (self.capacity + 1)] = first + place
                self._newest += 1
        places = np.arange(first, end) % (self.capacity + 1)
        for column, values in zip(self._rows, rows, strict=True):
            column[places] = values
        self.end = end
        self._rows.observation[end % (self.capacity + 1)] = pending

    def _append(
        self, observation: np.ndarray, action: np.ndarray | int, reward: float, mask: bool, final: bool
    ) -> None:
        place = self.end % (self.capacity + 1)
        stored = self._rows
        stored.observation[place], stored.action[place], stored.reward[place] = observation, action, reward
        stored.mask[place], stored.final[place] = mask, final
        if not final:
            self._starts[self._newest % (self.capacity + 1)] = self.end
            self._newest += 1
        self.end += 1
        # The row after the newest is in use as well, so the oldest row of the ring is about to go.
        while self._newest > self._oldest and self._starts[self._oldest % (self.capacity + 1)] < self.begin:
            self._oldest += 1


def look_up(rows: Rows, places: Any, horizon: int) -> Batch:
    """The transitions that start at places of a ring, on the host or on a device.

    Args:
        rows: the whole ring.
        places: integers of any shape.
        horizon: transitions per sample; above 1 they get an axis of their own behind those of the places.
    """
    if horizon > 1:
        places = (places[..., None] + np.arange(horizon, dtype=np.int32)) % len(rows.reward)
    next_observation = rows.observation[(places + 1) % len(rows.reward)]
    columns: tuple[Any, ...] = (*(column[places] for column in rows[:4]), next_observation)
    return Batch(*columns)


def random_batch(generator: np.random.Generator, spec: Spec, *shape: int) -> Batch:
    """Transitions of random numbers in the form in which replay returns them; leaves lead with `shape`."""
    columns: tuple[Any, ...] = (
        generator.standard_normal((*shape, spec.observation_size), np.float32),
        generator.uniform(-1, 1, (*shape, spec.action_size)).astype(np.float32),
        generator.uniform(0, 2, shape).astype(np.float32),
        (generator.uniform(size=shape) < 0.8).astype(np.float32),
        generator.standard_normal((*shape, spec.observation_size), np.float32),
    )
    return Batch(*columns)
