"""The learner: an algorithm over several seeds, and over all gradient updates of a decision.

An algorithm is written for one seed and one gradient update. The seed axis (see `axis`) and the UTD ratio are
added here and nowhere else. The updates of a decision are a scan inside one compiled call, whose compile time
does not grow with the UTD ratio.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.learning.axis import (
    Axis,
    Devices,
    Function,
    Program,
    apart,
    at_present_precision,
    put,
    stacked,
    zeros,
)
from crossq_wn.learning.interface import Learner, Memories, States
from crossq_wn.learning.minibatches import (
    Copy,
    Fed,
    Feed,
    fits,
    gathered,
    on_device,
    resident,
)
from crossq_wn.learning.products import minibatch_shapes, state_shapes
from crossq_wn.learning.programs import (
    appraise_one,
    diagnose_one,
    diagnosing,
    exploit_one,
    explore_one,
    observe_one,
    observe_rows_of_one,
    traced_once,
    updates_of_one,
    write_and_update_one,
)
from crossq_wn.types import ERRORS, Algorithm, Metrics, Spec, Tree


def make(algorithm: Algorithm, seeds: int, replay_bytes: int | None, pinned: int = 0) -> Learner:
    """Makes the learner that suits this machine and this run.

    On a CPU that is a program per seed; accelerators compute all seeds at the same time.

    Args:
        algorithm: for one seed.
        seeds: number of seeds.
        replay_bytes: size of one seed's replay; the replays are copied to the accelerator if they fit. None
            leaves them here, as where updates do not follow on every decision.
        pinned: rows behind the ring of each replay.
    """
    if jax.default_backend() == "cpu":
        return one_by_one(algorithm)
    devices = jax.devices()
    on_device = replay_bytes is not None and fits(replay_bytes, seeds, devices)
    return vectorised(algorithm, devices, replay_on_device=on_device, pinned=pinned)


def one_by_one(algorithm: Algorithm) -> Learner:
    """Runs the same compiled program for each seed; for CPUs."""
    # Minibatches travel with the call that needs them, which is faster than sending them before.
    return _over(apart(), gathered(list, algorithm.sampling), algorithm)


def vectorised(
    algorithm: Algorithm,
    devices: Devices | None = None,
    *,
    replay_on_device: bool = False,
    pinned: int = 0,
) -> Learner:
    """Runs one program mapped over a leading seed axis; for accelerators.

    Args:
        algorithm: for one seed.
        devices: share the seeds; as many are used as divide the number of seeds. By default the first device.
        replay_on_device: whether minibatches are gathered from a copy of replay on the device.
        pinned: rows behind the ring of each replay.
    """
    usable = jax.devices()[:1] if devices is None else devices
    axis = stacked(usable)
    feed = gathered(partial(put, usable), algorithm.sampling)
    if replay_on_device:
        feed = resident(partial(put, usable), partial(zeros, usable), algorithm.sampling, pinned)
    return _over(axis, feed, algorithm)


def metric_names(algorithm: Algorithm, spec: Spec, *, diagnostics: bool, batch_size: int = 2) -> list[str]:
    """The names of an update's metrics and, if wanted, of the diagnostics; traces, but computes nothing.

    Args:
        algorithm: for one seed.
        spec: the problem.
        diagnostics: whether to add those, if the algorithm has any.
        batch_size: samples per minibatch; where it is that of the training, training does not trace again.
    """
    batch = minibatch_shapes(algorithm, spec, batch_size)
    state = state_shapes(algorithm)
    _, metrics = jax.eval_shape(traced_once(algorithm.update), state, batch, np.int32(0))
    metrics.pop(ERRORS, None)
    if not diagnostics or algorithm.view is None:
        return list(metrics)
    found = jax.eval_shape(diagnosing(algorithm.view), state, batch, np.int32(0))
    return [*metrics, *found]


def _over(axis: Axis, feed: Feed, algorithm: Algorithm) -> Learner:
    """Builds the learner of an algorithm on a seed axis.

    Args:
        axis: how the seeds' arrays are laid out.
        feed: how minibatches reach the updates.
        algorithm: for one seed.
    """
    observe = observe_rows = diagnose_all = appraise = None
    if algorithm.observe is not None:
        observe = partial(_observe, axis.spread(partial(observe_one, algorithm), donate=1).run)
        rows = axis.spread(partial(observe_rows_of_one, algorithm), donate=1)
        observe_rows = partial(_observe, rows.run)
    if algorithm.view is not None:
        newest = partial(diagnose_one, algorithm, feed.batches)
        diagnose_all = partial(_diagnose, axis, axis.spread(newest).run)
    if algorithm.appraise is not None:
        appraise = partial(_appraise, axis.spread(partial(appraise_one, algorithm)).run)
    explore = axis.spread(partial(explore_one, algorithm))
    update = _spread_updates(axis, feed, algorithm)
    return Learner(
        states=partial(_join_states, axis),
        join=axis.join,
        split=axis.split,
        fresh_memories=lambda count: axis.join([algorithm.memory] * count),
        explore=partial(_explore, explore.run),
        exploit=partial(_exploit, axis.spread(partial(exploit_one, algorithm)).run),
        observe=observe,
        observe_rows=observe_rows,
        pack=feed.pack,
        load=feed.load,
        update=partial(_update if feed.write is None else _write_and_update, update.run),
        compile=partial(_compile, axis, algorithm, explore, update),
        diagnose=diagnose_all,
        appraise=appraise,
    )


def _spread_updates(axis: Axis, feed: Feed, algorithm: Algorithm) -> Program:
    if feed.write is None:
        return axis.spread(partial(updates_of_one, algorithm, feed.batches), donate=1)
    # The copy of replay is donated too, or it would be there twice while rows are written.
    return axis.spread(partial(write_and_update_one, algorithm, feed.batches, feed.write), donate=2)


def _join_states(axis: Axis, trees: Sequence[Tree]) -> States:
    # By way of the device, where they get the types that the programs will return.
    return axis.join(jax.device_get(jax.device_put(list(trees))))


# Functions of all seeds on the host. `run` is a function of one seed that an axis has spread over the seeds.


def _explore(
    run: Function, states: States, memories: Memories, observations: np.ndarray, decision: int
) -> tuple[Any, Memories]:
    actions, memories = run(states, memories, observations, np.int32(decision))
    for each in jax.tree.leaves(actions):
        each.copy_to_host_async()
    return actions, memories


def _exploit(
    run: Function, states: States, memories: Memories, observations: np.ndarray
) -> tuple[np.ndarray, Memories]:
    actions, memories = run(states, memories, observations, None)
    return np.asarray(actions), memories


def _observe(
    run: Function, states: States, observations: np.ndarray, rewards: np.ndarray, ended: np.ndarray
) -> States:
    return run(states, observations, rewards, ended, None)[0]


def _update(run: Function, states: States, fed: Fed, first: int) -> tuple[States, Any]:
    states, metrics = run(states, fed, np.int32(first))
    return states, metrics


def _write_and_update(run: Function, states: States, fed: Copy, first: int) -> tuple[States, Any]:
    states, rows, metrics = run(states, *fed.held, np.int32(first))
    fed.held = fed.held._replace(rows=rows)
    return states, metrics


def _compile(
    axis: Axis,
    algorithm: Algorithm,
    explore: Program,
    update: Program,
    states: States,
    fed: Fed,
    observations: np.ndarray,
) -> Callable[[], None]:
    memories = axis.join([algorithm.memory] * len(observations))
    given = fed.held if isinstance(fed, Copy) else (fed,)
    states, given, memories = map(_shapes, (states, tuple(given), memories))

    def work() -> None:
        explore.compile(states, memories, observations, np.int32(0))
        update.compile(states, *given, np.int32(0))

    return at_present_precision(work)


def _shapes(tree: Tree) -> Tree:
    """What a program's code depends on; the arrays themselves may be gone when it is compiled."""

    def shape(leaf: Any) -> Any:
        sharding = leaf.sharding if getattr(leaf, "committed", False) else None
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # type: ignore[no-untyped-call]

    return jax.tree.map(shape, tree)


def _diagnose(axis: Axis, run: Function, states: States, fed: Fed, last: int) -> list[Metrics]:
    (found,) = run(states, on_device(fed), np.int32(last))
    apart: list[Metrics] = jax.device_get(axis.split(found, axis.count(found)))
    return apart


def _appraise(
    run: Function, states: States, observations: np.ndarray, decision: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    actions, bonuses, values = run(states, observations, np.int32(decision))
    return np.asarray(actions), np.asarray(bonuses), np.asarray(values)
