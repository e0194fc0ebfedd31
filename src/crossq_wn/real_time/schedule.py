"""When decisions are due, and which of them were late: pure functions of times in seconds."""

import time
from collections.abc import Callable
from typing import NamedTuple

_SLICE_SECONDS = 0.1  # of sleep between two looks at whether to go on


class Clock(NamedTuple):
    """A clock, which tests replace."""

    now: Callable[[], float] = time.perf_counter  # seconds since some moment
    sleep: Callable[[float], None] = time.sleep  # for so many seconds

    def wait_until(self, due: float, going: Callable[[], bool] = lambda: True) -> bool:
        """Returns at a time, or at once if it has passed.

        Args:
            due: the time.
            going: whether to go on waiting; asked now and then, and in the end.

        Returns:
            What `going` said last.
        """
        while (left := due - self.now()) > 0 and going():
            self.sleep(min(left, _SLICE_SECONDS))
        return going()


class Schedule(NamedTuple):
    """A control rate."""

    period: float  # seconds between decisions

    @property
    def tolerance(self) -> float:
        """Seconds by which an action may be late; one that is later has missed its deadline."""
        return 0.5 * self.period

    @property
    def longest_step(self) -> float:
        """Seconds that a step of the environment may take before it counts as an overrun.

        An environment that keeps its own clock takes a whole period, and now and then slightly more.
        """
        return 1.1 * self.period


def schedule_of(hertz: float) -> Schedule:
    """The schedule of so many decisions per second."""
    return Schedule(1.0 / hertz)


def following(schedule: Schedule, due: float, arrived: float, *, own_clock: bool) -> float:
    """When the next decision is due.

    Decisions keep to the grid of the control rate. Where a step took longer than its period, the grid begins
    anew: a robot must not get the actions that it missed in one burst. A robot that keeps its own clock has
    the grid; after a step that came late, the next one is there sooner than a period later.

    Args:
        schedule: the control rate.
        due: when the decision before was due.
        arrived: when the observation after it arrived.
        own_clock: whether the environment's steps wait for a clock of its own.
    """
    soonest = due + (0.5 if own_clock else 1.0) * schedule.period
    return max(soonest, arrived)
