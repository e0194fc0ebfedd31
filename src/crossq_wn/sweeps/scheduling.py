"""What to do next: pure functions from states, attempts and the time to a decision."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from crossq_wn.errors import may_pass
from crossq_wn.sweeps.history import RETRIES, Attempt
from crossq_wn.sweeps.states import State

_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 10.0, 4.0, 600.0  # seconds; by what each pause exceeds the one before
_GROWS = 5  # times
_PATIENCE = 600.0  # seconds for which a run does not fit before memory is kept for it

Standing = Literal["done", "running", "waiting", "failed"]


class Need(NamedTuple):
    """What a run takes."""

    seconds: float  # of one core, from beginning to end
    memory: int  # bytes


class Outlook(NamedTuple):
    """Where a run of a sweep stands."""

    standing: Standing
    ready: float = 0.0  # waiting: the time from which it may be tried, by the clock of the attempts
    why: str = ""  # failed: the cause; waiting: the cause of the last failure, if there was one

    def next_try(self, now: float) -> str:
        """When it is tried again, to stand before the cause; empty if it has not failed.

        Args:
            now: the time, by the same clock as `ready`.
        """
        if not self.why:
            return ""
        if self.standing != "waiting":
            return "not tried again: "
        seconds = self.ready - now
        return f"tried again {f'in {seconds:.0f} s' if seconds > 0 else 'as soon as there is room'}: "


class Waiting(NamedTuple):
    """A run that waits for a place."""

    number: int  # of the run in the plan
    ready: float  # the time from which it may be tried
    seconds: float  # that it will take
    memory: int  # bytes that it will take
    turn: float = 0.0  # decides between equal runs; several sweeps on one folder had better not agree
    short: float = math.inf  # the time since which it lacks memory


class Going(NamedTuple):
    """A run that is under way."""

    seconds: float  # that it will still take, as far as is known
    memory: int  # bytes that it gives back at its end


class Room(NamedTuple):
    """What the machine has left."""

    slots: Sequence[int]  # numbers of free slots
    memory: int | None  # bytes that no running process will need; None: unknown
    idle: bool  # whether nothing runs
    going: Sequence[Going] = ()  # what will give memory back


class Start(NamedTuple):
    """A run to start now."""

    number: int  # of the run in the plan
    slot: int


def outlook(state: State, attempts: Sequence[Attempt], *, alive: bool, retries: int = RETRIES) -> Outlook:
    """Says where a run stands.

    Failures count since the run last got further, but for those of which it is not to blame.

    Args:
        state: of its directory.
        attempts: at it, oldest first.
        alive: whether a process works on it.
        retries: failures in a row after which it is tried again.
    """
    if alive:
        return Outlook("running")
    if state.kind == "finished":
        return Outlook("done")
    if state.kind == "another run" or (state.kind == "damaged" and not may_pass(state.why)):
        return Outlook("failed", why=state.why)
    failures = failures_in_a_row(state, attempts)
    if not failures:
        return Outlook("waiting")
    last = failures[-1]
    if last.final or sum(not each.passing for each in failures) > retries:
        return _given_up(state, last.cause)
    pause = min(_FIRST_PAUSE * _GROWTH ** min(len(failures) - 1, _GROWS), _LONGEST_PAUSE)
    return Outlook("waiting", ready=last.ended + pause, why=last.cause)


def _given_up(state: State, cause: str) -> Outlook:
    """Where a run stands that is not tried again: the seeds that came through count."""
    return Outlook("done" if state.kind == "seeds stopped" else "failed", why=cause)


def failures_in_a_row(state: State, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The failures in a row at the frames at which a run is now, oldest first, as far as they count.

    Args:
        state: of its directory.
        attempts: at it, oldest first.
    """
    found: list[Attempt] = []
    for attempt in reversed(attempts):
        if attempt.anew:
            break
        if not attempt.cause:  # it was stopped on request
            continue
        if attempt.after != state.frames:
            break
        found.insert(0, attempt)
        if attempt.after > attempt.before:
            break
    return found


def next_jobs(waiting: Sequence[Waiting], room: Room, now: float) -> list[Start]:
    """Chooses the runs to start: the longest first, as many as there are slots and memory for.

    A run that does not fit into memory waits until others have ended; if nothing else runs it is started all
    the same, and says itself if it cannot fit. Once the longest of those has waited for some minutes, memory
    is kept for it: what starts meanwhile has to end before enough memory is expected to be free, or to leave
    that much (backfilling, as cluster schedulers do it).

    Args:
        waiting: the runs that wait.
        room: what the machine has left.
        now: the time, by the same clock as `Waiting.ready`.
    """
    slots, going, kept = list(room.slots), list(room.going), _NONE
    memory = math.inf if room.memory is None else room.memory
    starts: list[Start] = []
    ready = [run for run in waiting if run.ready <= now]
    for run in sorted(ready, key=lambda run: (-run.seconds, run.turn, run.number)):
        if not slots:
            break
        alone = room.idle and not starts
        if run.memory > memory and not alone:
            if now - run.short >= _PATIENCE:
                kept = _kept(run, kept, memory, going)
        elif kept.leaves(run):
            starts.append(Start(run.number, slots.pop(0)))
            going.append(Going(run.seconds, run.memory))
            memory, kept = memory - run.memory, kept.without(run)
    return starts


def lacking(
    waiting: Sequence[Waiting], room: Room, now: float, before: Mapping[int, float]
) -> dict[int, float]:
    """Notes since when runs lack memory, by their numbers, for those that do so now and did `before`."""
    found = dict(before)
    for run in waiting:
        if room.memory is not None and run.ready <= now and run.memory > room.memory:
            found.setdefault(run.number, now)
    return found


class _Kept(NamedTuple):
    """Memory that is kept for a run."""

    until: float  # seconds from now until it is expected to be free
    spare: float  # bytes that will be free beside it

    def leaves(self, run: Waiting) -> bool:
        """Whether it will be free in time although a run starts now."""
        return run.seconds <= self.until or run.memory <= self.spare

    def without(self, run: Waiting) -> "_Kept":
        """What is spare once a run has started."""
        return self if run.seconds <= self.until else self._replace(spare=self.spare - run.memory)


_NONE = _Kept(math.inf, 0)  # for no run


def _kept(run: Waiting, before: _Kept, memory: float, going: Sequence[Going]) -> _Kept:
    """The memory that is kept, now that a run has waited for some; it is kept for one at a time."""
    if before is not _NONE:
        return before
    for each in sorted(going):
        memory += each.memory
        if memory >= run.memory:
            return _Kept(each.seconds, memory - run.memory)
    return _NONE  # it needs more than there is, and is not waited for
