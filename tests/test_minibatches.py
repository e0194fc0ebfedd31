"""Do minibatches reach the updates alike from host and device, and do devices that share seeds agree?"""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from crossq_wn.learning import learner, minibatches
from crossq_wn.learning.axis import zeros_like
from crossq_wn.learning.replay import Replay
from crossq_wn.types import ERRORS, Algorithm, Sampling
from helpers import TESTS, environment_variables

OBSERVATION, ACTION = 5, 2


def replays(count, capacity=50):
    return [Replay(capacity, OBSERVATION, ACTION) for _ in range(count)]


def fill(replay, rng, transitions, episode=7):
    seen = rng.standard_normal(OBSERVATION, np.float32)
    for step in range(transitions):
        following = rng.standard_normal(OBSERVATION, np.float32)
        last = step % episode == episode - 1
        action = rng.uniform(-1, 1, ACTION).astype(np.float32)
        replay.add(seen, action, rng.normal(), following, terminated=last and step % 2 == 0, last=last)
        seen = rng.standard_normal(OBSERVATION, np.float32) if last else following


def train(learn, made, seeds, decisions=8, batch=8):
    """States and metrics after some decisions of two updates each, on replays that grow and wrap around."""
    rng = [np.random.default_rng(seed) for seed in seeds]
    filled = replays(len(seeds))
    states = learn.join([made.init(np.random.default_rng(seed)) for seed in seeds])
    fed, metrics = None, None
    for decision in range(decisions):
        for replay, generator in zip(filled, rng, strict=True):
            fill(replay, generator, 45 if decision == 0 else 1)
        places = [r.draw(g, 2, batch, made.sampling) for r, g in zip(filled, rng, strict=True)]
        fed = learn.load(fed, learn.pack(filled, places))
        states, metrics = learn.update(states, fed, 2 * decision)
    return learn.split(states, len(seeds)), learn.split(metrics, len(seeds))


def check_same(one, other, rtol, atol):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def gatherer(fed):
    """(what a device holds, seed) -> that seed's minibatches; one program, as in training."""

    @jax.jit
    def gather(held, seed):
        rows, batch = fed.batches(jax.tree.map(lambda leaf: leaf[seed], held))
        return batch(rows)

    return gather


@pytest.mark.parametrize("sampling", [Sampling(1), Sampling(3), Sampling(3, whole=1)])
def test_the_device_holds_what_the_host_holds(sampling):
    horizon = sampling.horizon

    def put(trees):
        return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *trees)

    fed = minibatches.resident(put, lambda seeds, like: zeros_like(like, seeds), sampling)
    gather = gatherer(fed)
    rng, filled, loaded = np.random.default_rng(0), replays(2), None
    for _ in range(40):
        for replay in filled:
            fill(replay, rng, 1 + int(rng.integers(3)), episode=int(rng.integers(1, 9)) + horizon)
        if min(map(len, filled)) < 20:
            continue
        places = [replay.draw(rng, 2, 16, sampling) for replay in filled]
        # Only the last four rows travel: load after each transition or two.
        loaded = minibatches.on_device(fed.load(None, fed.pack(filled, places)))
        for seed, replay in enumerate(filled):
            expected = replay.take(places[seed], sampling)
            jax.tree.map(np.testing.assert_array_equal, gather(loaded, seed), expected)


def test_a_copy_is_made_in_chunks_that_take_little_of_the_host_s_memory(monkeypatch):
    ten_dogs = 10 * minibatches._CHUNK * (4 * (223 + 38 + 2) + 1)
    assert ten_dogs < 100 * 2**20
    monkeypatch.setattr(minibatches, "_CHUNK", 16)
    fed = minibatches.resident(
        lambda trees: jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *trees),
        lambda seeds, like: zeros_like(like, seeds),
        Sampling(),
    )
    rng, filled = np.random.default_rng(0), replays(2)
    for replay in filled:
        fill(replay, rng, 130)  # the ring of 50 has wrapped: four chunks
    places = [replay.draw(rng, 1, 64) for replay in filled]
    loaded = minibatches.on_device(fed.load(None, fed.pack(filled, places)))
    for seed, replay in enumerate(filled):
        rows, batch = fed.batches(jax.tree.map(lambda leaf, seed=seed: leaf[seed], loaded))
        jax.tree.map(np.testing.assert_array_equal, batch(rows), replay.take(places[seed]))


def test_a_transition_at_a_time_keeps_the_copy_up_to_date():
    def put(trees):
        return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *trees)

    fed = minibatches.resident(put, lambda seeds, like: zeros_like(like, seeds), Sampling())
    gather, write = gatherer(fed), jax.jit(jax.vmap(fed.write))
    rng, (replay,) = np.random.default_rng(0), replays(1)
    fill(replay, rng, 30)
    loaded = None
    seen = rng.standard_normal(OBSERVATION, np.float32)
    for step in range(150):  # three times around the ring
        following = rng.standard_normal(OBSERVATION, np.float32)
        last = step % 5 == 4
        replay.add(seen, np.zeros(ACTION, np.float32), step, following, terminated=last, last=last)
        seen = following
        places = replay.draw(rng, 1, 32)
        loaded = fed.load(loaded, fed.pack([replay], [places]))
        loaded.held = loaded.held._replace(rows=write(*loaded.held))  # as updates do
        jax.tree.map(np.testing.assert_array_equal, gather(loaded.held, 0), replay.take(places))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sac", {"n_step": 1, "critics": 1}),  # more critics compile for longer
        ("sac", {"n_step": 3, "critics": 1}),
        ("drq", {"n_step": 2}),
    ],
)
def test_host_fed_and_device_fed_learners_are_the_same(algorithm, name, changes):
    made = algorithm(name, **changes)
    fed = train(learner.vectorised(made), made, (0, 1))
    resident = train(learner.vectorised(made, replay_on_device=True), made, (0, 1))
    check_same(fed, resident, rtol=1e-4, atol=1e-4)


def adding(made):
    """An algorithm with the samples of another one, whose updates add up all of them, weighted by place."""

    def update(total, batch, count):
        for number, leaf in enumerate(jax.tree.leaves(batch)):
            places = np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape)
            total = total + (leaf * np.cos(places + number)).sum()
        return total, {"total": total, ERRORS: batch.reward.sum(-1)}

    return Algorithm(
        lambda rng: np.float32(0),
        made.explore,
        made.exploit,
        update,
        sampling=made.sampling,
        burst=made.burst,
    )


def test_samples_of_drq_reach_updates_alike_from_host_and_device(algorithm):
    """Which are sequences that a termination may end early."""
    made = adding(algorithm("drq"))
    assert made.sampling.ends_early
    fed = train(learner.vectorised(made), made, (0, 1))
    resident = train(learner.vectorised(made, replay_on_device=True), made, (0, 1))
    assert len({float(total) for total in jax.tree.leaves(fed[0])}) == 2  # each seed its own samples
    check_same(fed, resident, rtol=1e-4, atol=1e-4)


def test_a_critic_is_diagnosed_on_the_minibatch_that_lies_on_the_device(algorithm):
    made = algorithm("sac", critics=1)
    found = []
    for on_device in (False, True):
        learn = learner.vectorised(made, replay_on_device=on_device)
        states = learn.join([made.init(np.random.default_rng(0))])
        (replay,), rng = replays(1), np.random.default_rng(1)
        fill(replay, rng, 30)
        fed = learn.load(None, learn.pack([replay], [replay.draw(rng, 2, 8)]))
        found.append(learn.diagnose(states, fed, 1))
    check_same(*found, rtol=1e-4, atol=1e-4)


def test_an_accelerator_is_used_for_replay_only_where_it_fits():
    class Device:
        platform = "gpu"

        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return {"bytes_limit": self.limit, "bytes_in_use": 10}

    assert minibatches.fits(59, 1, [Device(100)])
    assert not minibatches.fits(60, 1, [Device(100)])
    assert minibatches.fits(29, 2, [Device(100)])
    assert not minibatches.fits(30, 2, [Device(100)])
    assert minibatches.fits(29, 4, [Device(100), Device(200)]) is False  # three of four left share one device
    assert minibatches.fits(19, 4, [Device(100), Device(200)])
    assert minibatches.fits(59, 1, [Device(100)] * 8)  # which uses one of them
    assert not minibatches.fits(60, 1, [Device(100)] * 8)
    assert not minibatches.fits(1, 1, jax.devices("cpu"))


SHARED = """
import jax, numpy as np, sys
sys.path.insert(0, {tests!r})
from conftest import _algorithm
from crossq_wn.learning import learner
from test_minibatches import train, check_same
assert len(jax.devices()) == 4
made = _algorithm("crossq-wn", critics=1)
jax.config.update("jax_disable_most_optimizations", True)
seeds = (0, 1, 2, 3, 4, 5)  # three devices of the four share them evenly
learn = learner.vectorised(made, jax.devices(), replay_on_device=True)
shared = train(learn, made, seeds)
states = learn.join(shared[0])
assert len(jax.tree.leaves(states)[0].sharding.device_set) == 3
check_same(shared, train(learner.vectorised(made), made, seeds), rtol=1e-4, atol=1e-4)
print("same")
"""


def test_devices_that_share_seeds_train_what_one_would(tmp_path):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = environment_variables({"XLA_FLAGS": flags})
    done = subprocess.run(
        [sys.executable, "-c", SHARED.format(tests=str(TESTS))],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"
