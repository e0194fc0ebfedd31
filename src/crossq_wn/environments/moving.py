"""Moves a pool's environments to worker processes, if these give the same numbers in less time."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossq_wn.environments import tidy
from crossq_wn.environments.core import Environment, Result, Transition
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.isolation import same
from crossq_wn.environments.remote import Anywhere, Remote
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.environments.worker import Order
from crossq_wn.errors import one_line

WORTH = 1e-3  # seconds of a step of all environments, 20 round trips, from which workers are tried
_PATIENCE = 3.0  # seconds of stepping before they are started, which takes about as long
# The same of workers that wait for steps without sleeping.
_WORTH_AWAKE, _PATIENCE_AWAKE = 3e-4, 0.05
_TRIAL = 20  # steps that are taken in both places


class Move:
    """The move of a pool's environments to its set of seats in a crew.

    Args:
        environments: those of the pool, which are replaced by what stands for them if they move.
        crew: the workers.
        first: the seat of the first environment.
        tell: is told why they stay, where a move would have been worth a try.
    """

    def __init__(
        self, environments: list[Anywhere], crew: Crew, first: int, tell: Callable[[str], None]
    ) -> None:
        self._environments, self._crew, self._tell = environments, crew, tell
        self._seats = range(first, first + len(environments))
        self._spent, self._steps = 0.0, 0  # seconds and steps here, before anything is decided
        self._worth, self._patience = (_WORTH_AWAKE, _PATIENCE_AWAKE) if crew.awake else (WORTH, _PATIENCE)
        self._times: list[tuple[float, float]] | None = None  # of a step here and there, in the rehearsal
        # Places of those that were stepped in it; others may not have begun.
        self._rehearsed: set[int] = set()
        self.decided = self.made = False  # whether they have moved

    @property
    def idle(self) -> bool:
        """Whether steps are too short for workers to be tried."""
        return not self._crew.started and self._steps >= 100 and self._spent < self._worth * self._steps

    def before_step(self) -> None:
        """Begins the rehearsal as soon as the workers are ready; no step is under way."""
        if self.decided or self._times is not None:
            return
        ready = self._crew.started and self._crew.ready()
        if self._crew.refusal:
            self._stay_refused()
        elif ready:
            self._begin()

    def after_step(
        self, indices: Sequence[int], actions: np.ndarray, results: Sequence[Result], seconds: float
    ) -> None:
        """Considers a step that was taken here: starts workers, or has them take the same step.

        Args:
            indices: the pool's places of the environments that were stepped, n of them.
            actions: [n, action_size] in [-1, 1].
            results: a transition or a fault of each.
            seconds: that the step took here, of all of them.
        """
        if self.decided:
            return
        self._spent, self._steps = self._spent + seconds, self._steps + 1
        if not self._crew.started and not self._crew.refusal:
            if self._spent > max(self._patience, self._worth * self._steps):
                first = self._environments[0]
                self._crew.start(first.observation_size, first.action_size)
        elif self._crew.refusal:  # perhaps the crew's other set of environments stays
            self._stay_refused()
        elif self._times is not None:
            self._rehearse(indices, actions, results, seconds)

    def after_resets(
        self, indices: Sequence[int], seeds: Sequence[int] | None, results: Sequence[np.ndarray | Exception]
    ) -> None:
        """Considers resets that were made here, which workers repeat in the rehearsal.

        Args:
            indices: the pool's places of the environments that were reset.
            seeds: of each; None: their random streams went on.
            results: the first observation [observation_size] of each, or what it raised.
        """
        if self.decided or self._times is None:
            return
        if self._crew.refusal:  # the crew's other set of environments stays
            self._stay(self._crew.refusal)
            return
        if seeds is not None:  # more than this may be new, such as statistics: start again
            self._times = None
            return
        there = self._crew.call([(self._seats[index], "reset", (None,)) for index in indices])
        self._compare(indices, results, there)

    def _begin(self) -> None:
        """Begins the rehearsal: the workers' environments take over the states of those here."""
        try:
            snapshots = [environment.snapshot() for environment in self._environments]
        except UnrestorableError as problem:
            self._stay(one_line(problem))
            return
        if self._answers("restore", snapshots) is not None:
            self._times, self._rehearsed = [], set()

    def _rehearse(
        self, indices: Sequence[int], actions: np.ndarray, results: Sequence[Result], seconds: float
    ) -> None:
        """Has the workers take a step that was taken here."""
        assert self._times is not None
        start = time.perf_counter()
        try:
            there = self._crew.step([self._seats[index] for index in indices], actions)
        except Exception as error:  # of the environment, in the worker alone
            self._stay(one_line(error))
            return
        self._times.append((seconds, time.perf_counter() - start))
        self._rehearsed.update(indices)
        if self._compare(indices, results, there) and len(self._times) == _TRIAL:
            self._decide()

    def _compare(self, indices: Sequence[int], here: Sequence[object], there: Sequence[object]) -> bool:
        """Whether the workers did the same as was done here; decides to stay if not."""
        for index, answer in zip(indices, there, strict=True):
            if isinstance(answer, Exception) and self._crew.lost(self._seats[index]):
                self._stay(one_line(answer))
                return False
        if not _equal(here, there):
            self._stay("in another process it does not do the same")
            return False
        return True

    def _decide(self) -> None:
        states = self._answers("snapshot")
        if states is None:
            return
        if not self._alike(states):
            self._stay("in another process its state becomes another")
            return
        if not pays(self._times or []):
            self._stay("")
            return
        if not self._crew.used:
            name, count = self._environments[0].task.name, self._crew.workers
            self._tell(f"the environments of {name} are now stepped in {count} processes of their own")
        self.decided = self.made = self._crew.used = True
        for index, environment in enumerate(self._environments):
            assert isinstance(environment, Environment)
            self._environments[index] = Remote(self._crew, self._seats[index], environment)
            if fault := environment.close():
                self._tell(f"an environment could not be closed: {fault}")
        tidy()

    def _alike(self, states: Sequence[Any]) -> bool:
        """Whether the environments that were stepped in the rehearsal are here in the workers' states."""
        there = [states[index] for index in self._rehearsed]
        return same(there, [self._environments[index].snapshot() for index in self._rehearsed])

    def _answers(self, method: str, arguments: Sequence[Any] = ()) -> list[Any] | None:
        """What the workers' environments return; None, after deciding to stay, if one raises an exception."""
        orders: list[Order] = [(seat, method, ()) for seat in self._seats]
        for number, argument in enumerate(arguments):
            orders[number] = self._seats[number], method, (argument,)
        found = self._crew.call(orders)
        for answer in found:
            if isinstance(answer, BaseException):
                self._stay(one_line(answer))
                return None
        return found

    def _stay_refused(self) -> None:
        """Stays because the crew refuses; tells why if steps take long, which an early start cannot know."""
        if not self._crew.awake:
            self._stay(self._crew.refusal)
        elif self._steps >= _TRIAL:
            self._stay(self._crew.refusal if self._spent > self._worth * self._steps else "")

    def _stay(self, reason: str) -> None:
        """Decides not to move, and says why unless it is only that threads or turns are as fast."""
        self.decided, self._times = True, None
        if not self._crew.used:
            self._crew.close()
        if reason and self._crew.refusal != _SAID:
            name = self._environments[0].task.name
            self._tell(f"the environments of {name} are stepped in this process alone: {reason}")
        self._crew.refusal = _SAID


_SAID = "said"  # a refusal that the user knows of, or need not


def pays(times: Sequence[tuple[float, float]]) -> bool:
    """Whether workers are faster, by the seconds of several steps here and there."""
    here, there = np.median(times, axis=0)
    return bool(there < here)


def _equal(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether results are equal to the last bit; faults, if they say the same."""
    return all(same(_plain(one), _plain(other)) for one, other in zip(left, right, strict=True))


def _plain(result: Any) -> Any:
    """A result as plain data, in the types that it has after passing over the board."""
    if isinstance(result, Exception):
        return type(result).__name__, str(result)
    if not isinstance(result, Transition):
        return result
    observation, reward, terminated, truncated, episode = result
    plain = observation, float(reward), bool(terminated), bool(truncated)
    if episode is None:
        return plain
    success = None if episode.success is None else bool(episode.success)
    return *plain, float(episode.total_reward), int(episode.frames), success
