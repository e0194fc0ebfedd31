"""Do 50 updates of crossq-wn, of flashsac and of drq give the numbers that they gave when they were recorded?

A change of code that is meant to keep the numerics must leave `golden/` alone. Recording it again
(`python tests/test_golden.py NAME`) is legitimate only where the numbers are meant to change: another default
of the hyperparameters, another order of random numbers, or a corrected equation. The commit that does so
states which of them, and why.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from conftest import XLA
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.learning import learner
from crossq_wn.learning.rows import random_batch
from crossq_wn.types import ERRORS, Batch, Spec

GOLDEN = Path(__file__).parent / "golden"
CHANGES = {
    "crossq-wn": {"actor_width": 16, "critic_width": 16, "initial_temperature": 0.01},
    "flashsac": {"actor_width": 16, "critic_width": 16, "atoms": 21, "learning_rate_updates": 100},
    "drq": {"encoder_width": 16, "latent_size": 16, "action_width": 8, "width": 16, "target_period": 5},
}
OBSERVATION, ACTION, BATCH = 5, 2, 16


def stream(count, seed=0):
    """Batches [count, BATCH, ...] of a linear system with a quadratic cost; a tenth of them terminal."""
    generator = np.random.default_rng(seed)
    state = generator.standard_normal((count, BATCH, OBSERVATION))
    action = generator.uniform(-1, 1, (count, BATCH, ACTION))
    push = action @ generator.standard_normal((ACTION, OBSERVATION))
    reward = 2 - 0.1 * np.square(state).sum(-1)
    mask = generator.uniform(size=(count, BATCH)) < 0.9
    return Batch(
        *(leaf.astype(np.float32) for leaf in (state, action, reward, mask, 0.9 * state + 0.3 * push))
    )


def checksums(params):
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]
    return [float(sum(leaf.sum() for leaf in leaves)), float(sum(np.square(leaf).sum() for leaf in leaves))]


def file(name):
    return GOLDEN / f"{name.replace('-', '_')}.json"


def trajectory(name):
    return trajectory_of_drq() if name == "drq" else trajectory_of_actor_critic(name)


def trajectory_of_drq():
    """Bursts of five updates of the world, and five of values, in turns."""
    recipe = ALGORITHMS["drq"]
    settings = replace(recipe.presets["default"].settings, **CHANGES["drq"])
    spec = Spec(OBSERVATION, ACTION, 0.99)
    algorithm = recipe.build(spec, settings)
    learn, rows = learner.one_by_one(algorithm), []
    states = learn.join([algorithm.init(np.random.default_rng(0))])
    for first in range(0, 50, 10):
        chunk = random_batch(np.random.default_rng(first), spec, 10, BATCH, sampling=algorithm.sampling)
        states, metrics = learn.update(states, learn.join([chunk]), first)
        errors = np.asarray(metrics[0].pop(ERRORS))
        row = {"updates": first + 10, **{name: float(value) for name, value in metrics[0].items()}}
        row["errors"] = float(errors[5:].sum())
        for name, variables in states[0].online._asdict().items():
            row[name] = checksums(variables)
        row["target"] = checksums(states[0].target)
        seen = chunk.observation[:, 0, 0]
        acted = [learn.explore(states, learn.fresh_memories(1), each[None], 7)[0] for each in seen]
        row["actions"] = float(np.sum(acted))
        rows.append(row)
    return rows


def trajectory_of_actor_critic(name):
    recipe = ALGORITHMS[name]
    settings = replace(recipe.presets["default"].settings, **CHANGES[name])
    algorithm = recipe.build(Spec(OBSERVATION, ACTION, 0.99), settings)
    learn = learner.one_by_one(algorithm)
    states, batches, rows = learn.join([algorithm.init(np.random.default_rng(0))]), stream(50), []
    memory, acted = learn.fresh_memories(1), 0.0
    for first in range(0, 50, 10):
        chunk = jax.tree.map(lambda leaf, i=first: leaf[i : i + 10], batches)
        if learn.observe is not None:
            states = learn.observe(states, chunk.observation[0, :1], chunk.reward[0, :1], np.zeros(1, bool))
        states, metrics = learn.update(states, learn.join([chunk]), first)
        state = states[0]
        while hasattr(state, "inner"):
            state = state.inner
        names = ("critic_loss", "q_mean", "target_q_mean", "temperature", "entropy", "actor_loss")
        row = {"updates": first + 10, **{name: float(metrics[0][name]) for name in names}}
        for network in ("actor", "critic"):
            variables = getattr(state, network)
            row[network] = checksums(variables.params)
            row[f"{network} statistics"] = checksums(variables.stats)
        row["target"] = checksums(state.target)
        if name == "flashsac":  # whose noise is held
            for decision in range(first, first + 10):
                actions, memory = learn.explore(
                    states, memory, chunk.observation[decision % 10, :1], decision
                )
                acted += float(np.sum(actions))
            row["actions"] = acted
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def trajectories():
    """By name, computed in another process: by programs that are compiled as in real use, not as in tests."""
    usual = {key: value for key, value in os.environ.items() if key != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    # What conftest.py has added, but for the flag that has the same code made in one piece, which takes less
    # time. Flags of whoever runs the tests stay, such as those of another processor.
    others = set(XLA) - {"--xla_cpu_parallel_codegen_split_count=1"}
    usual["XLA_FLAGS"] = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if flag not in others)
    command = [sys.executable, __file__, "--print"]
    done = subprocess.run(command, env=usual, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CHANGES)
def test_50_updates_are_as_recorded(name, trajectories):
    recorded, now = json.loads(file(name).read_text()), trajectories[name]
    assert [list(row) for row in now] == [list(row) for row in recorded]
    for actual, expected in zip(now, recorded, strict=True):
        for key in expected:
            message = f"{key} after {expected['updates']} updates"
            np.testing.assert_allclose(actual[key], expected[key], rtol=1e-4, atol=1e-4, err_msg=message)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(json.dumps({name: trajectory(name) for name in CHANGES}))
        sys.exit()
    GOLDEN.mkdir(exist_ok=True)
    file(sys.argv[1]).write_text(json.dumps(trajectory(sys.argv[1]), indent=1) + "\n")
    print(file(sys.argv[1]).read_text())
