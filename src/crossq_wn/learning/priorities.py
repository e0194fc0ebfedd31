"""Priorities: the weights by which transitions are drawn from replay.

Weights are kept in blocks with their sums, so that a draw looks at the sums and then into one block for each
sample, instead of at every row. Sums are always computed anew from a block's content and never added to:
equal contents give equal draws, whatever has happened before, as exact resumption demands.
"""

from typing import Any

import numpy as np

from crossq_wn.types import Priorities

_BLOCK = 64  # places; a draw costs about as much for each sample as for so many sums


class Weights:
    """The priorities of the transitions in a ring of rows.

    Args:
        law: what they are computed from.
        length: places in the ring.
    """

    def __init__(self, law: Priorities, length: int) -> None:
        blocks = -(-length // _BLOCK)
        self._law = law
        self._priority = np.zeros((blocks, _BLOCK), np.float32)  # 0 where no transition starts
        self._number = np.zeros((blocks, _BLOCK), np.int64)  # transitions until then, counted from 1
        self._sums = np.zeros(blocks)  # of priorities
        self._newest = np.zeros(blocks, np.int64)  # the largest number in each block
        self._count = 0  # transitions so far
        self._fade = fading(law, length)
        self.largest = float(_priority(law, np.zeros(1))[0])  # priority that any transition has had

    @staticmethod
    def bytes(length: int) -> int:
        """The memory in bytes that the weights of a ring take, without the table of `fading`."""
        return -(-length // _BLOCK) * (_BLOCK * (4 + 8) + 8 + 8)

    def add(self, place: int) -> None:
        """Gives the transition that now starts at a place the largest priority so far."""
        self._count += 1
        self._put(place, self.largest, self._count)

    def clear(self, place: int) -> None:
        """Takes a place from which no transition starts now out of the draws."""
        self._put(place, 0.0, 0)

    def fill(self, places: np.ndarray) -> None:
        """Adds transitions, oldest first, to empty weights."""
        self._count = len(places)
        self._priority.reshape(-1)[places] = self.largest
        self._number.reshape(-1)[places] = np.arange(1, len(places) + 1)
        self._refresh(np.arange(len(self._sums)))

    def set(self, places: np.ndarray, errors: np.ndarray) -> None:
        """Gives transitions the priorities of their errors; those that are not finite change nothing.

        Args:
            places: where they start, any shape; where one occurs repeatedly, its last error counts.
            errors: absolute errors, of the same shape.
        """
        finite = np.isfinite(errors)
        if not finite.any():
            return
        places, priority = places[finite], _priority(self._law, errors[finite])
        self._priority.reshape(-1)[places] = priority
        self._refresh(np.unique(places // _BLOCK))
        self.largest = max(self.largest, float(priority.max()))

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws places in proportion to their faded priorities, with replacement.

        Args:
            generator: the source of randomness.
            shape: of the result.

        Returns:
            Places in the ring, of that shape.
        """
        sums = self._fade[-1] * self._sums
        # The other blocks are empty, or as faded as can be.
        fading = np.flatnonzero((self._sums > 0) & (self._count - self._newest < len(self._fade)))
        sums[fading] = self._faded(fading).sum(-1)
        ends = np.cumsum(sums)
        aims = np.minimum(generator.random(shape) * ends[-1], np.nextafter(ends[-1], 0)).ravel()
        block = np.searchsorted(ends, aims, "right")
        inside = np.cumsum(self._faded(block), -1)
        # Below 1, because rounding must not lead beyond the block's last place.
        share = np.clip((aims - (ends[block] - sums[block])) / sums[block], 0, 1 - 2**-52)
        place = (inside <= (share * inside[:, -1])[:, None]).sum(-1)
        return np.asarray(block * _BLOCK + place).reshape(shape)

    def read(self, places: np.ndarray) -> dict[str, Any]:
        """What a checkpoint keeps of the rows at some places."""
        return {"priority": self._priority.reshape(-1)[places], "largest": self.largest}

    def load(self, places: np.ndarray, saved: dict[str, Any]) -> None:
        """Restores what `read` returned for these places, whose transitions have been added.

        Args:
            places: of all rows that are held, oldest first.
            saved: what `read` returned.

        Raises:
            ValueError: it is of other rows.
        """
        priority = np.asarray(saved["priority"], np.float32)
        if priority.shape != places.shape:
            raise ValueError(f"{priority.size} priorities do not fit {places.size} rows")
        there = self._priority.reshape(-1)[places] > 0  # rows that were lost since start no transitions
        self._priority.reshape(-1)[places[there]] = priority[there]
        self._refresh(np.arange(len(self._sums)))
        self.largest = float(saved["largest"])

    def _put(self, place: int, priority: float, number: int) -> None:
        block = place // _BLOCK
        self._priority[block, place % _BLOCK], self._number[block, place % _BLOCK] = priority, number
        self._refresh(np.array([block]))

    def _refresh(self, blocks: np.ndarray) -> None:
        self._sums[blocks] = self._priority[blocks].sum(-1, dtype=np.float64)
        self._newest[blocks] = self._number[blocks].max(-1)

    def _faded(self, blocks: np.ndarray) -> np.ndarray:
        """The weights of all places in some blocks, [blocks, places]."""
        age = np.minimum(self._count - self._number[blocks], len(self._fade) - 1)
        return np.asarray(self._priority[blocks] * self._fade[age])


def fading(law: Priorities, oldest: int) -> np.ndarray:
    """The factor of a transition's priority by its age, up to where it stays or no transition is older.

    Args:
        law: the priorities' law.
        oldest: the most transitions that may have come after one that is held.

    Returns:
        [ages], from the newest transition on; it never rises, and its last entry holds for all older ones.
    """
    ages = 0 if law.fade == 1 else min(oldest, int(np.ceil(np.log(law.faded) / np.log(law.fade))))
    return np.asarray(np.maximum(law.fade ** np.arange(ages + 1), law.faded))


def _priority(law: Priorities, errors: np.ndarray) -> np.ndarray:
    # Within what single precision holds, so that sums stay finite and no transition is lost.
    priority = np.maximum(np.abs(errors).astype(np.float64), law.floor) ** law.exponent
    return np.asarray(np.clip(priority, 1e-30, 1e30), np.float32)
