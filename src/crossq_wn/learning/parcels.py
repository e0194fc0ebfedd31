"""Parcels: trees of many small arrays, packed into one array for each type of number.

Starting a program and sending data cost a few microseconds for every array, however small it is. A learner's
state has some 160 arrays, nearly all of them small, so small networks would spend nine tenths of an update on
that alone. Training packs only what it sends to a replay on the device (`minibatches.resident`).
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Tree


class Layout(NamedTuple):
    """What a parcel holds, and where."""

    structure: Any  # of the tree
    shapes: tuple[tuple[int, ...], ...]  # of its leaves
    # Of each leaf: which array of the parcel holds it, and its first number there; None: it is that array.
    places: tuple[tuple[int, int | None], ...]


class Parcel:
    """A packed tree; to JAX a pytree of its arrays.

    Args:
        layout: what it holds.
        arrays: first those of packed leaves [n], one for each type of number, then leaves of
            JAX's own types as they are. Joined over the seeds, they have a leading axis more.
    """

    __slots__ = ("arrays", "layout")

    def __init__(self, layout: Layout, arrays: tuple[Any, ...]) -> None:
        self.layout, self.arrays = layout, arrays


@cache
def _known_to_jax() -> None:
    jax.tree_util.register_pytree_node(
        Parcel,
        lambda parcel: (parcel.arrays, parcel.layout),
        lambda layout, arrays: Parcel(layout, tuple(arrays)),
    )


def pack(tree: Tree) -> Parcel:
    """Packs a tree; works on NumPy arrays and on traced ones.

    Args:
        tree: of arrays.
    """
    _known_to_jax()
    leaves, structure = jax.tree.flatten(tree)
    small: dict[str, list[Any]] = defaultdict(list)  # type of number -> its leaves
    for leaf in leaves:
        if _packs(leaf):
            small[str(leaf.dtype)].append(leaf)
    which = {name: number for number, name in enumerate(small)}
    filled = dict.fromkeys(small, 0)
    places: list[tuple[int, int | None]] = []
    whole: list[Any] = []
    for leaf in leaves:
        kind = str(leaf.dtype)
        if _packs(leaf):
            places.append((which[kind], filled[kind]))
            filled[kind] += math.prod(leaf.shape)
        else:
            places.append((len(small) + len(whole), None))
            whole.append(leaf)
    arrays = [_concatenated(each) for each in small.values()]
    shapes = tuple(tuple(leaf.shape) for leaf in leaves)
    return Parcel(Layout(structure, shapes, tuple(places)), (*arrays, *whole))


def _packs(leaf: Any) -> bool:
    # Others are JAX's own types, such as those of random keys.
    return isinstance(leaf.dtype, np.dtype)


def _concatenated(leaves: list[Any]) -> Any:
    """All numbers of these leaves in one array [n]."""
    xp: Any = np if all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves) else jnp
    return xp.concatenate([xp.ravel(leaf) for leaf in leaves])


def unpack(tree: Tree) -> Tree:
    """The tree in a parcel; any other tree as it is. Works on NumPy arrays and on traced ones."""
    if not isinstance(tree, Parcel):
        return tree
    leaves = []
    for shape, (which, first) in zip(tree.layout.shapes, tree.layout.places, strict=True):
        array = tree.arrays[which]
        if first is not None:
            array = array[first : first + math.prod(shape)].reshape(shape)
        leaves.append(array)
    return jax.tree.unflatten(tree.layout.structure, leaves)


# In a program, a barrier stands between a parcel and what is computed with its tree. Without it XLA fuses the
# two, and other fusions round differently; but results should not depend on how a program's data is packed.


def opened(tree: Tree) -> Tree:
    """What `unpack` returns; for traced trees."""
    return _barrier(unpack(tree)) if isinstance(tree, Parcel) else tree


def closed(tree: Tree, like: Tree) -> Tree:
    """Packs a traced tree if another one is packed; else returns it as it is.

    Args:
        tree: what is packed.
        like: a tree or a parcel; what is returned is of the same kind.
    """
    if not isinstance(like, Parcel):
        return tree
    return pack(_barrier(tree))


def _barrier(tree: Tree) -> Tree:
    return jax.lax.optimization_barrier(tree)  # type: ignore[no-untyped-call]
