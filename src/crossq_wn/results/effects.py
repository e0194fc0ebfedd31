"""Whether random actions have any effect on what is observed and rewarded next, by rank correlations."""

from collections.abc import Sequence

import numpy as np

from crossq_wn.data.recording import Recording

_FEWEST = 1_000  # transitions; with fewer a weak effect, as on acrobot-swingup, may be missed
_PER_NUMBER = 3  # transitions per number of the observation that it takes to subtract what follows from it
_LATER = 5  # decisions after which an effect is looked for too
_CHANCE = 1e-2  # that any correlation of independent numbers exceeds the limit


def without_effect(parts: Sequence[Recording]) -> bool:
    """Whether nothing that is observed or rewarded within a few decisions depends on the action.

    Actions, and how large they are, are correlated with the changes that follow, and how large these are. So
    an effect counts also where its direction depends on the state. What the observation alone predicts is
    subtracted first, because it may be much larger.

    Args:
        parts: of one seed each, with actions that were chosen at random, so that nothing else can make them
            agree with what follows.

    Returns:
        Whether there is none; False if there are too few transitions to say.
    """
    for later in (1, _LATER):
        found = [_changes(part, later) for part in parts]
        actions, before, outcomes = (np.concatenate(column) for column in zip(*found, strict=True))
        if len(actions) < _FEWEST or _correlated(actions, before, outcomes):
            return False
    return True


def _changes(part: Recording, later: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actions, the observations before, and how these and rewards differ so many decisions later.

    Args:
        part: of one seed.
        later: decisions, all of the same episode.
    """
    over = part.terminated | part.truncated
    starts = np.arange(1, len(over) - later + 1)
    # The decision before has the reward to which later ones are compared, where it is of the same episode.
    ended = np.concatenate([[0], np.cumsum(over)])
    last = starts + later - 1
    within = ended[last] == ended[starts]
    starts, last = starts[within], last[within]
    assert part.agent_action is not None
    assert part.next_observation is not None
    before = part.observation[starts].astype(np.float64)
    moved = part.next_observation[last] - before
    gained = part.reward[last].astype(np.float64) - np.where(over[starts - 1], 0, part.reward[starts - 1])
    outcomes = np.column_stack([moved, part.reward[last], gained, part.terminated[last]])
    return part.agent_action[starts].astype(np.float64), before, outcomes


def _correlated(actions: np.ndarray, before: np.ndarray, outcomes: np.ndarray) -> bool:
    """Whether any rank correlation is larger than chance makes it."""
    x = _ranks(np.column_stack([actions, np.abs(actions)]))
    y = _ranks(np.column_stack([outcomes, np.abs(outcomes)]))
    known = _ranks(before)
    if len(x) >= _PER_NUMBER * known.shape[1]:
        y = _ranks(y - known @ np.linalg.lstsq(known, y, rcond=None)[0])
    limit = np.sqrt(2 * np.log(2 * x.shape[1] * y.shape[1] / _CHANCE) / len(x))
    return bool(np.abs(x.T @ y).max() > limit * len(x))


def _ranks(columns: np.ndarray) -> np.ndarray:
    """The ranks of each column, standardised; equal values have equal ranks, and a constant column is 0."""
    ranked = np.empty(columns.shape)
    for index, column in enumerate(columns.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        ranked[:, index] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ranked -= ranked.mean(0)
    spread = ranked.std(0)
    return np.asarray(ranked / np.where(spread > 0, spread, 1))
