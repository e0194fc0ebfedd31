"""The gradient updates of a decision: minibatches are drawn, sent and launched, here or in another thread."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.learning.axis import at_present_precision
from crossq_wn.training.compiling import wait
from crossq_wn.training.reporting import doing
from crossq_wn.training.session import Session, settle


def update(session: Session, decision: int) -> None:
    """Starts the gradient updates of a decision, without waiting for their results.

    Args:
        session: is changed.
        decision: agent decisions before this one.
    """
    settings = session.config.settings
    if decision < settings.warmup or not session.seeds:
        return
    if session.algorithm.resets(decision + 1):
        _reset_learners(session)
    burst = session.algorithm.burst
    further = burst.at(decision - settings.warmup) // settings.utd  # rounds before that of this decision
    for number in range(further + 1):
        errors = burst.errors or number == further
        if session.phase == "collecting":  # the first updates of this process
            with doing(session, "compiling", then="training"):
                wait(session)
                _update_once(session, errors)
                collect(session)
        else:
            _update_once(session, errors)


def _update_once(session: Session, errors: bool) -> None:
    """Starts the gradient updates of one decision, U per seed; `errors` says whether they find errors."""
    collect(session)
    settle(session)
    session.stopwatch.lap("update")  # for which it may have waited
    if session.launcher is None:
        _launch(session, errors, session.stopwatch.lap)
    else:
        launch = at_present_precision(partial(_launch, session, errors, lambda phase: None))
        session.launching = session.launcher.submit(launch)


def _launch(session: Session, errors: bool, lap: Callable[[str], None]) -> None:
    """Draws minibatches and launches the updates; another thread may do that, until `collect`."""
    replays, places = [seed.replay for seed in session.seeds], _draw(session)
    packed = session.learner.pack(replays, places)
    lap("replay")
    session.feed = session.learner.load(session.feed, packed)
    lap("transfer")
    session.states, session.metrics = session.learner.update(session.states, session.feed, session.updates)
    if errors and session.algorithm.sampling.priorities is not None:
        ends = [replay.end for replay in replays]
        session.drawn = list(zip(places, ends, strict=True))
    session.updates += session.config.settings.utd
    lap("update")


def launches_aside() -> bool:
    """Whether another thread is worth its cost, which exceeds that of launching small updates on a CPU."""
    return jax.default_backend() != "cpu"


def collect(session: Session) -> None:
    """Waits until another thread has launched the newest updates, if one does."""
    launching, session.launching = session.launching, None
    if launching is not None:
        launching.result()
        session.stopwatch.lap("update")


def _draw(session: Session) -> list[np.ndarray]:
    """The minibatches of every seed as places in its replay, int32 [U, B]."""
    settings, sampling = session.config.settings, session.algorithm.sampling
    pinned = session.config.pinned_samples
    places = []
    for seed in session.seeds:
        drawn = seed.replay.draw(seed.sampling, settings.utd, settings.batch_size, sampling, pinned)
        places.append(drawn)
    return places


def _reset_learners(session: Session) -> None:
    """Sets every seed's networks and optimisers back to their first values, as in SR-SAC's and BRO's code."""
    states = []
    old = session.learner.split(session.states, len(session.seeds))
    for seed, state in zip(session.seeds, old, strict=True):
        seed.resets += 1
        states.append(session.algorithm.reset(state, session.initial_state(seed.number)))
    session.states = session.learner.states(states)
