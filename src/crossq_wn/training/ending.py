"""How training ends."""

from collections.abc import Sequence

from crossq_wn.errors import UserError, one_line
from crossq_wn.training.progress import Outcome
from crossq_wn.training.reporting import report
from crossq_wn.training.session import Session


def outcome(session: Session, received: Sequence[int]) -> Outcome:
    """How training ended.

    Raises:
        UserError: every seed has failed.
    """
    if not session.seeds:
        raise all_failed(session)
    return Outcome(
        path=session.run.path,
        frames=session.frames,
        finished=session.finished,
        signal=received[0] if received else None,
        failed={seed: failure.reason for seed, failure in session.failed.items()},
    )


def all_failed(session: Session) -> UserError:
    """The error for a run without any seed left; its cause is the first exception of an environment."""
    reasons = "; ".join(f"seed {seed}: {failure.reason}" for seed, failure in session.failed.items())
    error = UserError(f"every seed failed: {reasons}")
    error.__cause__ = next(iter(session.causes.values()), None)
    return error


def conclude(session: Session) -> None:
    """Vouches for the logs, says how training ended, and closes the logs."""
    session.run.vouch(session.logs.ends())
    session.phase = "done" if session.finished else "stopped"
    report(session)
    try:
        session.logs.close()
    except Exception as error:  # of W&B or TensorBoard: what was trained is on disk
        session.reporter.message(f"the logs could not be closed: {one_line(error)}")
