"""Environments that worker processes hold, as the rest of the house sees them."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.interface import plain_of
from crossq_wn.environments.snapshot import Snapshot
from crossq_wn.environments.streams import seed_shared


class Remote:
    """An environment that a worker holds; its methods are those of `core.Environment`.

    Args:
        crew: whose worker it is.
        seat: its place.
        here: the environment in this process that it stands for, in the same state.
    """

    def __init__(self, crew: Crew, seat: int, here: Environment) -> None:
        self._crew, self.seat = crew, seat
        self.task, self.action_repeat = here.task, here.action_repeat
        self.observation_size, self.action_size = here.observation_size, here.action_size
        self.frame_seconds = here.frame_seconds
        self.simulator: Any = SimpleNamespace(**plain_of(here.simulator), physics=None)

    @property
    def largest_observation(self) -> float:
        """The largest number in an observation so far, in absolute value."""
        return float(self._crew.board.lines[self.seat, -2])

    @property
    def largest_reward(self) -> float:
        """The largest reward so far, in absolute value."""
        return float(self._crew.board.lines[self.seat, -1])

    def reset(self, seed: int | None = None) -> np.ndarray:
        """As `Environment.reset`, for this process's shared streams too."""
        if seed is not None:
            seed_shared(seed)
        observation: np.ndarray = self._call("reset", seed)
        return observation

    def step(self, action: np.ndarray) -> Transition:
        """As `Environment.step`; `Crew.step` is the fast way."""
        transition: Transition = self._call("step", action)
        return transition

    def snapshot(self) -> Snapshot:
        """As `Environment.snapshot`."""
        saved: Snapshot = self._call("snapshot")
        return saved

    def restore(self, snapshot: Snapshot) -> None:
        """As `Environment.restore`."""
        self._call("restore", snapshot)

    def statistics(self) -> Snapshot:
        """As `Environment.statistics`."""
        found: Snapshot = self._call("statistics")
        return found

    def adopt(self, statistics: Snapshot, *, fixed: bool) -> None:
        """As `Environment.adopt`."""
        if statistics:
            self._call("adopt", statistics, fixed)

    def render(self, height: int, width: int) -> np.ndarray:
        """As `Environment.render`."""
        picture: np.ndarray = self._call("render", height, width)
        return picture

    def close(self) -> EnvironmentFaultError | None:
        """As `Environment.close`; nothing is left to close where the worker is dead."""
        (found,) = self._crew.call([(self.seat, "close", ())])
        if self._crew.lost(self.seat):
            return None
        if isinstance(found, BaseException) and not isinstance(found, EnvironmentFaultError):
            raise found
        fault: EnvironmentFaultError | None = found
        return fault

    def _call(self, method: str, *arguments: Any) -> Any:
        (found,) = self._crew.call([(self.seat, method, arguments)])
        if isinstance(found, BaseException):
            raise found
        return found


Anywhere = Environment | Remote
