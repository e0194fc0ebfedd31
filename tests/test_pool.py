"""Does it matter who steps where? Threads and turns give the same transitions; a fault stays in its place."""

import numpy as np
import pytest

from crossq_wn.environments import make
from crossq_wn.environments.core import EnvironmentFaultError
from crossq_wn.environments.pool import Pool


@pytest.fixture
def pooled():
    open_ones = []

    def build(names, threads, **options):
        open_ones.append(Pool([make(name, **options) for name in names], threads))
        for index in range(len(names)):
            open_ones[-1].reset(index, seed=index)
        return open_ones[-1]

    def build_in_threads(names, **options):
        pool = build(names, len(names), **options)
        pool._in_threads, pool._choose = True, lambda seconds: None  # whatever the clock says
        pool._helpers = len(names) - 1
        return pool

    build.in_threads = build_in_threads
    yield build
    for pool in open_ones:
        pool.close()


@pytest.mark.parametrize("name", ["dog-run", "humanoid-run", "quadruped-run", "myo-key-turn-hard"])
def test_threads_change_nothing(name, pooled):
    in_turn = pooled([name] * 3, 1, episode_frames=30)
    in_threads = pooled.in_threads([name] * 3, episode_frames=30)
    generator = np.random.default_rng(0)
    for _ in range(24):
        actions = generator.uniform(-1, 1, (3, in_turn.environments[0].action_size)).astype(np.float32)
        for index, (one, other) in enumerate(
            zip(in_turn.step(range(3), actions), in_threads.step(range(3), actions), strict=True)
        ):
            np.testing.assert_array_equal(one.next_observation, other.next_observation)
            assert one[1:] == other[1:]
            if one.episode is not None:
                np.testing.assert_array_equal(in_turn.reset(index), in_threads.reset(index))


def test_both_ways_are_tried_before_one_is_chosen(pooled):
    pool = pooled(["cheetah-run"] * 2, 2)
    ways = []
    for _ in range(60):
        ways.append(pool._in_threads)
        pool.step([0, 1], np.zeros((2, 6), np.float32))
    assert ways[:40] == [False, True] * 20
    assert len(set(ways[40:])) == 1


@pytest.mark.parametrize("names", [["cheetah-run"], ["helpers:PointMass"] * 3])
def test_one_environment_or_a_user_s_own_is_never_stepped_in_threads(names, pooled):
    pool = pooled(names, 8)
    shape = len(names), pool.environments[0].action_size
    for _ in range(30):
        pool.step(range(len(names)), np.zeros(shape, np.float32))
        assert not pool._in_threads


@pytest.mark.parametrize("in_threads", [False, True])
def test_a_fault_is_returned_in_its_place(in_threads, pooled):
    names = ["helpers:PointMass", "helpers:Raising", "helpers:PointMass"]
    pool = pooled.in_threads(names) if in_threads else pooled(names, 1)
    for _ in range(61):
        results = pool.step([0, 1, 2], np.zeros((3, 2), np.float32))
    assert [isinstance(result, EnvironmentFaultError) for result in results] == [False, True, False]


def test_an_error_of_ours_in_a_thread_is_raised(pooled):
    pool = pooled.in_threads(["helpers:PointMass"] * 2)
    pool.environments[1].step = lambda action: 1 / 0
    with pytest.raises(ZeroDivisionError):
        pool.step([0, 1], np.zeros((2, 2), np.float32))
