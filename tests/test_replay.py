"""Does replay hand out what was put in? Against a plain list, over random episodes and a ring that wraps."""

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from crossq_wn.learning.replay import Replay

OBSERVATION, ACTION = 2, 1

# An episode: its length, whether it ends (the last may not) and whether by termination.
EPISODES = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=12)
CAPACITY = st.integers(2, 25)


class Model:
    """Replay as a list: rows, of which the newest `capacity` count."""

    def __init__(self, capacity):
        self.capacity, self.rows = capacity, []

    def add(self, transition, last):
        self.rows.append(transition)
        if last:
            self.rows.append(None)

    def transitions(self):
        return [row for row in self.rows[-self.capacity :] if row is not None]


def fill(capacity, episodes, *, open_end=False):
    """A replay, its model and the state of the world that filled both; every number occurs once."""
    replay, model, clock = Replay(capacity, OBSERVATION, ACTION), Model(capacity), 0.0
    for position, (length, terminated) in enumerate(episodes):
        unfinished = open_end and position == len(episodes) - 1
        for step in range(length):
            end = step == length - 1 and not unfinished
            seen, then = np.full(OBSERVATION, clock), np.full(OBSERVATION, clock + 1)
            action, reward, gone = np.array([clock + 0.5]), clock + 0.25, end and terminated
            replay.add(seen, action, reward, then, terminated=gone, last=end)
            model.add((clock, clock + 0.5, clock + 0.25, float(not gone), clock + 1), end)
            clock += 1
        clock += 10  # the next episode starts elsewhere
    return replay, model


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def drawn(replay, count=2000, seed=0):
    """Distinct sampled transitions, each as numbers; asserts that rows are whole."""
    batch = replay.sample(np.random.default_rng(seed), 2, count)
    assert batch.observation.shape == (2, count, OBSERVATION)
    assert batch.action.shape == (2, count, ACTION)
    assert batch.present is None
    assert {column.dtype for column in batch[:5]} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(batch.observation[..., 0], batch.observation[..., 1])
    np.testing.assert_array_equal(batch.next_observation[..., 0], batch.next_observation[..., 1])
    columns = (
        batch.observation[..., 0], batch.action[..., 0], batch.reward, batch.mask,
        batch.next_observation[..., 0],
    )  # fmt: skip
    return set(zip(*(column.ravel().tolist() for column in columns), strict=True))


@given(CAPACITY, EPISODES, st.booleans())
@settings(max_examples=60)
def test_exactly_the_newest_transitions_are_reachable_and_each_is_whole(capacity, episodes, open_end):
    replay, model = fill(capacity, episodes, open_end=open_end)
    expected = model.transitions()
    assert len(replay) == len(expected)
    assert replay.end == len(model.rows)
    assert replay.begin == max(0, len(model.rows) - capacity)
    assert drawn(replay) == set(expected)


@given(CAPACITY, EPISODES)
def test_no_transition_crosses_an_episode_and_only_termination_stops_the_bootstrap(capacity, episodes):
    replay, _ = fill(capacity, episodes)
    batch = replay.sample(np.random.default_rng(0), 1, 1000)
    np.testing.assert_array_equal(batch.next_observation, batch.observation + 1)
    clock, terminal = 0, set()
    for length, terminated in episodes:
        clock += length
        terminal |= {clock - 1.0} if terminated else set()
        clock += 10
    stops = batch.observation[batch.mask == 0][:, 0]
    assert set(stops.tolist()) <= terminal
    assert not set(batch.observation[batch.mask == 1][:, 0].tolist()) & terminal


@given(CAPACITY, EPISODES, EPISODES, st.booleans(), st.integers(0, 30))
@settings(max_examples=60)
def test_reading_and_loading_gives_the_same_samples_now_and_later(capacity, before, after, open_end, grow):
    original, _ = fill(capacity, before, open_end=open_end)
    copy = Replay(capacity, OBSERVATION, ACTION)
    copy.load(original.end, original.read(original.begin, original.end), original.pending())
    assert (len(copy), copy.end, copy.begin) == (len(original), original.end, original.begin)

    def sample(replay):
        return replay.sample(np.random.default_rng(3), 2, 200)

    same(sample(original), sample(copy))
    larger = Replay(capacity + grow, OBSERVATION, ACTION)  # a longer run reserves more
    larger.load(original.end, original.read(original.begin, original.end), original.pending())
    same(sample(original), sample(larger))
    clock = 5000.0
    for length, terminated in after:
        for step in range(length):
            end = step == length - 1
            arguments = (np.full(OBSERVATION, clock), np.full(ACTION, clock), clock)
            for replay in (original, copy):
                replay.add(
                    *arguments, np.full(OBSERVATION, clock + 1), terminated=end and terminated, last=end
                )
            clock += 1
        same(sample(original), sample(copy))


@given(CAPACITY, EPISODES, st.booleans())
def test_rows_read_in_pieces_are_the_rows_read_at_once(capacity, episodes, open_end):
    replay, _ = fill(capacity, episodes, open_end=open_end)
    middle = (replay.begin + replay.end) // 2
    pieces = replay.read(replay.begin, middle), replay.read(middle, replay.end)
    for whole, *parts in zip(replay.read(replay.begin, replay.end), *pieces, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))


@given(st.integers(6, 25), EPISODES)
def test_ending_an_unfinished_episode_adds_no_transition_and_loses_none_that_fits(capacity, episodes):
    replay, model = fill(capacity, episodes, open_end=True)
    replay.end_episode()
    model.rows.append(None)
    assert drawn(replay) == set(model.transitions())
    count = replay.end
    replay.end_episode()  # already ended
    assert replay.end == count
    replay.add(np.full(2, -9.0), np.zeros(1), 0.0, np.full(2, -8.0), terminated=False, last=False)
    found = drawn(replay)
    assert (-9.0, 0.0, 0.0, 1.0, -8.0) in found
    assert all(then - seen == 1 for seen, *_, then in found)


def test_ending_an_episode_in_an_empty_replay_does_nothing():
    replay = Replay(5, OBSERVATION, ACTION)
    replay.end_episode()
    assert (replay.end, len(replay)) == (0, 0)


def test_stored_values_do_not_follow_the_caller_s_arrays():
    replay = Replay(5, OBSERVATION, ACTION)
    seen, then = np.zeros(2), np.ones(2)
    replay.add(seen, np.zeros(1), 0.0, then, terminated=False, last=False)
    seen[:], then[:] = 7, 7
    assert drawn(replay) == {(0.0, 0.0, 0.0, 1.0, 1.0)}


def test_sampling_is_uniform():
    replay, model = fill(60, [(7, True), (5, False), (13, False)] * 4)
    count = 40_000
    batch = replay.sample(np.random.default_rng(1), 1, count)
    _, seen = np.unique(batch.observation[..., 0], return_counts=True)
    kinds = len(model.transitions())
    assert len(seen) == kinds
    chi_square = float(((seen - count / kinds) ** 2).sum() / (count / kinds))
    assert chi_square < kinds - 1 + 4 * (2 * (kinds - 1)) ** 0.5  # four deviations


def test_sampling_depends_on_the_generator_alone():
    first, _ = fill(30, [(7, True)] * 9)
    second, _ = fill(30, [(7, True)] * 9)
    first.sample(np.random.default_rng(0), 3, 50)
    same(first.sample(np.random.default_rng(8), 2, 20), second.sample(np.random.default_rng(8), 2, 20))


@pytest.mark.parametrize(("capacity", "observation", "action"), [(10, 3, 2), (1000, 17, 6), (1, 1, 1)])
def test_the_announced_bytes_are_those_of_the_arrays(capacity, observation, action):
    replay = Replay(capacity, observation, action)
    held = sum(column.nbytes for column in replay._rows) + replay._starts.nbytes
    assert Replay.bytes(capacity, observation, action) == held
