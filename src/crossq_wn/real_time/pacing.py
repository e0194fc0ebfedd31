"""A robot that plays a trained policy at its control rate, outside of training."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition
from crossq_wn.real_time.playing import Timing, tell_of_timing
from crossq_wn.real_time.robot import Robot
from crossq_wn.real_time.schedule import Clock, Schedule, following


class Paced:
    """An environment whose steps keep a control rate; otherwise it is the same.

    Args:
        environment: the robot's.
        schedule: the control rate.
        clock: tells the time and sleeps.

    Attributes:
        timing: how the decisions so far kept to the rate; the first one of an episode cannot be late.
    """

    def __init__(self, environment: Environment, schedule: Schedule, clock: Clock | None = None) -> None:
        self._environment, self._robot = environment, Robot(environment)
        self._schedule, self._clock = schedule, clock or Clock()
        self._due: float | None = None  # when the next action is; None: at once
        self._arrived = 0.0  # when the newest observation did
        self.timing = Timing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """As `Environment.reset`; the robot is told that actions follow."""
        observation = self._robot.reset(seed)
        self._robot.resume()
        self._due = None
        return observation

    def step(self, action: np.ndarray) -> Transition:
        """As `Environment.step`, when the action is due; the robot is paused when the episode is over."""
        if self._due is None:
            self._due = self._arrived = self._clock.now()
        self._clock.wait_until(self._due)
        given = self._clock.now()
        try:
            transition, _ = self._robot.step(action)
        except EnvironmentFaultError:
            self._robot.rest()
            self.pause()
            raise
        lateness = given - max(self._due, self._arrived)
        self._arrived = self._clock.now()
        self.timing = self.timing.after(lateness, self._arrived - given, self._schedule)
        self._due = following(self._schedule, self._due, self._arrived, own_clock=self._robot.own_clock)
        if transition.episode is not None:
            self._robot.pause()
        return transition

    def tell(self, tell: Callable[[str], None]) -> None:
        """Tells how the decisions so far kept to the rate, where they did not."""
        tell_of_timing(tell, self.timing)

    def pause(self) -> None:
        """Pauses the robot, in an episode after its safe action; what it raises then is ignored."""
        with contextlib.suppress(EnvironmentFaultError):
            self._robot.settle()

    def close(self) -> EnvironmentFaultError | None:
        """As `Environment.close`; the robot is paused first, in an episode after its safe action."""
        try:
            self._robot.settle()
        except EnvironmentFaultError as fault:
            return self._environment.close() or fault
        return self._environment.close()
