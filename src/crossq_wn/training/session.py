"""A training session: what the loop works with, and everything that changes between decisions."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments import EnvironmentFaultError
from crossq_wn.environments.core import NoActionError
from crossq_wn.environments.pool import Pool
from crossq_wn.learning import learner
from crossq_wn.learning.diagnostics import lacking
from crossq_wn.learning.interface import Learner, States
from crossq_wn.learning.replay import Replay
from crossq_wn.real_time.watch import COLUMNS, Watch
from crossq_wn.runs.checkpoints import SeedState
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.writing import Writer
from crossq_wn.training import building
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.callbacks import Calls
from crossq_wn.training.logs import Logs
from crossq_wn.training.progress import Pace, Phase, Recent, Reporter
from crossq_wn.training.seeds import Seed, Stream, new_seed, stream
from crossq_wn.training.stopwatch import Stopwatch
from crossq_wn.types import ERRORS, Algorithm, Spec, Tree


class Failure(NamedTuple):
    """Why a seed stopped, and what is left of it."""

    reason: str
    good: int | None  # environment frames of its last good state
    updates: int | None = None  # gradient updates of that state; None: it cannot be trained on
    unevaluated: bool = False  # whether an evaluation is still to be made there


class Aside(NamedTuple):
    """A seed that does not train now, as every checkpoint keeps it."""

    state: SeedState
    replay: Replay
    decisions: int
    updates: int


@dataclass
class Session:
    """The state of one call of `run_training`.

    Checkpoints hold everything that later numbers depend on; `feed` and `metrics` are only what the newest
    updates left on the device.
    """

    config: RunConfig
    spec: Spec
    run: RunDirectory
    reporter: Reporter
    training: Pool  # environments, one per seed
    testing: Pool  # environments for evaluations, one per seed
    algorithm: Algorithm
    learner: Learner
    logs: Logs
    writer: Writer
    seeds: list[Seed]  # those that still train
    calls: Calls  # of a user's callbacks
    states: States = None  # of the learners, joined in the order of `seeds`
    decisions: int = 0  # per seed
    updates: int = 0  # gradient updates per seed
    failed: dict[int, Failure] = field(default_factory=dict)  # by training seed
    aside: dict[int, Aside] = field(default_factory=dict)  # likewise: those kept to be trained on
    behind: dict[int, str] = field(default_factory=dict)  # likewise: those that catch up; why they failed
    waiting: list[int] = field(default_factory=list)  # training seeds that train in a later session
    target: int = 0  # agent decisions at which this session ends
    unevaluated: bool = False  # whether an evaluation of those that catch up is still to be made
    causes: dict[int, BaseException] = field(default_factory=dict)  # likewise: what can be mended
    compiling: Thread | None = None  # what compiles the programs of training meanwhile
    compiling_since: float = 0.0  # by `time.perf_counter`
    launcher: Executor | None = None  # the thread that prepares and launches updates, if not this one
    launching: Future[None] | None = None  # updates that it has not been waited for
    feed: Any = None  # of the newest gradient updates, on the device
    metrics: Any = None  # of the newest gradient update, joined, on the device
    drawn: list[tuple[np.ndarray, int]] | None = None  # by seed: where its samples lie, and `replay.end` then
    phase: Phase = "collecting"
    diagnosed: bool = False  # whether the program of diagnostics is compiled
    rows: list[dict[str, Any]] = field(default_factory=list)  # the newest of each seed
    pace: Pace = field(default_factory=Pace)
    recent: Recent = field(default_factory=Recent)
    collecting_rate: float = 0.0  # environment frames per second and seed while it last collected; 0: unknown
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    watch: Watch | None = None  # of a run in real time
    told_unrestorable: bool = False
    told_large: bool = False
    told_distant: bool = False
    told_outside: bool = False
    shared: Any = None  # the process's random streams before the first step; None once they were spoken of
    changes: Callable[[], list[str]] | None = None  # what environments have changed in classes and modules
    generators: set[str] = field(default_factory=set)  # places of those that are there or were spoken of
    told_names: set[str] = field(default_factory=set)  # those that were spoken of

    @property
    def frames(self) -> int:
        """Environment frames per seed so far; a decision that an episode's end cuts short counts in full."""
        return self.decisions * self.config.action_repeat

    @property
    def finished(self) -> bool:
        """Whether all the decisions that were asked for have been made."""
        return self.decisions >= self.config.decisions

    @property
    def lost(self) -> bool:
        """Whether every seed has failed."""
        return not self.waiting and self.failed.keys() >= {*self.config.options.seeds}

    @property
    def head(self) -> tuple[int, int]:
        """Agent decisions and gradient updates of the seed that has come furthest."""
        own = [(self.decisions, self.updates)] if self.seeds else []
        return max([*own, *((each.decisions, each.updates) for each in self.aside.values())], default=(0, 0))

    @property
    def indices(self) -> list[int]:
        """The places of the remaining seeds' environments in the pools."""
        return [seed.index for seed in self.seeds]

    def crossed(self, interval: int) -> bool:
        """Whether the last decision reached or passed a multiple of `interval` environment frames."""
        return self.frames // interval > (self.frames - self.config.action_repeat) // interval

    def initial_state(self, seed: int) -> Tree:
        """The first state of a training seed's learner."""
        return self.algorithm.init(np.random.default_rng(stream(seed, Stream.LEARNER)))


def new_session(
    config: RunConfig,
    spec: Spec,
    run: RunDirectory,
    reporter: Reporter,
    pools: tuple[Pool, Pool],
    calls: Calls | None = None,
) -> Session:
    """Makes a session in which nothing has happened yet.

    Args:
        config: the run's configuration.
        spec: the problem that its environments pose.
        run: its directory.
        reporter: receives progress.
        pools: one environment per seed for training, and one per seed for evaluations.
        calls: of a user's callbacks.
    """
    training, testing = pools
    numbers = config.options.seeds
    algorithm = build_algorithm(config, spec)
    names = learner.metric_names(
        algorithm, spec, diagnostics=config.options.diagnostics, batch_size=config.settings.batch_size
    )
    if config.options.diagnostics and algorithm.view is not None:
        _tell_of_lacking_parts(names, reporter)
    if config.options.real_time is not None:
        names = [*names, *COLUMNS]
    seeds = []
    for index, number in enumerate(numbers):
        replay = building.make_replay(config, spec, algorithm.sampling.priorities)
        seeds.append(new_seed(number, index, replay, algorithm.memory))
    return Session(
        config=config,
        spec=spec,
        run=run,
        reporter=reporter,
        training=training,
        testing=testing,
        algorithm=algorithm,
        learner=learner.make(
            algorithm,
            len(numbers),
            # Decisions of a robot arrive in batches, and a copy on a device takes those of one decision.
            None
            if config.options.real_time is not None
            else building.replay_bytes(config, spec, algorithm.sampling.priorities),
            building.pinned_rows(config),
        ),
        logs=Logs(config, run.path, names),
        writer=Writer(run.checkpoints, reporter.message),
        seeds=seeds,
        calls=calls or Calls((), []),
        target=config.decisions,
    )


def _tell_of_lacking_parts(columns: Sequence[str], reporter: Reporter) -> None:
    """Tells which diagnostics are not recorded, because a user's own critic has not what they measure."""
    for part, names in lacking(columns).items():
        reporter.message(
            f"not recorded, because the critic has no {part} that it shows: {', '.join(names)} "
            "(docs/your-own-network.md)"
        )


def settle(session: Session) -> None:
    """Brings replay the priorities that the newest updates found, once they are known.

    Until then `session.drawn` holds where their samples lie. Whatever needs priorities comes after: draws,
    checkpoints, and the end of a seed. New transitions do, too, but with `overlap`: their priority is then
    the largest before these updates.
    """
    drawn, session.drawn = session.drawn, None
    if drawn is None:
        return
    found = session.learner.split(session.metrics, len(session.seeds))
    for seed, (places, end), metrics in zip(session.seeds, drawn, found, strict=True):
        seed.replay.prioritise(places, np.asarray(metrics[ERRORS]), end)


def told(session: Session, seed: int, fault: EnvironmentFaultError) -> str:
    """The message of an environment's fault; an exception's traceback goes into the run directory.

    Args:
        session: notes a fault that can be mended, for the error if every seed fails.
        seed: the training seed.
        fault: of its environment.
    """
    if not isinstance(fault, NoActionError):
        session.causes[seed] = fault.__cause__ or fault
    if fault.__cause__ is None:
        return str(fault)
    return with_traceback(session, str(fault), f"seed-{seed}", fault.__cause__)


def with_traceback(session: Session, text: str, name: str, error: BaseException) -> str:
    """A message, with the file of the run that keeps an exception's traceback, if it could be written.

    Args:
        session: whose run directory keeps the traceback.
        text: the message.
        name: what the file is named after.
        error: the exception.
    """
    try:
        return f"{text}; traceback: {session.run.keep_traceback(name, error)}"
    except OSError:  # a full disk must not hide what was raised
        return text


def failures(session: Session) -> dict[str, dict[str, Any]]:
    """The seeds that have failed and not caught up since, by number, as the run keeps them."""
    failed = dict(session.failed)
    for seed in session.seeds:
        if reason := session.behind.get(seed.number):
            failed[seed.number] = Failure(reason, session.frames, session.updates, session.unevaluated)
    return {str(seed): failure._asdict() for seed, failure in failed.items()}
