"""The training loop: act, step, store, update; at intervals log, evaluate and save.

The same loop serves every algorithm, new runs and resumed ones. What it carries from one decision to the next
is in a `Session`.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from typing import Any

from crossq_wn.environments import EnvironmentFaultError, TaskLike, tidy
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import AT_FIRST_RESET, UserError, counted, option
from crossq_wn.lazy import jax
from crossq_wn.learning.evaluation import BrokenOff
from crossq_wn.learning.rows import Rows
from crossq_wn.machine import collecting_seldom, processors
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.signals import collected_signals, name_of
from crossq_wn.training import building, prefilling
from crossq_wn.training.algorithms import build_algorithm, naming_own
from crossq_wn.training.callbacks import Calls
from crossq_wn.training.compiling import compiling_ahead
from crossq_wn.training.deciding import decide
from crossq_wn.training.ending import call_back, conclude, keeping_tracebacks, outcome
from crossq_wn.training.finished import evaluated_last
from crossq_wn.training.fitting import check_fits
from crossq_wn.training.progress import Outcome, Reporter
from crossq_wn.training.reporting import report_at_times, tell_of_device, tell_of_environments
from crossq_wn.training.restoring import restore
from crossq_wn.training.rows import log
from crossq_wn.training.saving import join, note_streams, save, watch_classes
from crossq_wn.training.scoring import score
from crossq_wn.training.seeds import Stream, integer, stream
from crossq_wn.training.session import Session, new_session, told
from crossq_wn.training.stopping import drop
from crossq_wn.training.updating import launches_aside
from crossq_wn.types import Spec


@collecting_seldom()
def run_training(
    config: RunConfig,
    open_run: Callable[[], RunDirectory],
    reporter: Reporter,
    *,
    resume: bool = False,
    without_damaged_replay: bool = False,
    task: TaskLike | None = None,
    callbacks: Sequence[Any] = (),
) -> Outcome:
    """Trains until the run's frames are done or a signal arrives.

    A resumed run whose seeds have come unequally far takes several sessions: those furthest behind train
    until they have caught up with the next ones, and so on.

    Args:
        config: the run's configuration.
        open_run: creates or opens the run directory. It is called as late as possible, so that a run that
            cannot start leaves nothing behind.
        reporter: receives progress.
        resume: whether to continue from the newest checkpoint.
        without_damaged_replay: whether to continue without rows of replay that are damaged beyond repair.
        task: a class or function that makes the environment, where no module can be imported for it.
        callbacks: a user's own; see `callbacks`.

    Returns:
        How training ended.

    Raises:
        UserError: every seed has failed, or anything else that the user can mend; the message says how.
    """
    tried: set[int] = set()
    with ExitStack() as stack:
        opened = cache(lambda: stack.enter_context(closing(open_run())))  # by the first session, for all
        while True:
            ended, more = _one_session(
                config,
                opened,
                reporter,
                resume=resume,
                without_damaged_replay=without_damaged_replay,
                task=task,
                callbacks=callbacks,
                tried=tried,
            )
            if not more:
                return ended


def _one_session(
    config: RunConfig,
    open_run: Callable[[], RunDirectory],
    reporter: Reporter,
    *,
    resume: bool,
    without_damaged_replay: bool,
    task: TaskLike | None,
    callbacks: Sequence[Any],
    tried: set[int],
) -> tuple[Outcome, bool]:
    """Trains the seeds that are furthest behind, until they have caught up with others or are done.

    Args:
        config: as in `run_training`, like all but the last.
        open_run: likewise.
        reporter: likewise.
        resume: likewise.
        without_damaged_replay: likewise.
        task: likewise.
        callbacks: likewise.
        tried: training seeds that have failed in an earlier session of this call; more may be added.

    Returns:
        How training ended, and whether another session goes on.
    """
    with ExitStack() as stack:
        stack.enter_context(kept_shared())  # the environments' seeds are not the caller's
        crew = stack.enter_context(building.crew_for(config, task))
        training = stack.enter_context(_environments(config, task, reporter, crew, 0))
        spec = building.spec_of(config, training.environments[0])
        _check(config, spec, reporter)
        prefill = [] if resume else [prefilling.rows_for(config, training.environments[0], reporter.message)]
        testing = stack.enter_context(_environments(config, task, reporter, crew, 1))
        tidy()
        run = open_run()
        # Entered only once, because a change of it would compile every program again.
        stack.enter_context(jax.default_matmul_precision(config.options.matmul_precision))
        calls = Calls(callbacks, stack.enter_context(collected_signals()))
        with discarded_on_failure(run, resume=resume), naming_own(config):
            session = new_session(config, spec, run, reporter, (training, testing), calls)
            again = resume and restore(session, tried, without_damaged_replay=without_damaged_replay)
            if not resume:
                begin(session, prefill.pop())  # replay holds it from now on
            stack.enter_context(compiling_ahead(session))
            if config.options.overlap and launches_aside():
                session.launcher = stack.enter_context(ThreadPoolExecutor(1, "launches"))
            whole = resume or unbroken(assess, session)
        with keeping_tracebacks(session):
            if unbroken(evaluate_again, session) if again else whole:
                unbroken(train, session)
            conclude(session)
            tried.update(session.failed.keys() - {*session.waiting})
            return outcome(session), _goes_on(session)


def unbroken(work: Callable[[Session], None], session: Session) -> bool:
    """Works on a session, and returns whether no evaluation was broken off."""
    try:
        work(session)
    except BrokenOff:
        return False
    return True


def _goes_on(session: Session) -> bool:
    """Whether seeds are left for another session."""
    if session.calls.ending or session.calls.stopped_by:
        return False
    return bool(session.waiting) or (bool(session.seeds) and not session.finished)


@contextmanager
def discarded_on_failure(run: RunDirectory, *, resume: bool) -> Iterator[None]:
    """Takes a new run's directory away if the run cannot begin."""
    try:
        yield
    except Exception:
        if not resume:
            run.discard()
        raise


@contextmanager
def _environments(
    config: RunConfig, task: TaskLike | None, reporter: Reporter, crew: Crew | None, number: int
) -> Iterator[Pool]:
    """Makes one environment per seed and closes them in the end; what cannot be closed is only reported.

    Args:
        config: of the run.
        task: as in `run_training`.
        reporter: receives messages.
        crew: where the environments may move.
        number: of their set there.
    """
    made = [building.make_environment(config, task, seed=seed) for seed in config.options.seeds]
    # Where processors are left over, workers start while learners are made; memory has been looked at by now.
    if crew is not None and crew.awake and number == 1 and not crew.refusal:
        crew.start(made[0].observation_size, made[0].action_size)
    pool = Pool(made, processors(), crew, number * len(made), reporter.message)
    try:
        yield pool
    finally:
        for fault in pool.close():
            reporter.message(f"an environment could not be closed: {fault}")


def _check(config: RunConfig, spec: Spec, reporter: Reporter) -> None:
    """Raises UserError, before anything is written, if the run is known not to work."""
    if config.options.q_bias and build_algorithm(config, spec).appraise is None:
        raise UserError(f"{option('q_bias')}: {config.system.algorithm} has no critics; leave it out")
    with naming_own(config):
        size = math.ceil(check_fits(config, spec) / 2**20)
    reporter.message(f"replay: up to {size:,} MiB for {counted(len(config.options.seeds), 'seed')}")


def begin(session: Session, prefill: Rows | None = None) -> None:
    """Makes every seed's learner, gives it data from elsewhere, and starts its first episode."""
    session.states = session.learner.states([session.initial_state(seed.number) for seed in session.seeds])
    if prefill is not None:
        prefilling.prefill(session, prefill)
    session.logs.begin()
    reasons = {}
    watch_classes(session)
    for seed in session.seeds:
        try:
            start = integer(stream(seed.number, Stream.ENVIRONMENT))
            seed.observation = session.training.reset(seed.index, start).copy()
        except EnvironmentFaultError as fault:
            reasons[seed.number] = AT_FIRST_RESET + told(session, seed.number, fault)
    drop(session, reasons, unevaluated=True)
    note_streams(session)


def assess(session: Session) -> None:
    """Evaluates and saves the untrained learners."""
    tell_of_device(session)
    tell_of_environments(session)
    score(session)
    save(session)


def evaluate_again(session: Session) -> None:
    """Makes an evaluation that failed before the run was resumed; at its end, `finish` does."""
    if session.finished and evaluated_last(session.config, session.frames):
        session.writer.outdate()
        return
    before = list(session.seeds)
    score(session)
    session.unevaluated = False
    if session.seeds == before:
        session.writer.outdate()  # the checkpoint is written anew, now that it is evaluated
        save(session)


def train(session: Session) -> None:
    """Makes decisions until the run is done, or a signal or a callback asks for an end."""
    options = session.config.options
    session.stopwatch.lap("record")
    session.pace.begin_interval(session.frames, session.updates)
    call_back(session)
    while session.seeds and session.decisions < session.target and not session.calls.ending:
        stopping = decide(session)
        if session.crossed(options.log_every):
            log(session)
        drop(session, stopping, unevaluated=session.crossed(options.eval_every))
        if session.crossed(options.eval_every):
            score(session)
        if session.crossed(options.checkpoint_every):
            save(session)
        call_back(session)
        report_at_times(session)
        session.stopwatch.lap("record")
    if session.calls.signals and not session.finished:
        session.reporter.message(f"{name_of(session.calls.signals[0])}: saving a checkpoint")
    finish(session)


def finish(session: Session) -> None:
    """Saves the session; evaluates a finished one, unless that has just been done."""
    last = session.finished and evaluated_last(session.config, session.frames)
    if not (last and session.aside):
        save(session, thorough=session.finished)  # first, because a longer run would not evaluate here
    worlds = score(session) if last and not _evaluated(session) else None
    if session.behind and session.decisions >= session.target:
        join(session, worlds)
    elif last and session.aside:  # who catches up later goes on behind this evaluation
        session.writer.outdate()
        save(session, worlds, thorough=True)


def _evaluated(session: Session) -> bool:
    """Whether the checkpoint that was resumed has this evaluation, as where other seeds had stopped."""
    return session.logs.evaluated(session.frames) >= {seed.number for seed in session.seeds}
