"""Toy environments of which worker processes import nothing else, so that they start quickly."""

import errno
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

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


class Aborting(Walk):
    """Ends the process in which it is stepped."""

    def step(self, action):
        os.abort()


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


class Struck(Walk):
    """Meets each fault in the file STRUCK once: a line has its kind and the step that it waits for."""

    def __init__(self):
        self.taken = 0

    def step(self, action):
        self.taken += 1
        meet_faults(Path(os.environ.get("STRUCK", "/nowhere")), self.taken)
        return super().step(action)


def meet_faults(listed, taken):
    first, _, others = listed.read_text().partition("\n") if listed.exists() else ("", "", "")
    if first and taken >= int(first.split()[1]):
        listed.write_text(others)
        FAULTS[first.split()[0]]()


def raised():
    raise RuntimeError("no licence found")


def out_of_memory():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**20, before[1]))
    try:
        bytearray(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def full_disk():
    """The next file that is to be on disk does not get there."""
    real = os.fsync

    def fsync(handle):
        os.fsync = real
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.fsync = fsync


def killed_in_a_worker():
    assert os.environ["PARENT"] != str(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    "raised": raised,
    "memory": out_of_memory,
    "full": full_disk,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does where memory runs out
    "worker": killed_in_a_worker,
    "crashed": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}
