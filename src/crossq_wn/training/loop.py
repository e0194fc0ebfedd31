"""The training loop: act, step, store, update; at intervals log, evaluate and save.

The same loop serves every algorithm, new runs and resumed ones. What it carries from one decision to the next
is in a `Session`.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np

from crossq_wn.environments import EnvironmentFaultError, TaskLike, Transition, tidy
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, counted, option
from crossq_wn.lazy import jax
from crossq_wn.learning.rows import Rows
from crossq_wn.machine import processors
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.training import building, prefilling
from crossq_wn.training.algorithms import build_algorithm, naming_own
from crossq_wn.training.callbacks import Calls
from crossq_wn.training.compiling import compiling_ahead
from crossq_wn.training.ending import call_back, conclude, keeping_tracebacks, outcome
from crossq_wn.training.finished import evaluated_last
from crossq_wn.training.fitting import check_fits
from crossq_wn.training.progress import Outcome, Reporter
from crossq_wn.training.reporting import report_at_times, tell_of_environments
from crossq_wn.training.rows import log
from crossq_wn.training.saving import note_streams, restore, save, watch_classes
from crossq_wn.training.scoring import score
from crossq_wn.training.seeds import Seed, Stream, integer, stream
from crossq_wn.training.session import Session, drop, new_session, settle, told
from crossq_wn.training.signals import collected_signals
from crossq_wn.training.updating import collect, launches_aside, update
from crossq_wn.types import Spec


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
    with ExitStack() as stack:
        stack.enter_context(kept_shared())  # the environments' seeds are not the caller's
        crew = stack.enter_context(building.crew_for(config, task))
        training = stack.enter_context(_environments(config, task, reporter, crew, 0))
        spec = building.spec_of(config, training.environments[0])
        _check(config, spec, reporter)
        prefill = [] if resume else [prefilling.rows_for(config, training.environments[0], reporter.message)]
        testing = stack.enter_context(_environments(config, task, reporter, crew, 1))
        tidy()
        run = stack.enter_context(closing(open_run()))
        # Entered only once, because a change of it would compile every program again.
        stack.enter_context(jax.default_matmul_precision(config.options.matmul_precision))
        calls = Calls(callbacks, stack.enter_context(collected_signals()))
        with discarded_on_failure(run, resume=resume), naming_own(config):
            session = new_session(config, spec, run, reporter, (training, testing), calls)
            again = resume and restore(session, without_damaged_replay=without_damaged_replay)
            if not resume:
                begin(session, prefill.pop())  # replay holds it from now on
            stack.enter_context(compiling_ahead(session))
            if config.options.overlap and launches_aside():
                session.launcher = stack.enter_context(ThreadPoolExecutor(1, "launches"))
            if not resume:
                assess(session)
        with keeping_tracebacks(session):
            if again:
                evaluate_again(session)
            return train(session)


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
            reasons[seed.number] = told(session, seed.number, fault)
    drop(session, reasons)
    note_streams(session)


def assess(session: Session) -> None:
    """Evaluates and saves the untrained learners."""
    tell_of_environments(session)
    score(session)
    save(session)


def evaluate_again(session: Session) -> None:
    """Makes an evaluation that failed before the run was resumed."""
    before = list(session.seeds)
    score(session)
    if session.seeds == before:
        session.writer.present = None  # the checkpoint is written anew, now that it is evaluated
        save(session)


def train(session: Session) -> Outcome:
    """Makes decisions until the run is done, or a signal or a callback asks for an end.

    Raises:
        UserError: every seed has failed.
    """
    options = session.config.options
    session.stopwatch.lap("record")
    session.pace.begin_interval(session.frames, session.updates)
    call_back(session)
    while session.seeds and not session.finished and not session.calls.ending:
        decide(session)
        if session.crossed(options.log_every):
            log(session)
        if session.crossed(options.eval_every):
            score(session)
        if session.crossed(options.checkpoint_every):
            save(session)
        call_back(session)
        report_at_times(session)
        session.stopwatch.lap("record")
    finish(session)
    return outcome(session)


def finish(session: Session) -> None:
    """Saves the session; evaluates a finished one, unless that has just been done."""
    save(session, thorough=session.finished)  # first, because a longer run would not evaluate here
    if session.finished and evaluated_last(session.config, session.frames):
        score(session)
    conclude(session)


def decide(session: Session) -> None:
    """Makes one agent decision of every seed, and the gradient updates that belong to it."""
    chosen, before = act(session), session.metrics
    session.stopwatch.lap("act")
    if session.config.options.overlap:
        # The environments step while the updates run, which another thread may prepare and launch meanwhile.
        update(session, session.decisions)
        actions = fetch(session, chosen, before)
        session.training.begin(session.indices, actions)
        if session.training.way == "workers":
            collect(session)  # first, because waiting for workers would take Python's lock from that thread
        step(session, actions)
    else:
        actions = fetch(session, chosen, before)
        settle(session)
        session.stopwatch.lap("update")
        step(session, actions)
        update(session, session.decisions)
    session.decisions += 1


def fetch(session: Session, chosen: tuple[Any, Any], metrics: Any) -> np.ndarray:
    """Waits for the updates of the decision before and then for this decision's actions.

    Args:
        session: whose stopwatch tells the two apart; its seeds get their new memories.
        chosen: what `act` returned.
        metrics: of these updates; all results of a program are there at once, and looking at every array of
            the states would take longer.

    Returns:
        [S, action_size].
    """
    jax.block_until_ready(metrics)  # type: ignore[no-untyped-call]
    session.stopwatch.lap("update")
    session.stopwatch.next_decision()
    actions = np.asarray(chosen[0])
    if chosen[1] is not None:
        memories = session.learner.split(chosen[1], len(session.seeds))
        for seed, memory in zip(session.seeds, memories, strict=True):
            seed.memory = memory
    session.stopwatch.lap("act")
    return actions


def act(session: Session) -> tuple[Any, Any]:
    """Every seed's action, [S, action_size] in [-1, 1]: uniform in the warm-up, then the policy's.

    Returns:
        Actions and new memories, joined, which may still be computed; in the warm-up memories are None.
    """
    if session.decisions < session.config.settings.warmup:
        size = session.spec.action_size
        drawn = [seed.warmup.uniform(-1, 1, size).astype(np.float32) for seed in session.seeds]
        return np.stack(drawn), None
    learner = session.learner
    observations = np.stack([seed.observation for seed in session.seeds])
    memories = learner.join([seed.memory for seed in session.seeds])
    return learner.explore(session.states, memories, observations, session.decisions)


def step(session: Session, actions: np.ndarray) -> None:
    """Steps every seed's environment and stores the transitions; seeds whose environment fails stop."""
    results = session.training.step(session.indices, actions)
    session.stopwatch.lap("environment")
    collect(session)
    if session.learner.observe is not None:
        observe(session, results)
    over, reasons = [], {}
    for seed, action, result in zip(session.seeds, actions, results, strict=True):
        if isinstance(result, EnvironmentFaultError):
            reasons[seed.number] = told(session, seed.number, result)
            continue
        store(session, seed, action, result)
        if result.episode is not None:
            over.append(seed)
    drop(session, reasons | _begin_episodes(session, over))
    session.stopwatch.lap("replay")


def store(session: Session, seed: Seed, action: np.ndarray, result: Transition) -> None:
    """Adds a transition to replay: an action [action_size], taken on `seed.observation`, and its result."""
    frames = session.frames + session.config.action_repeat
    session.calls.decision(seed.number, frames, seed.observation, action, result)
    seed.replay.add(
        seed.observation,
        action,
        result.reward,
        result.next_observation,
        terminated=result.terminated,
        last=result.episode is not None,
    )
    seed.observation = result.next_observation
    if result.episode is not None:
        seed.end_episode(result.episode)
        seed.memory = session.algorithm.recall(seed.memory, session.algorithm.memory)


def _begin_episodes(session: Session, seeds: Sequence[Seed]) -> dict[int, str]:
    """Begins the next episodes of some seeds; returns, by number, why one cannot begin."""
    reasons: dict[int, str] = {}
    if not seeds:
        return reasons
    for seed, first in zip(seeds, session.training.resets([seed.index for seed in seeds]), strict=True):
        if isinstance(first, EnvironmentFaultError):
            reasons[seed.number] = told(session, seed.number, first)
        else:
            seed.observation = first
    return reasons


def observe(session: Session, results: Sequence[Transition | EnvironmentFaultError]) -> None:
    """Shows the transitions to learners with running statistics; a failed environment ends its episode."""
    rewards, ended = np.zeros(len(results), np.float32), np.ones(len(results), bool)
    for position, result in enumerate(results):
        if not isinstance(result, EnvironmentFaultError):
            rewards[position], ended[position] = result.reward, result.episode is not None
    observations = np.stack([seed.observation for seed in session.seeds])
    assert session.learner.observe is not None
    session.states = session.learner.observe(session.states, observations, rewards, ended)
