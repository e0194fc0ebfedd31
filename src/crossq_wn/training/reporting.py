"""Reports of a training session: how far it has come, and what it is doing."""

from collections.abc import Iterator
from contextlib import contextmanager

from crossq_wn.training.progress import Phase, Status
from crossq_wn.training.session import Session


def report(session: Session) -> None:
    """Tells the reporter the state of the session."""
    config, evaluations = session.config, {}
    for seed in session.seeds:
        if seed.evaluation is not None:
            evaluations[seed.number] = seed.evaluation
    frames_rate, updates_rate = session.rates
    session.reporter.status(
        Status(
            frames=session.frames,
            total_frames=config.trained_frames,
            decisions=session.decisions,
            updates=session.updates,
            frames_per_second=frames_rate,
            updates_per_second=updates_rate,
            rows=session.rows,
            evaluations=evaluations,
            metric=config.metric,
            seconds_left=session.pace.seconds_left(session.decisions, session.updates, config.decisions),
            phase=session.phase,
            warmup_frames=config.settings.warmup * config.action_repeat,
        )
    )


@contextmanager
def doing(session: Session, phase: Phase, then: Phase | None = None) -> Iterator[None]:
    """Reports that the session is in another phase for a while.

    Args:
        session: whose phase changes.
        phase: what it is doing inside the context.
        then: what it does afterwards; by default what it did before.
    """
    before, session.phase = session.phase, phase
    report(session)
    yield
    session.phase = then or before
    report(session)
