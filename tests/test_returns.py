"""Do n-step targets count what happened, up to where an episode ended, and how?"""

from dataclasses import replace

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.returns import discounted, over_steps, shortened
from crossq_wn.algorithms.settings import ActorCriticSettings
from crossq_wn.errors import UserError
from crossq_wn.learning.products import minibatch_shapes, state_shapes
from crossq_wn.learning.rows import random_batch
from crossq_wn.training import api
from crossq_wn.types import Sampling, Spec
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass, same_run
from test_replay import CAPACITY, EPISODES, fill

SPEC = Spec(observation_size=5, action_size=2, discount=0.9)
WITH_STEPS = [name for name in ALGORITHMS if issubclass(ALGORITHMS[name].settings, ActorCriticSettings)]


@pytest.mark.parametrize(
    ("mask", "total", "factor"),
    [((1, 1, 1), 6.9004, 0.970299), ((1, 0, 1), 2.98, 0.0), ((0, 1, 1), 1.0, 0.0), ((1, 1, 0), 6.9004, 0.0)],
)
def test_closed_forms(mask, total, factor):
    found, following = discounted(np.array([1.0, 2.0, 4.0]), np.array(mask, float), 0.99)
    assert float(found) == pytest.approx(total, rel=1e-6)
    assert 0.99 * float(following) == pytest.approx(factor, rel=1e-6)


def expected(episodes, n, discount, *, open_end):
    """By the clock at its start: what each transition's target counts, by a walk along its episode."""
    found, clock = {}, 0.0
    for position, (length, terminated) in enumerate(episodes):
        unfinished = open_end and position == len(episodes) - 1
        for start in range(length):
            seen = min(n, length - start)
            total = sum(discount**k * (clock + start + k + 0.25) for k in range(seen))
            gone = terminated and not unfinished and start + seen == length
            found[clock + start] = total, 0.0 if gone else discount**seen, clock + start + seen
        clock += length + 10
    return found


@given(CAPACITY, EPISODES, st.booleans(), st.integers(2, 6))
def test_a_target_goes_as_far_as_its_episode_and_no_transition_is_left_out(capacity, episodes, open_end, n):
    replay, model = fill(capacity, episodes, open_end=open_end)
    batch = replay.sample(np.random.default_rng(0), 1, 1000, Sampling(n, whole=1))
    known = expected(episodes, n, 0.9, open_end=open_end)
    assert set(batch.observation[0, :, 0, 0].tolist()) == {row[0] for row in model.transitions()}
    short = jax.tree.map(np.asarray, shortened(jax.tree.map(lambda leaf: leaf[0], batch), 0.9))
    wanted = np.array([known[clock] for clock in short.observation[:, 0].tolist()])
    np.testing.assert_allclose(short.reward, wanted[:, 0], rtol=1e-5)
    np.testing.assert_allclose(0.9 * short.mask, wanted[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(short.next_observation[:, 0], wanted[:, 2])
    np.testing.assert_array_equal(short.action[:, 0], short.observation[:, 0] + 0.5)


def test_a_discount_of_zero_counts_one_reward():
    batch = random_batch(np.random.default_rng(0), SPEC, 50, sampling=Sampling(3, whole=1))
    short = shortened(batch, 0.0)
    np.testing.assert_array_equal(short.reward, batch.reward[:, 0])
    assert np.isfinite(short.mask).all()


@pytest.mark.parametrize("name", WITH_STEPS)
def test_every_actor_critic_takes_them_and_one_step_is_what_it_was(name, small_settings):
    settings = small_settings(name)
    # Blocks are all alike, and tracing takes as long as they are many.
    once = {key: 1 for key in ("blocks", "critic_blocks") if hasattr(settings, key)}
    one, three = (ALGORITHMS[name].build(SPEC, replace(settings, n_step=n, **once)) for n in (1, 3))
    assert one.sampling == Sampling()
    assert over_steps(one, 1, 0.9) is one
    assert three.sampling == Sampling(3, whole=1)
    state, batch = state_shapes(three), minibatch_shapes(three, SPEC, 8)
    new, metrics = jax.eval_shape(three.update, state, batch, np.int32(0))
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert list(metrics) == list(jax.eval_shape(one.update, state, minibatch_shapes(one, SPEC, 8), 0)[1])


def test_the_critic_regresses_on_the_sum_where_all_terminates(algorithm):
    made = algorithm("sac", n_step=3)
    batch = random_batch(np.random.default_rng(0), SPEC, 8, sampling=made.sampling)
    batch.mask[...], batch.present[...] = 1, 1
    batch.mask[:, 2] = 0
    found = made.view(made.init(np.random.default_rng(0)), batch, np.int32(0)).target
    np.testing.assert_allclose(found, batch.reward @ np.array([1, 0.9, 0.81]), rtol=1e-5)


def test_half_a_run_resumed_is_a_whole_run(tmp_path):
    for out, frames in (("whole", 80), ("half", 49)):
        options = TINY_OPTIONS | {"checkpoint_every": 40, "eval_every": 40, "log_every": 20}
        crossq_wn.train(
            PointMass,
            algorithm="sac",
            frames=frames,
            out=tmp_path / out,
            n_step=3,
            **options,
            **TINY_SETTINGS,
        )
    crossq_wn.resume(tmp_path / "half", frames=80)
    same_run(tmp_path / "whole", tmp_path / "half")


@pytest.mark.parametrize(
    ("algorithm", "n", "message"),
    [("sac", 0, "at least 1"), ("sac", 1000, "at most 100"), ("tdmpc2", 3, "n_step")],
)
def test_what_cannot_be_is_refused_in_one_line(algorithm, n, message):
    with pytest.raises(UserError, match=message) as refused:
        api.configure("cheetah-run", algorithm=algorithm, n_step=n)
    assert "\n" not in str(refused.value)


def test_settings_of_earlier_runs_mean_one_step(small_settings):
    settings = small_settings("sac")
    values = {name: value for name, value in vars(settings).items() if name != "n_step"}
    assert type(settings)(**values) == replace(settings, n_step=1)
