"""The failures that a sweep counts: its own, and those of others on the folder since it began."""

from collections.abc import Callable, Iterable, Sequence

from crossq_wn.sweeps.history import Attempt, History
from crossq_wn.sweeps.scheduling import failures_in_a_row
from crossq_wn.sweeps.states import State


class Failures:
    """Attempts in vain at the runs of a sweep, oldest first; when they ended is by the sweep's clock.

    Args:
        clock: seconds that never jump.
        before: attempts that were recorded before the sweep began and count all the same.
    """

    def __init__(self, clock: Callable[[], float], before: Iterable[Attempt]) -> None:
        self._clock = clock
        self._found: dict[str, list[Attempt]] = {}
        self.hear(before)

    def hear(self, attempts: Iterable[Attempt]) -> None:
        """Counts the failures among attempts of other sweeps, but for outages, which may be theirs alone."""
        for attempt in attempts:
            if not attempt.passing:
                # When it ended by the clock of another machine says nothing here.
                self.add(attempt._replace(ended=self._clock()))

    def add(self, attempt: Attempt) -> None:
        """Counts an attempt if it failed."""
        if attempt.cause:
            self._found.setdefault(attempt.run, []).append(attempt)

    def of(self, run: str) -> Sequence[Attempt]:
        """Those of a run."""
        return self._found.get(run, ())

    def in_a_row(self, run: str, state: State) -> Sequence[Attempt]:
        """Those of a run since it last got further."""
        return failures_in_a_row(state, self.of(run))


def begin_anew(run: str, state: State, history: History, retries: int, now: float) -> None:
    """Notes, for whoever looks from outside, that the failures of a run up to now count no longer.

    Args:
        run: its name in the history.
        state: of its directory.
        history: of the sweep.
        retries: how often the sweep that begins tries a failed run again.
        now: seconds since 1970.
    """
    if failures_in_a_row(state, history.of(run)):
        history.add(Attempt(run, now, state.frames, state.frames, "", retries=retries, anew=True))
