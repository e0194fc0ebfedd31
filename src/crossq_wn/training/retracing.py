"""Brings an environment to where a seed stands, by the decisions that replay has since an earlier state.

So a seed goes on from the decision in which its environment failed, and not from its last checkpoint, without
a copy of the environment before every decision.
"""

from __future__ import annotations

import numpy as np

from crossq_wn.environments import EnvironmentFaultError, Transition
from crossq_wn.learning.rows import Rows
from crossq_wn.training.seeds import Seed
from crossq_wn.training.session import Session


def retrace(session: Session, seed: Seed, since: int) -> bool:
    """Repeats the decisions of a seed; what the environment does has to be the same, to the last bit.

    Args:
        session: whose training environment of this seed is in the earlier state.
        seed: has the observation on which it acts next, or the last one of an episode.
        since: the row of replay with the first decision after that state.

    Returns:
        Whether the environment is where the seed stands; if not, it has to begin an episode.

    Raises:
        EnvironmentFaultError: it fails again.
    """
    rows = seed.replay.read(since, seed.replay.end)
    for number in range(len(rows.final)):
        after = rows.observation[number + 1] if number + 1 < len(rows.final) else seed.observation
        if not (_begin if rows.final[number] else _repeat)(session, seed, rows, number, after):
            session.reporter.message(
                f"seed {seed.number}: {session.config.task} does not repeat what it did since the last "
                "checkpoint: a new episode begins, and numbers differ from those of an undisturbed run"
            )
            return False
    return True


def _begin(session: Session, seed: Seed, rows: Rows, number: int, after: np.ndarray) -> bool:
    """Begins the next episode; it may be the one that could not begin, of which nothing is known."""
    first = session.training.reset(seed.index)
    failed = number + 1 == len(rows.final) and np.array_equal(after, rows.observation[number])
    if failed:
        seed.observation = first.copy()
    return failed or np.array_equal(first, after)


def _repeat(session: Session, seed: Seed, rows: Rows, number: int, after: np.ndarray) -> bool:
    """Repeats one decision."""
    (result,) = session.training.step([seed.index], rows.action[number : number + 1])
    if isinstance(result, EnvironmentFaultError):
        raise result
    assert isinstance(result, Transition)
    ended = number + 1 < len(rows.final) and bool(rows.final[number + 1])
    same = np.float32(result.reward) == rows.reward[number] and ended == (result.episode is not None)
    return bool(same and np.array_equal(result.next_observation, after))
