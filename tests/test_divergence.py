"""What happens to a seed whose training diverges, and to the others? With algorithms made for it."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, Preset, Recipe
from crossq_wn.algorithms.settings import Settings
from crossq_wn.training.seeds import Stream, stream
from crossq_wn.types import Algorithm
from helpers import TINY_OPTIONS, PointMass, rows, same_run


def first_number(seed):
    return np.float32(np.random.default_rng(stream(seed, Stream.LEARNER)).random())


def algorithm(at_update, what, value):
    """Counts its updates. From one of them on, seed 1's metric or state is `value`."""

    def init(generator):
        return jnp.float32(generator.random()), jnp.float32(0)

    def act(state, memory, observation, decision=0):
        return jnp.tanh(state[1] - 20) * jnp.ones(2), memory

    def update(state, batch, step):
        mine, count = state[0], state[1] + 1
        wrong = (mine == first_number(1)) & (step >= at_update)
        metric = jnp.where(wrong, value, mine) if what == "metric" else mine
        after = jnp.where(wrong, value, count) if what == "state" else count
        return (mine, after), {"number": metric}

    return lambda spec, settings: Algorithm(init, act, act, update)


@pytest.fixture
def train(monkeypatch, tmp_path):
    def run(folder, at_update=10**9, what="metric", value=np.nan, seeds=(0, 1)):
        presets = {"default": Preset(Settings(utd=1, batch_size=4, warmup=5), "nowhere")}
        recipe = Recipe("counts", Settings, presets, algorithm(at_update, what, value))
        monkeypatch.setitem(ALGORITHMS, "counter", recipe)
        options = TINY_OPTIONS | {"log_every": 10, "checkpoint_every": 20}
        return crossq_wn.train(
            PointMass,
            algorithm="counter",
            frames=100,
            out=tmp_path / folder,
            seeds=seeds,
            **options,
        )

    return run


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("metric", np.nan, "number is nan after 45 gradient updates: .* try a lower learning rate"),
        ("metric", 1e20, "number is .* after 45 gradient updates: .* try a lower learning rate"),
        ("state", np.inf, "no longer finite: training diverged"),
    ],
)
def test_a_seed_that_diverges_stops_alone_and_keeps_its_last_good_checkpoint(train, what, value, says):
    done = train("run", 41, what, value)
    assert done.finished
    assert list(done.failed) == [1]
    assert re.search(says, done.failed[1]), done.failed
    assert crossq_wn.load(done.path, seed=1).frames == 40
    last = {int(row["seed"]): int(row["frames"]) for row in rows(done.path / "metrics.csv")}
    assert last[0] == 100
    assert last[1] < 100
    alone = train("alone", seeds=(0,))
    same_run(done.path, alone.path, tables=False)


def test_a_run_whose_every_seed_diverges_ends_early_and_says_so(train, tmp_path):
    with pytest.raises(crossq_wn.UserError, match=r"every seed failed: seed 1: .*training diverged"):
        train("run", 41, seeds=(1,))
    assert rows(tmp_path / "run" / "metrics.csv")[-1]["frames"] == "40"  # it ended at 50, the next row
    assert crossq_wn.load(tmp_path / "run", seed=1).frames == 40
