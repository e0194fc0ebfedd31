"""Parcels: trees of small arrays of integers, packed into one array.

Sending data costs some microseconds for every array, however small it is.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.types import Tree


class Layout(NamedTuple):
    """What a parcel holds, in order."""

    structure: Any  # of the tree
    shapes: tuple[tuple[int, ...], ...]  # of its leaves


class Parcel:
    """A packed tree; to JAX a pytree of its one array.

    Args:
        layout: what it holds.
        numbers: int32 [n]. Joined over the seeds, they have a leading axis more.
    """

    __slots__ = ("layout", "numbers")

    def __init__(self, layout: Layout, numbers: Any) -> None:
        self.layout, self.numbers = layout, numbers


@cache
def _known_to_jax() -> None:
    jax.tree_util.register_pytree_node(
        Parcel,
        lambda parcel: ((parcel.numbers,), parcel.layout),
        lambda layout, inner: Parcel(layout, *inner),
    )


def pack(tree: Tree) -> Parcel:
    """Packs a tree of int32 arrays on the host."""
    _known_to_jax()
    leaves, structure = jax.tree.flatten(tree)
    shapes = tuple(leaf.shape for leaf in leaves)
    return Parcel(Layout(structure, shapes), np.concatenate([np.ravel(leaf) for leaf in leaves]))


def unpack(parcel: Parcel) -> Tree:
    """The tree in a parcel; works on NumPy arrays and on traced ones."""
    leaves, first = [], 0
    for shape in parcel.layout.shapes:
        size = math.prod(shape)
        leaves.append(parcel.numbers[first : first + size].reshape(shape))
        first += size
    return jax.tree.unflatten(parcel.layout.structure, leaves)
