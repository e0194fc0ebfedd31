"""A replay buffer: a ring of rows that stores each observation once.

A row holds an observation, the action taken on it and the reward; the next row holds the next observation.
The last observation of an episode has a row of its own, from which no transition starts. Rows are numbered
from the beginning of training and are only ever appended, so a checkpoint needs only the rows that are new
since the one before it.

Rows that were recorded elsewhere are either the first rows of the ring, which new ones replace in time, or
have places behind the ring, where they stay (`pin`); minibatches then take a fixed number of samples there.
"""

from typing import Any

import numpy as np

from crossq_wn.learning.priorities import Weights
from crossq_wn.learning.rows import Rows, cut_short, look_up, too_short
from crossq_wn.types import Batch, Priorities, Sampling

_PLAIN = Sampling()


class Replay:
    """The replay buffer of one seed.

    Its memory is reserved at once, but the system provides it only as rows are written.

    Args:
        capacity: rows to keep: one per transition, and one per episode.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        priorities: by which samples are drawn from the ring; None draws them uniformly.
        pinned: rows that have places behind the ring; `pin` provides them.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        priorities: Priorities | None = None,
        pinned: int = 0,
    ) -> None:
        self.capacity, self.pinned = capacity, pinned
        # One row more than the capacity, for the next observation of the newest transition.
        length = capacity + 1 + pinned
        self._rows = Rows(
            np.zeros((length, observation_size), np.float32),
            np.zeros((length, action_size), np.float32),
            np.zeros(length, np.float32),
            np.zeros(length, np.float32),
            np.ones(length, bool),  # no transition starts at the place after the newest row
        )
        self.common = 0  # of the first rows, those that the replays of all seeds share
        self._pinned_starts: dict[Sampling, np.ndarray] = {}  # places behind the ring where samples may start
        self.end = 0  # rows written since training began
        self._starts = np.zeros(capacity + 1, np.int64)  # ring of the numbers of rows that start a transition
        self._oldest, self._newest = 0, 0  # the range of `_starts` that is in use, newest excluded
        self._weights = None if priorities is None else Weights(priorities, capacity + 1)

    @staticmethod
    def bytes(
        capacity: int,
        observation_size: int,
        action_size: int,
        priorities: Priorities | None = None,
        pinned: int = 0,
    ) -> int:
        """The memory in bytes that a full replay takes; takes what `Replay` does."""
        weights = 0 if priorities is None else Weights.bytes(capacity + 1)
        return (capacity + 1 + pinned) * (4 * (observation_size + action_size + 2) + 1 + 8) + weights

    def __len__(self) -> int:
        """The number of transitions that can be sampled."""
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
            observation: [observation_size], on which the agent decided.
            action: [action_size].
            reward: summed over the frames of the decision.
            next_observation: [observation_size], before any reset.
            terminated: whether the task truly ended, so that no value follows.
            last: whether the episode is over, by termination or by a time limit.
        """
        self._append(observation, action, reward, mask=not terminated, final=False)
        self._rows.observation[self.end % (self.capacity + 1)] = next_observation
        if last:
            self._append(next_observation, 0, 0, mask=False, final=True)

    def end_episode(self) -> None:
        """Ends an unfinished episode where it stands, like a time limit."""
        if self.end and not self._rows.final[(self.end - 1) % (self.capacity + 1)]:
            row = self.end % (self.capacity + 1)
            self._append(self._rows.observation[row].copy(), 0, 0, mask=False, final=True)

    def begin_with(self, rows: Rows) -> None:
        """Makes rows that were recorded elsewhere the first ones of an empty replay.

        Args:
            rows: at most `capacity`; the last one is that of an episode's end.
        """
        self.load(len(rows.reward), rows, np.zeros_like(self.pending()))
        self.common = len(rows.reward)

    def pin(self, rows: Rows) -> None:
        """Puts rows that were recorded elsewhere behind the ring, where they stay.

        Args:
            rows: `pinned` of them; the last one is that of an episode's end.
        """
        for column, values in zip(self._rows, rows, strict=True):
            column[self.capacity + 1 :] = values

    def pinned_rows(self) -> Rows:
        """Copies of the rows behind the ring."""
        return Rows(*(column[self.capacity + 1 :].copy() for column in self._rows))

    def sample(
        self, generator: np.random.Generator, updates: int, batch_size: int, sampling: Sampling = _PLAIN
    ) -> Batch:
        """Samples minibatches with replacement, uniformly or by the replay's priorities.

        Args:
            generator: the source of randomness.
            updates: number of minibatches (U).
            batch_size: samples in each (B).
            sampling: what a sample is, and where it may start.

        Returns:
            Transitions whose arrays have the leading axes [U, B], or [U, B, horizon] if the horizon is above
            1.

        Raises:
            UserError: no episode is as long as a sample must be.
        """
        return self.take(self.draw(generator, updates, batch_size, sampling), sampling)

    def draw(
        self,
        generator: np.random.Generator,
        updates: int,
        batch_size: int,
        sampling: Sampling = _PLAIN,
        pinned: int = 0,
    ) -> np.ndarray:
        """Draws the places where the samples of `sample` start; takes what it does.

        Args:
            generator: the source of randomness.
            updates: number of minibatches (U).
            batch_size: samples in each (B).
            sampling: what a sample is, and where it may start.
            pinned: how many samples of each minibatch are drawn, uniformly, from the rows behind the ring.

        Returns:
            Places, int32 [updates, batch_size]; those behind the ring come last.

        Raises:
            UserError: no episode is as long as a sample must be.
        """
        starts = self._draw(generator, (updates, batch_size - pinned), sampling)
        places = np.asarray(starts % (self.capacity + 1), np.int32)
        if not pinned:
            return places
        behind = self.pinned_starts(sampling)
        drawn = behind[generator.integers(len(behind), size=(updates, pinned))]
        return np.concatenate([places, drawn], axis=1)

    def pinned_starts(self, sampling: Sampling) -> np.ndarray:
        """The places behind the ring where samples may start, int32.

        Raises:
            UserError: no episode there is as long as a sample must be.
        """
        if sampling not in self._pinned_starts:
            first = self.capacity + 1
            starts = first + np.flatnonzero(~self._rows.final[first:])
            starts = starts[~cut_short(starts, self._rows, sampling, self.pinned)]
            if not len(starts):
                raise too_short(sampling)
            self._pinned_starts[sampling] = starts.astype(np.int32)
        return self._pinned_starts[sampling]

    def take(self, places: np.ndarray, sampling: Sampling = _PLAIN) -> Batch:
        """The transitions that start at the given places; see `look_up`.

        Args:
            places: integer indices of any shape.
            sampling: what a sample is.
        """
        return look_up(self._rows, places, sampling, self.pinned)

    def prioritise(self, places: np.ndarray, errors: np.ndarray, end: int) -> None:
        """Gives transitions the priorities of the errors that an update found.

        Args:
            places: where samples started, as `draw` returned them.
            errors: absolute errors of the samples, of the same shape.
            end: `self.end` when they were drawn; rows that were overwritten since keep their priorities.
        """
        assert self._weights is not None
        held = end - (end - places) % (self.capacity + 1) >= self.begin
        held &= places <= self.capacity  # those behind the ring have no priorities
        self._weights.set(places[held], errors[held])

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...], sampling: Sampling) -> np.ndarray:
        """Draws the numbers of rows at which samples may start, by rejection of others."""
        starts = self._propose(generator, shape)
        if sampling.required == 1:  # every row that starts a transition will do
            return starts
        for _ in range(1000):  # rejections in a row mean that no episode is long enough
            bad = cut_short(starts % (self.capacity + 1), self._rows, sampling, self.pinned)
            if not bad.any():
                return starts
            starts[bad] = self._propose(generator, (int(bad.sum()),))
        raise too_short(sampling)

    def _propose(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws the numbers of rows that start a transition."""
        length = self.capacity + 1
        if self._weights is not None:
            return np.asarray(self.end - (self.end - self._weights.draw(generator, shape)) % length)
        draws = generator.integers(len(self), size=shape)
        return np.asarray(self._starts[(self._oldest + draws) % length])

    @property
    def begin(self) -> int:
        """The number of the oldest row still held."""
        return max(0, self.end - self.capacity)

    def read(self, first: int, last: int) -> Rows:
        """Copies of the rows numbered `first` to `last` - 1, which must still be held.

        Args:
            first: the number of the first row, counted from the beginning of training.
            last: the number of the first row not to be read.
        """
        return self.at(np.arange(first, last) % (self.capacity + 1))

    def used(self) -> np.ndarray:
        """The places in use, int32: the first ones of the ring, and those behind it."""
        behind = self.capacity + 1 + np.arange(self.pinned)
        return np.concatenate([np.arange(min(self.end, self.capacity) + 1), behind]).astype(np.int32)

    def newest(self, count: int) -> np.ndarray:
        """The places of the newest rows and of the observation after them, int32 [count]."""
        return np.asarray(np.arange(self.end + 1 - count, self.end + 1) % (self.capacity + 1), np.int32)

    def at(self, places: np.ndarray | slice) -> Rows:
        """The rows at the given places of the ring."""
        return Rows(*(column[places] for column in self._rows))

    def pending(self) -> np.ndarray:
        """The next observation of the newest transition, which has no row yet."""
        return np.array(self._rows.observation[self.end % (self.capacity + 1)])

    def load(self, end: int, rows: Rows, pending: np.ndarray) -> None:
        """Refills an empty replay from a checkpoint.

        Args:
            end: rows written since training began.
            rows: the newest of them.
            pending: the observation that `pending` returned.
        """
        first = end - len(rows.reward)
        self._newest = int(np.sum(~rows.final))
        self._starts[: self._newest] = first + np.flatnonzero(~rows.final)
        places = np.arange(first, end) % (self.capacity + 1)
        for column, values in zip(self._rows, rows, strict=True):
            column[places] = values
        self.end = end
        self._rows.observation[end % (self.capacity + 1)] = pending
        self._rows.final[end % (self.capacity + 1)] = True
        if self._weights is not None:
            self._weights.fill(places[~rows.final])

    def save_priorities(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of the priorities; None if there are none."""
        return None if self._weights is None else self._weights.read(self._places())

    def load_priorities(self, saved: dict[str, Any] | None) -> None:
        """Restores what `save_priorities` returned; after `load`.

        Raises:
            ValueError: it is of another replay.
        """
        if self._weights is not None and saved is not None:
            self._weights.load(self._places(), saved)

    def _places(self) -> np.ndarray:
        """The places of all rows that are held, oldest first."""
        return np.arange(self.begin, self.end) % (self.capacity + 1)

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
            if self._weights is not None:
                self._weights.add(place)
        self.end += 1
        # The place after the newest row holds the pending observation, so the oldest row is overwritten next.
        pending = self.end % (self.capacity + 1)
        stored.final[pending] = True
        if self._weights is not None:
            self._weights.clear(pending)
        while self._newest > self._oldest and self._starts[self._oldest % (self.capacity + 1)] < self.begin:
            self._oldest += 1
