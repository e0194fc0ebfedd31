"""A replay buffer: a ring of rows that stores each observation once.

A row holds an observation, the action taken on it and the reward; the next row holds the next observation.
The last observation of an episode has a row of its own, from which no transition starts. Rows are numbered
from the beginning of training and are only ever appended, so a checkpoint needs only the rows that are new
since the one before it.
"""

from typing import Any, NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.learning.priorities import Weights
from crossq_wn.types import Batch, Priorities, Sampling, Spec

_PLAIN = Sampling()


class Rows(NamedTuple):
    """Rows as arrays, oldest first; checkpoints store them in this form."""

    observation: np.ndarray  # float32 [n, observation_size]
    action: np.ndarray  # float32 [n, action_size]
    reward: np.ndarray  # float32 [n]
    mask: np.ndarray  # float32 [n]
    final: np.ndarray  # bool [n], the last observations of episodes, from which no transition starts


class Replay:
    """The replay buffer of one seed.

    Its memory is reserved at once, but the system provides it only as rows are written.

    Args:
        capacity: rows to keep: one per transition, and one per episode.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        priorities: by which samples are drawn; None draws them uniformly.
    """

    def __init__(
        self, capacity: int, observation_size: int, action_size: int, priorities: Priorities | None = None
    ) -> None:
        self.capacity = capacity
        self._rows = Rows(
            # One row more than the capacity, for the next observation of the newest transition.
            np.zeros((capacity + 1, observation_size), np.float32),
            np.zeros((capacity + 1, action_size), np.float32),
            np.zeros(capacity + 1, np.float32),
            np.zeros(capacity + 1, np.float32),
            np.ones(capacity + 1, bool),  # no transition starts at the place after the newest row
        )
        self.end = 0  # rows written since training began
        self._starts = np.zeros(capacity + 1, np.int64)  # ring of the numbers of rows that start a transition
        self._oldest, self._newest = 0, 0  # the range of `_starts` that is in use, newest excluded
        self._weights = None if priorities is None else Weights(priorities, capacity + 1)

    @staticmethod
    def bytes(
        capacity: int, observation_size: int, action_size: int, priorities: Priorities | None = None
    ) -> int:
        """The memory in bytes that a full replay takes; takes what `Replay` does."""
        weights = 0 if priorities is None else Weights.bytes(capacity + 1)
        return (capacity + 1) * (4 * (observation_size + action_size + 2) + 1 + 8) + weights

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
        self, generator: np.random.Generator, updates: int, batch_size: int, sampling: Sampling = _PLAIN
    ) -> np.ndarray:
        """Draws the places where the samples of `sample` start; takes what it does.

        Returns:
            Indices into the ring, int32 [updates, batch_size].

        Raises:
            UserError: no episode is as long as a sample must be.
        """
        starts = self._draw(generator, (updates, batch_size), sampling)
        return np.asarray(starts % (self.capacity + 1), np.int32)

    def take(self, places: np.ndarray, sampling: Sampling = _PLAIN, out: Batch | None = None) -> Batch:
        """The transitions that start at the given places; see `look_up`.

        Args:
            places: integer indices of any shape.
            sampling: what a sample is.
            out: arrays to write them to; by default new ones.
        """
        if out is None:
            return look_up(self._rows, places, sampling)
        places, present = _steps(self._rows.final, places, sampling)
        to: tuple[Any, ...] = out
        for column, array in zip(self._rows, to[:4], strict=False):
            np.take(column, places, 0, array, "clip")  # any other mode makes a copy in between
        np.take(self._rows.observation, (places + 1) % (self.capacity + 1), 0, to[4], "clip")
        if present is not None:
            to[5][...] = present
        return out

    def prioritise(self, places: np.ndarray, errors: np.ndarray, end: int) -> None:
        """Gives transitions the priorities of the errors that an update found.

        Args:
            places: where samples started, as `draw` returned them.
            errors: absolute errors of the samples, of the same shape.
            end: `self.end` when they were drawn; rows that were overwritten since keep their priorities.
        """
        assert self._weights is not None
        held = end - (end - places) % (self.capacity + 1) >= self.begin
        self._weights.set(places[held], errors[held])

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...], sampling: Sampling) -> np.ndarray:
        """Draws the numbers of rows at which samples may start, by rejection of others."""
        starts = self._propose(generator, shape)
        if sampling.required == 1:  # every row that starts a transition will do
            return starts
        for _ in range(1000):  # rejections in a row mean that no episode is long enough
            bad = self._cut_short(starts, sampling)
            if not bad.any():
                return starts
            starts[bad] = self._propose(generator, (int(bad.sum()),))
        raise UserError(
            f"no episode has {sampling.required} decisions in a row to learn from: use a shorter horizon"
        )

    def _propose(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws the numbers of rows that start a transition."""
        length = self.capacity + 1
        if self._weights is not None:
            return np.asarray(self.end - (self.end - self._weights.draw(generator, shape)) % length)
        draws = generator.integers(len(self), size=shape)
        return np.asarray(self._starts[(self._oldest + draws) % length])

    def _cut_short(self, starts: np.ndarray, sampling: Sampling) -> np.ndarray:
        """Which samples would run past the newest row or into another episode before they have enough."""
        cut, terminated = np.zeros((2, *starts.shape), bool)
        for ahead in range(1, sampling.required):
            row = starts + ahead
            if sampling.to_termination:
                terminated |= self._rows.mask[(row - 1) % (self.capacity + 1)] == 0
            over = (row >= self.end) | self._rows.final[row % (self.capacity + 1)]
            cut |= over & ~terminated
        return np.asarray(cut)

    @property
    def begin(self) -> int:
        """The number of the oldest row still held."""
        return max(0, self.end - self.capacity)

    def read(self, first: int, last: int) -> Rows:
        """Copies of the rows numbered `first` to `last` - 1, which must still be held."""
        return self.at(np.arange(first, last) % (self.capacity + 1))

    @property
    def filled(self) -> int:
        """The number of places in use; they are the first ones of the ring."""
        return min(self.end, self.capacity) + 1

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


def look_up(rows: Rows, places: Any, sampling: Sampling = _PLAIN) -> Batch:
    """The transitions that start at places of a ring; works on NumPy arrays and on traced ones.

    Args:
        rows: the whole ring.
        places: integer indices of any shape.
        sampling: what a sample is; with a horizon above 1 it gets an axis behind those of `places`.
    """
    places, present = _steps(rows.final, places, sampling)
    following = rows.observation[(places + 1) % len(rows.reward)]
    columns: tuple[Any, ...] = (*(column[places] for column in rows[:4]), following, present)
    return Batch(*columns)


def _steps(final: Any, places: Any, sampling: Sampling) -> tuple[Any, Any]:
    """The places of all transitions of samples, and `Batch.present` where a sample may end early."""
    if sampling.horizon == 1:
        return places, None
    steps = np.arange(sampling.horizon, dtype=np.int32)
    ahead = (places[..., None] + steps) % len(final)
    if not sampling.ends_early:
        return ahead, None
    present = (~final[ahead]).astype(np.int32).cumprod(-1, dtype=np.int32)
    # The count of those present stands still where an episode is over, and so does the place.
    places = (places[..., None] + present.cumsum(-1, dtype=np.int32) - 1) % len(final)
    return places, present.astype(np.float32)


def random_batch(
    generator: np.random.Generator, spec: Spec, *shape: int, sampling: Sampling = _PLAIN
) -> Batch:
    """Random transitions in the form in which replay returns them.

    Args:
        generator: the source of randomness.
        spec: the problem, which decides the sizes.
        shape: leading axes of every array.
        sampling: what a sample is; with a horizon above 1 it adds an axis.
    """
    if sampling.horizon > 1:
        shape = (*shape, sampling.horizon)
    columns: tuple[Any, ...] = (
        generator.standard_normal((*shape, spec.observation_size), np.float32),
        generator.uniform(-1, 1, (*shape, spec.action_size)).astype(np.float32),
        generator.uniform(0, 2, shape).astype(np.float32),
        (generator.uniform(size=shape) < 0.8).astype(np.float32),
        generator.standard_normal((*shape, spec.observation_size), np.float32),
    )
    if sampling.ends_early:
        length = generator.integers(1, sampling.horizon, shape[:-1], endpoint=True)[..., None]
        columns = (*columns, (np.arange(sampling.horizon) < length).astype(np.float32))
    return Batch(*columns)
