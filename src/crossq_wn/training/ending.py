"""How training ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from crossq_wn.errors import UserError, lacks_memory, one_line, raised
from crossq_wn.nets.checking import NetworkError
from crossq_wn.training.algorithms import what_own_raised
from crossq_wn.training.progress import Outcome
from crossq_wn.training.reporting import renders, report
from crossq_wn.training.session import Session, failures, with_traceback


def outcome(session: Session) -> Outcome:
    """How training ended.

    Raises:
        UserError: every seed has failed.
        BaseException: of a callback.
    """
    if session.calls.error is not None:
        raise session.calls.error
    if session.lost:
        raise all_failed(session)
    # Without a seed of its own, this session leaves those that are ahead.
    decisions = session.decisions if session.seeds else session.head[0]
    return Outcome(
        path=session.run.path,
        frames=decisions * session.config.action_repeat,
        finished=decisions >= session.config.decisions,
        signal=next(iter(session.calls.signals), None),
        stopped_by=session.calls.stopped_by,
        failed={seed: failure.reason for seed, failure in session.failed.items()},
        resumable=tuple(seed for seed in session.failed if seed in session.aside),
        renders=renders(session),
    )


def all_failed(session: Session) -> UserError:
    """The error for a run without any seed left; its cause is the first fault of an environment."""
    reasons = "; ".join(f"seed {seed}: {failure.reason}" for seed, failure in session.failed.items())
    cause = next(iter(session.causes.values()), None)
    error = UserError(f"every seed failed: {reasons}; {_way_on(session, mendable=cause is not None)}")
    error.__cause__ = cause
    return error


def _way_on(session: Session, *, mendable: bool) -> str:
    """What is left of a run that failed, and how it goes on where its fault can be mended."""
    good = session.writer.present
    kept = "there is no checkpoint yet" if good is None else f"the last good checkpoint is at {good:,} frames"
    if not mendable:
        return kept
    return f"once that is mended, `crossq-wn resume {session.run.path}` goes on ({kept})"


@contextmanager
def keeping_tracebacks(session: Session) -> Iterator[None]:
    """Keeps the traceback of what a user's own network or algorithm raises in training.

    Says how the run goes on where memory has run out, which is no fault of a seed.
    """
    try:
        yield
    except NetworkError as error:
        cause = error.__cause__ or error
        raise UserError(with_traceback(session, str(error), "network", cause)) from cause
    except Exception as error:
        if lacks_memory(error) and session.writer.present is not None:
            from_here = f"from the checkpoint at {session.writer.present:,} frames"
            session.reporter.message(f"`crossq-wn resume {session.run.path}` goes on {from_here}")
        said = what_own_raised(session.config, error)
        if said is None or error is session.calls.error:
            raise
        raise UserError(with_traceback(session, said, "algorithm", error)) from error


def call_back(session: Session) -> None:
    """Calls a user's callbacks with what has happened since they were last called."""
    session.calls.deliver(partial(_keep, session))


def _keep(session: Session, name: str, error: BaseException) -> None:
    """Says what a callback raised, also in a note on the exception, and keeps its traceback."""
    line = f"the callback {name} raised {raised(error)}: the run is saved in {session.run.path} and ends"
    line = with_traceback(session, line, f"callback-{name}", error)
    session.reporter.message(line)
    error.add_note(line)  # for who trains from Python without a reporter


def conclude(session: Session) -> None:
    """Calls callbacks once more, vouches for the logs, says how training ended, and closes the logs."""
    call_back(session)
    session.run.vouch(session.logs.ends(), failures(session))
    session.phase = "done" if session.decisions >= session.target else "stopped"
    report(session)
    try:
        session.logs.close()
    except Exception as error:  # of W&B or TensorBoard: what was trained is on disk
        session.reporter.message(f"the logs could not be closed: {one_line(error)}")
