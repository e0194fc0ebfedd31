"""One agent decision of every seed: act, step, store, update; seeds whose environment fails stop."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossq_wn.environments import EnvironmentFaultError, Transition
from crossq_wn.environments.core import Result
from crossq_wn.errors import option
from crossq_wn.lazy import jax
from crossq_wn.training.seeds import Seed
from crossq_wn.training.session import Session, settle, told
from crossq_wn.training.stopping import drop, rewind
from crossq_wn.training.updating import collect, update


def decide(session: Session) -> dict[int, str]:
    """Makes one agent decision of every seed, and the gradient updates that belong to it.

    Returns:
        Why seeds are to stop, by number, once what is due after this decision is recorded.
    """
    chosen, before = act(session), session.metrics
    session.stopwatch.lap("act")
    if session.config.options.overlap:
        # The environments step while the updates run, which another thread may prepare and launch meanwhile.
        update(session, session.decisions)
        actions = fetch(session, chosen, before)
        session.training.begin(session.indices, actions)
        if session.training.way == "workers":
            collect(session)  # first, because waiting for workers would take Python's lock from that thread
        reasons = step(session, actions)
    else:
        actions = fetch(session, chosen, before)
        settle(session)
        session.stopwatch.lap("update")
        reasons = step(session, actions)
        update(session, session.decisions)
    session.decisions += 1
    return reasons


def fetch(session: Session, chosen: tuple[Any, Any], metrics: Any) -> np.ndarray:
    """Waits for the updates of the decision before and then for this decision's actions.

    Args:
        session: whose stopwatch tells the two apart; its seeds get their new memories.
        chosen: what `act` returned.
        metrics: of these updates; all results of a program are there at once, and looking at every array of
            the states would take longer.

    Returns:
        [S, action_size].
    """
    jax.block_until_ready(metrics)  # type: ignore[no-untyped-call]
    session.stopwatch.lap("update")
    session.stopwatch.next_decision()
    actions = np.asarray(chosen[0])
    if chosen[1] is not None:
        memories = session.learner.split(chosen[1], len(session.seeds))
        for seed, memory in zip(session.seeds, memories, strict=True):
            seed.earlier_memory, seed.memory = seed.memory, memory
    session.stopwatch.lap("act")
    return actions


def act(session: Session) -> tuple[Any, Any]:
    """Every seed's action, [S, action_size] in [-1, 1]: uniform in the warm-up, then the policy's.

    Returns:
        Actions and new memories, joined, which may still be computed; in the warm-up memories are None.
    """
    if session.decisions < session.config.settings.warmup:
        size = session.spec.action_size
        drawn = [seed.warmup.uniform(-1, 1, size).astype(np.float32) for seed in session.seeds]
        return np.stack(drawn), None
    learner = session.learner
    observations = np.stack([seed.observation for seed in session.seeds])
    memories = learner.join([seed.memory for seed in session.seeds])
    return learner.explore(session.states, memories, observations, session.decisions)


def step(session: Session, actions: np.ndarray) -> dict[int, str]:
    """Steps every seed's environment and stores the transitions.

    A seed whose environment fails stops as it was before this decision. With overlap, its updates are made
    already, except in the warm-up: it loses the transition, and stops after the decision.

    Args:
        session: is changed.
        actions: [S, action_size].

    Returns:
        Why seeds are to stop after this decision, by number.
    """
    results = session.training.step(session.indices, actions)
    session.stopwatch.lap("environment")
    collect(session)
    reasons = _faults(session, results)
    if reasons and _ahead(session):
        loss = f"{option('overlap')} loses this transition, so later numbers differ from an undisturbed run's"
        reasons = {number: f"{reason}; {loss}" for number, reason in reasons.items()}
    elif reasons:
        actions, results = _without(session, reasons, actions, results)
        reasons = {}
    if session.learner.observe is not None and session.seeds:
        observe(session, results)
    over = []
    for seed, action, result in zip(session.seeds, actions, results, strict=True):
        if isinstance(result, EnvironmentFaultError):
            continue
        store(session, seed, action, result)
        if result.episode is not None:
            over.append(seed)
    reasons |= _begin_episodes(session, over)
    session.stopwatch.lap("replay")
    return reasons


def _ahead(session: Session) -> bool:
    """Whether the updates of a decision are made before its environments are stepped."""
    return session.config.options.overlap and session.decisions >= session.config.settings.warmup


def _without(
    session: Session, reasons: dict[int, str], actions: np.ndarray, results: Sequence[Result]
) -> tuple[np.ndarray, list[Result]]:
    """Stops seeds as they were before this decision; returns actions and results of the others."""
    going = []
    for position, seed in enumerate(session.seeds):
        if seed.number in reasons:
            rewind(session, seed)
        else:
            going.append(position)
    drop(session, reasons)
    return actions[going], [results[position] for position in going]


def _faults(session: Session, results: Sequence[Result]) -> dict[int, str]:
    """Why seeds failed that have a fault as their result, by number."""
    reasons = {}
    for seed, result in zip(session.seeds, results, strict=True):
        if isinstance(result, EnvironmentFaultError):
            reasons[seed.number] = told(session, seed.number, result)
    return reasons


def store(session: Session, seed: Seed, action: np.ndarray, result: Transition) -> None:
    """Adds a transition to replay: an action [action_size], taken on `seed.observation`, and its result."""
    frames = session.frames + session.config.action_repeat
    session.calls.decision(seed.number, frames, seed.observation, action, result)
    seed.replay.add(
        seed.observation,
        action,
        result.reward,
        result.next_observation,
        terminated=result.terminated,
        last=result.episode is not None,
    )
    seed.observation = result.next_observation
    if result.episode is not None:
        seed.end_episode(result.episode)
        seed.memory = session.algorithm.recall(seed.memory, session.algorithm.memory)


def _begin_episodes(session: Session, seeds: Sequence[Seed]) -> dict[int, str]:
    """Begins the next episodes of some seeds; returns, by number, why one cannot begin."""
    reasons: dict[int, str] = {}
    if not seeds:
        return reasons
    for seed, first in zip(seeds, session.training.resets([seed.index for seed in seeds]), strict=True):
        if isinstance(first, EnvironmentFaultError):
            reasons[seed.number] = told(session, seed.number, first)
        else:
            seed.observation = first
    return reasons


def observe(session: Session, results: Sequence[Result]) -> None:
    """Shows the transitions to learners with running statistics; a failed environment ends its episode."""
    rewards, ended = np.zeros(len(results), np.float32), np.ones(len(results), bool)
    for position, result in enumerate(results):
        if not isinstance(result, EnvironmentFaultError):
            rewards[position], ended[position] = result.reward, result.episode is not None
    observations = np.stack([seed.observation for seed in session.seeds])
    assert session.learner.observe is not None
    session.states = session.learner.observe(session.states, observations, rewards, ended)
