"""Bootstrap samples of runs, and percentiles of what was computed from them."""

import math
import warnings
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

BLOCK = 256  # replicates at a time: bounds memory, and their weights stay in the processor's cache


def draws(
    counts: tuple[tuple[int, ...], ...], replicates: int, seed: int | np.random.Generator
) -> tuple[list[list[_Floats]], npt.NDArray[np.intp]]:
    """Draws as many runs as each task has, with replacement.

    Args:
        counts: per system, how many runs each task has.
        replicates: how often to draw.
        seed: of the draws.

    Returns:
        First, how often each run is drawn: in blocks, and there per system [ways, runs]. Second, which row of
        all blocks together each replicate uses [replicates]: a few runs can be drawn in fewer ways than there
        are replicates, so that replicates share rows.
    """
    generator = np.random.default_rng(seed)
    blocks = []
    for done in range(0, replicates, BLOCK):
        size = min(BLOCK, replicates - done)
        blocks.append(np.concatenate([_draw(generator, np.array(each), size) for each in counts], axis=1))
    which = np.arange(replicates)
    distinct = 1  # ways to draw: each is a multiset of runs
    for n in chain.from_iterable(counts):
        distinct *= math.comb(2 * n - 1, n)
    if distinct < replicates:
        ways, which = np.unique(np.concatenate(blocks), axis=0, return_inverse=True)
        blocks = [ways]
    ends = np.cumsum(list(map(sum, counts)))[:-1]  # where the next system's runs begin
    per_system = []
    for block in blocks:
        per_system.append([part.copy() for part in np.split(block, ends, axis=1)])
    return per_system, which


known_draws = lru_cache(maxsize=8)(draws)  # curves of many systems have equally many runs


def _draw(generator: np.random.Generator, counts: npt.NDArray[np.intp], replicates: int) -> _Floats:
    """Draws as many runs as each task has, and counts how often each is drawn: [replicates, runs]."""
    total = int(counts.sum())
    first = np.repeat(np.cumsum(counts) - counts, counts)  # of each run, its task's first
    picks = first + generator.integers(np.repeat(counts, counts), size=(replicates, total))
    flat = (picks + total * np.arange(replicates)[:, None]).ravel()
    return np.bincount(flat, minlength=replicates * total).reshape(replicates, total).astype(float)


def interval(ways: _Floats, which: npt.NDArray[np.intp], confidence: float) -> tuple[_Floats, _Floats]:
    """Returns the percentiles of all replicates at either end.

    Args:
        ways: [ways] or [ways, points], what was computed of each way to draw.
        which: [replicates], the row of `ways` of each replicate.
        confidence: the share of replicates between the two ends, between 0 and 1.

    Returns:
        The lower and the upper end, scalars or [points].
    """
    tail = (1 - confidence) / 2
    if len(ways) < len(which) and not np.isnan(ways).any():
        counts = np.bincount(which, minlength=len(ways))
        return quantile(ways, counts, tail), quantile(ways, counts, 1 - tail)
    drawn = ways[which]
    if not np.isnan(drawn).any():
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)  # the same, and much faster
        return low, high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a point that no replicate reaches is NaN
        low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def quantile(values: _Floats, counts: npt.NDArray[np.intp], level: float) -> _Floats:
    """Returns the same as `np.quantile` of repeated values, without repeating them.

    Args:
        values: [values] or [values, points].
        counts: [values] how often each is repeated.
        level: between 0 and 1.
    """
    order = np.argsort(values, axis=0)
    upto = np.cumsum(counts[order], axis=0)  # how many are no larger than each of the sorted values
    position = (counts.sum() - 1) * level
    below = int(position)
    rows = [(upto <= min(place, counts.sum() - 1)).sum(axis=0) for place in (below, below + 1)]
    ranked = np.take_along_axis(values, order, axis=0)
    low, high = (np.take_along_axis(ranked, row[None], axis=0)[0] for row in map(np.asarray, rows))
    share, gap = position - below, high - low
    # As numpy interpolates: from the nearer of the two.
    found: _Floats = high - gap * (1 - share) if share >= 0.5 else low + gap * share
    return found
