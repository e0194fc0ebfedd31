"""Steps the environments of several seeds: in turn, in threads or in worker processes, whichever is fastest.

The three ways give the same numbers to the last bit, in whatever order environments are stepped, so that the
choice may depend on measured time:

1. Turns and threads alternate for 20 steps each. MuJoCo releases Python's lock while it steps, so threads pay
   off where physics is most of the work. Environments of a user's own may share state, such as a generator,
   and take turns.
2. Where a decision of all environments takes more than 20 round trips to a process, and stepping has already
   taken longer than starting processes does, workers are started (`crew`). They make their environments
   while those here go on. Where a GPU leaves processors to them, they are started with the run.
3. When all are ready they take over snapshots, and for 20 steps they do what is done here. If they get the
   same transitions and the same states to the last bit, and need less time, the environments here are closed
   and those of the workers go on. Otherwise everything stays here.

Environments that cannot be moved are never tried: those given as objects, lambdas, classes of a script, and
what holds open files; nor are those that use something that their process shares (`isolation`). Where workers
would have been worth a try, this is said in one line.

EnvPool would be an alternative, but it can neither save nor restore a state, so no run could be resumed
exactly. Its rewards are float32, some of its observations differ from the suites', and in its last release
for Python 3.11 (1.2.5) MyoSuite's random tasks are never randomised.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Result
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.moving import Move
from crossq_wn.environments.remote import Anywhere
from crossq_wn.environments.streams import seed_shared

_TRIAL = 20  # steps of each way that are timed before the faster one is chosen

Observation = np.ndarray | EnvironmentFaultError


def _say_nothing(text: str) -> None:
    """Ignores a message."""


class Pool:
    """One environment per seed.

    A fault of one seed's environment is returned in place of its result, and affects no other seed.

    Args:
        environments: one per seed.
        threads: the most threads that may step at once, including the caller's.
        crew: workers to which environments may be moved, if any.
        first: the seat of the first environment there.
        tell: is told why they are not moved, where that would have been worth a try.
    """

    def __init__(
        self,
        environments: Sequence[Environment],
        threads: int,
        crew: Crew | None = None,
        first: int = 0,
        tell: Callable[[str], None] = _say_nothing,
    ) -> None:
        self.environments: list[Anywhere] = list(environments)
        # Environments of a user may share state, such as a global random stream; threads would mix it up.
        alone = not all(environment.simulator.in_threads for environment in self.environments)
        self._helpers = 0 if alone else min(threads, len(self.environments)) - 1  # threads besides the caller
        self._executor = ThreadPoolExecutor(max(1, self._helpers), "environment")  # starts no thread yet
        self._in_threads = False
        self._trials: dict[bool, list[float]] = {False: [], True: []}  # in threads? -> seconds per step
        self._crew, self._first = crew, first
        self._move = None if crew is None else Move(self.environments, crew, first, tell)

    def reset(self, index: int, seed: int | None = None) -> np.ndarray:
        """Resets one environment.

        Args:
            index: its place in `environments`.
            seed: restarts its random stream; None continues the stream.

        Returns:
            The first observation, float32 [observation_size].

        Raises:
            EnvironmentFaultError: as in `Environment.reset`.
        """
        (found,) = self.resets([index], None if seed is None else [seed])
        if isinstance(found, EnvironmentFaultError):
            raise found
        return found

    def resets(self, indices: Sequence[int], seeds: Sequence[int] | None = None) -> list[Observation]:
        """Resets some of the environments.

        Args:
            indices: their places in `environments`.
            seeds: restart their random streams; None continues these.

        Returns:
            For each its first observation, float32 [observation_size], or its fault.
        """
        if self._crew is not None and self._moved:
            return self._resets_there(indices, seeds)
        jobs = [
            (self.environments[i].reset, None if seeds is None else seeds[k]) for k, i in enumerate(indices)
        ]
        # Seeds restart the process's shared streams too, whose last state would depend on the threads.
        together = self._in_threads and seeds is None and len(jobs) > 1
        found = self._together(jobs) if together else [_outcome(*job) for job in jobs]
        if self._move is not None:
            self._move.after_resets(indices, seeds, found)
        return found

    def begin(self, indices: Sequence[int], actions: np.ndarray) -> None:
        """Has workers, if there are any, begin what `step`, called next with the same arguments, waits for.

        Args:
            indices: as `step` takes them.
            actions: likewise.
        """
        if self._crew is not None and self._moved:
            self._crew.begin([self._first + index for index in indices], actions)

    def step(self, indices: Sequence[int], actions: np.ndarray) -> list[Result]:
        """Takes one agent decision in some of the environments.

        Args:
            indices: their places in `environments`.
            actions: float32 [len(indices), action_size] in [-1, 1].

        Returns:
            For each of them its transition, or its fault.
        """
        move = self._move if self._settled else None
        if move is not None:
            move.before_step()
        if self._crew is not None and self._moved:
            return self._crew.step([self._first + index for index in indices], actions)
        jobs = [(self.environments[i].step, action) for i, action in zip(indices, actions, strict=True)]
        start = time.perf_counter()
        done = self._together(jobs) if self._in_threads else [_outcome(*job) for job in jobs]
        seconds = time.perf_counter() - start
        self._choose(seconds / max(1, len(jobs)))
        if move is not None:
            move.after_step(indices, actions, done, seconds)
        return done

    def close(self) -> list[EnvironmentFaultError]:
        """Ends the threads and closes all environments; returns the faults of those that fail to close."""
        self._executor.shutdown()
        faults = []
        for environment in self.environments:
            if fault := environment.close():
                faults.append(fault)
        return faults

    @property
    def way(self) -> str:
        """How environments are stepped at present: `turns`, `threads` or `workers`."""
        if self._moved:
            return "workers"
        return "threads" if self._in_threads else "turns"

    @property
    def decided(self) -> bool:
        """Whether the way of stepping will hardly change any more, as far as one can tell."""
        return self._settled and (self._move is None or self._move.decided or self._move.idle)

    @property
    def _moved(self) -> bool:
        return self._move is not None and self._move.made

    @property
    def _settled(self) -> bool:
        """Whether turns or threads are chosen."""
        return self._helpers < 1 or len(self._trials[True]) == _TRIAL

    def _resets_there(self, indices: Sequence[int], seeds: Sequence[int] | None) -> list[Observation]:
        assert self._crew is not None
        each: Sequence[int | None] = [None] * len(indices) if seeds is None else seeds
        for seed in seeds or ():
            seed_shared(seed)  # of this process, as a reset here does
        orders = [(self._first + i, "reset", (seed,)) for i, seed in zip(indices, each, strict=True)]
        found = self._crew.call(orders)
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, EnvironmentFaultError):
                raise answer
        return found

    def _together(self, jobs: Sequence[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
        done: dict[int, Any] = {}
        waiting = iter(enumerate(jobs))  # shared by all threads: a free thread takes the next job

        def work() -> None:
            for number, job in waiting:
                done[number] = _outcome(*job)

        helpers = [self._executor.submit(work) for _ in range(self._helpers)]
        try:
            work()
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()  # raises what the thread raised
        return [done[number] for number in range(len(jobs))]

    def _choose(self, seconds: float) -> None:
        """Alternates between the two ways until both are timed, and then keeps to the faster one."""
        if self._settled:
            return
        self._trials[self._in_threads].append(seconds)
        self._in_threads = not self._in_threads
        if self._settled:
            self._in_threads = bool(np.median(self._trials[True]) < np.median(self._trials[False]))


def _outcome(function: Callable[[Any], Any], argument: Any) -> Any:
    """What a method of an environment returns, or the fault that it raises."""
    try:
        return function(argument)
    except EnvironmentFaultError as fault:
        return fault
