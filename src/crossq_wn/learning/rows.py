"""Rows of replay, and the samples that start at them."""

from typing import Any, NamedTuple

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.types import Batch, Sampling, Spec

_PLAIN = Sampling()


class Rows(NamedTuple):
    """Rows as arrays, oldest first; checkpoints store them in this form."""

    observation: np.ndarray  # float32 [n, observation_size]
    action: np.ndarray  # float32 [n, action_size]
    reward: np.ndarray  # float32 [n]
    mask: np.ndarray  # float32 [n]
    final: np.ndarray  # bool [n], the last observations of episodes, from which no transition starts


def with_stacks(rows: Rows, frames: int) -> Rows:
    """The rows with stacked observations, each behind the earlier ones of its episode, as environments stack.

    Args:
        rows: with single observations; the first row is that of an episode's beginning.
        frames: observations that make one.
    """
    if frames == 1:
        return rows
    numbers = np.arange(len(rows.final))
    begins = np.concatenate([[True], rows.final[:-1]])
    first = np.maximum.accumulate(np.where(begins, numbers, 0))  # the row where each row's episode begins
    parts = [rows.observation[np.maximum(numbers - back, first)] for back in reversed(range(frames))]
    return rows._replace(observation=np.concatenate(parts, axis=1))


def too_short(sampling: Sampling) -> UserError:
    """The error for samples that are longer than every episode."""
    return UserError(
        f"no episode has {sampling.required} decisions in a row to learn from: use a shorter horizon"
    )


def cut_short(places: np.ndarray, rows: Rows, sampling: Sampling, pinned: int = 0) -> np.ndarray:
    """Which samples would run past the newest row or into another episode before they have enough.

    Args:
        places: where they start.
        rows: the whole ring, and what is pinned behind it; the place after the newest row counts as final.
        sampling: what a sample is.
        pinned: the number of rows behind the ring.
    """
    cut, terminated = np.zeros((2, *places.shape), bool)
    length = len(rows.final) - pinned
    for further in range(1, sampling.required):
        if sampling.to_termination:
            terminated |= rows.mask[_ahead(places, further - 1, length, pinned)] == 0
        cut |= rows.final[_ahead(places, further, length, pinned)] & ~terminated
    return np.asarray(cut)


def look_up(rows: Rows, places: Any, sampling: Sampling = _PLAIN, pinned: int = 0) -> Batch:
    """The transitions that start at places of a ring; works on NumPy arrays and on traced ones.

    Args:
        rows: the whole ring, and what is pinned behind it.
        places: integer indices of any shape.
        sampling: what a sample is; with a horizon above 1 it gets an axis behind those of `places`.
        pinned: the number of rows behind the ring.
    """
    places, present = _steps_of(rows.final, places, sampling, pinned)
    following = rows.observation[_ahead(places, 1, len(rows.reward) - pinned, pinned)]
    columns: tuple[Any, ...] = (*(column[places] for column in rows[:4]), following, present)
    return Batch(*columns)


def _steps_of(final: Any, places: Any, sampling: Sampling, pinned: int) -> tuple[Any, Any]:
    """The places of all transitions of samples, and which of these are present.

    Args:
        final: bool [length + pinned], as in `Rows`.
        places: where samples start, integers [...].
        sampling: what a sample is.
        pinned: the number of rows behind the ring.

    Returns:
        Places [..., horizon], or [...] at a horizon of 1; and `Batch.present` [..., horizon], None where no
        sample can end early.
    """
    if sampling.horizon == 1:
        return places, None
    steps = np.arange(sampling.horizon, dtype=np.int32)
    length = len(final) - pinned
    each = _ahead(places[..., None], steps, length, pinned)
    if not sampling.ends_early:
        return each, None
    present = (~final[each]).astype(np.int32).cumprod(-1, dtype=np.int32)
    # The count of those present stands still where an episode is over, and so does the place.
    places = _ahead(places[..., None], present.cumsum(-1, dtype=np.int32) - 1, length, pinned)
    return places, present.astype(np.float32)


def _ahead(places: Any, rows: Any, length: int, pinned: int) -> Any:
    """The places so many rows further on, in a ring of that length, behind which there may be pinned rows.

    Args:
        places: integers of any shape, in the ring or behind it.
        rows: how many rows further on; broadcasts against `places`.
        length: places in the ring (capacity + 1).
        pinned: the number of rows behind the ring.

    Returns:
        Places in the ring wrap around; those behind it stop at the last pinned row.
    """
    if not pinned:
        return (places + rows) % length
    # Without a branch, because `places` may mix both kinds and may be traced.
    wraps = (places < length) & (places + rows >= length)
    return (places + rows - length * wraps).clip(None, length + pinned - 1)


def random_batch(
    generator: np.random.Generator, spec: Spec, *shape: int, sampling: Sampling = _PLAIN
) -> Batch:
    """Random transitions in the form in which replay returns them.

    Args:
        generator: the source of randomness.
        spec: the problem, which decides the sizes.
        shape: leading axes of every array.
        sampling: what a sample is; with a horizon above 1 it adds an axis.
    """
    if sampling.horizon > 1:
        shape = (*shape, sampling.horizon)
    columns: tuple[Any, ...] = (
        generator.standard_normal((*shape, spec.observation_size), np.float32),
        generator.uniform(-1, 1, (*shape, spec.action_size)).astype(np.float32),
        generator.uniform(0, 2, shape).astype(np.float32),
        (generator.uniform(size=shape) < 0.8).astype(np.float32),
        generator.standard_normal((*shape, spec.observation_size), np.float32),
    )
    if sampling.ends_early:
        length = generator.integers(1, sampling.horizon, shape[:-1], endpoint=True)[..., None]
        columns = (*columns, (np.arange(sampling.horizon) < length).astype(np.float32))
    return Batch(*columns)
