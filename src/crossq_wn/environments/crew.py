"""The parent's side of the worker processes: starts them, gives them orders, and notices when one dies."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from crossq_wn.environments.board import Board, Shape, board_on, new_memory, transition_of
from crossq_wn.environments.core import EnvironmentFaultError, Result
from crossq_wn.environments.worker import CALL, STEP, Order, Outcome, Recipe, Setup, command, read_byte
from crossq_wn.errors import one_line

_PATIENCE = 10.0  # seconds that a process gets to end by itself
_AWAKE = 5e-3  # seconds of waiting without sleeping; updates on a GPU take less
_SPARE = 4  # processors without a worker, from which on that takes nothing from others


class Crew:
    """Worker processes that hold several sets of environments of one task, each with one per seed.

    The place of an environment is its seat: the number of its set times `seeds`, plus the number of its seed.
    What a dead worker held is lost, which each of its seats answers as a fault until it begins anew, by
    `restore` or by `reset` with a seed; a new process then takes the place of the dead one. Where the worker
    was killed (`kill -9`), as the kernel does where memory runs out, the answer is a MemoryError instead: no
    environment is at fault, and all may go on from a checkpoint.

    Args:
        recipe: makes one environment; a worker must be able to unpickle it.
        seeds: environments per set.
        sets: sets of environments, such as one for training and one for evaluations.
        workers: the most processes, which is the number of processors.
        alone: whether this process leaves those processors to the workers, as where a GPU makes the updates.
    """

    def __init__(self, recipe: Recipe, *, seeds: int, sets: int, workers: int, alone: bool = False) -> None:
        self._recipe, self._seeds, self._sets = recipe, seeds, sets
        self._hands: list[_Hand] = []
        self.workers = min(workers, seeds)
        self.awake = _AWAKE if alone and workers - self.workers >= _SPARE else 0.0
        self._lost: dict[int, Exception] = {}  # seat -> what became of its process
        self._plans: dict[tuple[int, ...], tuple[np.ndarray, list[_Hand]]] = {}  # see `_plan`
        self._begun: tuple[int, ...] | None = None  # the seats of a step that nobody has waited for yet
        self.refusal = ""  # why environments cannot be moved to workers; empty if they can
        self.used = False  # whether a set of environments has moved
        self.board: Board  # once workers are started
        self._memory = -1  # its descriptor

    @property
    def started(self) -> bool:
        """Whether there are processes."""
        return bool(self._hands)

    def start(self, observation_size: int, action_size: int) -> None:
        """Starts the processes and returns at once; `ready` says when they can be used.

        Args:
            observation_size: numbers in an observation, for the shared memory.
            action_size: numbers in an action, likewise.
        """
        if getattr(sys, "frozen", False) or not sys.executable:
            self.refusal = "this program comes without a Python that could be started again"
            return
        try:
            if b"__main__" in pickle.dumps(self._recipe):
                self.refusal = "a script defines it; defined in a module, it could be stepped in several"
                return
        except Exception as error:  # a user's class may do anything
            self.refusal = one_line(error)
            return
        total = self._seeds * self._sets
        shape = Shape(total, observation_size, action_size)
        try:
            self._memory = new_memory(shape)
            self.board = board_on(self._memory, shape)
            for number in range(self.workers):
                # A seed's environments of all sets are with one worker, so that its death costs few seeds.
                seats = [seat for seat in range(total) if seat % self._seeds % self.workers == number]
                setup = Setup(self._recipe, seats, shape, self.awake)
                self._hands.append(_Hand(setup, self._memory))
        except OSError as error:
            self.refusal = f"no process can be started: {one_line(error)}"

    def ready(self) -> bool:
        """Whether all workers have made their environments; if one cannot, `refusal` says why."""
        try:
            for hand in self._hands:
                if not hand.poll():
                    return False
        except Exception as error:  # whatever the making of an environment raised
            self.refusal = one_line(error)
        return not self.refusal

    def call(self, orders: Sequence[Order]) -> list[Any]:
        """Has workers call methods of their environments, all workers at the same time.

        Args:
            orders: seat, method and arguments of each call.

        Returns:
            For each what it returned, or the exception that it raised.
        """
        given = self._given(orders)
        for hand, numbers in given.items():
            hand.send([orders[number] for number in numbers])
        outcomes: dict[int, Outcome] = {}
        for hand, numbers in given.items():
            outcomes |= zip(numbers, hand.receive() or (), strict=False)
        self._note_deaths()
        return [self._found(outcomes.get(number), orders[number][0]) for number in range(len(orders))]

    def begin(self, seats: Sequence[int], actions: np.ndarray) -> None:
        """Has the workers begin what `step`, called next with the same arguments, then waits for."""
        board, (places, hands) = self.board, self._plan(tuple(seats))
        board.asked[:] = False
        board.asked[places] = True
        board.actions[places] = actions
        for hand in hands:
            hand.ring()
        self._begun = tuple(seats)

    def step(self, seats: Sequence[int], actions: np.ndarray) -> list[Result]:
        """Takes one agent decision in some of the environments.

        Args:
            seats: where they are.
            actions: float32 [len(seats), action_size] in [-1, 1].

        Returns:
            For each its transition, or its fault.

        Raises:
            MemoryError: a worker was killed.
        """
        if self._begun != tuple(seats):
            self.begin(seats, actions)
        self._begun = None
        board, (places, hands) = self.board, self._plan(tuple(seats))
        for hand in hands:
            hand.await_ring()
        self._note_deaths()
        # Copies, because the next step overwrites the board.
        lines, observations = board.lines[places].tolist(), board.observations[places]
        results: list[Result] = []
        for seat, line, observation in zip(seats, lines, observations, strict=True):
            if line[0] or seat in self._lost:
                results.append(self._fault(seat))
            else:
                results.append(transition_of(line, observation))
        return results

    def _plan(self, seats: tuple[int, ...]) -> tuple[np.ndarray, list[_Hand]]:
        """The seats as an index, and the workers to ask; remembered, because they seldom change."""
        if seats not in self._plans:
            self._plans.clear()
            hands = dict.fromkeys(self._hand(seat) for seat in seats if seat not in self._lost)
            self._plans[seats] = np.array(seats), list(hands)
        return self._plans[seats]

    def lost(self, seat: int) -> bool:
        """Whether a dead worker held this environment, which has not begun anew."""
        return seat in self._lost

    def close(self) -> None:
        """Ends all workers."""
        for hand in self._hands:
            hand.hang_up()
        for hand in self._hands:
            hand.end()
        self._hands.clear()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _hand(self, seat: int) -> _Hand:
        return self._hands[seat % self._seeds % self.workers]

    def _given(self, orders: Sequence[Order]) -> dict[_Hand, list[int]]:
        """The numbers of each worker's orders, without those that lost environments cannot carry out."""
        given: dict[_Hand, list[int]] = {}
        for number, (seat, method, arguments) in enumerate(orders):
            if method == "restore" or (method == "reset" and arguments != (None,)):
                self._lost.pop(seat, None)
                self._plans.clear()
            if seat not in self._lost:
                given.setdefault(self._hand(seat), []).append(number)
        return given

    def _note_deaths(self) -> None:
        for hand in self._hands:
            if hand.death and not hand.noted:
                hand.noted = True
                self._lost |= dict.fromkeys(hand.setup.seats, hand.loss())
                self._plans.clear()

    def _fault(self, seat: int) -> EnvironmentFaultError:
        """The fault of a step; raises what is no fault of an environment."""
        (fault,) = self.call([(seat, "fault", ())])
        if isinstance(fault, EnvironmentFaultError):
            return fault
        raise fault

    def _found(self, outcome: Outcome | None, seat: int) -> Any:
        if outcome is None:
            return self._lost[seat]
        try:
            return outcome.result()
        except BaseException as error:  # the caller decides what it means
            return error


class _Hand:
    """One worker process, with a pipe to it, a pipe back, and a socket for everything longer than a byte.

    Args:
        setup: what it is told first.
        memory: descriptor of the board, which belongs to the crew.
    """

    def __init__(self, setup: Setup, memory: int) -> None:
        self.setup, self._memory = setup, memory
        self._start()

    def _start(self) -> None:
        self.death = ""  # how the process ended, in words; empty while it lives
        self._killed = False  # whether by somebody or something that gave it no choice
        self.noted = False  # whether the crew knows of its death
        self._ready = self._asked = False  # whether its environments are made; whether it owes an answer
        ours, theirs = socket.socketpair()
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._answers, not self.setup.awake)
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        handles = theirs.detach(), orders, answers, self._memory
        try:
            self._process = subprocess.Popen(
                command(sys.path, *handles), stdin=subprocess.DEVNULL, pass_fds=handles
            )
        except OSError:
            self.hang_up()
            raise
        finally:
            for handle in handles[:3]:
                os.close(handle)
        self._attempt(self._connection.send, self.setup)

    def poll(self) -> bool:
        """Whether the worker has made its environments; raises what kept it from that."""
        if not self._ready and self._attempt(self._connection.poll) is not False:
            self._await_environments()
        return self._ready

    def _await_environments(self) -> None:
        outcome = self._attempt(self._connection.recv)
        if outcome is None:
            raise EnvironmentFaultError(f"a new process that makes its environments {self.death}")
        outcome.result()
        self._ready = True

    def send(self, orders: Sequence[Order]) -> None:
        """Gives orders; a dead worker is first replaced."""
        if self.death:
            try:
                self._start()
                self._await_environments()
            except Exception as error:  # of the system, or whatever the making of an environment raised
                self.hang_up()
                self.death = self.death or f"cannot be started again ({one_line(error)})"
                return
        self._ask(CALL)
        self._attempt(self._connection.send, list(orders))

    def receive(self) -> list[Outcome] | None:
        """Waits for the outcomes of the orders; None if the worker has died."""
        found: list[Outcome] | None = self._attempt(self._connection.recv)
        self._asked = False
        return found

    def ring(self) -> None:
        """Has the worker step what is asked of it on the board."""
        self._ask(STEP)

    def await_ring(self) -> None:
        """Waits until it has."""
        if self._attempt(read_byte, self._answers, self.setup.awake) == b"":
            self._bury()
        self._asked = False

    def loss(self) -> Exception:
        """What becomes of its environments, once it is dead."""
        if self._killed:
            return MemoryError(f"a process in which environments were stepped {self.death}")
        return EnvironmentFaultError(f"the process in which its environment was stepped {self.death}")

    def hang_up(self) -> None:
        """Lets the worker end."""
        if not self._connection.closed:
            self._connection.close()
            os.close(self._orders)
            os.close(self._answers)

    def end(self) -> None:
        """Waits until the worker has ended, or ends it."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, what: bytes) -> None:
        if self._asked:  # an interrupt has come between a question and its answer
            self._process.kill()
            self._bury()
            self._killed = False  # by nobody else
        self._asked = True
        self._attempt(os.write, self._orders, what)

    def _attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function on a pipe or the socket returns, or None if the worker is dead."""
        if self.death:
            return None
        try:
            return function(*arguments)
        except (EOFError, OSError):
            self._bury()
            return None

    def _bury(self) -> None:
        self.hang_up()
        self.end()
        code = self._process.returncode
        self.death = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._killed = code == -signal.SIGKILL
