"""What cannot fit into memory is refused before any of it is taken, and the setting is named."""

import math
import time

import jax
import numpy as np
import pytest

import helpers
from crossq_wn import UserError, machine, train
from crossq_wn.algorithms import ALGORITHMS, recipe_of
from crossq_wn.learning.memory import most_update_bytes, state_bytes, update_bytes
from crossq_wn.learning.products import batch_shapes, state_shapes
from crossq_wn.training import fitting
from crossq_wn.training.api import configure
from crossq_wn.types import Spec

GIB = 2**30
DOG = Spec(223, 38, 0.99)


@pytest.fixture
def sixteen_gib(monkeypatch):
    monkeypatch.setattr(fitting, "available_memory", lambda: 16 * GIB)
    monkeypatch.setattr(machine, "available_memory", lambda: 16 * GIB)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_shapes_without_numbers_are_those_of_a_real_state(name, algorithm):
    made = algorithm(name)
    real = made.init(np.random.default_rng(3))
    shapes = state_shapes(made)
    assert jax.tree.structure(real) == jax.tree.structure(shapes)
    described = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (real, shapes)]
    assert described[0] == described[1]
    assert state_bytes(made) == sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(real))


@pytest.mark.parametrize(("name", "batch_size"), [("crossq-wn", 4096), ("sac", 4096)])
def test_the_memory_of_an_update_is_what_the_compiler_says(name, batch_size):
    config = configure("dog-run", algorithm=name, batch_size=batch_size)
    made = recipe_of(name).build(DOG, config.settings)
    program = jax.jit(made.update, donate_argnums=0)
    arguments = state_shapes(made), batch_shapes(DOG, batch_size), np.int32(0)
    true = program.lower(*arguments).compile().memory_analysis().temp_size_in_bytes
    estimate = update_bytes(made, DOG, batch_size)
    assert 0.6 < estimate / true < 1.7
    assert estimate < most_update_bytes(made, batch_size) / 3


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"critic_width": 1_000_000}, "critic_width is 1000000"),
        ({"actor_width": 1_000_000, "critic_width": 512}, "actor_width is 1000000"),
        ({"batch_size": 10_000_000}, "batch_size is 10000000"),
        ({"utd": 1_000_000, "frames": 1_000}, "utd is 1000000"),
        ({"algorithm": "tdmpc2", "width": 500_000}, "width is 500000"),
        ({"algorithm": "redq", "critics": 20, "critic_width": 20_000}, "critic_width is 20000"),
        ({"critics": 100_000}, "critics is 100000: it must be at most 100"),
        ({"critic_width": 10**9}, "critic_width is 1000000000: it must be at most 1048576"),
        ({"critic_width": 10**30}, "critic_width is 1" + 30 * "0"),
    ],
)
def test_what_cannot_fit_is_refused_by_name_and_at_once(choices, named, sixteen_gib):
    resident, start = machine.resident_memory(), time.process_time()
    with pytest.raises(UserError) as refusal:
        fitting.check_fits(configure("dog-run", **choices), DOG)
    assert str(refusal.value).startswith(named)
    assert machine.resident_memory() - resident < GIB / 2  # nothing of the sort was allocated
    assert time.process_time() - start < 60


def test_what_fits_is_not_refused_and_costs_no_trace(sixteen_gib, monkeypatch):
    monkeypatch.setattr(fitting, "update_bytes", lambda *arguments: math.inf)
    for name in ("crossq-wn", "sac", "bro"):
        config = configure("dog-run", algorithm=name)
        assert fitting.check_fits(config, DOG) > 0.9 * GIB


def test_training_that_cannot_fit_leaves_nothing_behind(sixteen_gib, tmp_path):
    with pytest.raises(UserError, match=r"critic_width is 1000000: training would take about .* GiB"):
        train(helpers.PointMass, critic_width=1_000_000, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_named_where_they_alone_are_too_many(monkeypatch):
    monkeypatch.setattr(fitting, "available_memory", lambda: GIB // 2)
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    config = configure("dog-run", seeds=range(100), frames=1000)
    with pytest.raises(UserError, match=r"^100 seeds: .*try fewer \(seeds\)"):
        fitting.check_fits(config, DOG)
