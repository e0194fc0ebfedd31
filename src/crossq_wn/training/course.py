"""Learning beside a robot: gradient updates that are owed, and weights that are handed over."""

from __future__ import annotations  # JAX's types are loaded on first use

import pickle
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossq_wn.acting.folding import folded
from crossq_wn.acting.operations import Op
from crossq_wn.errors import UserError, option
from crossq_wn.lazy import jax
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.real_time.hanging import Hanging
from crossq_wn.real_time.journal import Journal
from crossq_wn.real_time.memory import shape_for
from crossq_wn.real_time.side import ActingProcess, Stand
from crossq_wn.real_time.watch import Watch
from crossq_wn.runs.config import RunConfig
from crossq_wn.training.session import Session, settle
from crossq_wn.training.stopping import drop
from crossq_wn.training.updating import update
from crossq_wn.types import Algorithm, Burst, UndescribedError, network_of

_AHEAD_SECONDS = 60  # of decisions by which acting may be ahead of learning
_LEAST_AHEAD = 256  # decisions


@dataclass
class Course:
    """A run in real time: its session, and what only such a run has."""

    session: Session
    process: ActingProcess
    stand: Stand
    journal: Journal
    watch: Watch
    hanging: Hanging
    served: int = 0  # decisions whose gradient updates are made
    next_weights: float = 0.0  # when new weights may be handed over, on the clock `time.monotonic`
    scored: int = 0  # environment frames at the newest evaluation, or where none was due
    saved: int = 0  # likewise of the newest checkpoint
    told_wild: bool = False  # whether it was said that a sensor gave wild readings

    @property
    def owed(self) -> bool:
        """Whether gradient updates are due."""
        session = self.session
        return bool(session.seeds) and self.served < session.decisions and not session.finished


def require_plain(algorithm: Algorithm, config: RunConfig) -> None:
    """Raises UserError unless the algorithm acts and explores by one network, which numpy can compute."""
    plain = algorithm.prior is None and algorithm.in_numpy is not None
    if not plain or algorithm.explore is not algorithm.gaussian:
        raise UserError(
            f"{config.system.algorithm} cannot train with {option('real_time')}: it explores by more than "
            "its policy network, which the acting process computes in numpy; try crossq-wn"
        )
    try:
        network_of(algorithm, algorithm.init(ShapesOnly()))
    except UndescribedError:
        raise UserError(
            f"{config.system.label} cannot train with {option('real_time')}: a layer of its policy does not "
            "say what it computes in numpy (docs/export.md says how)"
        ) from None


def serve(course: Course) -> None:
    """Makes the gradient updates of one decision that still lacks them, and hands over the weights."""
    session = course.session
    if not course.owed:
        return
    if session.compiling is not None and session.compiling.is_alive():
        return
    if course.served < session.config.settings.warmup:
        course.served = min(session.decisions, session.config.settings.warmup)
        return
    update(session, course.served)
    jax.block_until_ready(session.states)  # type: ignore[no-untyped-call]
    settle(session)
    session.stopwatch.lap("update")
    course.served += 1
    if time.monotonic() >= course.next_weights:
        publish(course)


def served_by(updates: int, warmup: int, utd: int, burst: Burst) -> int:
    """The decisions whose gradient updates are made, of a run that has made so many updates.

    Args:
        updates: gradient updates so far.
        warmup: decisions without updates.
        utd: gradient updates per decision.
        burst: further gradient updates at some decisions.
    """
    rounds = updates // utd
    further = Burst(burst.updates // utd, burst.every)  # in rounds
    learned = bisect_left(range(rounds), rounds, key=lambda decisions: decisions + further.until(decisions))
    return warmup + learned if rounds else 0


def publish(course: Course) -> None:
    """Hands the newest weights to the acting side; the seed stops if they are not finite."""
    session, start = course.session, time.monotonic()
    if not session.seeds:
        return
    (state,) = session.learner.split(session.states, 1)
    network = folded(network_of(session.algorithm, jax.device_get(state)))
    if not finite(network.operations):
        drop(session, {session.seeds[0].number: "its parameters are no longer finite: training diverged"})
        return
    content = pickle.dumps(network)
    if not hasattr(course.process, "shared"):
        # The memory is made now, because only now the size of the weights is known.
        ahead = max(_LEAST_AHEAD, round(_AHEAD_SECONDS * (session.config.options.real_time or 1)))
        course.process.open_memory(
            shape_for(session.spec.observation_size, session.spec.action_size, ahead, content)
        )
    course.process.shared.publish(content, session.decisions)
    now = time.monotonic()
    # Where that takes long, updates get four times as long.
    course.next_weights = now + max(course.watch.schedule.period, 4 * (now - start))
    session.stopwatch.lap("transfer")


def finite(operations: Sequence[Op]) -> bool:
    """Whether all numbers of a network are finite."""
    for op in operations:
        for array in op.arrays.values():
            if not np.isfinite(array).all():
                return False
        if not all(finite(inner) for inner in op.inner):
            return False
    return True
