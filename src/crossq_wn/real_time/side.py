"""The learning side's hold on the acting process: starts it, gives it orders, and notices when it dies."""

import contextlib
import math
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossq_wn.environments.board import unnamed_file
from crossq_wn.environments.core import EnvironmentFaultError, Transition
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.environments.worker import Outcome, program
from crossq_wn.errors import UserError, one_line
from crossq_wn.real_time.acting import Between, Description, Ended, Evaluate, Played, Setup, Train
from crossq_wn.real_time.hanging import Hanging
from crossq_wn.real_time.memory import Call, Notes, Shape, Shared
from crossq_wn.real_time.records import Decision

_PATIENCE = 10.0  # seconds that the robot gets to come to rest once it is asked to
_LEAST = 3.0  # thereof to be closed in
_LOOK_SECONDS = 0.5  # between two looks at what hangs
_MODULE = "crossq_wn.real_time.acting"

News = Between | Played


class ActingProcess:
    """The acting process, and the memory that is shared with it.

    Args:
        setup: what it is told first.
        hanging: tells of what does not return while the robot is made, and in the end.

    Raises:
        UserError: it cannot be started, or the environment cannot be made there.
    """

    shared: Shared  # once `open_memory` was called

    def __init__(self, setup: Setup, hanging: Hanging) -> None:
        _check_portable(setup)
        self._hanging, self._asked = hanging, math.inf  # when the robot was asked to come to rest
        self._memory = unnamed_file()
        self._notes = Notes(self._memory)
        ours, theirs = socket.socketpair()
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        handles = theirs.detach(), self._memory
        own = {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                program(sys.path, _MODULE, handles), pass_fds=handles, env={**os.environ, **own}
            )
        except OSError as error:
            self._connection.close()
            self._give_up_memory()
            raise UserError(f"the acting process cannot be started: {one_line(error)}") from None
        finally:
            os.close(handles[0])
        try:
            self._send(setup)
            self.description: Description = self._first()
        except BaseException:
            self.close()
            raise

    def open_memory(self, shape: Shape) -> None:
        """Makes the shared memory; the next is an order."""
        self.shared = Shared(self._memory, shape)
        self._send(shape)

    def order(self, order: Train | Evaluate) -> None:
        """Gives an order; `news` answers it. Raises EnvironmentFaultError if the process has died."""
        self._send(order)

    def news(self, seconds: float) -> News | None:
        """Waits for an answer, for so many seconds at most.

        Raises:
            EnvironmentFaultError: the environment or the policy failed, or the process has died.
        """
        if not self._answered(seconds):
            return None
        found: News = self._received()
        return found

    def rest(self) -> list[Decision]:
        """The decisions that have arrived and were not collected."""
        return list(self.shared.collect()) if hasattr(self, "shared") and self._memory >= 0 else []

    @property
    def call(self) -> Call:
        """What the robot is doing."""
        return self._notes.call

    @property
    def asked(self) -> bool:
        """Whether the robot was asked to come to rest."""
        return self._asked < math.inf

    def stop(self) -> bool:
        """Asks the robot to come to rest; returns at once, and whether there is still time for that."""
        if self._memory >= 0:
            self._notes.ask_to_stop()
        self._asked = min(self._asked, time.monotonic())
        return time.monotonic() < self._asked + _PATIENCE

    def end(self) -> None:
        """Ends the process, which pauses and closes the robot first; tells what goes wrong with that."""
        self.stop()
        wrong = self._close_robot()
        if wrong is not None:
            self._hanging.tell(wrong)
        self._connection.close()
        try:
            self._process.wait(_LEAST)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Ends the process and gives up the shared memory."""
        if self._memory < 0:
            return  # it was closed before
        self.end()
        if hasattr(self, "shared"):
            self.shared.close()
        self._give_up_memory()

    def _give_up_memory(self) -> None:
        self._notes.close()
        os.close(self._memory)
        self._memory = -1

    def _first(self) -> Any:
        """Waits until the robot is made."""
        while (found := self.news(_LOOK_SECONDS)) is None:
            self._hanging.look(self.call, time.monotonic())
        return found

    def _close_robot(self) -> str | None:
        """Waits until the robot is paused and closed; returns what goes wrong."""
        end = max(self._asked + _PATIENCE, time.monotonic() + _LEAST)
        with contextlib.suppress(OSError):
            self._connection.send(None)  # there are no more orders
        while time.monotonic() < end:
            try:
                last = self._connection.recv() if self._answered(_LOOK_SECONDS) else None
            except (EOFError, OSError, EnvironmentFaultError):  # it has ended, or did so before
                return None
            if isinstance(last, Ended):
                return None if last.fault is None else f"the robot could not be closed: {last.fault}"
        self._process.kill()
        name = self.call.name
        what = f"{self._hanging.name}.{name} has not returned" if name else "it does not answer"
        lost = "" if name in ("__init__", "close") else ", and the robot may not be at rest"
        return f"the acting process is ended, because {what}{lost}"

    def _answered(self, seconds: float) -> bool:
        """Waits for an answer, for so many seconds at most; returns whether there is one."""
        try:
            if self._connection.poll(seconds):
                return True
            # Processes that the robot's driver has started may keep the socket open after its death.
            if self._process.poll() is None:
                return False
            if self._connection.poll(0):
                return True
        except OSError:
            pass
        raise self._death()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._death() from None

    def _received(self) -> Any:
        try:
            outcome: Outcome = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        return outcome.result()

    def _death(self) -> EnvironmentFaultError:
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return EnvironmentFaultError("the acting process no longer answers")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return EnvironmentFaultError(f"the acting process {how}")


def _check_portable(setup: Setup) -> None:
    """Raises UserError if another process could not make the environment."""
    try:
        content = pickle.dumps(setup)
    except Exception as error:  # a user's class may do anything
        raise UserError(
            f"another process cannot make the environment ({one_line(error)}): in real time it must be a "
            "class or function of a module"
        ) from None
    if b"__main__" in content:
        raise UserError(
            "a script defines the environment, which another process cannot import: in real time it must be "
            "a class or function of a module"
        )


class Stand:
    """Stands for the robot's environment where a session asks about its environments.

    Args:
        process: in which the environment is.
        task: its name.
    """

    def __init__(self, process: ActingProcess) -> None:
        plain = process.description.plain
        # A robot's classes and modules are in the acting process, so nothing that they hold is shared here.
        self.simulator: Any = SimpleNamespace(**plain | {"physics": None, "in_threads": True})
        self.observation_size = process.description.observation_size
        self.action_size: int = plain["action_size"]
        self.frame_seconds: float | None = plain["frame_seconds"]
        self.largest_observation = self.largest_reward = 0.0
        self.learned: dict[str, Any] = {}  # by the environment's wrappers, as of the newest episode
        self.adopted: dict[str, Any] = {}  # what they had learned before this process began
        self.seed: int | None = None  # from which the next episode starts

    def note(self, transition: Transition) -> None:
        """Remembers the largest numbers."""
        largest = float(np.abs(transition.next_observation).max())
        self.largest_observation = max(self.largest_observation, largest)
        self.largest_reward = max(self.largest_reward, abs(transition.reward))

    def statistics(self) -> dict[str, Any]:
        """What the environment's wrappers have learned."""
        return self.learned

    def adopt(self, statistics: dict[str, Any], *, fixed: bool) -> None:
        """Notes what the wrappers had learned; the next episode begins with it."""
        self.learned = self.adopted = statistics

    def take_adopted(self) -> dict[str, Any]:
        """Returns, once, what the wrappers had learned before this process began."""
        found, self.adopted = self.adopted, {}
        return found

    def snapshot(self) -> Any:
        """Raises UnrestorableError."""
        raise UnrestorableError("a robot's state cannot be restored")

    def restore(self, snapshot: Any) -> None:
        """Does nothing: a robot stands where it stands."""


class Robots:
    """Stands for a session's pool of environments, of which there is one.

    Args:
        stand: stands for it.
    """

    def __init__(self, stand: Stand) -> None:
        self.environments: list[Any] = [stand]
        self._stand = stand

    def reset(self, index: int, seed: int | None = None) -> np.ndarray:
        """Notes the seed of the next episode; its first observation comes with its first decision."""
        self._stand.seed = seed
        return np.zeros(self._stand.observation_size, np.float32)

    def resets(self, indices: Sequence[int], seeds: Sequence[int] | None = None) -> list[np.ndarray]:
        """As `reset`, for several."""
        return [self.reset(index, None if seeds is None else seeds[k]) for k, index in enumerate(indices)]
