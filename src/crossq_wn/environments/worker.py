"""The child's side of a worker process: it holds environments and steps them when its parent asks.

A worker is a new interpreter, never a fork, because forking a process with JAX's threads can deadlock. It has
two pipes and a socket to its parent, and the board, which all workers share with the parent (`board`). On the
pipes pass single bytes, for which they are several times as fast as a socket:

    b"s"  steps those of its environments that the board says are asked; one byte answers when it is filled in
    b"c"  a list of (seat, method, arguments) is on the socket, where a list of `Outcome`s answers, pickled

Signals that end a run are ignored here: the parent decides, and may first want snapshots. A worker ends as
soon as its socket is closed, by intent or because the parent has died. What is unpickled comes from the
parent, and in the parent from its own workers.
"""

import contextlib
import io
import json
import math
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from crossq_wn.environments import tidy
from crossq_wn.environments.board import Board, Shape, board_on, note
from crossq_wn.environments.core import Environment, EnvironmentFaultError
from crossq_wn.environments.isolation import check_isolated
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.environments.streams import capture_shared, drawn_since, seed_shared

STEP, CALL, DONE = b"s", b"c", b"."

Recipe = Callable[[], Environment]  # makes one environment
Order = tuple[int, str, tuple[Any, ...]]  # seat, method, arguments


class WorkerTraceback(Exception):  # noqa: N818  # it stands for the traceback of another exception
    """The traceback of an exception that was raised in a worker process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Setup(NamedTuple):
    """What a worker is told first."""

    recipe: Recipe
    seats: Sequence[int]  # those that this worker holds
    shape: Shape  # of the board
    awake: float = 0.0  # seconds that either side waits without sleeping


class Outcome(NamedTuple):
    """The answer to one order: a value, or an error in its place."""

    value: Any = None
    error: BaseException | None = None
    cause: BaseException | None = None  # what `error` was raised from
    traceback: str = ""  # of the cause, or else of the error

    def result(self) -> Any:
        """Returns the value, or raises the error with its cause and the worker's traceback."""
        if self.error is None:
            return self.value
        if self.cause is not None:
            self.cause.__cause__ = WorkerTraceback(self.traceback)
            raise self.error from self.cause
        if isinstance(self.error, EnvironmentFaultError):  # its message says all
            raise self.error
        raise self.error from WorkerTraceback(self.traceback)


def failed(error: BaseException) -> Outcome:
    """The outcome that an exception makes; what cannot be pickled is replaced by its name and message."""
    cause = error.__cause__ if isinstance(error, EnvironmentFaultError) else None
    text = "".join(traceback.format_exception(cause or error))
    return Outcome(None, _portable(error), None if cause is None else _portable(cause), text)


def _portable(error: BaseException) -> BaseException:
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # a user's exception may do anything
        copy = None
    if type(copy) is type(error) and str(copy) == str(error):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


class Worker:
    """The environments of one worker, by seat."""

    def __init__(self, setup: Setup, board: Board) -> None:
        self._board = board
        self.environments = {seat: setup.recipe() for seat in setup.seats}
        tidy()
        self._faults: dict[int, BaseException] = {}
        check_isolated(next(iter(self.environments.values())))
        self._streams, self._drawn = capture_shared(), False  # which only a seed may change

    def step(self) -> None:
        """Steps every environment that is asked."""
        for seat, environment in self.environments.items():
            if not self._board.asked[seat]:
                continue
            try:
                # A copy, because the environment may keep its action and this memory is written to again.
                note(self._board, seat, environment, environment.step(self._board.actions[seat].copy()))
            except BaseException as error:  # the parent decides what it means
                self._faults[seat], self._board.lines[seat, 0] = error, True

    def call(self, orders: Sequence[Order]) -> list[Outcome]:
        """Carries out orders; one that fails does not keep the others from being carried out."""
        return [self._carry_out(*order) for order in orders]

    def _carry_out(self, seat: int, method: str, arguments: tuple[Any, ...]) -> Outcome:
        environment = self.environments[seat]
        try:
            if method == "fault":
                return failed(self._faults[seat])
            self._check_streams(environment, method, arguments)
            if method == "adopt":
                statistics, fixed = arguments
                environment.adopt(statistics, fixed=fixed)
                value: Any = None
            else:
                value = getattr(environment, method)(*arguments)
        except BaseException as error:  # likewise
            return failed(error)
        self._board.lines[seat, -2:] = environment.largest_observation, environment.largest_reward
        return Outcome(value)

    def _check_streams(self, environment: Environment, method: str, arguments: tuple[Any, ...]) -> None:
        """Raises UnrestorableError if an environment has drawn from streams that processes do not share."""
        seeded = method == "reset" and arguments[0] is not None
        if environment.simulator.in_threads or not (seeded or method == "snapshot"):
            return
        self._drawn = self._drawn or drawn_since(self._streams)
        if seeded:
            seed_shared(*arguments)  # as the environment will
            self._streams = capture_shared()
        elif self._drawn:
            raise UnrestorableError(
                "it has drawn from `random`, `numpy.random` or a generator of its class or module in worker "
                "processes, where seeds draw the same numbers"
            )


def ignore_signals() -> None:
    """Ignores every signal that a user, a terminal or a queue sends to a whole group of processes.

    It does so by a handler, because processes that an environment starts would inherit SIG_IGN.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU"):
        with contextlib.suppress(AttributeError, ValueError):  # not every system has all of them
            signal.signal(getattr(signal, name), lambda number, frame: None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what environments print while they are made, because the parent has shown it already."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _end_with(handle: int) -> None:
    """Ends this process when its parent closes the other end, also while an environment steps."""
    poll = select.poll()
    poll.register(handle, 0)  # hang-ups alone
    poll.poll()
    os._exit(0)


def read_byte(pipe: int, awake: float) -> bytes:
    """Reads the next byte of a pipe; none is left where it has been closed.

    Args:
        pipe: a descriptor, which does not block if `awake` is not 0.
        awake: seconds of waiting without sleeping. To wake a processor takes some 50 microseconds, and in
            a virtual machine longer.
    """
    end = time.perf_counter() + awake if awake else math.inf
    while True:
        try:
            return os.read(pipe, 1)
        except BlockingIOError:
            if time.perf_counter() > end:
                poll = select.poll()
                poll.register(pipe, select.POLLIN)
                poll.poll()


def _serve(
    connection: "Connection[Any, Any]", orders: int, answers: int, worker: Worker, awake: float
) -> None:
    os.set_blocking(orders, not awake)
    while order := read_byte(orders, awake):
        if order == STEP:
            worker.step()
            os.write(answers, DONE)
        else:
            connection.send(worker.call(connection.recv()))


def main(handle: int, orders: int, answers: int, memory: int) -> None:
    """Serves until the parent closes its end.

    Args:
        handle: descriptor of the socket.
        orders: of the pipe from the parent.
        answers: of the pipe to the parent.
        memory: descriptor of the board.
    """
    ignore_signals()
    threading.Thread(target=_end_with, args=(handle,), daemon=True).start()
    connection: Connection[Any, Any] = Connection(handle)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        try:
            setup: Setup = connection.recv()
            with _quiet():
                worker = Worker(setup, board_on(memory, setup.shape))
        except (EOFError, OSError):
            raise
        except BaseException as error:  # a user's module or class may raise anything
            connection.send(failed(error))
            return
        connection.send(Outcome())
        _serve(connection, orders, answers, worker, setup.awake)


def command(paths: Sequence[str], *handles: int) -> list[str]:
    """The command that starts a worker; takes what `program` does."""
    return program(paths, "crossq_wn.environments.worker", handles)


def program(paths: Sequence[str], module: str, handles: Sequence[int]) -> list[str]:
    """The command that starts a process in which modules are found where they are found here.

    Args:
        paths: `sys.path`.
        module: whose `main` it calls.
        handles: the arguments of `main`.
    """
    text = (
        f"import sys, json; sys.path[:] = json.loads({json.dumps(json.dumps(list(paths)))}); "
        f"from {module} import main; main(*{tuple(handles)})"
    )
    return [sys.executable, "-c", text]
