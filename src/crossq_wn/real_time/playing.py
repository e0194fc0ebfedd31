"""An episode at a control rate, and how it kept to that."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Never

import numpy as np

from crossq_wn.environments.core import EnvironmentFaultError, Transition
from crossq_wn.errors import counted
from crossq_wn.real_time.robot import Robot
from crossq_wn.real_time.schedule import Clock, Schedule, following

Choose = Callable[[np.ndarray], np.ndarray]  # observation -> action in [-1, 1]


class Moment(NamedTuple):
    """One decision as it was carried out."""

    observation: np.ndarray
    action: np.ndarray
    transition: Transition
    lateness: float  # seconds; see `Decision`
    busy: float
    safe: bool
    intervened: bool


def paced(
    robot: Robot,
    observation: np.ndarray,
    schedule: Schedule,
    clock: Clock,
    choose: Choose,
    going: Callable[[], bool],
) -> Iterator[Moment]:
    """Plays an episode at a control rate.

    An action counts as late by the time since it could have been given, when it was due and its observation
    was there: what the environment takes is not the acting side's lateness. A late action is replaced by the
    robot's safe one, if it has one.

    Args:
        robot: has just been reset.
        observation: the first one, float32 [observation_size].
        schedule: the control rate.
        clock: tells the time and sleeps.
        choose: the policy.
        going: whether to go on; asked right before each decision, and now and then while waiting for it.

    Yields:
        Each decision, when it is over; what the caller does with it takes from the time until the next.

    Raises:
        EnvironmentFaultError: the environment failed, or the policy's action is not finite, in which case the
            robot has got its safe action and nothing else.
    """
    due = arrived = clock.now()
    while clock.wait_until(due, going):
        chosen, possible = choose(observation), max(due, arrived)
        action, safe = sound(robot, observation, chosen, late=clock.now() - possible > schedule.tolerance)
        given = clock.now()
        transition, instead = robot.step(action)
        arrived = clock.now()
        moment = Moment(
            observation,
            action if instead is None else instead,
            transition,
            given - possible,
            arrived - given,
            safe and instead is None,
            instead is not None,
        )
        yield moment
        if transition.episode is not None:
            return
        due = following(schedule, due, arrived, own_clock=robot.own_clock)
        observation = transition.next_observation


def sound(
    robot: Robot, observation: np.ndarray, action: np.ndarray, *, late: bool
) -> tuple[np.ndarray, bool]:
    """The action that a robot gets, and whether it is its safe one, as it is for one that comes too late.

    Args:
        robot: is in an episode.
        observation: on which the policy decided.
        action: the policy's.
        late: whether it comes too late.

    Raises:
        EnvironmentFaultError: the policy's action is not finite; the robot has got its safe one.
    """
    if not np.isfinite(action).all():
        _refuse(robot, observation, action)
    if late and (other := robot.safe_action()) is not None:
        return other, True
    return action, False


def _refuse(robot: Robot, observation: np.ndarray, action: np.ndarray) -> Never:
    """Gives the robot its safe action, and raises the fault of one that is not finite."""
    try:
        robot.environment.observation = observation  # on which the policy failed
        robot.step(action)  # raises, before anything moves
    except EnvironmentFaultError:
        robot.rest()
        raise
    raise AssertionError("an environment took an action that is not finite")


class Timing(NamedTuple):
    """How an evaluation kept to the clock, in the terms of `watch.COLUMNS`."""

    decisions: int = 0
    deadline_misses: int = 0
    safe_actions: int = 0
    environment_overruns: int = 0

    def after(self, lateness: float, busy: float, schedule: Schedule, *, safe: bool = False) -> "Timing":
        """The counts with one more decision.

        Args:
            lateness: seconds; see `Decision`.
            busy: seconds that the environment took.
            schedule: the control rate.
            safe: whether the robot got its safe action.
        """
        return Timing(
            self.decisions + 1,
            self.deadline_misses + (lateness > schedule.tolerance),
            self.safe_actions + safe,
            self.environment_overruns + (busy > schedule.longest_step),
        )


def timing_of(moments: Iterable[Moment], schedule: Schedule) -> Timing:
    """How decisions kept to a control rate."""
    timing = Timing()
    for moment in moments:
        timing = timing.after(moment.lateness, moment.busy, schedule, safe=moment.safe)
    return timing


def tell_of_timing(tell: Callable[[str], None], timing: Timing) -> None:
    """Tells of late actions and overruns in an evaluation, which no row of metrics.csv counts."""
    if timing.deadline_misses or timing.environment_overruns:
        late, safe = (
            counted(timing.deadline_misses, "late action"),
            counted(timing.safe_actions, "safe action"),
        )
        tell(
            f"this evaluation of {counted(timing.decisions, 'decision')} had {late}, {safe} instead of such, "
            f"and {counted(timing.environment_overruns, 'overrun')} of the environment"
        )
