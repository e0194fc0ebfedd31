"""A sweep under way: looks at the runs, starts what may start, and notes how each attempt ended.

It keeps nothing but the attempts that the run directories do not say, so it can be killed and started again
at any time, and several may work on one folder.
"""

import math
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossq_wn.errors import UserError, one_line, tells_of_memory, tells_of_outage
from crossq_wn.machine import boot
from crossq_wn.sweeps.bills import spent
from crossq_wn.sweeps.engines import OTHERS, Engine, Process, is_final
from crossq_wn.sweeps.failures import Failures, begin_anew
from crossq_wn.sweeps.history import RETRIES, Attempt, History
from crossq_wn.sweeps.outages import Outage
from crossq_wn.sweeps.plans import Planned
from crossq_wn.sweeps.scheduling import Going, Need, Outlook, Room, Waiting, lacking, next_jobs, outlook
from crossq_wn.sweeps.states import State, state_of, stopped_seeds
from crossq_wn.sweeps.watching import Watch

_LOOK = 5.0  # seconds between looks at what others do
_REFRESH = 60.0  # and at all runs
_NEVER = float("-inf")
_EXCUSED = 8  # times in a row that a run may lack memory while others run


@dataclass
class Worker:
    """A process of this sweep and what it works on."""

    number: int  # of the run
    process: Process
    before: State
    began: float
    memory: int = 0  # the most bytes seen
    told: int = 0  # signals passed on


@dataclass
class Sweep:
    """The state of a sweep in this process.

    Args:
        runs: the plan.
        out: the folder that holds them all.
        engine: starts processes.
        slots: the most processes side by side; the engine may have fewer places, and more or fewer later.
        needs: what each run takes.
        say: is told of every event, in one line.
        retries: failures in a row after which a run is tried again.
        waits: whether to wait for runs that other processes train, and go on with those if they fail;
            else only until each of them is known to be alive or gone.
        clock: seconds that never jump, by which pauses are timed.
        wall: seconds since 1970, for the record.
        states: how far each run has come, if that is known.
        since: failures that were recorded at this time or later count, in seconds since 1970, since this
            sweep goes on with the work of others; by default everything is tried anew.
    """

    runs: Sequence[Planned]
    out: Path
    engine: Engine
    slots: int
    needs: Callable[[Planned], Need]
    say: Callable[[str], None]
    retries: int = RETRIES
    waits: bool = True
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    watch: Watch = field(default_factory=Watch)
    states: list[State] = field(default_factory=list)
    since: float = math.inf
    workers: dict[int, Worker] = field(default_factory=dict)  # by slot
    looked: float = _NEVER  # when the outlooks were last made
    refreshed: float = _NEVER  # when the states were last read
    waiting: list[Waiting] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)  # runs that other processes work on
    failed: dict[Path, str] = field(default_factory=dict)
    short: dict[int, float] = field(default_factory=dict)  # since when runs that wait lack memory

    def __post_init__(self) -> None:
        self.history = History(self.out)
        if not self.states:  # else they are as old as the plan, which took its time
            self.states = [state_of(run) for run in self.runs]
            self.refreshed = self.clock()
        self.outage = Outage()
        self._turns = [random.random() for _ in self.runs]
        self.tried = Failures(self.clock, self.history.since(self.since))
        for run, state in zip(self.runs, self.states, strict=True):
            self._begin(run, state)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do here and, if this sweep waits for others, elsewhere."""
        undecided = self.looked == _NEVER  # another look is due
        return not (undecided or self.workers or (self.waiting and not self.gives_up) or self._awaited())

    @property
    def gives_up(self) -> bool:
        """Whether runs wait in vain: nothing here has got further for too long, and nobody is waited for."""
        return bool(self.waiting) and self.outage.hopeless and not (self.workers or self._awaited())

    def add(self, run: Planned) -> int:
        """Adds a run to the plan, unless it is in it already; returns its number."""
        for number, each in enumerate(self.runs):
            if each.path == run.path:
                return number
        self.runs, self.states = [*self.runs, run], [*self.states, state_of(run)]
        self._turns.append(random.random())
        self._begin(run, self.states[-1])
        self.looked = _NEVER
        return len(self.runs) - 1

    def _begin(self, run: Planned, state: State) -> None:
        """Tells whoever looks from outside that failures of earlier sweeps count no longer."""
        if not self.tried.of(self.key(run)):
            begin_anew(self.key(run), state, self.history, self.retries, self.wall())

    def replace(self, number: int, run: Planned) -> None:
        """Lets a run go on further, when nothing works on it."""
        self.runs = [*self.runs[:number], run, *self.runs[number + 1 :]]
        self.states[number] = state_of(run)
        self.looked = _NEVER

    def _awaited(self) -> bool:
        """Whether runs of others are waited for: all, or those whose holders may turn out to be gone."""
        if self.waits:
            return bool(self.elsewhere)
        return any(self.watch.unsure(self.runs[number].path) for number in self.elsewhere)

    def look(self) -> None:
        """Sorts the runs that no process of this sweep works on."""
        old = self.elsewhere
        if self.clock() - self.refreshed >= _REFRESH:  # other sweeps have gone on, too
            old = [number for number, state in enumerate(self.states) if state.kind != "finished"]
            self.refreshed = self.clock()
        mine = {worker.number: worker for worker in self.workers.values()}
        for number in old:
            self._see(number, mine.get(number))
        self.tried.hear(self.history.news())
        self.waiting, self.elsewhere, self.failed = [], [], {}
        for number, run in enumerate(self.runs):
            if number in mine:
                continue
            found = self.outlook(number)
            if found.standing == "running":
                self.elsewhere.append(number)
            elif found.standing == "failed":
                self.failed[run.path] = found.why
            elif found.standing == "waiting":
                self.waiting.append(self._waiting(number, found.ready))
        self.looked = self.clock()

    def _see(self, number: int, worker: Worker | None = None) -> State:
        """Finds out how far a run has come, on which a process of this sweep may be working."""
        before, state = self.states[number], state_of(self.runs[number])
        if state.kind == "damaged":  # what it had is still there, as far as is known
            state = state._replace(frames=before.frames)
        further = state.frames > before.frames or (state.kind == "finished" != before.kind)
        if worker is not None and further:
            host = state.seen.holder.host if state.seen.holder else ""
            self.outage.advance(number, self.clock(), worker.process.node() or host)
        self.states[number] = state
        return state

    def outlook(self, number: int) -> Outlook:
        """Where a run stands; what failed before `since` is tried again."""
        run, state = self.runs[number], self.states[number]
        alive = self.watch.alive(run.path, state.seen)
        return outlook(state, self.tried.of(self.key(run)), alive=alive, retries=self.retries)

    def fill(self) -> None:
        """Starts runs in free slots."""
        now = self.clock()
        slots = min(self.slots, self.engine.places())
        free = [slot for slot in range(slots) if slot not in self.workers]
        if not free:
            return
        if now - self.looked >= _LOOK:
            self.look()
        usable = self._usable(free, now)
        if not usable:
            return
        room = Room(usable, self._memory(), self._alone(), self._going(now))
        self.short = lacking(self.waiting, room, now, self.short)
        for start in next_jobs(self.waiting, room, now):
            self.waiting = [each for each in self.waiting if each.number != start.number]
            self._see(start.number)
            standing = self.outlook(start.number).standing
            if standing == "waiting":
                self._start(start.number, start.slot)
            elif standing == "running":  # another sweep was faster
                self.elsewhere.append(start.number)
            elif standing == "failed":
                self.looked = _NEVER

    def _others(self) -> list[int]:
        """The processes on this machine that train runs of this sweep, and are not its own."""
        here, found = boot() if self.elsewhere else "", []
        for number in self.elsewhere:
            holder = self.states[number].seen.holder
            if holder is not None and holder.boot == here:
                found.append(holder.pid)
        return found

    def _alone(self) -> bool:
        """Whether no run of this sweep trains on this machine."""
        return not (self.workers or self._others())

    def _usable(self, free: Sequence[int], now: float) -> Sequence[int]:
        """The free slots in which something may start."""
        if self.waits:  # whoever need not has been given a place of its own, as by Slurm
            free = self.engine.free(free, self._others())
        starts = [worker.began for worker in self.workers.values()]
        return self.outage.usable(free, starts, now) if self.waiting and not self.gives_up else []

    def collect(self, received: Sequence[int]) -> None:
        """Passes signals on to all processes, and notes how those that have ended did."""
        for slot, worker in list(self.workers.items()):
            for _ in received[worker.told :]:
                worker.process.stop()
            worker.told = len(received)
            ended = worker.process.ended()
            worker.memory = max(worker.memory, worker.process.memory())
            if ended:
                del self.workers[slot]
                self._note(worker, received)
                self.looked = _NEVER

    def key(self, run: Planned) -> str:
        """The name of a run in the history."""
        return self.history.name(run.path)

    def _start(self, number: int, slot: int) -> None:
        run, state = self.runs[number], self.states[number]
        waiting = self._waiting(number, 0.0)
        try:
            self.history.require_folder()  # below an empty mount point, everything would begin anew
            if state.kind == "damaged":
                raise UserError(state.why)
            process = self.engine.start(run, state, slot, waiting.memory)
        except (UserError, OSError) as reason:  # of the file system: perhaps the disk is full for a while
            cause = f"cannot start: {one_line(reason)}"
            final = isinstance(reason, UserError) and is_final(cause, 2, state)
            self._record(number, state, cause, platform.node(), final=final)
            self.say(f"{run.name} {cause}")
            self.looked = _NEVER
            return
        self.short.pop(number, None)
        self.workers[slot] = Worker(number, process, state, self.clock())
        frames = run.config.options.frames
        how = f"resumes at {state.frames:,} of" if state.resumable else "trains"
        self.say(f"{run.name} {how} {frames:,} frames, about {spent(waiting.seconds / 3600)}: {run.path}")

    def _note(self, worker: Worker, received: Sequence[int]) -> None:
        """Records how an attempt ended."""
        number, run = worker.number, self.runs[worker.number]
        state = self._see(number, worker)
        cause, code = "", 0
        if state.kind == "finished":
            lost = stopped_seeds(run, state)
            said = f"finished, but {lost}" if lost else "finished"
        elif received:
            said = f"stopped at {state.frames:,} frames"
        else:
            cause, code = worker.process.failure()
            said = cause
            # A lease may outlive its holder on another node for a while, so it says nothing by itself.
            if OTHERS in cause and self.watch.alive(run.path, state.seen):
                self.say(f"{run.name}: is left to the process that has it")
                return
        final, node = is_final(cause, code, state), worker.process.node()
        # An attempt that ended early has not filled its replay, so its peak may only raise the estimate.
        whole = state.kind == "finished" or worker.memory > self.needs(run).memory
        memory = worker.memory if whole else 0
        worked = worker.process.worked()
        seconds = self.clock() - worker.began if worked is None else worked
        self._record(number, worker.before, cause, node, final=final, memory=memory, seconds=seconds)
        when = self.outlook(number).next_try(self.clock()) if cause else ""
        self.say(f"{run.name}: {when}{said}")

    def _record(
        self,
        number: int,
        before: State,
        cause: str,
        node: str,
        *,
        final: bool,
        memory: int = 0,
        seconds: float = 0.0,
    ) -> None:
        attempt = Attempt(
            run=self.key(self.runs[number]),
            ended=self.clock(),
            before=before.frames,
            after=self.states[number].frames,
            cause=cause,
            final=final,
            memory=memory,
            seconds=seconds,
            retries=self.retries,
            passing=self._blameless(number, cause, node),
        )
        self.tried.add(attempt)
        if attempt.passing:
            self.outage.fail(cause, self.clock())
        self.history.add(attempt._replace(ended=self.wall()))

    def _blameless(self, number: int, cause: str, node: str) -> bool:
        """Whether a run is not to blame; one that lacks memory while nothing else runs, or often, is."""
        if self.retries == 0 or not (cause and (tells_of_outage(cause) or not self.history.there)):
            return False
        failures = self.tried.in_a_row(self.key(self.runs[number]), self.states[number])
        if tells_of_memory(cause):  # others may take it, but on a cluster also run elsewhere
            return not self._alone() and sum(each.passing for each in failures) < _EXCUSED
        # Where others get further meanwhile, on the same machine, there is no outage.
        return not (failures and self.outage.spares_others(number, failures[-1].ended, node))

    def _waiting(self, number: int, ready: float, state: State | None = None) -> Waiting:
        run, state = self.runs[number], state or self.states[number]
        need = self.needs(run)
        left = max(0.0, 1 - state.frames / run.config.options.frames)
        memory = self.history.memory(self.key(run)) or need.memory
        short = self.short.get(number, math.inf)
        return Waiting(number, ready, need.seconds * left, memory, self._turns[number], short)

    def _going(self, now: float) -> list[Going]:
        """What the processes of this sweep will give back, and when."""
        found = []
        for worker in self.workers.values():
            run = self._waiting(worker.number, 0.0, worker.before)
            found.append(Going(max(0.0, run.seconds - (now - worker.began)), max(run.memory, worker.memory)))
        return found

    def _memory(self) -> int | None:
        """The bytes that are free once the processes of this sweep have grown to what they need."""
        free = self.engine.free_memory()
        if free is None:
            return None
        for worker in self.workers.values():
            growth = self._waiting(worker.number, 0.0).memory - worker.memory
            free -= max(0, growth)
        return free
