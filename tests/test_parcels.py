"""Does a parcel hold what was packed, whatever that is, and do programs compute the same with it?"""

import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import array_shapes, arrays

from crossq_wn.learning import learner
from crossq_wn.learning.parcels import Parcel, closed, opened, pack, unpack
from helpers import TESTS, environment_variables
from test_minibatches import fill, replays

LEAVES = some.sampled_from([np.float32, np.int32, np.uint32, np.bool_]).flatmap(
    lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
TREES = some.recursive(
    LEAVES,
    lambda inner: some.one_of(
        some.lists(inner, max_size=3).map(tuple), some.dictionaries(some.text("abc", max_size=2), inner)
    ),
    max_leaves=12,
)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


@given(TREES, some.integers(0, 2))
def test_a_tree_comes_out_of_a_parcel_as_it_went_in(tree, keys):
    tree = (tree, [jax.random.key(number) for number in range(keys)])
    parcel = pack(tree)
    unpacked, unpacked_keys = unpack(parcel)
    same(unpacked, tree[0])
    same(jax.tree.map(jax.random.key_data, unpacked_keys), jax.tree.map(jax.random.key_data, tree[1]))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(tree[0])}
    assert len(parcel.arrays) == len(kinds) + keys


def test_to_jax_a_parcel_is_its_arrays_and_a_program_keeps_its_layout():
    tree = {"a": np.ones((2, 3), np.float32), "b": (np.arange(4, dtype=np.int32), np.zeros((), np.float32))}
    twice = jax.jit(lambda parcel: closed(jax.tree.map(lambda leaf: 2 * leaf, opened(parcel)), parcel))
    parcel = pack(tree)
    assert len(jax.tree.leaves(parcel)) == 2
    assert twice(parcel).layout == parcel.layout
    same(jax.device_get(unpack(twice(parcel))), jax.tree.map(lambda leaf: 2 * leaf, tree))
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), parcel, parcel)
    same(unpack(jax.tree.map(lambda leaf: leaf[1], stack)), tree)


def test_what_is_no_parcel_stays_as_it_is():
    tree = (np.ones(3), np.zeros(2))
    assert unpack(tree) is tree
    assert opened(tree) is tree
    assert closed(tree, like=()) is tree
    assert isinstance(closed(jax.numpy.ones(3), like=pack(tree)), Parcel)


def trained(made, learn, seeds, decisions=4):
    """States, metrics and actions of seeds after some decisions, each with an update."""
    rng, filled = [np.random.default_rng(seed) for seed in seeds], replays(len(seeds))
    states = learn.states([made.init(np.random.default_rng(seed)) for seed in seeds])
    fed, acted = None, []
    for decision in range(decisions):
        for replay, generator in zip(filled, rng, strict=True):
            fill(replay, generator, 45 if decision == 0 else 1)
        seen = np.stack([generator.standard_normal(5, np.float32) for generator in rng])
        actions, _ = learn.explore(states, learn.fresh_memories(len(seeds)), seen, decision)
        places = [replay.draw(generator, 1, 8) for replay, generator in zip(filled, rng, strict=True)]
        fed = learn.load(fed, learn.pack(filled, places))
        states, metrics = learn.update(states, fed, decision)
        acted.append(actions)
    count = len(seeds)
    return learn.split(states, count), learn.split(metrics, count), list(np.stack(acted, 1))


def compare(made):
    """Asserts that packed states of seeds in turn train bit for bit as plain ones apart, and as alone."""
    in_turn = learner.one_after_another(made)
    apart, turns = trained(made, learner.one_by_one(made), (0, 1, 2)), trained(made, in_turn, (0, 1, 2))
    same(jax.device_get(apart), jax.device_get(turns))
    alone = trained(made, in_turn, (2,))
    for kind, one in zip(turns, alone, strict=True):
        same(jax.device_get(kind[2:]), jax.device_get(one))


REAL = """
import sys
sys.path.insert(0, {tests!r})
import conftest, jax
jax.config.update("jax_disable_most_optimizations", False)
import os
os.environ["XLA_FLAGS"] = ""  # XLA reads them when it first compiles
from test_parcels import compare
compare(conftest._algorithm({name!r}))
print("same")
"""


@pytest.mark.parametrize("name", ["sac", pytest.param("crossq-wn", marks=pytest.mark.slow)])
def test_packed_states_in_turn_are_plain_ones_apart_bit_for_bit(name, tmp_path):
    """Packing is kept apart from arithmetic. In programs as in real use."""
    done = subprocess.run(
        [sys.executable, "-c", REAL.format(tests=str(TESTS), name=name)],
        env=environment_variables(), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"
