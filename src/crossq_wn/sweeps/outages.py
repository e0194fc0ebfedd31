"""Outages: what keeps runs from training and is no fault of theirs, as a disk that is full for a while."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_SEVERAL = 3  # failures in a row after which one run at a time finds out whether it is over
_SHORTEST, _LONGEST = 10.0, 600.0  # seconds between such tries
_SHARE = 0.25  # of the time that the outage has lasted: the pause before the next try
_ALIVE = 120.0  # seconds after which a run that was started counts as working again
_HOPELESS = 24 * 3600.0  # seconds without any progress after which a sweep gives up


@dataclass
class Outage:
    """Failures in a row, of any runs, for causes that may pass.

    Args:
        progress: when a run of the sweep last got further; at first, when the sweep began.
    """

    progress: float
    failures: int = 0
    began: float = 0.0  # when the first of them ended
    ended: float = 0.0  # when the last of them ended
    cause: str = ""  # of the last one
    advances: dict[int, float] = field(default_factory=dict)  # when runs last got further, by their numbers

    def fail(self, cause: str, now: float) -> None:
        """Counts a failure."""
        if not self.failures:
            self.began = now
        self.failures, self.ended, self.cause = self.failures + 1, now, cause

    def advance(self, number: int, now: float) -> None:
        """Takes note that a run has got further."""
        self.failures, self.progress, self.advances[number] = 0, now, now

    def spares_others(self, number: int, since: float) -> bool:
        """Whether other runs than one have got further since a time."""
        return any(when > since for other, when in self.advances.items() if other != number)

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
        return self.failures > 0 and self.ended - self.progress > _HOPELESS
