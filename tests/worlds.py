"""Toy environments of which worker processes import nothing else, so that they start quickly."""

import os
import random
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

from crossq_wn.errors import UserError


class Walk(gymnasium.Env):
    """A random walk towards 1, which ends an episode; the 23rd step is the time limit."""

    observation_space = spaces.Box(-10, 10, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.uniform(-0.5, 0.5, 3), 0
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        self.place = self.place + 0.2 * self.np_random.normal(action.sum(), 1, 3)
        there = bool(self.place.max() > 1)
        return self.place.astype(np.float32), float(self.place.sum()), there, self.steps == 23, {}


class Burning(Walk):
    """Raises an exception of its own."""

    def step(self, action):
        if self.steps == 5:
            raise RuntimeError("the motor\nis on fire")
        return super().step(action)


class Telling(Walk):
    """Whose snapshot tells where it is."""

    def snapshot(self):
        return {"process": os.getpid(), "jax": "jax" in sys.modules}

    def restore(self, state):
        """Is anywhere."""


class Drawing(Walk):
    def reset(self, *, seed=None, options=None):
        random.random()
        return super().reset(seed=seed, options=options)


class Counting(Walk):
    taken = 0

    def step(self, action):
        type(self).taken += 1
        return super().step(action)


class Open(Walk):
    def __init__(self):
        self.file = open(os.devnull)  # noqa: SIM115


class Elsewhere(Walk):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + (os.environ.get("PARENT") == str(os.getpid())), *rest


class Refusing(Walk):
    def step(self, action):
        if self.steps == 8 and os.environ.get("PARENT") != str(os.getpid()):
            raise UserError("the licence is for one process")
        return super().step(action)


class WithJax(Walk):
    def __init__(self):
        sys.modules.setdefault("jax", sys)


class NotThere(Walk):
    def __init__(self):
        if os.environ.get("PARENT") != str(os.getpid()):
            raise RuntimeError("the only robot is taken")


class Hanging(Walk):
    """In workers, the 11th step never ends."""

    def step(self, action):
        if self.steps == 10 and os.environ.get("PARENT") != str(os.getpid()):
            time.sleep(1000)
        return super().step(action)
