"""Gives the seeds of a run the data from elsewhere that they begin with."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable

import numpy as np

from crossq_wn.data import sources
from crossq_wn.data.fitting import Problem
from crossq_wn.environments.interface import describe, far_outside
from crossq_wn.environments.remote import Anywhere
from crossq_wn.errors import UserError, counted, option
from crossq_wn.learning.replay import Replay
from crossq_wn.learning.rows import Rows
from crossq_wn.runs.config import RunConfig
from crossq_wn.training.session import Session

_CHUNK = 1024  # transitions that a learner is shown in one call


def rows_for(config: RunConfig, environment: Anywhere, tell: Callable[[str], None]) -> Rows | None:
    """Reads what a run begins with, in the form in which replay stores it; None if that is nothing.

    Args:
        config: of the run.
        environment: one of its environments.
        tell: receives a line on each source.

    Raises:
        UserError: a file cannot be used for this run, or has changed since the run was configured.
    """
    if not config.prefilled:
        return None
    seconds, rate = environment.frame_seconds, config.options.real_time
    if rate is not None:
        seconds = 1 / rate / config.action_repeat
    decision = None if seconds is None else seconds * config.action_repeat
    problem = Problem(
        task=config.task,
        interface=describe(environment.simulator),
        action_repeat=config.action_repeat,
        decision_seconds=decision,
        frame_stack=config.options.frame_stack,
    )
    parts = []
    for name, source in zip(config.options.prefill, config.prefilled, strict=True):
        parts.append(sources.rows_of(name, source, problem, lambda text: tell(f"prefill: {text}")))
        transitions = int((~parts[-1].final).sum())
        tell(f"prefill: {counted(transitions, 'transition')} from {source.name} ({source.kind})")
        outside = far_outside(parts[-1].observation, environment.simulator)
        if outside is not None:
            many = f"{outside.rows:,} of {counted(len(parts[-1].final), 'observation')}"
            where = f"far outside the observation space, such as {outside.example}"
            tell(f"prefill: {many} in {source.name} lie {where}: check the units")
    return Rows(*map(np.concatenate, zip(*parts, strict=True)))


def prefill(session: Session, rows: Rows) -> None:
    """Gives every seed these rows, and shows them to learners that keep running statistics.

    Args:
        session: new, without a transition of its own.
        rows: oldest first; the last one is that of an episode's end.
    """
    for seed in session.seeds:
        if session.config.pinned_samples:
            seed.replay.pin(rows)
            _check_long_enough(session, seed.replay)
        else:
            seed.replay.begin_with(rows)
    if session.learner.observe_rows is not None:
        _show(session, rows)


def _check_long_enough(session: Session, replay: Replay) -> None:
    """Raises UserError, before anything is collected, where no sample fits into what is prefilled."""
    try:
        replay.pinned_starts(session.algorithm.sampling)
    except UserError as error:
        raise UserError(f"{option('prefill')}: {error}, or other data") from None


def _show(session: Session, rows: Rows) -> None:
    """Shows the transitions among some rows to the learners, as training shows its own."""
    assert session.learner.observe_rows is not None
    starts = np.flatnonzero(~rows.final)
    ended = rows.final[starts + 1]  # the last row of all is one of an episode's end
    for first in range(0, len(starts), _CHUNK):
        some = starts[first : first + _CHUNK]
        columns = rows.observation[some], rows.reward[some], ended[first : first + _CHUNK]
        shown = [np.stack([column] * len(session.seeds)) for column in columns]
        session.states = session.learner.observe_rows(session.states, *shown)
