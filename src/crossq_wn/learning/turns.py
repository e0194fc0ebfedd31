"""The layout of the seed axis in which one program computes the seeds one after the other.

Its matrix products are plain ones, as in `axis.apart`, but one launch updates all seeds: for networks so
small that launches would take longer than products. Training does not use it yet: see
`learner.one_after_another`.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.axis import Axis, Function, Joined, Program, program_of, unstack, zeros_like
from crossq_wn.types import Array, Tree

_CAPACITY = 16  # seeds; programs are compiled for multiples of it, and so once for any smaller number


class Turns(NamedTuple):
    """Data of several seeds, who take turns."""

    seeds: Array  # how many there are
    rows: Tree  # their trees, stacked, with more rows than seeds


def in_turn() -> Axis:
    """The layout in which one program computes the seeds one after the other.

    It is the same program for one seed as for ten, so results cannot depend on the seeds beside it.
    """
    return Axis(
        join=_put_in_turn,
        split=lambda joined, count: unstack(_rows(joined), count),
        fetch=lambda joined, count: np.asarray(_rows(joined))[:count],
        count=lambda joined: int(joined.seeds),
        spread=_spread_in_turn,
        put=_put_in_turn,
    )


def rows_for(seeds: int) -> int:
    """The number of rows in data of so many seeds that take turns."""
    return _CAPACITY * math.ceil(seeds / _CAPACITY)


def _put_in_turn(trees: Sequence[Tree]) -> Joined:
    if not jax.tree.leaves(trees[0]):
        return trees[0]  # nothing needs no row
    rows = jax.tree.map(lambda *leaves: _with_room(np.stack(leaves)), *jax.device_get(list(trees)))
    return jax.device_put(Turns(np.int32(len(trees)), rows))  # type: ignore[arg-type]


def _rows(joined: Joined) -> Tree:
    return joined.rows if isinstance(joined, Turns) else joined


def _with_room(rows: np.ndarray) -> np.ndarray:
    larger = np.zeros((rows_for(len(rows)), *rows.shape[1:]), rows.dtype)
    larger[: len(rows)] = rows
    return larger


def _spread_in_turn(function: Function, *, donate: int = 0) -> Program:
    program = program_of(partial(_run_in_turn, function, bool(donate)), donate)
    return Program(partial(_with_rows, program.run), partial(_with_rows, program.compile))


def _with_rows(program: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a program, whose arguments from the host [S, ...] get as many rows as the others."""
    rows = [_with_room(each) if isinstance(each, np.ndarray) else each for each in arguments[:-1]]
    return program(*rows, arguments[-1])


def _run_in_turn(function: Function, donate: bool, states: Turns, *arguments: Any) -> tuple[Turns, ...]:
    """Computes one seed after the other; is traced by JAX. A donated state gives way to the new one."""
    *joined, shared = arguments
    others = list(map(_rows, joined))

    def one(seed: Array, rows: Tree) -> tuple[Any, ...]:
        return function(*(_row(each, seed) for each in (rows, *others)), shared)

    def turn(seed: Array, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        rows, results = carry
        found = one(seed, rows)
        if donate:
            rows = _with_row(rows, found[0], seed)
        return rows, _with_row(results, found[donate:], seed)

    like = jax.eval_shape(one, jnp.int32(0), states.rows)[donate:]
    room = len(jax.tree.leaves(states.rows)[0])
    rows, results = jax.lax.fori_loop(0, states.seeds, turn, (states.rows, zeros_like(like, room)))
    found = (rows, *results) if donate else results
    return tuple(Turns(states.seeds, each) for each in found)


def _row(rows: Tree, seed: Array) -> Tree:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, seed, keepdims=False), rows)


def _with_row(rows: Tree, row: Tree, seed: Array) -> Tree:
    """The rows, of which one is replaced."""

    def replaced(all_rows: Array, new: Array) -> Array:
        return jnp.asarray(jax.lax.dynamic_update_index_in_dim(all_rows, new, seed, 0))

    return jax.tree.map(replaced, rows, row)
