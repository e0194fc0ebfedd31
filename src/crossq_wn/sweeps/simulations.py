"""How fast an environment is simulated, measured in a process of its own.

Environments are the user's, and may raise anything, end the process, or never return. None of that may cost a
sweep more than the figure.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.environments import make
from crossq_wn.environments.worker import program
from crossq_wn.errors import UserError, one_line
from crossq_wn.machine import tied

PATIENCE = 60.0  # seconds until a process that times an environment is given up
BUDGET = 0.2  # seconds per measurement
_WALL = 10 * BUDGET  # seconds for one of an environment that mostly waits


class Simulation(NamedTuple):
    """The sizes and the speed of an environment."""

    sizes: tuple[int, int]  # of observation and action
    frame_seconds: float  # per environment frame
    why: str = ""  # nothing is known of them


def simulation(task: str, clock: str) -> Simulation:
    """Makes an environment in another process, and times some of its frames.

    Args:
        task: its name.
        clock: the function of `time` to measure with.

    Returns:
        What was found. An environment that fails costs nothing here; its run will say how it fails.
    """
    with tempfile.TemporaryFile() as letter:
        letter.write(json.dumps([task, clock]).encode())
        letter.flush()
        why = _ended(letter.fileno())
        letter.seek(0)
        try:
            answer = json.load(letter)
            return Simulation(tuple(answer["sizes"]), answer["frame_seconds"], answer["why"])
        except (ValueError, TypeError):  # the question is still there, or half an answer
            return _unknown(why or "its process ended early")


def seconds_per_call(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Mean time per call by a clock, over a fifth of a second."""
    start, began, calls = clock(), time.monotonic(), 0
    while calls < 3 or (clock() - start < BUDGET and time.monotonic() - began < _WALL):
        call()
        calls += 1
    return (clock() - start) / calls


def main(handle: int) -> None:
    """Answers in the process that `simulation` starts: reads the question in a file, and overwrites it."""
    with os.fdopen(os.dup(handle), "r+b") as letter:
        letter.seek(0)
        task, clock = json.load(letter)
        try:
            found = _measured(task, getattr(time, clock))
        except UserError as error:
            found = _unknown(one_line(error))
        except BaseException as error:  # a user's environment may raise anything, SystemExit too
            found = _unknown(" ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":"))
        letter.seek(0)
        letter.write(json.dumps(found._asdict()).encode())
        letter.truncate()
    os._exit(0)  # not by way of what a user's simulator does at the end


def _measured(task: str, clock: Callable[[], float]) -> Simulation:
    environment = make(task)
    environment.reset(0)
    action = np.zeros(environment.action_size, np.float32)

    def step() -> None:
        if environment.step(action).episode is not None:
            environment.reset()

    seconds = seconds_per_call(step, clock)
    sizes = environment.observation_size, environment.action_size
    return Simulation(sizes, seconds / environment.action_repeat)


def _unknown(why: str) -> Simulation:
    return Simulation((1, 1), 0.0, why)


def _ended(handle: int) -> str:
    """Runs `main` in a process; returns how it ended, if not well."""
    process = subprocess.Popen(
        [*tied(), *program(sys.path, "crossq_wn.sweeps.simulations", (handle,))], pass_fds=(handle,),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it took over {PATIENCE:.0f} s"
    finally:
        with contextlib.suppress(OSError):  # with whatever it has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
