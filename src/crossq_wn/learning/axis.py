"""The seed axis: how the arrays of several seeds are laid out, and how a function of one seed runs over all.

There are two layouts:

* `apart` (CPU): every seed's tree stays separate and the same program runs for each, as many at a time
  as there are processors. Its matrix products are plain ones, which a CPU computes about twice as fast as
  batched ones, and a seed's result cannot depend on the seeds beside it.
* `stacked` (accelerators): the trees are stacked and the program is mapped over the new axis, so one launch
  updates all seeds. Several devices share the seeds and never communicate. Results agree with those of the
  other up to rounding.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import cycle
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.machine import processors
from crossq_wn.types import Tree

Joined = Any  # data of all seeds, as `join` returns it
Function = Callable[..., tuple[Any, ...]]
Devices = Sequence["jax.Device"]
# Triton's matrix products are no faster here than cuBLAS's, and to choose among them is most of compiling.
_GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}
P = ParamSpec("P")
R = TypeVar("R")


class Join(Protocol):
    """Joins the trees of all seeds."""

    def __call__(self, trees: Sequence[Tree], /) -> Joined:
        """Takes one tree per seed."""


class Split(Protocol):
    """Splits joined data into the trees of the seeds."""

    def __call__(self, joined: Joined, count: int, /) -> list[Tree]:
        """Returns one tree per seed, of `count` seeds; data that is on the host stays there."""


class Count(Protocol):
    """Counts the seeds of joined data."""

    def __call__(self, joined: Joined, /) -> int:
        """Takes joined data with at least one array."""


class Spread(Protocol):
    """Compiles a function of one seed into one of all seeds."""

    def __call__(self, function: Function, *, donate: int = 0) -> Program:
        """Spreads a function over the seeds.

        Args:
            function: of one seed; returns a tuple.
            donate: the number of arguments, from the first on, whose buffers may be reused for the results.

        Returns:
            The same function of joined arguments, except for its last argument, which all seeds share.
        """


class Put(Protocol):
    """Sends trees from the host to the device."""

    def __call__(self, trees: Sequence[Tree], /) -> Joined:
        """Takes one tree per seed and returns them joined."""


class Program(NamedTuple):
    """A function of all seeds, which is compiled when it is first run, or before."""

    run: Function
    compile: Callable[..., None]  # takes what `run` does, or shapes in place of arrays


class Axis(NamedTuple):
    """A layout of the seeds' arrays."""

    join: Join
    split: Split
    count: Count
    spread: Spread


def apart() -> Axis:
    """The layout in which joined data is a list of the seeds' trees."""
    # Programs launched by one thread run one after the other, and one alone leaves processors idle.
    lanes = [ThreadPoolExecutor(1) for _ in range(processors())]
    return Axis(
        join=_put_apart,
        split=lambda joined, count: list(joined),
        count=lambda joined: len(joined),
        spread=partial(_spread_apart, lanes),
    )


def _put_apart(trees: Sequence[Tree]) -> Joined:
    return jax.device_put(list(trees))


def _spread_apart(lanes: Sequence[ThreadPoolExecutor], function: Function, *, donate: int = 0) -> Program:
    program = jax.jit(function, donate_argnums=tuple(range(donate)))
    # Only updates donate, and only they take long enough to gain from running side by side.
    run = partial(_run_apart, program, lanes if donate else ())
    return Program(run, partial(_compile_apart, program))


def _run_apart(program: Function, lanes: Sequence[ThreadPoolExecutor], *arguments: Any) -> tuple[Any, ...]:
    """Runs a program for every seed; returns a tuple of lists over seeds."""
    *joined, shared = arguments
    seeds = list(zip(*joined, strict=True))
    done = []
    if lanes and len(seeds) > 1:
        launch = at_present_precision(program)
        for lane, seed in zip(cycle(lanes), seeds, strict=False):
            # This waits for the launch (the first one compiles), but not for the results.
            done.append(lane.submit(launch, *seed, shared).result())
    else:
        for seed in seeds:
            done.append(program(*seed, shared))
    return tuple(map(list, zip(*done, strict=True)))


def _compile_apart(program: Any, *arguments: Any) -> None:
    *joined, shared = arguments
    program.lower(*(seeds[0] for seeds in joined), shared).compile()


def at_present_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function with the precision of matrix products that this thread has, whichever thread calls it."""
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

    def call(*arguments: P.args, **named: P.kwargs) -> R:
        with jax.default_matmul_precision(precision):  # a setting that each thread has for itself
            return function(*arguments, **named)

    return call


def _program_of(function: Function, donate: int) -> Program:
    """The program of a function of joined arguments.

    Args:
        function: of arrays of all seeds; returns a tuple.
        donate: the number of arguments, from the first on, whose buffers may be reused for the results.
    """
    options = _GPU_OPTIONS if jax.default_backend() == "gpu" else None
    program = jax.jit(function, donate_argnums=tuple(range(donate)), compiler_options=options)

    def compile_(*arguments: Any) -> None:
        program.lower(*arguments).compile()  # later calls find it

    return Program(program, compile_)


def stacked(devices: Devices) -> Axis:
    """The layout in which the seeds' trees are stacked along a leading axis, which devices share.

    Args:
        devices: as many of them are used as divide the number of seeds.
    """
    return Axis(
        join=partial(_stack, devices),
        split=_unstack,
        count=lambda joined: int(jax.tree.leaves(joined)[0].shape[0]),
        spread=partial(_spread_stacked, devices),
    )


def sharing(seeds: int, devices: int) -> int:
    """The number of devices that can share the seeds evenly.

    Args:
        seeds: number of seeds.
        devices: number of devices at hand.

    Returns:
        The largest divisor of `seeds` that is at most `devices`.
    """
    return max(n for n in range(1, devices + 1) if seeds % n == 0)


def _mesh(devices: Devices, seeds: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices[: sharing(seeds, len(devices))]), ("seed",))


def _partition(*axes: str) -> Any:
    partition: Any = jax.sharding.PartitionSpec
    return partition(*axes)


@lru_cache(maxsize=8)
def _sharding_of(devices: tuple[Any, ...], seeds: int) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(_mesh(devices, seeds), _partition("seed"))


def _sharding(devices: Devices, seeds: int) -> jax.sharding.NamedSharding:
    return _sharding_of(tuple(devices), seeds)


def _stack(devices: Devices, trees: Sequence[Tree]) -> Joined:
    # On the host, because every shape would be a program to compile.
    return put(devices, jax.device_get(list(trees)))


def put(devices: Devices, trees: Sequence[Tree]) -> Joined:
    """Sends trees, one per seed, from the host to the devices that share them, stacked."""
    if not jax.tree.leaves(trees[0]):
        return trees[0]
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    return jax.device_put(stack, _sharding(devices, len(trees)))


def _unstack(joined: Joined, count: int) -> list[Tree]:
    """The trees, on the host, of so many seeds that are stacked.

    Args:
        joined: leaves [S, ...]; a tree without leaves stands for each seed's.
        count: number of seeds (S).
    """
    if not jax.tree.leaves(joined):
        return [joined] * count
    joined = jax.device_get(joined)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], joined) for i in range(count)]


def zeros(devices: Devices, seeds: int, like: Tree) -> Joined:
    """Zeros in the shapes of one seed's tree, for the given number of seeds, stacked on the devices.

    Args:
        devices: share the seeds, as in `stacked`.
        seeds: number of seeds (S).
        like: leaves with a shape and a dtype, such as `jax.ShapeDtypeStruct`.

    Returns:
        Leaves [S, ...].
    """
    make = partial(zeros_like, like, seeds)
    return jax.jit(make, out_shardings=_sharding(devices, seeds))()


def zeros_like(tree: Tree, seeds: int) -> Tree:
    """Zeros in the shapes of a tree, with a leading seed axis."""
    return jax.tree.map(lambda leaf: jnp.zeros((seeds, *leaf.shape), leaf.dtype), tree)


def _spread_stacked(devices: Devices, function: Function, *, donate: int = 0) -> Program:
    return _program_of(partial(_run_stacked, devices, function), donate)


def _run_stacked(devices: Devices, function: Function, *arguments: Any) -> tuple[Any, ...]:
    """Maps a function over the seed axis; is traced by JAX."""
    # The shared argument gets no seed axis, so a condition on it stays a branch: delayed actor updates are
    # skipped, not computed and masked.
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
