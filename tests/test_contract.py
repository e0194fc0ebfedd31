"""What every algorithm promises the training loop: one test for each promise, run for all algorithms."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

import crossq_wn
from crossq_wn.algorithms import ALGORITHMS, Preset, Recipe, updates_per_decision
from crossq_wn.algorithms.settings import Settings
from crossq_wn.learning import learner
from crossq_wn.learning.rows import random_batch
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.runs.options import RunOptions
from crossq_wn.types import ERRORS, Algorithm, Spec
from helpers import TINY_OPTIONS, PointMass, load_file, rows, same_run

SPEC = Spec(observation_size=3, action_size=2, discount=0.99)  # the toy's, so that all share programs
NAMES = list(ALGORITHMS)
# No promise depends on how often a network repeats a block, and compiling takes as long as there are blocks.
SHALLOW = {"blocks": 1, "critic_blocks": 1, "critics": 3, "value_functions": 2}
# Nor on how long it is until DR.Q's encoder learns again.
SHORT = {"target_period": 2}


def data(algorithm, seed, *shape):
    return random_batch(np.random.default_rng(seed), SPEC, *shape, sampling=algorithm.sampling)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def numbers(metrics):
    """The scalars among metrics, by name."""
    return {name: float(value) for name, value in metrics.items() if name != ERRORS}


def same(one, other, **tolerance):
    check = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    for a, b in zip(leaves(one), leaves(other), strict=True):
        check(a, b, **tolerance)


@pytest.fixture(autouse=True)
def as_in_training():
    """The precision that training computes with, so that tests share its programs."""
    with jax.default_matmul_precision(RunOptions.matmul_precision):
        yield


@pytest.fixture(scope="module")
def settings_of(small_settings):
    """name -> settings of small networks at UTD 2 and the default delays, for every test of an algorithm."""

    def make(name):
        settings = small_settings(name, utd=2, warmup=20)
        limits = SHALLOW | SHORT
        changes = {
            key: min(most, getattr(settings, key)) for key, most in limits.items() if hasattr(settings, key)
        }
        if hasattr(settings, "action_repeat"):
            changes["action_repeat"] = 1
        return replace(settings, **changes)

    return make


@pytest.fixture(scope="module")
def algorithm(settings_of):
    """name -> the algorithm with those settings."""
    return lambda name: ALGORITHMS[name].build(SPEC, settings_of(name))


@pytest.fixture(scope="module")
def alike(settings_of):
    """name -> the first algorithm that is made of the same parts here and only resets at other times."""

    def made_of(name):
        return ALGORITHMS[name].make, replace(settings_of(name), **{"resets": ()} if "bro" in name else {})

    return cache(lambda name: next(other for other in NAMES if made_of(other) == made_of(name)))


@pytest.fixture(scope="module")
def trained(algorithm, alike):
    """name -> algorithm, its one-by-one learner, and (states, metrics) of seeds 0 and 1 after six updates."""

    @cache
    def make(name):
        made = algorithm(name)
        return made, learner.one_by_one(made), run(made, learner.one_by_one(made), (0, 1))

    return lambda name: make(alike(name))


@pytest.fixture(scope="module")
def mapped(algorithm, alike):
    """name -> what `trained` has, by the learner that maps one program over both seeds."""

    @cache
    def make(name):
        learn = learner.vectorised(algorithm(name))
        states, metrics = run(algorithm(name), learn, (0, 1))
        return learn.split(states, 2), metrics

    return lambda name: make(alike(name))


def run(algorithm, learn, seeds, calls=3):
    """States and metrics after `calls` decisions, each observed and followed by two updates."""
    states = learn.join([algorithm.init(np.random.default_rng(seed)) for seed in seeds])
    for call in range(calls):
        if learn.observe is not None:
            seen = np.stack(
                [np.random.default_rng(s).standard_normal(SPEC.observation_size, np.float32) for s in seeds]
            )
            states = learn.observe(states, seen, np.ones(len(seeds), np.float32), np.zeros(len(seeds), bool))
        batches = learn.join([data(algorithm, 10 * seed + call, 2, 8) for seed in seeds])
        states, metrics = learn.update(states, batches, 2 * call)
    return states, learn.split(metrics, len(seeds))


def test_what_is_made_alike_is_bro_and_bro_fast(alike):
    assert {name: alike(name) for name in NAMES if alike(name) != name} == {"bro-fast": "bro"}


@pytest.mark.parametrize("name", NAMES)
def test_initialisation_is_random_and_reproducible(name, algorithm):
    made = algorithm(name)
    first, again, other = (made.init(np.random.default_rng(seed)) for seed in (0, 0, 1))
    same(first, again)
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(first), leaves(other), strict=True))
    assert all(leaf.dtype in (np.float32, np.int32, np.uint32) for leaf in leaves(first))
    shapes = made.init(ShapesOnly())
    assert jax.tree.structure(shapes) == jax.tree.structure(first)
    for blank, drawn in zip(leaves(shapes), leaves(first), strict=True):
        assert (blank.shape, blank.dtype) == (drawn.shape, drawn.dtype)


@pytest.mark.parametrize("name", NAMES)
def test_updates_change_the_state_and_report_finite_numbers(name, trained):
    made, _, (states, metrics) = trained(name)
    assert all(np.isfinite(leaf).all() for leaf in leaves(states) if leaf.dtype.kind == "f")
    assert np.isfinite([*numbers(metrics[0]).values()]).all()
    fresh = made.init(np.random.default_rng(0))
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(fresh), leaves(states[0]), strict=True))
    assert [*numbers(metrics[0])] == learner.metric_names(made, SPEC, diagnostics=False)


def optimiser_steps(state):
    """The steps that each optimiser of a state has made, by the name of its moments."""
    steps = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        names = [entry.name for entry in path if getattr(entry, "name", "").endswith("_moments")]
        if names and np.ndim(leaf) == 0 and np.asarray(leaf).dtype.kind == "i":
            name = names[-1].removesuffix("_moments")
            steps[name] = max(steps.get(name, 0), int(leaf))
    return steps


def documented_updates():
    """name -> the other columns of the table in docs/presets-and-suites.md on what an update is."""
    page = (Path(__file__).parents[1] / "docs" / "presets-and-suites.md").read_text()
    table = page.split("What counts as a gradient update")[1]
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_optimisers_step_as_often_per_update_and_decision_as_the_docs_say(name, trained):
    made, learn, _ = trained(name)
    (state, _), _ = run(made, learn, (0, 1), calls=6)
    steps, (per_decision, trains, actor) = optimiser_steps(state), documented_updates()[name]
    one_in = int(actor.removeprefix("in 1 of ").replace("UTD", "2").split()[0])
    assert steps.pop("policy" if "policy" in steps else "actor") == 12 / one_in
    assert steps.pop("temperature", 12 / one_in) == 12 / one_in
    assert sum(steps.get(part, 0) for part in trains.split(" or ")) == 12
    per_utd = int(per_decision.removesuffix("UTD") or 1)
    assert updates_per_decision(name, 5) == 5 * per_utd
    bursts = made.burst.updates / made.burst.every if made.burst.every else 0  # at a UTD ratio of 2
    assert 2 + bursts == updates_per_decision(name, 2)
    if name == "drq":
        assert steps == {"world": 6, "value": 6}


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_in_range_random_while_exploring_and_repeatable(name, trained):
    _, learn, (states, _) = trained(name)
    seen = np.ones((2, SPEC.observation_size), np.float32)
    memories = learn.fresh_memories(2)
    drawn = [np.asarray(learn.explore(states, memories, seen, decision)[0]) for decision in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    chosen = [learn.exploit(states, learn.fresh_memories(2), seen)[0] for _ in range(2)]
    np.testing.assert_array_equal(*chosen)
    for actions in (*drawn, *chosen):
        assert actions.shape == (2, SPEC.action_size)
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1


def agreement(one, other):
    """The share of float entries that are equal but for rounding."""
    pairs = [(a, b) for a, b in zip(leaves(one), leaves(other), strict=True) if a.dtype.kind == "f"]
    close = [np.isclose(a, b, rtol=1e-4, atol=2e-5).ravel() for a, b in pairs]
    return np.concatenate(close).mean()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_mapped_over_an_axis_are_the_seeds_alone(name, trained, mapped):
    made, _, (states, metrics) = trained(name)
    apart, together_metrics = mapped(name)
    # Adam turns the last bits of a gradient that is zero but for rounding into whole steps: six of them here.
    same(apart, states, rtol=2e-3, atol=6 * 3e-4)
    same(together_metrics, metrics, rtol=2e-2, atol=1e-3)
    # That would hide a whole lost step, so most entries must agree far better. XQC has more that are rounding
    # alone: its second batch norm takes the shift of its first away again.
    enough = 0.95 if name == "xqc" else 0.99
    assert agreement(apart, states) > enough
    assert agreement([made.init(np.random.default_rng(seed)) for seed in (0, 1)], states) < enough


@pytest.mark.parametrize("name", NAMES)
def test_a_state_given_to_an_update_is_given_up(name, trained):
    made, learn, _ = trained(name)
    states = learn.join([made.init(np.random.default_rng(0))])
    old = jax.tree.leaves(states)
    learn.update(states, learn.join([data(made, 0, 2, 8)]), 0)
    assert all(leaf.is_deleted() for leaf in old if leaf.size > 100)


@pytest.mark.parametrize("name", NAMES)
def test_a_poisoned_batch_shows_in_the_metrics(name, trained):
    made, learn, _ = trained(name)
    poisoned = data(made, 0, 2, 8)
    poisoned.reward[...] = np.nan
    states = learn.join([made.init(np.random.default_rng(0))])
    _, metrics = learn.update(states, learn.join([poisoned]), 0)
    assert not np.isfinite([*numbers(metrics[0]).values()]).all()


def train(name, path, settings, frames, **options):
    """A run of small networks on a toy."""
    options = TINY_OPTIONS | {"checkpoint_every": 30, "eval_every": 30, "log_every": 15} | options
    crossq_wn.train(PointMass, algorithm=name, frames=frames, out=path, **options, **vars(settings))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_half_a_run_resumed_is_a_whole_run_and_evaluation_changes_nothing(name, settings_of, tmp_path):
    settings = settings_of(name)
    whole = train(name, tmp_path / "whole", settings, 60)
    half = train(name, tmp_path / "half", settings, 43)
    crossq_wn.resume(half, frames=60)
    same_run(whole, half)
    unwatched = train(name, tmp_path / "unwatched", settings, 60, eval_every=1000)
    learned = [
        load_file(path / "checkpoints" / "000000060" / "seed-0.safetensors") for path in (whole, unwatched)
    ]
    for name, value in learned[0].items():
        if not name.startswith("plain/evaluation_environment/"):
            np.testing.assert_array_equal(value, learned[1][name], err_msg=name)
    assert (whole / "metrics.csv").read_bytes() == (unwatched / "metrics.csv").read_bytes()
    assert len(rows(whole / "eval.csv")) == 2 * 3


def test_an_algorithm_from_outside_the_package_trains(monkeypatch, tmp_path):
    """As docs/your-own-algorithm.md shows."""

    def make(spec: Spec, settings: Settings) -> Algorithm:
        def act(state, memory, observation, decision=0):
            return state * np.ones(spec.action_size, np.float32), memory

        def update(state, batch, step):
            return 0.9 * state, {"norm": state}

        return Algorithm(lambda generator: np.float32(1.0), act, act, update)

    presets = {"default": Preset(Settings(utd=1, batch_size=4, warmup=5), "nowhere")}
    monkeypatch.setitem(ALGORITHMS, "shrink", Recipe("goes to zero", Settings, presets, make))
    run = crossq_wn.train(
        PointMass,
        algorithm="shrink",
        frames=15,
        out=tmp_path / "run",
        **(TINY_OPTIONS | {"log_every": 1}),
    ).path
    assert float(rows(run / "metrics.csv")[-1]["norm"]) == pytest.approx(0.9**9, rel=1e-5)
    assert crossq_wn.load(run).act(np.zeros(3)).shape == (2,)


def test_the_documented_algorithm_trains(monkeypatch, tmp_path):
    """The first program of docs/your-own-algorithm.md, as it stands there."""
    page = (Path(__file__).parents[1] / "docs" / "your-own-algorithm.md").read_text()
    program = page.split("```python\n")[1].split("```")[0]
    monkeypatch.setattr("crossq_wn.algorithms.ALGORITHMS", dict(ALGORITHMS))
    spaces = {"__name__": "my_algorithm"}
    exec(compile(program, "my_algorithm.py", "exec"), spaces)
    recipe = spaces["ALGORITHMS"]["layer-norm-sac"]
    made = recipe.build(SPEC, recipe.presets["default"].settings)
    _, metrics = run(made, learner.one_by_one(made), (0,))
    assert np.isfinite([*numbers(metrics[0]).values()]).all()


@pytest.mark.parametrize("name", ["crossq-wn", "tdmpc2"])
def test_the_names_of_metrics_cost_no_second_trace(name, algorithm):
    """What asks for the names at a run's start traces the update; the first update then finds it traced."""
    plain, traced = algorithm(name), []

    def counted(part, function):
        def call(*arguments):
            traced.append(part)
            return function(*arguments)

        return call

    made = plain._replace(update=counted("update", plain.update), view=counted("view", plain.view))
    names = learner.metric_names(made, SPEC, diagnostics=True, batch_size=8)
    assert sorted(traced) == ["update", "view"]
    states, metrics = run(made, learn := learner.one_by_one(made), (0,))
    found = learn.diagnose(states, learn.join([data(made, 0, 3, 8)]), 5)
    assert [*metrics[0], *found[0]] == names
    assert sorted(traced) == ["update", "view"]


@pytest.mark.parametrize("name", NAMES)
def test_the_critic_can_be_diagnosed_and_asked(name, trained):
    made, learn, (states, _) = trained(name)
    batches = learn.join([data(made, seed, 2, 8) for seed in (0, 1)])
    before = leaves(states)
    found = jax.device_get(learn.diagnose(states, batches, 5))
    assert np.isfinite([*found[0].values()]).all()
    assert found[0] != found[1]
    assert found[0]["critic_norm"] > 0
    assert found[0]["critic_gradient_norm"] > 0
    assert 0 <= found[0]["dead_neurons"] <= 1
    known = learner.metric_names(made, SPEC, diagnostics=True)
    assert set(found[0]) < set(known)
    actions, bonuses, values = learn.appraise(states, np.ones((2, SPEC.observation_size), np.float32), 3)
    assert actions.shape == (2, SPEC.action_size)
    assert bonuses.shape == values.shape == (2,)
    assert np.isfinite(values).all()
    same(before, states)
