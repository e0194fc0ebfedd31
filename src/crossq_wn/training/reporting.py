"""Reports of a training session: how far it has come, and what it is doing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from crossq_wn.errors import counted, option, stated
from crossq_wn.lazy import jax
from crossq_wn.runs.options import USUAL
from crossq_wn.training.compiling import compiling_left
from crossq_wn.training.finished import evaluated_last
from crossq_wn.training.forecast import forecast
from crossq_wn.training.progress import Phase, Status
from crossq_wn.training.session import Session

_EVERY = 1.0  # seconds between reports while nothing else happens


def report(session: Session) -> None:
    """Tells the reporter the state of the session."""
    config, evaluations = session.config, {}
    for seed in session.seeds:
        if seed.evaluation is not None:
            evaluations[seed.number] = seed.evaluation
    frames_rate, updates_rate = session.recent.rates(session.frames, session.updates)
    count, left = len(session.seeds), _seconds_left(session)
    if session.phase == "collecting" and frames_rate:
        session.collecting_rate = frames_rate
    session.reporter.status(
        Status(
            frames=session.frames,
            total_frames=config.trained_frames,
            decisions=session.decisions,
            updates=session.updates,
            frames_per_second=count * frames_rate,
            updates_per_second=count * updates_rate,
            rows=session.rows,
            evaluations=evaluations,
            metric=config.metric,
            seconds_left=left,
            forecast=_forecast(session) if left is None else None,
            phase=session.phase,
            warmup_frames=config.settings.warmup * config.action_repeat,
            compiling=session.compiling is not None and session.compiling.is_alive(),
        )
    )


def _seconds_left(session: Session) -> float | None:
    """Estimates how long training still takes; None if that is not known yet."""
    if not session.updates:
        return None
    done, total = _progress(session)
    left = session.pace.seconds_left(done, total, _evaluations_left(session))
    return None if left is None else left + compiling_left(session)


def _forecast(session: Session) -> float | None:
    """Guesses how long training still takes, before gradient updates have a pace."""
    done, total = _progress(session)
    rough = forecast(session, total - done, session.collecting_rate)
    if rough is None:
        return None
    return rough + session.pace.seconds_of(_evaluations_left(session)) + compiling_left(session)


def _progress(session: Session) -> tuple[int, int]:
    """The gradient updates per seed of all decisions so far, and of all that were asked for."""
    settings, burst = session.config.settings, session.algorithm.burst
    # Counted in the updates that belong to decisions: in real time, some of these are still to be made.
    done, total = (
        burst.with_regular(max(decisions - settings.warmup, 0), settings.utd)
        for decisions in (session.decisions, session.config.decisions)
    )
    return done, total


def _evaluations_left(session: Session) -> int:
    """How many evaluations are still to end."""
    config, every = session.config, session.config.options.eval_every
    if not every:
        return 0
    last = config.trained_frames
    extra = evaluated_last(config, last) and not session.finished
    return last // every - session.frames // every + extra + (session.phase == "evaluating")


def report_at_times(session: Session) -> None:
    """Reports, unless that was done in the last second."""
    if session.recent.age() >= _EVERY:
        report(session)


@contextmanager
def doing(session: Session, phase: Phase, then: Phase | None = None) -> Iterator[None]:
    """Reports that the session is in another phase for a while.

    Args:
        session: whose phase changes.
        phase: what it is doing inside the context.
        then: what it does afterwards; by default what it did before.
    """
    before, clock = session.phase, time.perf_counter()
    enter(session, phase)
    yield
    session.pace.set_apart(time.perf_counter() - clock, evaluation=phase == "evaluating")
    enter(session, then or before)


def enter(session: Session, phase: Phase) -> None:
    """Begins a phase and reports it."""
    if session.phase == "collecting" and not session.collecting_rate:  # too short for a rate to be shown
        session.collecting_rate = session.recent.average(session.frames)
    session.phase = phase
    session.recent.begin()
    report(session)


def tell_of_device(session: Session) -> None:
    """Tells of an option that has no effect on the device that computes."""
    precision = session.config.options.matmul_precision
    if precision != USUAL.matmul_precision and jax.default_backend() == "cpu":
        told = stated("matmul_precision", precision)
        session.reporter.message(f"{told}, which has no effect on a CPU: it computes in float32")


def tell_of_environments(session: Session) -> None:
    """Tells what is peculiar about a run's environments."""
    _tell_of_statistics(session)
    _tell_of_fixed_actions(session)
    _tell_of_missing_render(session)


def _tell_of_statistics(session: Session) -> None:
    names = [name.partition(".")[2] for name in session.training.environments[0].statistics()]
    if names:
        learned = ", ".join(sorted(names))
        session.reporter.message(
            f"{session.config.task} learns statistics as it runs ({learned}): evaluations, checkpoints and "
            "trained policies take over those of training; returns are in the wrappers' units"
        )


def _tell_of_fixed_actions(session: Session) -> None:
    simulator = session.training.environments[0].simulator
    fixed = np.flatnonzero(simulator.action_low == simulator.action_high)
    if len(fixed):
        session.reporter.message(
            f"{session.config.task} has actions of {counted(simulator.action_size, 'number')}, of which "
            f"those at {', '.join(map(str, fixed))} cannot vary: their lower bounds equal their upper ones"
        )


def _tell_of_missing_render(session: Session) -> None:
    """Says before training that the video at its end will be missing."""
    config, why = session.config, _no_pictures(session)
    if config.options.video and config.options.real_time is None and why:
        session.reporter.message(
            f"there will be no video when training is over, because {config.task} {why}, or leave the video "
            f"out with {option('video', False)}"
        )


def renders(session: Session) -> bool:
    """Whether pictures can be made of the environment, as far as that is known."""
    return not _no_pictures(session)


def _no_pictures(session: Session) -> str:
    return str(getattr(session.training.environments[0].simulator, "no_pictures", ""))
