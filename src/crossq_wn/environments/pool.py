"""How do several seeds' environments step at once? In turn or in threads, whichever proves faster.

Not by EnvPool: it can neither save nor restore a state, so no run would resume exactly; its rewards are
float32 and some observations not the suites'; and in its last release for Python 3.11 (1.2.5) MyoSuite's
random tasks are never randomised.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition

_TRIAL = 20  # steps in turn and as many in threads, to find out

Result = Transition | EnvironmentFaultError


class Pool:
    """One environment per seed. A seed's fault is returned in its place and touches no other seed.

    MuJoCo releases Python's lock while it steps, so threads pay where physics is most of the work. Results do
    not depend on who steps where; the choice may therefore depend on measured time.
    """

    def __init__(self, environments: Sequence[Environment], threads: int) -> None:
        self.environments = list(environments)
        # A user's environment may share a global random stream, say: never in threads.
        alone = not all(environment.simulator.in_threads for environment in self.environments)
        self._helpers = 0 if alone else min(threads, len(self.environments)) - 1  # the caller works too
        self._executor = ThreadPoolExecutor(max(1, self._helpers), "environment")  # starts none yet
        self._in_threads = False
        self._trials: dict[bool, list[float]] = {False: [], True: []}  # in threads? -> seconds per step

    def reset(self, index: int, seed: int | None = None) -> np.ndarray:
        """Resets one seed's environment; float32 [observation_size]. Raises EnvironmentFaultError."""
        return self.environments[index].reset(seed)

    def step(self, indices: Sequence[int], actions: np.ndarray) -> list[Result]:
        """Steps the named seeds' environments; actions float32 [len(indices), action_size]."""
        jobs = [(self.environments[i], action) for i, action in zip(indices, actions, strict=True)]
        start = time.perf_counter()
        done = self._step_together(jobs) if self._in_threads else [_step(*job) for job in jobs]
        self._choose((time.perf_counter() - start) / max(1, len(jobs)))
        return done

    def close(self) -> None:
        """Closes all environments."""
        self._executor.shutdown()
        for environment in self.environments:
            environment.close()

    def _step_together(self, jobs: list[tuple[Environment, np.ndarray]]) -> list[Result]:
        done: dict[int, Result] = {}
        waiting = iter(enumerate(jobs))  # shared: who is free takes the next

        def work() -> None:
            for number, job in waiting:
                done[number] = _step(*job)

        helpers = [self._executor.submit(work) for _ in range(self._helpers)]
        try:
            work()
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()  # raises what went wrong there
        return [done[number] for number in range(len(jobs))]

    def _choose(self, seconds: float) -> None:
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
