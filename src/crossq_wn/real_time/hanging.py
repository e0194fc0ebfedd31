"""Calls of a robot that do not return, and who tells of them."""

import math
import threading
import time
from collections.abc import Callable

from crossq_wn.real_time.memory import Call
from crossq_wn.real_time.robot import METHODS
from crossq_wn.real_time.schedule import Schedule

_USUAL = 5.0  # seconds, and at least so many periods, after which a call is said not to return
_PERIODS = 20
_MAKING = 30.0  # seconds, because much may be imported and connected
_RESET = 60.0  # seconds, because a person may be at work in it
_LOOK_SECONDS = 0.5  # between two looks at what a robot in this process is doing


class Hanging:
    """Tells of calls that do not return.

    Args:
        schedule: the control rate.
        name: of the environment.
        tell: is told of them.
        what: waits for them, such as "the run".
        kept: what Ctrl-C leaves of it, such as " with a checkpoint".

    Attributes:
        name: as given.
        tell: as given.
    """

    def __init__(
        self, schedule: Schedule, name: str, tell: Callable[[str], None], what: str, kept: str = ""
    ) -> None:
        self.name, self.tell, self._what, self._kept = name, tell, what, kept
        self._call, self._since = Call(0, ""), 0.0
        usual = max(_USUAL, _PERIODS * schedule.period)
        self._patience = dict.fromkeys(("step", *METHODS, "close"), usual)  # in seconds
        self._patience |= {"__init__": _MAKING, "reset": _RESET}

    def look(self, call: Call, now: float) -> None:
        """Says, once of each call, that the robot has not returned from it; ever later, if that is usual.

        Args:
            call: what the robot is doing.
            now: seconds on any clock.
        """
        if call != self._call:
            self._call, self._since = call, now
        waited = now - self._since
        if waited >= self._patience.get(call.name, math.inf):
            self._since, self._patience[call.name] = math.inf, 2 * waited
            missing = f"{self._what} waits for it"
            if call.name == "step":
                missing = "until it does, no action reaches the robot, not even a safe one"
            self.tell(
                f"{self.name}.{call.name} has not returned for {waited:.0f} s: {missing}; Ctrl-C ends "
                f"{self._what}{self._kept}"
            )


class Lookout:
    """Tells, from a thread of its own, of calls of a robot in this process.

    Args:
        hanging: tells of those that do not return.
    """

    def __init__(self, hanging: Hanging) -> None:
        self._hanging, self._call, self._over = hanging, Call(0, ""), threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def note_call(self, name: str) -> None:
        """Is told which method of the robot is called; "" that it has returned."""
        self._call = Call(self._call.number + 1, name)

    def end(self) -> None:
        """Ends the thread."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._hanging.look(self._call, time.monotonic())
