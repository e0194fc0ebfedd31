"""Restores a training session from a checkpoint, in which seeds may have come unequally far."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from crossq_wn.environments import EnvironmentFaultError
from crossq_wn.environments.interface import check_unchanged, describe
from crossq_wn.environments.streams import restore_shared
from crossq_wn.errors import UserError
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint, SeedState
from crossq_wn.runs.checks import check
from crossq_wn.runs.manifests import malformed
from crossq_wn.runs.schema import PlainState
from crossq_wn.runs.tables import rows_of
from crossq_wn.training.finished import evaluated_last
from crossq_wn.training.retracing import retrace
from crossq_wn.training.saving import (
    note_streams,
    tell_of_what_classes_hold,
    watch_again,
    watch_classes,
    written_by_users,
)
from crossq_wn.training.seeds import Seed, Stream, integer, stream
from crossq_wn.training.session import Aside, Failure, Session, told


class _Level(NamedTuple):
    """How far a seed has come; seeds at equal levels train in one session."""

    decisions: int
    updates: int
    evaluated: bool = True  # False: its evaluation is still to be made


def restore(session: Session, tried: Collection[int] = (), *, without_damaged_replay: bool = False) -> bool:
    """Restores a session from the newest sound checkpoint of its run.

    Of seeds that have come unequally far, those furthest behind train in this session.

    Args:
        session: a new one; it is changed.
        tried: training seeds that have failed once more, and are left alone.
        without_damaged_replay: whether to continue without rows of replay that are damaged beyond repair.

    Returns:
        Whether the evaluation at which these seeds stand is still to be made.

    Raises:
        UserError: there is none, it does not fit this run or its environment, or all its seeds had failed.
    """
    reporter = session.reporter
    watch_classes(session)
    saved = checkpoints.newest(
        session.run.checkpoints, reporter.message, without_damaged_replay=without_damaged_replay
    )
    present = describe(session.training.environments[0].simulator)
    common = saved.training
    check_unchanged(common["interface"], present, session.config.task)
    for number, entry in common["failed"].items():
        session.failed[int(number)] = Failure(**entry)
    _check_seeds(session, saved)
    level = _choose(session, saved, tried)
    session.decisions, session.updates = level.decisions, level.updates
    session.writer.continue_from(saved, session.decisions)
    _restore_seeds(session, saved, level)
    watch_again(written_by_users(session))
    with malformed(saved.path):
        lost = restore_shared(common["streams"]) if "streams" in common else []  # earlier versions kept none
        session.logs.resume(common["logs"], reporter.message)
    if lost:
        reporter.message(
            f"the states of the random generators {', '.join(lost)} are not restored, because the checkpoint "
            "lacks them or the environment has none there now: numbers may not continue bit for bit"
        )
    note_streams(session)
    tell_of_what_classes_hold(session)
    if differs := session.run.note_resumption(session.config, reporter.message, _lost(session, saved)):
        reporter.message(
            f"versions have changed ({'; '.join(differs)}): numbers may not continue bit for bit"
        )
    _tell(session, saved)
    return not level.evaluated


def _choose(session: Session, saved: Checkpoint, tried: Collection[int]) -> _Level:
    """Chooses the seeds that train in this session, the decisions at which it ends, and what comes later."""
    levels = _levels(session, saved)
    ready = _ready(session, levels, tried)
    lowest, group = _furthest_behind(session, ready)
    session.waiting = [number for number in ready if number not in group]
    session.target = session.config.decisions
    for number in session.waiting:
        if lowest.decisions <= levels[number].decisions < session.target:
            session.target = levels[number].decisions
    again = {number: session.failed.pop(number).reason for number in group if number in session.failed}
    if len(again) == len(group) < len(levels):
        session.behind, session.unevaluated = again, not lowest.evaluated
    for seed in session.seeds:
        if seed.number in levels and seed.number not in group:
            session.aside[seed.number] = _aside(session, saved, seed, levels[seed.number])
    session.seeds = [seed for seed in session.seeds if seed.number in group]
    return lowest


def _furthest_behind(session: Session, ready: Mapping[int, _Level]) -> tuple[_Level, list[int]]:
    """The lowest level of seeds that can be trained on, and their numbers."""
    # First an evaluation of seeds that never failed: once others train, no checkpoint says that it is due.
    first = {n: level for n, level in ready.items() if n not in session.failed and not level.evaluated}
    first = first or dict(ready)
    lowest = min(first.values(), key=lambda level: (level.decisions, level.evaluated))
    group = [number for number, level in first.items() if level == lowest]
    # Of a run that died when some had just caught up, these are first joined with the others.
    return lowest, [number for number in group if number in session.failed] or group


def _ready(session: Session, levels: Mapping[int, _Level], tried: Collection[int]) -> dict[int, _Level]:
    """The seeds that can be trained on.

    Args:
        session: its failures are those of the checkpoint.
        levels: how far seeds have come, by number.
        tried: as in `restore`.

    Returns:
        Their levels; if there is nothing to train, those of seeds that are done, since files may be mended.
    """
    left, sound = {}, {}
    for number, level in levels.items():
        if number not in tried and _left(session, number, level):
            left[number] = level
        if number not in session.failed:
            sound[number] = level
    if left or sound:
        return left or sound
    reasons = "; ".join(f"seed {seed}: {failure.reason}" for seed, failure in session.failed.items())
    raise UserError(
        f"every seed of {session.run.path} has failed ({reasons}): start a new run with other settings"
    )


def _left(session: Session, number: int, level: _Level) -> bool:
    """Whether something is left to do for a seed."""
    return number in session.failed or not level.evaluated or level.decisions < session.config.decisions


def _levels(session: Session, saved: Checkpoint) -> dict[int, _Level]:
    """How far the seeds have come that a checkpoint has and that can be trained on, by number."""
    found, due = {}, _unevaluated(session, saved)
    for number in saved.seeds:
        frames, updates = saved.progress(number)
        failure = session.failed.get(number)
        evaluated = number not in due if failure is None else not failure.unevaluated
        found[number] = _Level(frames // session.config.action_repeat, updates, evaluated)
    return found


def _unevaluated(session: Session, saved: Checkpoint) -> set[int]:
    """The seeds whose evaluation at a checkpoint is still to be made, of those that have not failed."""
    sound = {number for number in saved.seeds if number not in session.failed}
    if "unevaluated" in saved.training:
        return sound
    done = saved.frames >= session.config.trained_frames and evaluated_last(session.config, saved.frames)
    # Where no seed waits to be trained on, the last checkpoint always comes before the last evaluation.
    if not done or len(sound) == len(saved.seeds):
        return set()
    with malformed(saved.path):
        table = saved.training["logs"][1][0]
        text = "" if isinstance(table, int) else table.get("text", "")  # earlier versions kept sizes alone
        return sound - {row["seed"] for row in rows_of(text.encode()) if row["env_step"] == saved.frames}


def _tell(session: Session, saved: Checkpoint) -> None:
    """Tells from where the run goes on, and with which seeds, if not with all."""
    for number, failure in session.failed.items():
        if number not in session.aside:
            session.reporter.message(f"seed {number} had failed, for good: {failure.reason}")
    if session.behind:
        numbers, several = sorted(session.behind), len(session.behind) > 1
        seeds = f"seeds {', '.join(map(str, numbers))}" if several else f"seed {numbers[0]}"
        session.reporter.message(
            f"{seeds} had stopped, and {'go' if several else 'goes'} on at {session.frames:,} frames "
            f"until {session.target * session.config.action_repeat:,}"
        )
    else:
        session.reporter.message(f"resumed from the checkpoint at {saved.frames:,} frames")


def _lost(session: Session, saved: Checkpoint) -> list[dict[str, Any]]:
    """Lists for the manifest what a checkpoint has lost of its replay, and reports it."""
    losses = []
    replays = {number: each.replay for number, each in session.aside.items()}
    replays |= {seed.number: seed.replay for seed in session.seeds}
    for number, segments in saved.lost.items():
        if not segments:
            continue
        rows = sum(segment["last"] - segment["first"] for segment in segments)
        losses.append({"frames": saved.progress(number)[0], "seed": number, "rows": rows})
        session.reporter.message(
            f"seed {number} goes on without {rows:,} rows of replay, which are damaged; "
            f"{len(replays[number]):,} transitions are left"
        )
    return losses


def _check_seeds(session: Session, saved: Checkpoint) -> None:
    """Raises UserError unless the run and the checkpoint have the same seeds."""
    named, there = set(session.config.options.seeds), {*saved.seeds, *session.failed}
    if named != there:
        raise UserError(
            f"{session.run.path / 'config.json'} names the seeds {sorted(named)}, and the checkpoint has "
            f"{sorted(there)}: put them back; for other seeds start a new run"
        )


def _aside(session: Session, saved: Checkpoint, seed: Seed, level: _Level) -> Aside:
    """A seed that does not train in this session, as the checkpoint has it."""
    state = _state(session, saved, seed)
    saved.fill(seed.number, seed.replay)
    seed.replay.load_priorities(state.plain.get("priorities"))
    return Aside(state, seed.replay, level.decisions, level.updates)


def _state(session: Session, saved: Checkpoint, seed: Seed) -> SeedState:
    like = {"state": session.initial_state(seed.number), "memory": session.algorithm.memory}
    state = saved.state(seed.number, like)
    check(state.plain, PlainState, f"{saved.path / 'manifest.json'}: seeds.{seed.number}.plain")
    lost = max((segment["last"] for segment in saved.lost[seed.number]), default=0)
    if state.plain.get("since", lost) < lost:  # decisions that led from the environment's state to the seed's
        state.plain["environment"] = None
    return state


def _restore_seeds(session: Session, saved: Checkpoint, level: _Level) -> None:
    """Restores this session's seeds, at this level; one whose environment fails at once stays as it is."""
    going, states, unknown = [], [], []
    for seed in session.seeds:
        with malformed(saved.path):
            state = _state(session, saved, seed)
            _load(session, saved, seed, state)
            try:
                _restore_environments(session, seed, state.plain)
            except EnvironmentFaultError as fault:
                reason = told(session, seed.number, fault)
                session.aside[seed.number] = Aside(state, seed.replay, level.decisions, level.updates)
                again = Failure(reason, session.frames, level.updates, unevaluated=not level.evaluated)
                _leave(session, seed.number, again)
                continue
        going.append(seed)
        states.append(state.learner["state"])
        if state.plain["environment"] is None and session.decisions:
            unknown.append(seed.number)
    session.seeds = going
    session.states = session.learner.states(states) if going else None
    if unknown:
        session.reporter.message(
            f"where the environment of seed {', '.join(map(str, unknown))} stood is not known: "
            "a new episode begins, and numbers differ from those of an undisturbed run"
        )


def _leave(session: Session, seed: int, failure: Failure) -> None:
    """Notes that a seed, which is aside by now, fails again before its first decision."""
    session.failed[seed] = failure
    session.behind.pop(seed, None)
    session.writer.outdate()
    session.reporter.message(f"seed {seed} fails again at {session.frames:,} frames: {failure.reason}")


def _load(session: Session, saved: Checkpoint, seed: Seed, state: SeedState) -> None:
    """Restores a seed without its environments."""
    plain = state.plain
    seed.load(plain)
    known = plain["environment"] is not None
    if known and seed.observation.shape != (session.spec.observation_size,):
        raise ValueError(f"its observation has the shape {list(seed.observation.shape)}")
    seed.memory = state.learner["memory"]
    saved.fill(seed.number, seed.replay)
    if seed.replay.end and not len(seed.replay):
        raise UserError(f"nothing is left of the replay of seed {seed.number}: start a new run")
    seed.replay.load_priorities(plain.get("priorities"))


def _restore_environments(session: Session, seed: Seed, plain: dict[str, Any]) -> None:
    """Restores the environments of a seed, or begins a new episode where that cannot be."""
    training, testing = (pool.environments[seed.index] for pool in (session.training, session.testing))
    known = plain["environment"] is not None
    if known:
        training.restore(plain["environment"])
    if not known or ("since" in plain and not retrace(session, seed, plain["since"])):
        start = integer(stream(seed.number, Stream.ENVIRONMENT, session.frames))
        seed.observation = session.training.reset(seed.index, start)
        training.adopt(plain.get("statistics", {}), fixed=False)
        known = False
    if plain["evaluation_environment"] is not None:
        testing.restore(plain["evaluation_environment"])
    if not known:  # the episode under way is lost; only now, since a seed that fails here keeps its replay
        seed.replay.end_episode()
        seed.memory = session.algorithm.recall(seed.memory, session.algorithm.memory)
