"""Do 50 updates of crossq-wn give the numbers that they gave when they were recorded?

A change of code that is meant to keep the numerics must leave `golden/crossq_wn.json` alone. Recording it
again (`python tests/test_golden.py`) is legitimate only where the numbers are meant to change: another
default of crossq-wn's hyperparameters, another order of random numbers, or a corrected equation. The commit
that does so states which of them, and why.
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.learning import learner
from crossq_wn.types import Batch, Spec

GOLDEN = Path(__file__).parent / "golden" / "crossq_wn.json"
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


def trajectory():
    recipe = ALGORITHMS["crossq-wn"]
    default = recipe.presets["default"].settings
    settings = replace(default, actor_width=16, critic_width=16, initial_temperature=0.01)
    algorithm = recipe.build(Spec(OBSERVATION, ACTION, 0.99), settings)
    learn = learner.one_by_one(algorithm)
    states, batches, rows = learn.join([algorithm.init(np.random.default_rng(0))]), stream(50), []
    for first in range(0, 50, 10):
        chunk = jax.tree.map(lambda leaf, i=first: leaf[i : i + 10], batches)
        states, metrics = learn.update(states, learn.join([chunk]), first)
        state = states[0]
        names = ("critic_loss", "q_mean", "target_q_mean", "temperature", "entropy", "actor_loss")
        row = {"updates": first + 10, **{name: float(metrics[0][name]) for name in names}}
        for network in ("actor", "critic"):
            variables = getattr(state, network)
            row[network] = checksums(variables.params)
            row[f"{network} statistics"] = checksums(variables.stats)
        row["target"] = checksums(state.target)
        rows.append(row)
    return rows


def test_50_updates_of_crossq_wn_are_as_recorded():
    recorded, now = json.loads(GOLDEN.read_text()), trajectory()
    assert [list(row) for row in now] == [list(row) for row in recorded]
    for actual, expected in zip(now, recorded, strict=True):
        for name in expected:
            message = f"{name} after {expected['updates']} updates"
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=message)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(trajectory(), indent=1) + "\n")
    print(GOLDEN.read_text())
