"""How several seeds' arrays lie beside each other, and how a function of one seed runs over all of them.

There are two ways, which give the same numbers:

* `apart` (CPU): the seeds' trees stay apart and the same program runs for each, as many at a time as there
  are processors. Its matrix products are plain ones, which a CPU runs about twice as fast as batched ones,
  and a seed's result cannot depend on who trains beside it.
* `stacked` (accelerators): the trees are stacked and the program is mapped over the new axis, so that all
  seeds' updates are one launch; several devices share the seeds out, and never talk.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.machine import processors
from crossq_wn.types import Tree

Joined = Any  # something of all seeds, made by `join`
Function = Callable[..., tuple[Any, ...]]
Devices = Sequence["jax.Device"]


class Join(Protocol):
    """Joins the seeds' trees."""

    def __call__(self, trees: Sequence[Tree], /) -> Joined:
        """Takes one tree per seed."""


class Split(Protocol):
    """Takes apart what `Join` joined."""

    def __call__(self, joined: Joined, count: int, /) -> list[Tree]:
        """Returns one tree per seed, of `count` of them; what was fetched stays on the host."""


class Count(Protocol):
    """Counts the seeds over which something is joined."""

    def __call__(self, joined: Joined, /) -> int:
        """Takes something that has arrays in it."""


class Spread(Protocol):
    """Compiles a function of one seed for all seeds."""

    def __call__(self, function: Function, *, donate: bool = False) -> Function:
        """Spreads a function over the seeds.

        Args:
            function: of one seed; it returns a tuple.
            donate: whether the arrays of the first argument may be written over.

        Returns:
            The same function of joined arguments, but for the last argument, which all seeds share.
        """


class Put(Protocol):
    """Sends trees from the host to the device."""

    def __call__(self, trees: Sequence[Tree], /) -> Joined:
        """Takes one tree per seed and returns them joined."""


class Axis(NamedTuple):
    """The seed axis."""

    join: Join
    split: Split
    count: Count
    spread: Spread
    put: Put


def apart() -> Axis:
    """Trees that stay apart: what is joined is a list of them."""
    # What one thread launches runs in order, and one program alone does not keep all processors busy.
    lanes = [ThreadPoolExecutor(1) for _ in range(processors())]
    return Axis(
        join=lambda trees: list(trees),
        split=lambda joined, count: list(joined),
        count=lambda joined: len(joined),
        spread=partial(_spread_apart, lanes),
        put=lambda trees: jax.device_put(list(trees)),
    )


def _spread_apart(
    lanes: Sequence[ThreadPoolExecutor], function: Function, *, donate: bool = False
) -> Function:
    program = jax.jit(function, donate_argnums=0 if donate else ())
    # Updates donate, and are worth running several at a time.
    return partial(_run_apart, program, lanes if donate else ())


def _run_apart(program: Function, lanes: Sequence[ThreadPoolExecutor], *arguments: Any) -> tuple[Any, ...]:
    """Runs a program for every seed; returns a tuple of lists over seeds."""
    *joined, shared = arguments
    seeds = list(zip(*joined, strict=True))
    done = []
    if lanes and len(seeds) > 1:
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        for lane, seed in zip(cycle(lanes), seeds, strict=False):
            # Waits for the launch, the first of which compiles, and not for its results.
            done.append(lane.submit(_launch, program, (*seed, shared), precision).result())
    else:
        for seed in seeds:
            done.append(program(*seed, shared))
    return tuple(map(list, zip(*done, strict=True)))


def _launch(program: Function, arguments: tuple[Any, ...], precision: Any) -> tuple[Any, ...]:
    with jax.default_matmul_precision(precision):  # every thread has one of its own
        return program(*arguments)


def stacked(devices: Devices) -> Axis:
    """Trees that are stacked along a leading axis, which is shared out to devices.

    Args:
        devices: as many of them are used as divide the number of seeds.
    """
    return Axis(
        join=partial(_stack, devices),
        split=_unstack,
        count=lambda joined: int(jax.tree.leaves(joined)[0].shape[0]),
        spread=partial(_spread_stacked, devices),
        put=partial(_put, devices),
    )


def sharing(seeds: int, devices: int) -> int:
    """How many of the devices share so many seeds: the most that get equally many each."""
    return max(n for n in range(1, devices + 1) if seeds % n == 0)


def _mesh(devices: Devices, seeds: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices[: sharing(seeds, len(devices))]), ("seed",))


def _partition(*axes: str) -> Any:
    partition: Any = jax.sharding.PartitionSpec
    return partition(*axes)


def _sharding(devices: Devices, seeds: int) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(_mesh(devices, seeds), _partition("seed"))


def _stack(devices: Devices, trees: Sequence[Tree]) -> Joined:
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return jax.device_put(stack, _sharding(devices, len(trees)))


def _put(devices: Devices, trees: Sequence[Tree]) -> Joined:
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    return jax.device_put(stack, _sharding(devices, len(trees)))


def _unstack(joined: Joined, count: int) -> list[Tree]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], joined) for i in range(count)]


def zeros(devices: Devices, seeds: int, like: Tree) -> Joined:
    """Zeros shaped like one seed's tree for each of so many seeds, stacked on the devices."""
    make = partial(zeros_like, like, seeds)
    return jax.jit(make, out_shardings=_sharding(devices, seeds))()


def zeros_like(tree: Tree, seeds: int) -> Tree:
    """Zeros with a leading seed axis."""
    return jax.tree.map(lambda leaf: jnp.zeros((seeds, *leaf.shape), leaf.dtype), tree)


def _spread_stacked(devices: Devices, function: Function, *, donate: bool = False) -> Function:
    run = partial(_run_stacked, devices, function)
    return jax.jit(run, donate_argnums=0 if donate else ())


def _run_stacked(devices: Devices, function: Function, *arguments: Any) -> tuple[Any, ...]:
    """Maps a function over the seed axis; is traced."""
    # What is shared has no seed axis, so that skipped actor updates are skipped and not masked.
    joined = len(arguments) - 1
    seeds = jax.tree.leaves(arguments[0])[0].shape[0]
    run = jax.shard_map(
        jax.vmap(function, in_axes=(*[0] * joined, None)),
        mesh=_mesh(devices, seeds),
        in_specs=(*[_partition("seed")] * joined, _partition()),
        out_specs=_partition("seed"),
        check_vma=False,
    )
    return tuple(run(*arguments))
