"""The limits of this machine: matrix products at BLAS or device speed, and bare physics."""

from __future__ import annotations  # JAX's types are loaded on first use

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.environments import Environment
from crossq_wn.environments.pool import Pool
from crossq_wn.lazy import jax
from crossq_wn.learning.products import Product
from crossq_wn.machine import processors
from crossq_wn.runs.config import RunConfig
from crossq_wn.training.building import crew_for, make_environment

Measure = Callable[[float], float]  # seconds to spend -> seconds per call

_CHOICE = 10.0  # seconds at most until it is settled in which way environments are stepped
_IN_FLIGHT = 100  # products that an accelerator is given before the host waits for it


def seconds_per_call(
    call: Callable[[], Any], budget: float, multiple: int = 1, wait: Callable[[], Any] = lambda: None
) -> float:
    """Times calls.

    Args:
        call: what to time.
        budget: seconds to spend, roughly; at least one round of calls is made.
        multiple: calls per round, for calls whose work repeats with this period.
        wait: returns once everything that was called is done.

    Returns:
        The mean seconds per call.
    """
    wait()
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < budget:
        for _ in range(multiple):
            call()
        wait()
        done += multiple
    return (time.perf_counter() - start) / done


def floor(products: Mapping[Product, float], seeds: int) -> Measure:
    """Measures how long the matrix products of one update of one seed take by themselves.

    Operands are in memory. On a CPU, BLAS multiplies those of one seed at a time; on an accelerator, those of
    all seeds are multiplied at once.

    Args:
        products: the products, and how often each is computed per update.
        seeds: number of seeds that train side by side.
    """
    on_cpu = jax.default_backend() == "cpu"
    measures = []
    for product, times in products.items():
        measures.append((by_blas(product) if on_cpu else by_device(product, seeds), times))
    # Every kind of product gets the same share of the budget, however often an update computes it.
    return lambda budget: sum(times * measure(budget / len(measures)) for measure, times in measures)


def by_blas(product: Product) -> Measure:
    """Measures one product on the CPU."""
    generator = np.random.default_rng(0)
    left = generator.standard_normal(product.left, np.float32)
    right = generator.standard_normal(product.right, np.float32)
    a, b = as_matrices(left, right, product.dimensions)
    out = a @ b
    return lambda budget: seconds_per_call(lambda: np.matmul(a, b, out=out), budget)


def by_device(product: Product, seeds: int) -> Measure:
    """Measures one seed's share of a product that the accelerator computes for all seeds at once.

    Args:
        product: its operands' shapes and axes.
        seeds: number of seeds (S), which the accelerator computes at the same time.
    """
    generator = np.random.default_rng(0)
    left = generator.standard_normal((seeds, *product.left), np.float32)
    right = generator.standard_normal((seeds, *product.right), np.float32)
    x, y = jax.device_put((left, right))
    multiply = jax.jit(jax.vmap(lambda x, y: jax.lax.dot_general(x, y, product.dimensions)))
    newest = multiply(x, y)

    def call() -> None:
        nonlocal newest
        newest = multiply(x, y)

    def wait() -> None:
        jax.block_until_ready(newest)  # type: ignore[no-untyped-call]

    return lambda budget: seconds_per_call(call, budget, _IN_FLIGHT, wait) / seeds


def as_matrices(left: np.ndarray, right: np.ndarray, dimensions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Turns the operands of `lax.dot_general` into matrices, or stacks of them, that `@` can multiply.

    Args:
        left: the first operand.
        right: the second operand.
        dimensions: the contracted and the batched axes of both operands, as `lax.dot_general` takes them.

    Returns:
        [*batch, rows, contracted] and [*batch, contracted, columns].
    """
    (left_sum, right_sum), (left_batch, right_batch) = dimensions
    keep = [axis for axis in range(left.ndim) if axis not in (*left_sum, *left_batch)]
    a = left.transpose(*left_batch, *keep, *left_sum)
    keep = [axis for axis in range(right.ndim) if axis not in (*right_sum, *right_batch)]
    b = right.transpose(*right_batch, *right_sum, *keep)
    batch, summed = a.shape[: len(left_batch)], a.shape[a.ndim - len(left_sum) :]
    size = int(np.prod(summed))
    return a.reshape(*batch, -1, size), b.reshape(*batch, size, -1)


@dataclass(frozen=True)
class _Stage:
    """All seeds' environments twice: to step them as training does, and to step their physics alone."""

    played: Sequence[Environment]
    bare: Sequence[Environment]
    pool: Pool
    executor: Executor | None  # None: one thread
    actions: np.random.Generator
    noise: Sequence[np.random.Generator]  # of each seed's physics


@contextmanager
def environments(config: RunConfig) -> Iterator[dict[str, Measure]]:
    """Measures how long all seeds' environments take per decision.

    Yields:
        Two measures of all seeds: `environment`, stepped as in training, and `physics`, the bare simulation;
        and the same two of one environment in one thread, `environment_alone` and `physics_alone`. Those of
        physics, and of one environment, are missing where physics cannot be stepped by itself.
    """
    seeds = config.options.seeds
    threads = min(processors(), len(seeds))
    with ExitStack() as stack:
        played = [make_environment(config) for _ in seeds]
        bare = [make_environment(config) for _ in seeds]
        for environment in (*played, *bare):
            environment.reset(0)
        for environment in bare:
            stack.callback(environment.close)
        crew = stack.enter_context(crew_for(config, None))
        pool = stack.enter_context(closing(Pool(played, threads, crew)))  # closes what it steps
        executor = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        noise = [np.random.default_rng(seed) for seed in seeds]
        stage = _Stage(played, bare, pool, executor, np.random.default_rng(0), noise)
        _settle(stage)
        measures: dict[str, Measure] = {"environment": partial(seconds_per_call, partial(_decide, stage))}
        if all(environment.simulator.physics is not None for environment in bare):
            measures["physics"] = partial(_fastest_physics, stage, config.action_repeat)
            measures |= _alone(config, stack)
        yield measures


def _settle(stage: _Stage) -> None:
    """Steps until the pool has chosen its way of stepping, as it has for nearly all of a training."""
    end = time.perf_counter() + _CHOICE
    while not stage.pool.decided and time.perf_counter() < end:
        _decide(stage)


def _alone(config: RunConfig, stack: ExitStack) -> dict[str, Measure]:
    """Measures one environment and its physics, each in this thread; all but physics holds Python's lock."""
    played, bare = make_environment(config), make_environment(config)
    for environment in (played, bare):
        stack.callback(environment.close)
        environment.reset(0)
    actions, noise = np.random.default_rng(0), np.random.default_rng(0)

    def step() -> None:
        action = actions.uniform(-1, 1, played.action_size).astype(np.float32)
        if played.step(action).episode is not None:
            played.reset()

    advance = partial(_advance, config.action_repeat, bare, noise)
    return {
        "environment_alone": partial(seconds_per_call, step),
        "physics_alone": partial(seconds_per_call, advance),
    }


def _decide(stage: _Stage) -> None:
    """Steps every environment with a random action."""
    indices = list(range(len(stage.played)))
    shape = (len(indices), stage.played[0].action_size)
    actions = stage.actions.uniform(-1, 1, shape).astype(np.float32)
    for index, result in zip(indices, stage.pool.step(indices, actions), strict=True):
        if isinstance(result, Exception):
            raise result
        if result.episode is not None:
            stage.pool.reset(index)


def _fastest_physics(stage: _Stage, repeat: int, budget: float) -> float:
    """Steps the physics in turn or in threads, whichever is faster, as training does."""
    ways: list[Callable[..., Any]] = [map] if stage.executor is None else [map, stage.executor.map]
    step = partial(_advance, repeat)

    def once(run: Callable[..., Any]) -> None:
        list(run(step, stage.bare, stage.noise))

    return min(seconds_per_call(partial(once, run), budget / len(ways)) for run in ways)


def _advance(repeat: int, environment: Environment, generator: np.random.Generator) -> None:
    """One decision of the bare physics; resets come as usual, because its cost changes during an episode."""
    environment.simulator.physics.advance(repeat, generator)
    environment.frames += repeat
    if environment.frames >= (environment.episode_frames or 1000):
        environment.reset()
