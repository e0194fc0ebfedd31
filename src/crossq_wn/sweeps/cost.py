"""The cost of training: gradient updates, core-hours and disk, estimated before anything is trained.

The work of an update is counted in its program, for any algorithm (`learning.products`). The time that it
takes follows from three speeds, which are measured on this machine in a second or two: of matrix products, of
other operations, and of the numbers that those produce. The simulation is timed on one environment per group
of tasks.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.algorithms import recipe_of
from crossq_wn.algorithms.settings import Settings
from crossq_wn.environments.groups import declared
from crossq_wn.environments.moving import WORTH
from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.memory import state_bytes
from crossq_wn.learning.products import Program, Work, counted, update_program, work, work_of_decision
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import use_jax
from crossq_wn.runs.config import RunConfig
from crossq_wn.sweeps import simulations
from crossq_wn.sweeps.simulations import Simulation, seconds_per_call
from crossq_wn.types import Burst, Priorities, Spec

_START_SECONDS = 20.0  # a guess at the imports and compilation of a run
_KEPT = 2  # checkpoints that a run keeps
# Until a run has been measured: a process without replay and learners, and a learner while it updates.
_PROCESS, _COPIES = 500 * 2**20, 4
_WORKER = 155 * 2**20  # docs/scale.md


class Cost(NamedTuple):
    """The cost of a run, for all its seeds together."""

    updates: int  # gradient updates
    update_seconds: float  # seconds per gradient update
    core_seconds: float  # of the whole run
    disk: int  # bytes, once it is trained
    memory: int  # bytes, with full replay

    def plus(self, other: "Cost") -> "Cost":
        """The cost of both, one after the other; the time per update is that of the more expensive one."""
        return Cost(
            self.updates + other.updates,
            max(self.update_seconds, other.update_seconds),
            self.core_seconds + other.core_seconds,
            self.disk + other.disk,
            max(self.memory, other.memory),
        )


class Speed(NamedTuple):
    """Seconds that this machine takes for units of work; on a CPU, seconds of one core."""

    multiply_add: float  # per multiply-add of a matrix product
    operation: float  # per other operation
    element: float  # per number that another operation produces

    def seconds(self, counted: Work) -> float:
        """Estimates how long a program takes."""
        products = self.multiply_add * counted.multiply_adds
        return products + self.operation * counted.operations + self.element * counted.elements


class Programs(NamedTuple):
    """The work of an algorithm, for one seed."""

    update: Work
    decision: Work
    state: int  # bytes
    burst: Burst  # further gradient updates at some decisions
    priorities: Priorities | None  # by which samples are drawn


def cost(config: RunConfig) -> Cost:
    """Estimates what a run costs from beginning to end."""
    options, settings, machine = config.options, config.settings, speed()
    task = simulation(_typical(config.task))
    sizes = options.frame_stack * task.sizes[0], task.sizes[1]
    program = programs(config.system.algorithm, settings, sizes)
    updates = program.burst.with_regular(config.decisions - settings.warmup, settings.utd)
    episodes = (1 + options.frames // options.eval_every) * options.eval_episodes  # the first at frame 0
    # Environment frames of training and evaluation, with 1,000 for episodes without a known time limit.
    frames = options.frames + episodes * (config.episode_frames or 1000)
    update, decision = machine.seconds(program.update), machine.seconds(program.decision)
    seconds = updates * update + frames * (task.frame_seconds + decision / config.action_repeat)
    rows = min(config.decisions, settings.replay_size)  # older ones are dropped from disk, too
    replay = Replay.bytes(rows, *sizes, program.priorities)
    disk, memory = replay + _KEPT * program.state, replay + _COPIES * program.state
    count = len(options.seeds)
    return Cost(
        count * updates, update, _START_SECONDS + count * seconds, count * disk, _PROCESS + count * memory
    )


def memory_of_workers(config: RunConfig, cpus: int) -> int:
    """Estimates the memory of the processes in which a run's environments are stepped (`environments.crew`).

    Args:
        config: of the run.
        cpus: processors that it has.
    """
    task, seeds = simulation(_typical(config.task)), len(config.options.seeds)
    workers = min(cpus, seeds)
    worth = seeds * config.action_repeat * task.frame_seconds >= WORTH
    return workers * _WORKER if workers > 1 and worth else 0


def explain() -> str:
    """A sentence on how costs are estimated."""
    measured = speed()
    flops = 2e-9 / measured.multiply_add  # a multiply-add is two operations
    operation, elements = 1e6 * measured.operation, 1e-9 / measured.element
    return (
        "estimated from the matrix products and other operations counted in each program, at speeds "
        f"measured just now: {flops:.0f} GFLOP/s, {operation:.1f} µs per operation, {elements:.1f} billion "
        "numbers per second; simulation is timed on one task per group"
    )


@cache
def programs(algorithm: str, settings: Settings, sizes: tuple[int, int]) -> Programs:
    """Counts the work of an algorithm.

    Args:
        algorithm: its name.
        settings: its settings; the UTD ratio matters if the actor is updated once per decision, as in REDQ.
        sizes: of observation and action.
    """
    built = recipe_of(algorithm).build(_spec(sizes), settings)
    # The UTD ratio decides how often branches run, and not what they compute: all ratios share a trace, as
    # do all sizes of replay, of which a program sees a minibatch.
    traced = _traced(algorithm, replace(settings, utd=1, replay_size=Settings.replay_size), sizes)
    return Programs(
        update=counted(traced.update, 1 / built.period),
        decision=traced.decision,
        state=traced.state,
        burst=built.burst,
        priorities=built.sampling.priorities,
    )


class _Traced(NamedTuple):
    """What JAX traced for one seed; tracing takes most of an estimate."""

    update: Program
    decision: Work
    state: int  # bytes


@cache
def _traced(algorithm: str, settings: Settings, sizes: tuple[int, int]) -> _Traced:
    built, spec = recipe_of(algorithm).build(_spec(sizes), settings), _spec(sizes)
    update = update_program(built, spec, settings.batch_size)
    return _Traced(update, work_of_decision(built, spec), state_bytes(built))


def _spec(sizes: tuple[int, int]) -> Spec:
    return Spec(*sizes, discount=0.99)  # the discount does not change the program


def _typical(task: str) -> str:
    """The first task of a task's group, which stands for the others because making every task takes long."""
    for members in declared().values():
        if task in members:
            return members[0]
    return task


@cache
def simulation(task: str) -> Simulation:
    """What an environment's simulation takes."""
    return simulations.simulation(task, "process_time" if _on_cpu() else "perf_counter")


def untimed(tasks: Iterable[str]) -> dict[str, str]:
    """Why the simulation of tasks counts as costing nothing, for those of which it does."""
    found = {task: simulation(task).why for task in sorted(set(map(_typical, tasks)))}
    return {task: why for task, why in found.items() if why}


@cache
def speed() -> Speed:
    """Measures this machine's speed, once per process."""
    # The runs need the GPU, and this process, which lives as long as they do, does not.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    use_jax()
    product = _timed(jnp.matmul, np.ones((256, 512), np.float32), np.ones((512, 512), np.float32))
    multiply_add = product.seconds / product.work.multiply_adds
    small, large = _timed(_train_step, *_network(8, 8)), _timed(_train_step, *_network(256, 256))
    # In the small network, the number of operations decides the time almost alone.
    operation = small.seconds / small.work.operations
    rest = large.seconds - multiply_add * large.work.multiply_adds - operation * large.work.operations
    # On a busy machine the difference may come out near zero or negative, so it gets a lower bound.
    return Speed(multiply_add, operation, max(rest, 0.01 * large.seconds) / large.work.elements)


class _Timed(NamedTuple):
    seconds: float
    work: Work


def _timed(program: Callable[..., Any], *arguments: Any) -> _Timed:
    compiled, there = jax.jit(program), jax.device_put(arguments)

    def call() -> None:
        jax.block_until_ready(compiled(*there))  # type: ignore[no-untyped-call]

    call()  # compiles
    clock = time.process_time if _on_cpu() else time.perf_counter
    return _Timed(seconds_per_call(call, clock), work(program, *arguments))


def _on_cpu() -> bool:
    """Whether time is the processor's, whatever else runs there; beside an accelerator it is the wall's."""
    return jax.default_backend() == "cpu"


def _network(width: int, batch: int) -> tuple[Any, Any]:
    """Three normalised hidden layers with the state of their optimiser, and a minibatch."""
    params = [np.full((width, width), 0.01, np.float32) for _ in range(4)]
    return (params, params, params), np.ones((batch, width), np.float32)


def _loss(params: list[Any], x: Any) -> Any:
    *hidden, last = params
    for kernel in hidden:
        x = x @ kernel
        centred = x - x.mean(axis=0)
        x = jax.nn.relu(centred / jnp.sqrt(jnp.square(centred).mean(axis=0) + 1e-5))
    return jnp.square(x @ last).mean()


def _train_step(state: Any, x: Any) -> Any:
    """One step of Adam, as in the algorithms."""
    params, mean, square = state
    gradients = jax.grad(_loss)(params, x)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradients)
    params = jax.tree.map(lambda p, m, v: p - 1e-3 * m / (jnp.sqrt(v) + 1e-8), params, mean, square)
    return params, mean, square
