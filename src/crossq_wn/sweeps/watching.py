"""Which holders of runs are alive, also on other machines."""

import time
from collections.abc import Callable
from pathlib import Path

from crossq_wn.runs import leases
from crossq_wn.runs.leases import Seen


class Watch:
    """Tells which holders of runs are alive, by their signs of life as this process sees them.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._signs: dict[Path, tuple[Seen, float]] = {}  # the newest, and when it was first seen
        self._shown: set[Path] = set()  # of which a sign was seen to change
        self._unsure: set[Path] = set()

    def alive(self, run: Path, seen: Seen) -> bool:
        """Whether a process works on a run; one of another machine is given some time to show it."""
        self._unsure.discard(run)
        if seen.holder is None:
            return False
        used = leases.is_used(run, seen)
        if used is not None:
            return used
        before, since = self._signs.setdefault(run, (seen, self._clock()))
        if before != seen:
            self._signs[run] = seen, self._clock()
            self._shown.add(run)
            return True
        waits = self._clock() - since < leases.PATIENCE
        if waits and run not in self._shown:
            self._unsure.add(run)
        return waits

    def unsure(self, run: Path) -> bool:
        """Whether the holder of a run counts as alive although it has not shown any sign of life so far."""
        return run in self._unsure
