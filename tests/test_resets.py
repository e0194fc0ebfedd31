"""What a reset rebuilds and what it leaves alone, in whole trainings."""

import hashlib
import json
from functools import cache

import jax
import numpy as np
import pytest

import crossq_wn
import crossq_wn.runs.config
import helpers
from crossq_wn.learning import learner
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.seeds import Stream, stream
from crossq_wn.types import Spec
from helpers import TINY_OPTIONS, PointMass, replay_rows, rows, same_run

# What a setting of each algorithm resets at these decisions, with a warm-up of 20 and UTD 2.
RESETS = {
    "crossq-wn": ({"reset_updates": 20}, [31, 41, 51]),
    "sr-sac": ({"reset_updates": 20, "reset_grid": 5}, [31, 46]),
    "bro": ({"resets": (25, 40)}, [25, 40]),
}
NONE = {"crossq-wn": {}, "sr-sac": {"reset_updates": 10**6}, "bro": {"resets": ()}}


def trained(small_settings, name, path, changes, decisions=55, seeds=(0, 1)):
    """A run at action repeat 2, a row of metrics per decision."""
    values = vars(small_settings(name)) | {"utd": 2, "warmup": 20, "action_repeat": 2} | changes
    if "critic_blocks" in values:
        values["critic_blocks"] = 1
    options = TINY_OPTIONS | {
        "log_every": 2, "checkpoint_every": 1000, "eval_every": 1000, "diagnostics": False,
    }  # fmt: skip
    frames = 2 * decisions
    crossq_wn.train(PointMass, algorithm=name, frames=frames, out=path, seeds=seeds, **options, **values)
    return path


@pytest.fixture
def train(small_settings, tmp_path):
    """(name, folder, changes, frames, seeds) -> a run."""
    return lambda name, folder, *how, **more: trained(small_settings, name, tmp_path / folder, *how, **more)


@pytest.fixture(scope="module")
def whole(small_settings, tmp_path_factory):
    """(name) -> a run with its resets, trained once, and the states before each decision's updates.

    The latter by index of the decision's first update, and by seed.
    """

    @cache
    def make(name):
        seen, usual = {}, learner.make

        def spying(*arguments, **options):
            made = usual(*arguments, **options)

            def update(states, fed, first):
                seen[first] = jax.tree.map(np.array, states)
                return made.update(states, fed, first)

            return made._replace(update=update)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner, "make", spying)
            path = tmp_path_factory.mktemp(name) / "run"
            return trained(small_settings, name, path, RESETS[name][0]), seen

    return make


@pytest.mark.parametrize("name", RESETS)
def test_a_reset_makes_every_learner_as_it_was_at_first_and_is_counted(name, whole):
    (path, before_updates), (_, decisions) = whole(name), RESETS[name]
    table = [row for row in rows(path / "metrics.csv") if row["seed"] == "1"]
    for row in table:
        done = sum(decision <= int(row["decisions"]) for decision in decisions)
        assert int(row["resets"]) == done, row["decisions"]
        assert int(row["frames"]) == 2 * int(row["decisions"])
    config = crossq_wn.runs.config.read_config(path)
    made = build_algorithm(config, Spec(3, 2, config.discount))
    for decision in range(21, 56):
        for seed, state in zip((0, 1), before_updates[2 * (decision - 21)], strict=True):
            fresh = made.init(np.random.default_rng(stream(seed, Stream.LEARNER)))
            pairs = zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True)
            assert all(np.array_equal(*pair) for pair in pairs) == (decision in (21, *decisions))


def forget_setting(run, name):
    """Leaves a run as a version that did not know the setting wrote it."""
    helpers.alter_config(run, lambda config: config["settings"].pop(name))
    for file in (run / "checkpoints").glob("[0-9]*/manifest.json"):
        body = json.loads(file.read_text())["checkpoint"]
        body["common"]["config"]["settings"].pop(name)
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        file.write_text(json.dumps({"checkpoint": body, "sha256": digest}))


def test_a_run_of_an_earlier_version_resumes_with_the_resets_that_it_was_trained_with(train):
    """Those of SR-SAC came a decision sooner, and no setting said so."""
    changes = RESETS["sr-sac"][0] | {"evaluate_before_reset": False}
    whole, half = train("sr-sac", "whole", changes), train("sr-sac", "half", changes, decisions=32)
    forget_setting(half, "evaluate_before_reset")
    crossq_wn.resume(half, frames=110)
    same_run(whole, half, seeds=(0, 1))
    assert [row["resets"] for row in rows(whole / "metrics.csv") if row["decisions"] in ("29", "30")] == [
        "0", "0", "1", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("name", RESETS)
def test_resets_keep_the_replay_and_are_the_same_alone_and_after_a_resumption(name, train, whole):
    changes, decisions = RESETS[name]
    whole, _ = whole(name)
    without = train(name, "without", NONE[name])
    for seed in (0, 1):
        kept, other = replay_rows(whole, seed), replay_rows(without, seed)
        assert len(kept["reward"]) >= 55
        for key, values in kept.items():  # the decision after the first reset is the first to differ
            np.testing.assert_array_equal(values[: decisions[0]], other[key][: decisions[0]], err_msg=key)
        assert not np.array_equal(kept["action"], other["action"])
    half = train(name, "half", changes, decisions=decisions[0] + 2)
    crossq_wn.resume(half, frames=110)
    same_run(whole, half, seeds=(0, 1))
    same_run(whole, train(name, "alone", changes, seeds=(1,)), tables=False, seeds=(1,))
