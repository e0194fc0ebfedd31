"""Robots for tests: points with the methods that `--real-time` uses, which note what is done to them.

They resolve as `robots:Name`, in the acting process too. What they are asked to do comes in variables of the
environment, because that process is not the test's: ROBOT_LOG is the file for notes, and ROBOT_DEED such as
`kill-self:40` is done in the step of that number.
"""

import os
import signal
import sys
import time

import gymnasium
import numpy as np

from helpers import PointMass

HELP = (1.0, 2.5)  # what a person does in the fifth step of each episode, in the units of actions
SAFE = (0.5, 0.5)  # both are in the middle of [-2, 3]


class Robot(PointMass):
    """Has all methods; each is noted with its process."""

    taken = 0  # steps

    def note(self, text):
        if where := os.environ.get("ROBOT_LOG"):
            with open(where, "a") as file:
                file.write(f"{os.getpid()} {text}\n")

    def reset(self, *, seed=None, options=None):
        self.note("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        assert np.isfinite(action).all()
        self.taken += 1
        deed, _, number = os.environ.get("ROBOT_DEED", ":0").partition(":")
        if self.taken == int(number):
            self.act_up(deed)
        observation, reward, terminated, truncated, info = super().step(action)
        self.note("step " + " ".join(f"{each:.6f}" for each in action))
        if self.steps == 5:
            info["intervention"] = np.array(HELP)
        return observation, reward, terminated, truncated, info

    def act_up(self, deed):
        if deed == "kill-self":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "die-and-leave-a-child":  # which keeps what this process had open
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "kill-parent":
            os.kill(os.getppid(), signal.SIGKILL)
        if deed == "stop-parent":
            os.kill(os.getppid(), signal.SIGTERM)
        if deed == "raise":
            raise RuntimeError("the motor is too hot")

    def pause(self):
        self.note("pause")

    def resume(self):
        self.note("resume")

    def safe_action(self):
        return np.array(SAFE)

    def close(self):
        self.note("close")


class OwnClock(Robot):
    """Its steps wait for its next tick, or so it says."""

    own_clock = True


class Timeless(Robot):
    """Says something of its clock that is neither yes nor no."""

    own_clock = "no"


class Demanding(PointMass):
    """Whose safe action wants an argument."""

    def safe_action(self, observation):
        return np.array(SAFE)


class Unsafe(PointMass):
    """Whose safe action exceeds its bounds."""

    def safe_action(self):
        return np.array([0.0, 9.0])


class Idle(PointMass):
    """Whose safe action is none."""

    def safe_action(self):
        return None


class Quitting(PointMass):
    """Whose safe action ends the process."""

    def safe_action(self):
        sys.exit(3)


class Slow(Robot):
    """Takes its time for everything, and what ROBOT_DEED says to close."""

    def __init__(self):
        super().__init__()
        time.sleep(0.3)

    def safe_action(self):
        time.sleep(0.3)
        return np.array(SAFE)

    def close(self):
        self.note("close")
        if os.environ["ROBOT_DEED"] == "hang":
            time.sleep(60)
        raise RuntimeError("the port is gone")


def normalised():
    """A robot behind a wrapper that learns."""
    return gymnasium.wrappers.NormalizeObservation(Robot())


def turned(outer=None):
    """A robot behind a wrapper that turns its actions around, in another one or none."""
    inside = gymnasium.wrappers.TransformAction(Robot(), lambda action: 1 - action, Robot.action_space)
    return inside if outer is None else outer(inside)


class Corrected(gymnasium.Wrapper):
    """Says in outer units what is safe, and what a person did."""

    def step(self, action):
        *others, info = self.env.step(action)
        if "intervention" in info:
            info["intervention"] = 1 - info["intervention"]
        return *others, info

    def safe_action(self):
        return np.array([0.0, 1.0])


def corrected():
    return turned(Corrected)


class Restless(PointMass):
    """Whose `pause` is no method."""

    pause = True
