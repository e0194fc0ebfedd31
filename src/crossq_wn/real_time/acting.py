"""The acting process: it owns the robot and keeps its rate, whatever the learning process is doing.

It is a new interpreter, never a fork. It has a socket to its parent, on which orders and news pass, which are
rare, and the shared memory (`memory`). Signals that end a run are ignored here: the parent decides. When it
gives no further order or is gone, however it ended, the robot is paused and closed, and the process ends.
"""

import contextlib
import gc
import os
import pickle
import select
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import Interface
from crossq_wn.acting.policy import Actor
from crossq_wn.environments.core import EnvironmentFaultError, Episode
from crossq_wn.environments.interface import describe, plain_of
from crossq_wn.environments.worker import Outcome, Recipe, failed, ignore_signals
from crossq_wn.errors import raised
from crossq_wn.learning.evaluation import in_time
from crossq_wn.real_time.memory import Notes, Shape, Shared
from crossq_wn.real_time.playing import Choose, Moment, Timing, paced, timing_of
from crossq_wn.real_time.priority import favour_process, take_priority
from crossq_wn.real_time.records import Decision
from crossq_wn.real_time.robot import Robot, noted
from crossq_wn.real_time.schedule import Clock, Schedule

_GRACE = 5.0  # seconds that the robot gets to be paused and closed once the parent has gone


class Setup(NamedTuple):
    """What the process is told first."""

    recipe: Recipe  # makes the environment
    schedule: Schedule
    warmup: int  # decisions with random actions
    total: int  # decisions of training
    random_actions: np.random.SeedSequence
    noise: np.random.SeedSequence  # of the policy's actions


class Description(NamedTuple):
    """What the parent learns of the environment."""

    interface: dict[str, Any]
    observation_size: int  # of stacked observations, where they are stacked
    plain: dict[str, Any]  # attributes of the simulator
    methods: tuple[str, ...]  # of `robot.METHODS`, those that there are
    own_clock: bool
    priority: str | None  # of the process; see `take_priority`


class Train(NamedTuple):
    """The order to play an episode of training; `Between` answers."""

    first: int  # the number of its first decision
    seed: int | None  # restarts the environment's random stream; None continues it
    statistics: dict[str, Any]  # what the environment's wrappers had learned before; empty: nothing new


class Evaluate(NamedTuple):
    """The order to play episodes with the deterministic policy; `Played` answers."""

    episodes: int
    seed: int
    statistics: dict[str, Any]  # as in `Train`


class Between(NamedTuple):
    """An episode of training is over, and the robot is paused."""

    whole: bool  # whether it came to its end, and was not broken off
    statistics: dict[str, Any]  # what the environment's wrappers have learned


class Played(NamedTuple):
    """An evaluation is over; one that was broken off lacks episodes."""

    episodes: list[Episode]
    timing: Timing


class Ended(NamedTuple):
    """The last news: the robot is paused and closed, as well as it could be."""

    fault: str | None  # of closing it


class Side:
    """The acting side: a robot, a policy that is renewed between decisions, and where decisions go.

    Args:
        setup: what the parent wants.
        robot: what acts.
        shared: the memory.
        gone: says when the parent is gone.
        clock: tells the time.
    """

    def __init__(
        self, setup: Setup, robot: Robot, shared: Shared, gone: threading.Event, clock: Clock | None = None
    ) -> None:
        self._setup, self._robot, self._shared, self._gone = setup, robot, shared, gone
        self._clock = clock or Clock()
        self._random: np.random.Generator | None = None  # of the warm-up, and below that of exploration
        self._noise: np.random.Generator | None = None
        self._interface = Interface(describe(robot.environment.simulator))
        self._actor: Actor | None = None
        self._version = self._learned = self._number = 0

    def train(self, order: Train) -> Between:
        """Plays an episode of training, or part of one."""
        self._number, environment = order.first, self._robot.environment
        if self._random is None:  # a resumed run goes on with numbers that it has not used
            self._random = generator_from(self._setup.random_actions, order.first)
            self._noise = generator_from(self._setup.noise, order.first)
        environment.adopt(order.statistics, fixed=False)
        whole = False
        for moment in self._episode(order.seed, self._explore, self._may_go_on):
            learned = self._number if self._number < self._setup.warmup else self._learned
            self._shared.put(Decision(self._number, *moment[:5], learned, *moment[5:]))
            self._number += 1
            self.renew()
            whole = moment.transition.episode is not None
        return Between(whole, environment.statistics())

    def evaluate(self, order: Evaluate) -> Played:
        """Plays episodes with the deterministic policy, the same for all of them."""
        episodes: list[Episode] = []
        moments: list[Moment] = []
        environment = self._robot.environment
        environment.adopt(order.statistics, fixed=False)
        known = environment.statistics()
        self.renew()
        assert self._actor is not None
        choose = self._actor.compute  # of this actor, though weights that come meanwhile make another
        while len(episodes) < order.episodes and self._wanted():
            seed = None if episodes else order.seed
            for number, moment in enumerate(self._episode(seed, choose, self._wanted), 1):
                moments.append(moment)
                after = in_time(moment.transition, number, environment.task.name)
                if isinstance(after, EnvironmentFaultError):
                    raise after
                if after.episode is not None:
                    episodes.append(after.episode)
        environment.adopt(known, fixed=False)  # evaluations are not learned from, not even by wrappers
        return Played(episodes, timing_of(moments, self._setup.schedule))

    def renew(self) -> None:
        """Takes the newest weights, if there are any."""
        found = self._shared.newest(self._version)
        if found is not None:
            network = pickle.loads(found.content)  # from the parent alone
            self._actor = Actor(network, self._interface, "this run")
            self._version, self._learned = found.version, found.learned

    def _episode(self, seed: int | None, choose: Choose, going: Callable[[], bool]) -> Iterator[Moment]:
        observation = self._robot.reset(seed)  # in which a person may put the robot back
        self.renew()
        self._robot.resume()
        yield from paced(self._robot, observation, self._setup.schedule, self._clock, choose, going)
        self._robot.settle()
        gc.collect()

    def _wanted(self) -> bool:
        return not (self._gone.is_set() or self._shared.notes.stopping)

    def _may_go_on(self) -> bool:
        """Whether to make another decision: weights must not be too old, nor learning too far behind."""
        fresh = max(self._learned, self._setup.warmup)
        bounded = self._shared.has_room(self._number) and self._number - fresh < self._shared.shape.ahead
        return self._wanted() and bounded and self._number < self._setup.total

    def _explore(self, observation: np.ndarray) -> np.ndarray:
        if self._number < self._setup.warmup:
            size = self._shared.shape.action_size
            assert self._random is not None
            return self._random.uniform(-1, 1, size).astype(np.float32)
        assert self._actor is not None
        return self._actor.compute(observation, self._noise)


def generator_from(stream: np.random.SeedSequence, first: int) -> np.random.Generator:
    """The generator of a stream for a process whose first decision has this number."""
    return np.random.default_rng(
        np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key[:-1], first))
    )


def _serve(connection: "Connection[Any, Any]", memory: int, notes: Notes, gone: threading.Event) -> None:
    """Makes the robot, carries out orders until there are no more, and closes it."""
    setup: Setup = connection.recv()
    environment = setup.recipe()
    notes.note_call("")
    try:
        with _telling_of_failures(connection, gone):
            robot = Robot(environment, notes.note_call)
            with _settled(robot):
                connection.send(Outcome(_described(robot, take_priority())))
                shape: Shape | None = connection.recv()
                if shape is not None:
                    _obey(connection, Side(setup, robot, Shared(memory, shape), gone), gone)
    finally:
        fault: EnvironmentFaultError | None = noted(notes.note_call, "close", environment.close)
        with contextlib.suppress(OSError):
            connection.send(Ended(None if fault is None else str(fault)))


@contextlib.contextmanager
def _settled(robot: Robot) -> Iterator[None]:
    """Brings the robot to rest afterwards, before anything else is done."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            robot.settle()


def _obey(connection: "Connection[Any, Any]", side: Side, gone: threading.Event) -> None:
    gc.freeze()
    gc.disable()  # a collection in the middle of an episode would take milliseconds
    while not gone.is_set() and (order := connection.recv()) is not None:
        done = side.train(order) if isinstance(order, Train) else side.evaluate(order)
        connection.send(Outcome(done))


def _described(robot: Robot, priority: str | None) -> Description:
    simulator = robot.environment.simulator
    plain = plain_of(simulator) | {"frame_seconds": robot.environment.frame_seconds}
    size = robot.environment.observation_size
    methods = tuple(robot.methods)
    return Description(describe(simulator), size, plain, methods, robot.own_clock, priority)


def _watch_parent(handle: int, gone: threading.Event) -> None:
    """Says when the parent is gone, and ends the process some seconds later, whatever it is doing."""
    poll = select.poll()
    poll.register(handle, 0)  # hang-ups alone
    poll.poll()
    gone.set()
    time.sleep(_GRACE)
    os._exit(1)


def main(handle: int, memory: int) -> None:
    """Serves until the parent closes its end.

    Args:
        handle: descriptor of the socket.
        memory: descriptor of the shared memory.
    """
    ignore_signals()
    favour_process()  # also the driver, if the robot starts it when it is made
    notes, gone = Notes(memory), threading.Event()
    notes.note_call("__init__")  # which begins with the import of its module
    threading.Thread(target=_watch_parent, args=(handle, gone), daemon=True).start()
    connection: Connection[Any, Any] = Connection(handle)
    with _telling_of_failures(connection, gone):
        _serve(connection, memory, notes, gone)


@contextlib.contextmanager
def _telling_of_failures(connection: "Connection[Any, Any]", gone: threading.Event) -> Iterator[None]:
    """Has the parent told of an exception."""
    try:
        yield
    except BaseException as error:  # a user's module or class may raise anything
        if isinstance(error, EOFError | OSError) and gone.is_set():  # it is not the robot's
            return
        with contextlib.suppress(EOFError, OSError):
            # Neither SystemExit nor KeyboardInterrupt of the robot's may act in the parent.
            connection.send(failed(error if isinstance(error, Exception) else RuntimeError(raised(error))))
