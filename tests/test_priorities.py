"""Are samples drawn in proportion to their priorities, faded by age, and are these kept exactly?"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from crossq_wn.learning.priorities import Weights, fading
from crossq_wn.learning.replay import Replay
from crossq_wn.types import Priorities, Sampling
from test_replay import CAPACITY, EPISODES, same

LAW = Priorities(exponent=0.4, floor=1.0, fade=0.9999, faded=0.1)
STARTS = Sampling(horizon=5, whole=6, to_termination=True, priorities=LAW)


def fill(replay, episodes, first=0):
    """Episodes of (length, terminated), whose observations are the numbers of their rows."""
    row = first
    for length, terminated in episodes:
        for step in range(length):
            last = step == length - 1
            replay.add(
                np.array([row]), np.zeros(1), row, [row + 1], terminated=last and terminated, last=last
            )
            row += 1
        row += 1
    return replay


def starts(replay, sampling=STARTS, count=4000):
    """The rows at which samples start."""
    batch = replay.sample(np.random.default_rng(0), 1, count, sampling)
    return sorted(set(batch.observation[..., 0, 0].ravel().astype(int).tolist()))


def shares(weights, places, count=200_000):
    """How often each place is drawn."""
    drawn = weights.draw(np.random.default_rng(0), (count,))
    return np.bincount(drawn, minlength=max(places) + 1)[places] / count


# Where samples start


def test_starts_of_truncated_and_terminated_episodes():
    truncated = fill(Replay(100, 1, 1, LAW), [(12, False), (12, False)])
    assert starts(truncated) == [*range(7), *range(13, 20)]
    assert truncated.end == 26
    assert starts(fill(Replay(100, 1, 1, LAW), [(12, True)])) == list(range(12))


def test_the_first_transition_can_be_drawn_once_five_follow():
    replay = Replay(100, 1, 1, LAW)
    for row in range(5):
        replay.add(np.array([row]), np.zeros(1), 0, [row + 1], terminated=False, last=False)
    with pytest.raises(Exception, match="no episode has 6 decisions"):
        starts(replay, count=100)
    replay.add(np.array([5]), np.zeros(1), 0, [6], terminated=False, last=False)
    assert starts(replay) == [0]


def test_a_sample_that_runs_past_a_termination_repeats_it():
    replay = fill(Replay(100, 1, 1, LAW), [(3, True), (12, False)])
    batch = replay.sample(np.random.default_rng(0), 1, 500, STARTS)
    short = batch.observation[0, :, 0, 0] == 1
    for seen, then, mask, present in zip(
        batch.observation[0, short], batch.next_observation[0, short], batch.mask[0, short],
        batch.present[0, short], strict=True,
    ):  # fmt: skip
        assert seen[:, 0].tolist() == [1, 2, 2, 2, 2]
        assert then[:, 0].tolist() == [2, 3, 3, 3, 3]
        assert mask.tolist() == [1, 0, 0, 0, 0]
        assert present.tolist() == [1, 1, 0, 0, 0]


# What they are drawn by


def test_the_newest_fade_least():
    table = fading(LAW, 1_000_000)
    assert len(table) - 1 == 23_025
    np.testing.assert_allclose(table[[1, 100, 6931]], [0.9999, 0.9999**100, 0.5], rtol=1e-4)
    assert table[-1] == 0.1


def test_a_fade_that_outlasts_replay_takes_no_more_memory_than_replay():
    law = Priorities(exponent=1.0, floor=1.0, fade=1 - 1e-12, faded=0.1)
    assert len(fading(law, 500)) == 501
    weights = Weights(law, 500)
    weights.fill(np.arange(300))
    np.testing.assert_allclose(shares(weights, np.arange(300)), 1 / 300, atol=0.001)


def test_no_error_is_too_large_or_too_small_to_draw():
    weights = Weights(Priorities(exponent=3.0, floor=0.0), 100)
    weights.fill(np.arange(3))
    weights.set(np.arange(3), np.array([0.0, 3e38, 1e30], np.float32))
    assert set(weights.draw(np.random.default_rng(0), (100,)).tolist()) == {1, 2}
    weights.set(np.arange(3), np.zeros(3))
    assert set(weights.draw(np.random.default_rng(0), (100,)).tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("count", "share"), [(50_000, 0.769), (100_000, 0.539), (490_000, 0.162)])
def test_recent_transitions_get_the_share_that_follows_from_the_law(count, share):
    weights = Weights(LAW, count)
    weights.fill(np.arange(count))
    drawn = weights.draw(np.random.default_rng(0), (100_000,))
    assert (drawn >= count - 23_025).mean() == pytest.approx(share, abs=0.006)


def test_a_draw_from_a_nearly_empty_ring_looks_at_what_is_there(monkeypatch):
    looked, faded = [], Weights._faded
    monkeypatch.setattr(Weights, "_faded", lambda self, blocks: looked.extend(blocks) or faded(self, blocks))
    weights = Weights(LAW, 1_000_000)
    weights.fill(np.arange(100))
    weights.draw(np.random.default_rng(0), (8,))
    assert set(map(int, looked)) == {0, 1}
    assert len(looked) <= 2 + 8


def test_priorities_follow_errors_and_new_transitions_the_largest_so_far():
    weights = Weights(LAW._replace(fade=1.0, faded=1.0), 200)
    for place in range(3):
        weights.add(place)
    weights.set(np.array([0, 1, 2]), np.array([0.3, 10.0, np.nan]))
    weights.add(150)
    expected = np.array([1.0, 2.511886, 1.0, 2.511886])
    np.testing.assert_allclose(shares(weights, [0, 1, 2, 150]), expected / expected.sum(), atol=0.005)
    weights.set(np.array([1, 1]), np.array([10.0, 0.0]))  # the last one counts, and the largest stays
    weights.add(151)
    expected = np.array([1.0, 1.0, 1.0, 2.511886, 2.511886])
    np.testing.assert_allclose(shares(weights, [0, 1, 2, 150, 151]), expected / expected.sum(), atol=0.005)


@given(
    CAPACITY,
    EPISODES,
    st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    st.floats(0.5, 1.0),
    st.integers(0, 2**31),
)
def test_draws_are_those_of_a_plain_table(capacity, episodes, errors, fade, seed):
    """Against the priorities of all rows, computed one by one, over rings that wrap."""
    law = Priorities(exponent=0.6, floor=0.1, fade=fade, faded=0.2)
    replay, plain, largest, row = Replay(capacity, 1, 1, law), {}, 0.1**0.6, 0
    generator = np.random.default_rng(seed)
    for length, terminated in episodes:
        for step in range(length):
            last = step == length - 1
            replay.add(np.array([row]), np.zeros(1), 0, [row + 1], terminated=last and terminated, last=last)
            plain[row], row = largest, row + 1
            places = np.array([generator.choice([r for r in plain if r >= replay.begin])])
            error = errors[int(generator.integers(len(errors)))]
            replay.prioritise(places % (capacity + 1), np.array([error]), replay.end)
            plain[int(places[0])] = np.float32(max(error, 0.1) ** 0.6)
            largest = max(largest, plain[int(places[0])])
        row += 1
    held = [each for each in plain if each >= replay.begin]
    weight = np.array([plain[each] * max(fade ** (len(held) - 1 - k), 0.2) for k, each in enumerate(held)])
    drawn = replay.sample(np.random.default_rng(1), 1, 20_000).observation[0, :, 0].astype(int)
    found = np.array([(drawn == each).mean() for each in held])
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, weight / weight.sum(), atol=0.02)


def test_a_transition_that_was_overwritten_since_it_was_drawn_keeps_no_error_of_another():
    replay = fill(Replay(10, 1, 1, LAW), [(10, False)])
    places, end = replay.draw(np.random.default_rng(0), 1, 50), replay.end
    fill(replay, [(9, False)], first=20)
    before = replay.save_priorities()
    replay.prioritise(places, np.full(places.shape, 100.0), end)
    held = end - (end - places) % 11 >= replay.begin
    changed = replay.save_priorities()["priority"] != before["priority"]
    assert changed.sum() == len(set(places[held].tolist()))
    assert not held.all()


# What is kept


@given(CAPACITY, EPISODES, EPISODES)
def test_restored_priorities_give_the_same_draws_now_and_later(capacity, before, after):
    law = LAW._replace(fade=0.9, faded=0.3)
    original, generator = fill(Replay(capacity, 1, 1, law), before), np.random.default_rng(0)
    places = original.draw(generator, 1, 20)
    original.prioritise(places, generator.exponential(5, places.shape), original.end)
    copy = Replay(capacity, 1, 1, law)
    copy.load(original.end, original.read(original.begin, original.end), original.pending())
    copy.load_priorities(original.save_priorities())
    for episode in [None, *after]:
        if episode is not None:
            for replay in (original, copy):
                fill(replay, [episode], first=1000)
        one, other = (replay.sample(np.random.default_rng(3), 2, 100) for replay in (original, copy))
        same(one, other)
    assert original.save_priorities()["largest"] == copy.save_priorities()["largest"]


def test_a_replay_without_saved_priorities_starts_with_equal_ones():
    original = fill(Replay(50, 1, 1), [(20, False)])
    copy = Replay(50, 1, 1, LAW)
    copy.load(original.end, original.read(original.begin, original.end), original.pending())
    copy.load_priorities(None)
    assert starts(copy, Sampling(horizon=2, whole=1)) == list(range(20))


def test_priorities_of_another_replay_are_not_taken():
    saved = fill(Replay(50, 1, 1, LAW), [(20, False)]).save_priorities()
    with pytest.raises(ValueError, match="do not fit"):
        fill(Replay(50, 1, 1, LAW), [(21, False)]).load_priorities(saved)


def test_the_announced_bytes_are_those_of_the_arrays():
    weights = Weights(LAW, 1001)
    held = sum(getattr(weights, name).nbytes for name in ("_priority", "_number", "_sums", "_newest"))
    assert Weights.bytes(1001) == held
    assert Replay.bytes(1000, 3, 2, LAW) == Replay.bytes(1000, 3, 2) + held
