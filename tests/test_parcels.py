"""Does a parcel hold what was packed, whatever its shapes are?"""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import array_shapes, arrays

from crossq_wn.learning.parcels import pack, unpack

LEAVES = arrays(np.int32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
TREES = some.recursive(
    LEAVES,
    lambda inner: some.one_of(
        some.lists(inner, min_size=1, max_size=3).map(tuple),
        some.dictionaries(some.text("abc", max_size=2), inner, min_size=1),
    ),
    max_leaves=12,
)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


@given(TREES)
def test_a_tree_comes_out_of_a_parcel_as_it_went_in(tree):
    parcel = pack(tree)
    same(unpack(parcel), tree)
    assert parcel.numbers.ndim == 1


def test_to_jax_a_parcel_is_one_array_and_a_program_keeps_its_layout():
    tree = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": (np.arange(4, dtype=np.int32), np.int32(7))}
    twice = jax.jit(lambda parcel: (unpack(parcel), jax.tree.map(lambda numbers: 2 * numbers, parcel)))
    parcel = pack(tree)
    assert len(jax.tree.leaves(parcel)) == 1
    unpacked, doubled = twice(parcel)
    same(jax.device_get(unpacked), tree)
    assert doubled.layout == parcel.layout
    same(jax.device_get(unpack(doubled)), jax.tree.map(lambda leaf: 2 * leaf, tree))
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), parcel, parcel)
    same(unpack(jax.tree.map(lambda leaf: leaf[1], stack)), tree)
