"""Training in real time: the acting process keeps a robot's rate, and this one learns beside it.

Decisions arrive in order and each of them once. They go to the journal on disk and to replay. Gradient
updates follow as fast as this machine makes them, up to the UTD ratio, and what they fall behind is made up
while the robot is paused. Evaluations are played by the same robot between two episodes of training.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import csv
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any

from crossq_wn import files
from crossq_wn.environments import EnvironmentFaultError, TaskLike
from crossq_wn.environments.core import NoActionError
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, counted
from crossq_wn.files import MOST_TABLE
from crossq_wn.lazy import jax
from crossq_wn.machine import collecting_seldom
from crossq_wn.real_time.acting import Between, Evaluate, Played, Setup, Train
from crossq_wn.real_time.hanging import Hanging
from crossq_wn.real_time.journal import Journal
from crossq_wn.real_time.playing import tell_of_timing
from crossq_wn.real_time.priority import what_is_denied
from crossq_wn.real_time.schedule import schedule_of
from crossq_wn.real_time.side import ActingProcess, Robots, Stand
from crossq_wn.real_time.watch import Watch
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.runs.manifests import available
from crossq_wn.signals import collected_signals, name_of
from crossq_wn.training import building, prefilling, restoring, stopping
from crossq_wn.training.algorithms import build_algorithm, naming_own
from crossq_wn.training.arrivals import take
from crossq_wn.training.callbacks import Calls
from crossq_wn.training.compiling import compiling_ahead, wait
from crossq_wn.training.course import Course, publish, require_plain, serve, served_by
from crossq_wn.training.ending import call_back, conclude, keeping_tracebacks, outcome
from crossq_wn.training.fitting import check_fits
from crossq_wn.training.loop import begin, discarded_on_failure
from crossq_wn.training.progress import Outcome, Reporter
from crossq_wn.training.reporting import doing, enter, tell_of_device, tell_of_environments
from crossq_wn.training.rows import log
from crossq_wn.training.saving import save
from crossq_wn.training.scoring import record, scores_of
from crossq_wn.training.seeds import Stream, integer, stream
from crossq_wn.training.session import new_session, told

_IDLE_SECONDS = 0.002  # that learning waits for news when it has nothing to do


@collecting_seldom()
def run_in_real_time(
    config: RunConfig,
    open_run: Callable[[], RunDirectory],
    reporter: Reporter,
    *,
    resume: bool = False,
    without_damaged_replay: bool = False,
    task: TaskLike | None = None,
    callbacks: Sequence[Any] = (),
) -> Outcome:
    """Trains with one robot until the run's frames are done or a signal arrives.

    Takes and returns what `loop.run_training` does.

    Raises:
        UserError: the seed has failed, or anything else that the user can mend; the message says how.
    """
    assert config.options.real_time is not None
    schedule = schedule_of(config.options.real_time)
    with ExitStack() as stack:
        stack.enter_context(kept_shared())
        waiting = Hanging(schedule, config.task, reporter.message, "the run")
        process = ActingProcess(_setup(config, task), waiting)  # which Ctrl-C interrupts
        signals = stack.enter_context(collected_signals())
        stack.enter_context(closing(process))
        stand = Stand(process)
        spec = building.spec_of(config, stand)  # type: ignore[arg-type]  # it has what is asked for
        with naming_own(config):
            require_plain(build_algorithm(config, spec), config)
            check_fits(config, spec)
        prefill = [] if resume else [prefilling.rows_for(config, stand, reporter.message)]  # type: ignore[arg-type]
        run = stack.enter_context(closing(open_run()))
        stack.enter_context(jax.default_matmul_precision(config.options.matmul_precision))
        with discarded_on_failure(run, resume=resume), naming_own(config):
            robots: Any = Robots(stand)
            session = new_session(config, spec, run, reporter, (robots, robots), Calls(callbacks, signals))
            session.told_unrestorable = True  # of a robot it goes without saying
            own_clock = process.description.own_clock
            session.watch = Watch(schedule, config.task, reporter.message, own_clock=own_clock)
            journal = Journal(run.path, spec.observation_size, spec.action_size)
            hanging = Hanging(schedule, config.task, reporter.message, "the run", " with a checkpoint")
            course = Course(session, process, stand, journal, session.watch, hanging)
            if resume:
                _restore(course, without_damaged_replay=without_damaged_replay)
            else:
                begin(session, prefill.pop())  # replay holds it from now on
                tell_of_device(session)
                tell_of_environments(session)
            stack.enter_context(compiling_ahead(session))
            _checkpoint(course)
        tell_of_robot(course)
        with keeping_tracebacks(session):
            return learn(course)


def _setup(config: RunConfig, task: TaskLike | None) -> Setup:
    assert config.options.real_time is not None
    (seed,) = config.options.seeds
    return Setup(
        recipe=building.recipe_for(config, task),
        schedule=schedule_of(config.options.real_time),
        warmup=config.settings.warmup,
        total=config.decisions,
        random_actions=stream(seed, Stream.WARMUP),
        noise=stream(seed, Stream.NOISE),
    )


def tell_of_robot(course: Course) -> None:
    """Tells of the rate and the clock, of what the robot can do, and of a priority that is denied."""
    options, described = course.session.config.options, course.process.description
    evaluations = "no evaluations"
    if options.eval_every:
        evaluations = f"evaluations of {counted(options.eval_episodes, 'episode')} between those of training"
    own = "it has no methods of its own"
    if described.methods:
        own = f"its methods {', '.join(described.methods)} are used"
    clock = "by its own clock" if described.own_clock else "by the clock of this machine"
    tell = course.session.reporter.message
    tell(f"real time: {options.real_time:g} decisions per second {clock}, {evaluations}; {own}")
    denied = what_is_denied(described.priority)
    if denied is not None:
        tell(denied)


def learn(course: Course) -> Outcome:
    """Learns beside the acting process until the run is done, or a signal or a callback asks for an end.

    Raises:
        UserError: the seed has failed.
    """
    session = course.session
    session.stopwatch.lap("record")
    session.pace.begin_interval(session.frames, session.updates)
    fault: EnvironmentFaultError | None = None
    try:
        going = _begin_next(course)
        while going and session.seeds:
            going = _go_on(course)
    except EnvironmentFaultError as error:
        _receive(course)
        fault = error
    finally:
        course.process.end()  # first of all, the robot comes to rest
        _keep_the_rest(course)
    if not isinstance(fault, NoActionError):  # else nothing good can be saved: the policy itself failed
        _checkpoint(course, thorough=session.finished)
    if session.finished and not sum(seed.episodes for seed in session.seeds):
        course.watch.tell_of_endless_episode()
    if fault is not None:
        stopping.drop(session, {seed.number: told(session, seed.number, fault) for seed in session.seeds})
    conclude(session)
    return outcome(session)


def _keep_the_rest(course: Course) -> None:
    """Puts what the robot did and learning has not received into the journal, whatever ended learning."""
    try:
        course.journal.append(course.process.rest())
        course.journal.sync()
    except UserError as error:  # an exception would hide why learning ended
        course.session.reporter.message(f"the newest decisions of the robot may be lost: {error}")


def _go_on(course: Course) -> bool:
    """Does what is next; returns whether there is more to do."""
    if course.session.calls.ending and not _may_still_rest(course):
        return False
    arrived = _receive(course)
    serve(course)
    call_back(course.session)
    idle = not (arrived or course.owed)
    news = course.process.news(_IDLE_SECONDS if idle else 0.0)
    course.session.stopwatch.lap("environment")
    course.hanging.look(course.process.call, time.monotonic())
    _save_if_overdue(course)
    if news is None:
        return True
    _receive(course)  # what came before the news
    if isinstance(news, Between):
        _end_episode(course, news)
    else:
        _end_evaluation(course, news)
    return _begin_next(course) if course.session.seeds else False


def _may_still_rest(course: Course) -> bool:
    """Asks the robot to come to rest; returns whether there is still time for that."""
    if not course.process.asked:
        for number in course.session.calls.signals[:1]:
            course.session.reporter.message(f"{name_of(number)}: the robot comes to rest")
    return course.process.stop()


# What arrives


def _receive(course: Course) -> int:
    """Stores the decisions that have arrived; returns how many they were."""
    session, arrived = course.session, list(course.process.shared.collect())
    if arrived:
        course.journal.append(arrived)
    for decision in arrived:
        if not session.seeds:  # it has diverged
            break
        take(course, decision)
        course.watch.add(decision)
        session.stopwatch.next_decision()
        session.stopwatch.lap("replay")
        if session.crossed(session.config.options.log_every):
            log(session)
            session.stopwatch.lap("record")
    return len(arrived)


def _end_episode(course: Course, news: Between) -> None:
    course.stand.learned = news.statistics
    for seed in course.session.seeds if not news.whole else ():  # what was broken off ends like a time limit
        seed.replay.end_episode()


def _end_evaluation(course: Course, played: Played) -> None:
    session = course.session
    enter(session, "training" if session.updates else "collecting")
    tell_of_timing(session.reporter.message, played.timing)
    if len(played.episodes) == session.config.options.eval_episodes:  # else it was broken off
        found = scores_of(played.episodes, session.config.metric)
        record(session, {seed.number: found for seed in session.seeds})
        course.saved = -1  # what cost a robot's time is saved at once


# What the robot does next


def _begin_next(course: Course) -> bool:
    """Between two episodes: evaluates, saves, and begins the next; returns whether there is one."""
    call_back(course.session)  # a callback that asks for an end wants no further episode
    session, options = course.session, course.session.config.options
    if session.decisions >= session.config.settings.warmup and session.compiling is not None:
        with doing(session, "compiling"):
            wait(session)  # meanwhile the robot is paused
        session.stopwatch.lap("update")
    if not session.calls.ending and _evaluation_due(course):
        course.scored = session.frames
        publish(course)
        if not session.seeds:
            return False
        enter(session, "evaluating")
        (seed,) = options.seeds
        start = integer(stream(seed, Stream.EVALUATION, session.frames))
        course.process.order(Evaluate(options.eval_episodes, start, course.stand.take_adopted()))
        return True
    if session.finished or session.calls.ending:
        return False
    if due(course.saved, session.frames, options.checkpoint_every):
        _checkpoint(course)
    _order_episode(course)
    return True


def due(before: int, now: int, interval: int) -> bool:
    """Whether a multiple of an interval lies after one number of environment frames, up to another one.

    Args:
        before: environment frames at the last time.
        now: environment frames, at least as many.
        interval: environment frames; 0: never.
    """
    return interval > 0 and now // interval > before // interval


def _evaluation_due(course: Course) -> bool:
    session, every = course.session, course.session.config.options.eval_every
    last = session.finished and every > 0 and course.scored < session.frames
    return last or due(course.scored, session.frames, every)


def _order_episode(course: Course) -> None:
    publish(course)
    if not course.session.seeds:  # its parameters are not finite
        return
    stand, session = course.stand, course.session
    course.process.shared.start_from(session.decisions)
    course.process.order(Train(session.decisions, stand.seed, stand.take_adopted()))
    stand.seed = None


# What is saved


def _checkpoint(course: Course, *, thorough: bool = False) -> None:
    session = course.session
    save(session, thorough=thorough)
    if not session.seeds or session.writer.present is None:
        return
    oldest = available(session.run.checkpoints)[0]
    course.journal.begin(session.writer.present, int(oldest.name))
    course.saved = session.frames
    session.stopwatch.lap("record")


def _save_if_overdue(course: Course) -> None:
    """Saves in the middle of an episode that is longer than the interval; acting does not wait for it."""
    every = course.session.config.options.checkpoint_every
    if course.saved >= 0 and course.session.frames - course.saved >= 2 * every:
        _checkpoint(course)


def _restore(course: Course, *, without_damaged_replay: bool) -> None:
    """Restores the newest checkpoint, and the decisions in the journal that came after it."""
    session, settings = course.session, course.session.config.settings
    restoring.restore(session, without_damaged_replay=without_damaged_replay)
    first, course.scored = session.decisions, _last_scored(session.run)
    for decision in course.journal.since(first, session.reporter.message):
        if not session.finished:  # the journal is read to its end, where it tells what it lacks
            take(course, decision)
    if more := session.decisions - first:
        session.reporter.message(f"the journal goes on for {counted(more, 'decision')}, which count too")
        session.seeds[0].replay.end_episode()
    course.served = served_by(session.updates, settings.warmup, settings.utd, session.algorithm.burst)


def _last_scored(run: RunDirectory) -> int:
    """The environment frames of the newest evaluation in eval.csv; 0 without any."""
    text = files.read(run.path / "eval.csv", MOST_TABLE).decode()
    return max((int(row["env_step"]) for row in csv.DictReader(text.splitlines())), default=0)
