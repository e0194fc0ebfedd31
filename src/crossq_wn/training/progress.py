"""What training reports while it runs and when it ends, and how its speed is measured."""

import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

# What training is doing: filling replay with random actions, compiling its programs, and so on.
Phase = Literal["collecting", "compiling", "training", "evaluating", "done", "stopped"]


class Status(NamedTuple):
    """What a progress display can show."""

    frames: int  # environment frames per seed
    total_frames: int
    decisions: int
    updates: int
    frames_per_second: float  # of all seeds together, between the last two rows of metrics
    updates_per_second: float  # likewise
    rows: list[dict[str, Any]]  # the newest row of metrics of each seed
    evaluations: dict[int, float]  # by seed: the newest evaluation
    metric: str  # what evaluations measure: `return` or `success_rate`
    seconds_left: float | None  # at the average pace since gradient updates began; None before that
    phase: Phase = "training"
    warmup_frames: int = 0  # environment frames after which gradient updates begin
    compiling: bool = False  # whether programs are compiled beside what the phase says


class Reporter(Protocol):
    """Receives progress."""

    def status(self, status: Status) -> None:
        """Takes the state of training; called at each row of metrics and change of phase, and at the end."""

    def message(self, text: str) -> None:
        """Takes a line of text about something that happens rarely."""


class Outcome(NamedTuple):
    """How training ended."""

    path: Path  # of the run directory
    frames: int  # environment frames trained, per seed
    finished: bool  # whether all frames that were asked for are trained
    signal: int | None  # the number of the signal that stopped it early, if one did
    failed: dict[int, str]  # by seed: why it stopped
    untouched: bool = False  # whether the run was finished before, so that nothing was done
    stopped_by: str | None = None  # the first callback that asked for an end, if one did


class Pace:
    """The speed of training, in the present interval and since gradient updates began."""

    def __init__(self) -> None:
        self._first_updates: tuple[float, int] | None = None  # clock and decisions when they were first seen
        self.begin_interval(0, 0)

    def begin_interval(self, frames: int, updates: int) -> None:
        """Begins an interval.

        Args:
            frames: environment frames per seed so far.
            updates: gradient updates per seed so far.
        """
        self._clock, self._frames, self._updates = time.perf_counter(), frames, updates

    def rates(self, frames: int, updates: int) -> tuple[float, float]:
        """Environment frames and gradient updates per second and seed in the present interval.

        Args:
            frames: environment frames per seed so far.
            updates: gradient updates per seed so far.
        """
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        return (frames - self._frames) / seconds, (updates - self._updates) / seconds

    def seconds_left(self, decisions: int, updates: int, total: int) -> float | None:
        """Estimates the seconds until all decisions are made, at the average pace since updates began.

        Args:
            decisions: agent decisions per seed so far.
            updates: gradient updates per seed so far.
            total: agent decisions per seed that were asked for.

        Returns:
            Seconds; None before there is a pace.
        """
        now = time.perf_counter()
        if updates and (self._first_updates is None or decisions == self._first_updates[1]):
            self._first_updates = now, decisions  # the first decision's updates include their compilation
        if self._first_updates is None or decisions == self._first_updates[1]:
            return None
        clock, first = self._first_updates
        return (now - clock) / (decisions - first) * (total - decisions)
