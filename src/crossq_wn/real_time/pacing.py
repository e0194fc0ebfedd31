"""A robot in this process: what steps it from outside of `acting` keeps to the same rules."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from crossq_wn.environments.core import Environment, EnvironmentFaultError, Transition
from crossq_wn.real_time.playing import Timing, sound, tell_of_timing
from crossq_wn.real_time.robot import Robot, noted
from crossq_wn.real_time.schedule import Clock, Schedule, following
from crossq_wn.signals import interrupting_signals


class Paced:
    """An environment whose steps keep a control rate; otherwise it is the same.

    A late action is replaced by the robot's safe one. However an episode is broken off, the robot gets its
    safe action and is paused: also by a signal, or at the end of a program that did not close it.

    Args:
        environment: the robot's.
        schedule: the control rate.
        clock: tells the time and sleeps.
        note_call: is told of the robot's calls, as `Robot` tells.

    Attributes:
        timing: how the decisions so far kept to the rate; the first one of an episode cannot be late.
    """

    def __init__(
        self,
        environment: Environment,
        schedule: Schedule,
        clock: Clock | None = None,
        note_call: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._environment, self._robot = environment, Robot(environment, note_call)
        self._guard = contextlib.ExitStack()  # against signals, while the robot acts
        self._end = weakref.finalize(self, _leave, self._robot, self._guard)
        self._schedule, self._clock = schedule, clock or Clock()
        self._due: float | None = None  # when the next action is; None: at once
        self._arrived = 0.0  # when the newest observation did
        self.timing = Timing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """As `Environment.reset`; the robot is told that actions follow."""
        if self._robot.acting:  # nobody waits for the episode's end
            self.pause()
        observation = self._robot.reset(seed)
        self._guard.enter_context(interrupting_signals())
        self._robot.resume()
        self._due = None
        return observation

    def step(self, action: np.ndarray) -> Transition:
        """As `Environment.step`, when the action is due; the robot is paused when the episode is over."""
        try:
            transition = self._step(action)
        except BaseException:
            _settle(self._robot)
            raise
        if transition.episode is not None:
            with self._guard:
                self._robot.pause()
        return transition

    def _step(self, action: np.ndarray) -> Transition:
        if self._due is None:
            self._due = self._arrived = self._clock.now()
        self._clock.wait_until(self._due)
        possible, observation = max(self._due, self._arrived), self._environment.observation
        late = self._clock.now() - possible > self._schedule.tolerance
        action, safe = sound(self._robot, observation, action, late=late)
        given = self._clock.now()
        transition, instead = self._robot.step(action)
        self._arrived = self._clock.now()
        self.timing = self.timing.after(
            given - possible, self._arrived - given, self._schedule, safe=safe and instead is None
        )
        self._due = following(self._schedule, self._due, self._arrived, own_clock=self._robot.own_clock)
        return transition

    def tell(self, tell: Callable[[str], None]) -> None:
        """Tells how the decisions so far kept to the rate, where they did not."""
        tell_of_timing(tell, self.timing)

    def pause(self) -> None:
        """Pauses the robot, in an episode after its safe action; what it raises then is ignored."""
        with self._guard:
            _settle(self._robot)

    def close(self) -> EnvironmentFaultError | None:
        """As `Environment.close`; the robot is paused first, in an episode after its safe action."""
        fault = None
        with self._guard:
            try:
                self._robot.settle()
            except EnvironmentFaultError as error:
                fault = error
            self._end.detach()
            own: EnvironmentFaultError | None = noted(self._robot.note_call, "close", self._environment.close)
        return own or fault


def _settle(robot: Robot) -> None:
    with contextlib.suppress(EnvironmentFaultError):
        robot.settle()


def _leave(robot: Robot, guard: contextlib.ExitStack) -> None:
    """Leaves a robot at rest that nobody steps any more."""
    with guard:
        _settle(robot)
