"""Compiles what training will run, while the decisions of the warm-up are collected."""

from __future__ import annotations  # JAX's types are loaded on first use

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from crossq_wn.training.session import Session

# Seconds that compiling takes on two busy cores where nothing is cached: what `compiling_ahead` compiles, and
# the diagnostics, which follow with the first row of metrics after an update.
_AHEAD, _DIAGNOSTICS = 20.0, 10.0


@contextmanager
def compiling_ahead(session: Session) -> Iterator[None]:
    """Compiles in a thread of its own, which has ended when this context ends.

    Nothing is compiled ahead if no updates follow on a warm-up.

    Args:
        session: whose learners exist; `session.compiling` is the thread until it is waited for.
    """
    warmup = session.config.settings.warmup
    # A robot must not wait for it in the middle of an episode.
    early = session.decisions < warmup or (session.watch is not None and not session.finished)
    if early and warmup < session.config.decisions and session.seeds:
        work = _work(session)
        session.compiling = threading.Thread(target=_attempt, args=(work,), name="compilation")
        session.compiling.start()
        session.compiling_since = time.perf_counter()
    try:
        yield
    finally:
        if session.compiling is not None and session.compiling.is_alive():
            session.reporter.message("a program is still being compiled, which cannot be cut short: waiting")
        wait(session)


def compiling_left(session: Session) -> float:
    """Guesses the seconds for which programs are still compiled: at first the usual ones, later in doubt."""
    left, options = 0.0, session.config.options
    if session.compiling is not None and session.compiling.is_alive():
        since = time.perf_counter() - session.compiling_since
        left = max(_AHEAD - since, since / 2)
    rows = session.config.trained_frames // options.log_every - session.frames // options.log_every
    diagnoses = options.diagnostics and session.learner.diagnose is not None
    return left + _DIAGNOSTICS if diagnoses and rows and not session.diagnosed else left


def wait(session: Session) -> None:
    """Returns once everything is compiled."""
    if session.compiling is not None:
        session.compiling.join()
        session.compiling = None


def _work(session: Session) -> Callable[[], None]:
    """What is to be compiled, for minibatches as they will be."""
    settings, learner = session.config.settings, session.learner
    places = np.zeros((settings.utd, settings.batch_size), np.int32)
    replays = [seed.replay for seed in session.seeds]
    fed = learner.load(None, learner.pack(replays, [places] * len(replays)))
    observations = np.stack([seed.observation for seed in session.seeds])
    return learner.compile(session.states, fed, observations)


def _attempt(work: Callable[[], None]) -> None:
    # What cannot be compiled, or no longer fits into memory, is reported by the call that needs it.
    with suppress(Exception):
        work()
