"""How do several seeds' environments step at once? In threads where physics is the cost, else in turn."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition

# MuJoCo releases Python's lock while it steps: threads pay from about this much time per decision.
_WORTH_A_THREAD = 5e-4  # seconds
_TRIAL = 20  # steps in turn, to find out


class Pool:
    """One environment per seed. A seed's fault is returned in its place and touches no other seed."""

    def __init__(self, environments: Sequence[Environment], threads: int) -> None:
        self.environments = list(environments)
        self._threads = min(threads, len(self.environments))
        self._executor: ThreadPoolExecutor | None = None
        self._trial: list[float] = []  # seconds per environment of the first steps

    def reset(self, index: int, seed: int | None = None) -> np.ndarray:
        """Resets one seed's environment; float32 [observation_size]. Raises EnvironmentFaultError."""
        return self.environments[index].reset(seed)

    def step(self, indices: Sequence[int], actions: np.ndarray) -> list[Transition | EnvironmentFaultError]:
        """Steps the named seeds' environments; actions float32 [len(indices), action_size]."""
        jobs = [(self.environments[i], action) for i, action in zip(indices, actions, strict=True)]
        if self._executor is not None:
            return list(self._executor.map(_step, jobs))
        start = time.perf_counter()
        done = [_step(job) for job in jobs]
        self._consider_threads((time.perf_counter() - start) / max(1, len(jobs)))
        return done

    def close(self) -> None:
        """Closes all environments."""
        if self._executor is not None:
            self._executor.shutdown()
        for environment in self.environments:
            environment.close()

    def _consider_threads(self, seconds: float) -> None:
        # Results do not depend on who steps where, so the choice may depend on measured time.
        if self._threads < 2 or len(self._trial) == _TRIAL:
            return
        self._trial.append(seconds)
        if len(self._trial) == _TRIAL and float(np.median(self._trial)) > _WORTH_A_THREAD:
            self._executor = ThreadPoolExecutor(self._threads, "environment")


def _step(job: tuple[Environment, np.ndarray]) -> Transition | EnvironmentFaultError:
    environment, action = job
    try:
        return environment.step(action)
    except EnvironmentFaultError as fault:
        return fault
