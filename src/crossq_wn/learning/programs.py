"""The programs of a learner, written for one seed; JAX traces them.

Their last argument is the one that all seeds share.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any

from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.diagnostics import DIAGNOSTICS, Diagnostic, diagnose
from crossq_wn.learning.minibatches import Batches, Fed, Resident, Write
from crossq_wn.types import ERRORS, Algorithm, Appraisal, Array, Batch, Metrics, Tree, View
from crossq_wn.types import Update as OneUpdate


def traced_once(update: OneUpdate) -> OneUpdate:
    """The update, which JAX traces only once for all callers; their programs contain it inline."""
    return _inlined(update) if isinstance(update, Hashable) else update


def diagnosing(view: View) -> Callable[..., Metrics]:
    """The diagnostics of a view, which JAX traces only once, too."""
    if not isinstance(view, Hashable):
        return partial(_diagnosed, view, tuple(DIAGNOSTICS.values()))
    inlined: Callable[..., Metrics] = _inlined(_diagnosing_program(view, tuple(DIAGNOSTICS.values())))
    return inlined


@lru_cache(maxsize=8)
def _inlined(function: Callable[..., Any]) -> Any:
    return jax.jit(function, inline=True)


@lru_cache(maxsize=8)
def _diagnosing_program(view: View, table: tuple[Diagnostic, ...]) -> Callable[..., Metrics]:
    """Always the same object for a view and a table of diagnostics, so that JAX finds its trace again."""
    return partial(_diagnosed, view, table)


def _diagnosed(view: View, table: tuple[Diagnostic, ...], state: Tree, batch: Batch, count: Array) -> Metrics:
    """The table is an argument because JAX reuses the trace of equal functions."""
    return diagnose(view(state, batch, count))


def updates_of_one(
    algorithm: Algorithm, batches: Batches, state: Tree, fed: Fed, first: Array
) -> tuple[Tree, Metrics]:
    """Makes the updates of one decision.

    Args:
        algorithm: for one seed.
        batches: splits what was fed into minibatches.
        state: of the seed.
        fed: the data of U minibatches.
        first: gradient updates before these.

    Returns:
        The new state, and the metrics of the last update; `ERRORS` of all updates, [U, B].
    """
    update = traced_once(algorithm.update)
    rows, batch = batches(fed)

    def one(state: Tree, x: tuple[Tree, Array]) -> tuple[Tree, Metrics]:
        return update(state, batch(x[0]), x[1])

    count = jax.tree.leaves(rows)[0].shape[0]
    # A loop and not U copies, so the program compiles as fast for any UTD ratio.
    state, metrics = jax.lax.scan(one, state, (rows, first + jnp.arange(count)))
    return state, {name: found if name == ERRORS else found[-1] for name, found in metrics.items()}


def write_and_update_one(
    algorithm: Algorithm, batches: Batches, write: Write, state: Tree, rows: Tree, sent: Tree, first: Array
) -> tuple[Tree, Tree, Metrics]:
    """Brings the copy of replay up to date, and makes the updates of one decision.

    Args:
        algorithm: for one seed.
        batches: looks minibatches up in the copy.
        write: writes the newest rows into the copy.
        state: of the seed.
        rows: the copy of its replay, [capacity + 1 + pinned, ...].
        sent: the newest rows, and the places of the U minibatches.
        first: gradient updates before these.

    Returns:
        The new state, the new copy, and metrics as in `updates_of_one`.
    """
    rows = write(rows, sent)
    state, metrics = updates_of_one(algorithm, batches, state, Resident(rows, sent), first)
    return state, rows, metrics


def explore_one(
    algorithm: Algorithm, state: Tree, memory: Tree, observation: Array, decision: Array
) -> tuple[Array, Tree]:
    """Chooses the action of a training decision.

    Args:
        algorithm: for one seed.
        state: of the seed.
        memory: of acting in the present episode.
        observation: [observation_size].
        decision: agent decisions of training before this one.

    Returns:
        The action [action_size], and the new memory.
    """
    return algorithm.explore(state, memory, observation, decision)


def diagnose_one(
    algorithm: Algorithm, batches: Batches, state: Tree, fed: Fed, last: Array
) -> tuple[Metrics]:
    """Computes the diagnostics of the critic on the decision's last minibatch.

    Args:
        algorithm: for one seed; it has a `view`.
        batches: splits what was fed into minibatches.
        state: of the seed.
        fed: the data of U minibatches, of which the last one counts.
        last: the number of the newest gradient update, counted from 0.

    Returns:
        Scalars by name, alone in a tuple, as `Spread` demands.
    """
    assert algorithm.view is not None
    rows, batch = batches(fed)
    newest = batch(jax.tree.map(lambda leaf: leaf[-1], rows))
    return (diagnosing(algorithm.view)(state, newest, last),)


def exploit_one(
    algorithm: Algorithm, state: Tree, memory: Tree, observation: Array, _: None
) -> tuple[Array, Tree]:
    """Chooses the action of an evaluation decision.

    Args:
        algorithm: for one seed.
        state: of the seed.
        memory: of acting in the present episode.
        observation: [observation_size].
        _: unused; stands where programs have what all seeds share.

    Returns:
        The action [action_size], and the new memory.
    """
    return algorithm.exploit(state, memory, observation)


def observe_one(
    algorithm: Algorithm, state: Tree, observation: Array, reward: Array, ended: Array, _: None
) -> tuple[Tree]:
    """Shows the learner its newest transition.

    Args:
        algorithm: for one seed; it has an `observe`.
        state: of the seed.
        observation: [observation_size], on which the agent decided.
        reward: scalar.
        ended: scalar boolean, whether the episode ended with this decision.
        _: unused, as in `exploit_one`.
    """
    assert algorithm.observe is not None
    return (algorithm.observe(state, observation, reward, ended),)


def observe_rows_of_one(
    algorithm: Algorithm, state: Tree, observations: Array, rewards: Array, ended: Array, _: None
) -> tuple[Tree]:
    """Shows the learner consecutive transitions.

    Args:
        algorithm: for one seed; it has an `observe`.
        state: of the seed.
        observations: [n, observation_size].
        rewards: [n].
        ended: booleans [n].
        _: unused, as in `exploit_one`.
    """
    observe = algorithm.observe
    assert observe is not None

    def one(state: Tree, seen: tuple[Array, Array, Array]) -> tuple[Tree, None]:
        return observe(state, *seen), None

    shown, _ = jax.lax.scan(one, state, (observations, rewards, ended))
    return (shown,)


def appraise_one(algorithm: Algorithm, state: Tree, observation: Array, decision: Array) -> Appraisal:
    """Asks the critics for the value of a stochastic action.

    Args:
        algorithm: for one seed; it has an `appraise`.
        state: of the seed.
        observation: [observation_size].
        decision: selects the noise of the action.
    """
    assert algorithm.appraise is not None
    return algorithm.appraise(state, observation, decision)
