"""Steps the environments of several seeds, one after the other or in threads, whichever is faster.

EnvPool would be an alternative, but it can neither save nor restore a state, so no run could be resumed
exactly. Its rewards are float32, some of its observations differ from the suites', and in its last release
for Python 3.11 (1.2.5) MyoSuite's random tasks are never randomised.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition

_TRIAL = 20  # steps of each way that are timed before the faster one is chosen

Result = Transition | EnvironmentFaultError


class Pool:
    """One environment per seed.

    A fault of one seed's environment is returned in place of its result, and affects no other seed. MuJoCo
    releases Python's lock while it steps, so threads pay off where physics is most of the work. Results do
    not depend on which thread steps which environment, so the choice may depend on measured time.

    Args:
        environments: one per seed.
        threads: the most threads that may step at once, including the caller's.
    """

    def __init__(self, environments: Sequence[Environment], threads: int) -> None:
        self.environments = list(environments)
        # Environments of a user may share state, such as a global random stream; threads would mix it up.
        alone = not all(environment.simulator.in_threads for environment in self.environments)
        self._helpers = 0 if alone else min(threads, len(self.environments)) - 1  # threads besides the caller
        self._executor = ThreadPoolExecutor(max(1, self._helpers), "environment")  # starts no thread yet
        self._in_threads = False
        self._trials: dict[bool, list[float]] = {False: [], True: []}  # in threads? -> seconds per step

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
        return self.environments[index].reset(seed)

    def step(self, indices: Sequence[int], actions: np.ndarray) -> list[Result]:
        """Takes one agent decision in some of the environments.

        Args:
            indices: their places in `environments`.
            actions: float32 [len(indices), action_size] in [-1, 1].

        Returns:
            For each of them its transition, or its fault.
        """
        jobs = [(self.environments[i], action) for i, action in zip(indices, actions, strict=True)]
        start = time.perf_counter()
        done = self._step_together(jobs) if self._in_threads else [_step(*job) for job in jobs]
        self._choose((time.perf_counter() - start) / max(1, len(jobs)))
        return done

    def close(self) -> list[EnvironmentFaultError]:
        """Ends the threads and closes all environments; returns the faults of those that fail to close."""
        self._executor.shutdown()
        faults = []
        for environment in self.environments:
            if fault := environment.close():
                faults.append(fault)
        return faults

    def _step_together(self, jobs: list[tuple[Environment, np.ndarray]]) -> list[Result]:
        done: dict[int, Result] = {}
        waiting = iter(enumerate(jobs))  # shared by all threads: a free thread takes the next job

        def work() -> None:
            for number, job in waiting:
                done[number] = _step(*job)

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
        if self._helpers < 1 or len(self._trials[True]) == _TRIAL:
            return
        self._trials[self._in_threads].append(seconds)
        self._in_threads = not self._in_threads
        if len(self._trials[True]) == _TRIAL:
            self._in_threads = bool(np.median(self._trials[True]) < np.median(self._trials[False]))


def _step(environment: Environment, action: np.ndarray) -> Result:
    try:
        return environment.step(action)
    except EnvironmentFaultError as fault:
        return fault
