"""Outages: what keeps runs from training and is no fault of theirs, as a disk that is full for a while."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_SEVERAL = 3  # failures in a row after which one run at a time finds out whether it is over
_SHORTEST, _LONGEST = 10.0, 600.0  # seconds between such tries
_SHARE = 0.25  # of the time that the outage has lasted: the pause before the next try
_ALIVE = 120.0  # seconds after which a run that was started counts as working again
_HOPELESS = 24 * 3600.0  # seconds of failures without any progress after which a sweep gives up
_QUIET = 6 * 3600.0  # seconds without a failure after which the next one begins another outage


class Advance(NamedTuple):
    """That a run of the sweep got further."""

    when: float
    node: str  # the name of the machine; empty if it is not known


@dataclass
class Outage:
    """Failures in a row, of any runs that a sweep trains itself, for causes that may pass.

    What other sweeps on the folder train proves nothing here: the outage may be that of one machine.
    """

    failures: int = 0
    began: float = 0.0  # when the first of them ended
    ended: float = -math.inf  # when the last of them ended
    cause: str = ""  # of the last one
    stuck: float = math.inf  # when the first one ended since a run last got further
    advances: dict[int, Advance] = field(default_factory=dict)  # the last of each run, by their numbers

    def fail(self, cause: str, now: float) -> None:
        """Counts a failure."""
        if not self.failures:
            self.began = now
        self.stuck = now if now - self.ended > _QUIET else min(self.stuck, now)
        self.failures, self.ended, self.cause = self.failures + 1, now, cause

    def advance(self, number: int, now: float, node: str) -> None:
        """Takes note that a run has got further on a machine."""
        self.failures, self.stuck, self.advances[number] = 0, math.inf, Advance(now, node)

    def spares_others(self, number: int, since: float, node: str) -> bool:
        """Whether other runs than one are known to have got further on a machine since a time."""
        others = [each for other, each in self.advances.items() if other != number]
        return any(each.when > since and each.node == node for each in others if node)

    def usable(self, slots: Sequence[int], starts: Sequence[float], now: float) -> Sequence[int]:
        """The slots in which runs may be started now.

        Args:
            slots: those that are free.
            starts: when the runs that are under way were started.
            now: the time, by the same clock.
        """
        if self.failures < _SEVERAL:
            return slots
        later = [start for start in starts if start >= self.ended]
        if later and now - min(later) >= _ALIVE:
            self.failures = 0
            return slots
        pause = min(max(_SHARE * (self.ended - self.began), _SHORTEST), _LONGEST)
        return [] if later or now < self.ended + pause else slots[:1]

    @property
    def hopeless(self) -> bool:
        """Whether it has lasted for so long that waiting is of no use."""
        return self.failures > 0 and self.ended - self.stuck > _HOPELESS
