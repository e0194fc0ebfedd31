"""What training reports while it runs and when it ends, and how its speed is measured."""

import time
from collections import deque
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

# What training is doing: filling replay with random actions, compiling its programs, and so on.
Phase = Literal["collecting", "compiling", "training", "evaluating", "done", "stopped"]
_WINDOW = 10.0  # seconds over which a displayed rate is taken
_TOO_SHORT = 0.5  # seconds that give no rate yet


class Status(NamedTuple):
    """What a progress display can show."""

    frames: int  # environment frames per seed
    total_frames: int
    decisions: int
    updates: int
    # Of all seeds together, over the last seconds of the present phase; 0 if unknown.
    frames_per_second: float
    updates_per_second: float  # likewise
    rows: list[dict[str, Any]]  # the newest row of metrics of each seed
    evaluations: dict[int, float]  # by seed: the newest evaluation
    metric: str  # what evaluations measure: `return` or `success_rate`
    seconds_left: float | None  # evaluations included; None before gradient updates have a pace
    phase: Phase = "training"
    warmup_frames: int = 0  # environment frames after which gradient updates begin
    compiling: bool = False  # whether programs are compiled beside what the phase says
    forecast: float | None = None  # seconds left, roughly; None: unknown


class Reporter(Protocol):
    """Receives progress."""

    def status(self, status: Status) -> None:
        """Takes the state of training: about every second, at each change of phase, and at the end.

        Args:
            status: the state.
        """

    def message(self, text: str) -> None:
        """Takes a line of text about something that happens rarely.

        Args:
            text: without an end of line.
        """


class Outcome(NamedTuple):
    """How training ended. `load` and `resume` take it for the path of its run."""

    path: Path  # of the run directory
    frames: int  # environment frames trained, per seed
    finished: bool  # whether all frames that were asked for are trained
    signal: int | None  # the number of the signal that stopped it early, if one did
    failed: dict[int, str]  # by seed: why it stopped; the others are trained all the same
    untouched: bool = False  # whether the run was finished before, so that nothing was done
    stopped_by: str | None = None  # the first callback that asked for an end, if one did
    resumable: tuple[int, ...] = ()  # the failed seeds that `resume` trains on, once their fault is mended
    renders: bool = True  # False: its environment has no pictures; not looked at if nothing was left to do

    def __fspath__(self) -> str:
        return str(self.path)

    def failures(self) -> list[str]:
        """A line per failed seed: why it stopped, and whether it goes on."""
        found = []
        for seed, reason in self.failed.items():
            way = "it cannot be trained on; another seed may do better, or other settings"
            if seed in self.resumable:
                way = f"once that is mended, `crossq-wn resume {self.path}` trains it on"
            found.append(f"seed {seed} of {self.path} failed: {reason}; {way}")
        return found


def short(value: float) -> str:
    """Writes a score in three digits, or in as many as it has before the point."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


class Recent:
    """The speed of training over the last seconds of its present phase."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque()  # clock, environment frames, gradient updates

    def begin(self) -> None:
        """Begins a phase, in which no rate of an earlier one counts."""
        self._marks.clear()

    def age(self) -> float:
        """Seconds since the rates were last asked for; infinite at the beginning of a phase."""
        return time.perf_counter() - self._marks[-1][0] if self._marks else float("inf")

    def rates(self, frames: int, updates: int) -> tuple[float, float]:
        """Environment frames and gradient updates per second and seed; 0 until enough time has passed.

        Args:
            frames: environment frames per seed so far.
            updates: gradient updates per seed so far.
        """
        now = time.perf_counter()
        self._marks.append((now, frames, updates))
        while now - self._marks[0][0] > _WINDOW and len(self._marks) > 2:
            self._marks.popleft()
        clock, first_frames, first_updates = self._marks[0]
        if now - clock < _TOO_SHORT:
            return 0.0, 0.0
        return (frames - first_frames) / (now - clock), (updates - first_updates) / (now - clock)

    def average(self, frames: int) -> float:
        """Environment frames per second and seed since the first mark, however short a time; 0 if unknown.

        Args:
            frames: environment frames per seed so far.
        """
        if not self._marks:
            return 0.0
        clock, first, _ = self._marks[0]
        return (frames - first) / max(time.perf_counter() - clock, 1e-3)


class Pace:
    """The speed of training: between two rows of metrics, and since gradient updates began."""

    def __init__(self) -> None:
        self._first: int | None = None  # updates done when this process began to make any
        self._begun: tuple[float, int] | None = None  # clock and updates done at a later report
        self._evaluation = 0.0  # seconds of the newest evaluation
        self._apart = 0.0  # seconds that no decision took, since then
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

    def set_apart(self, seconds: float, *, evaluation: bool) -> None:
        """Takes seconds that no decision took: of an evaluation, or else of what does not come again."""
        if evaluation:
            self._evaluation = seconds
        self._apart += seconds

    def seconds_left(self, done: int, total: int, evaluations: int) -> float | None:
        """Estimates the seconds until training ends, at the average pace so far.

        The clock begins after the first decision with updates, which include their compilation, also after a
        resumption, and perhaps a burst that does not come again.

        Args:
            done: gradient updates per seed of all decisions so far.
            total: gradient updates per seed of all decisions that were asked for.
            evaluations: evaluations still to end.

        Returns:
            Seconds; None before there is a pace.
        """
        now = time.perf_counter()
        if self._first is None:
            self._first = done
        if self._begun is None and done > self._first:
            self._begun, self._apart = (now, done), 0.0
        if self._begun is None or done == self._begun[1]:
            return None
        clock, before = self._begun
        per_update = (now - clock - self._apart) / (done - before)
        return per_update * (total - done) + self.seconds_of(evaluations)

    def seconds_of(self, evaluations: int) -> float:
        """The seconds that so many evaluations take, if each takes as long as the newest one."""
        return self._evaluation * evaluations
