"""Saves a training session as a checkpoint, and restores another session from one."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossq_wn.environments import EnvironmentFaultError
from crossq_wn.environments.attributes import written_by_user
from crossq_wn.environments.core import Environment
from crossq_wn.environments.holders import changes, holders_of
from crossq_wn.environments.interface import check_unchanged, describe
from crossq_wn.environments.remote import Anywhere
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.environments.streams import (
    capture_shared,
    drawn_since,
    out_of_reach,
    places,
    restore_shared,
    watch,
)
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint, SeedState
from crossq_wn.runs.checks import check
from crossq_wn.runs.manifests import malformed
from crossq_wn.runs.schema import PlainState
from crossq_wn.training.seeds import Seed, Stream, integer, stream
from crossq_wn.training.session import Failure, Session, drop, settle, told
from crossq_wn.types import Tree

World = dict[str, Any]  # of a seed: the states of its environments, and what their wrappers have learned


def save(session: Session, *, thorough: bool = False) -> None:
    """Writes a checkpoint of the remaining seeds. Seeds whose parameters are not finite stop first.

    Args:
        session: what is saved.
        thorough: whether all of replay on disk is verified, as at the end of training.

    Raises:
        UserError: the checkpoint cannot be written; the one before is untouched.
    """
    if not session.seeds:
        return
    settle(session)
    _tell_of_shared_streams(session)
    tell_of_what_classes_hold(session)
    learners = _sound_learners(session)
    worlds = captured(session)
    _write(session, learners, worlds, thorough=thorough)


def save_unevaluated(session: Session, worlds: Mapping[int, World], reasons: Mapping[int, str]) -> None:
    """Writes a checkpoint from which the evaluation that is under way can be made again.

    Args:
        session: what is saved.
        worlds: what `captured` returned before the evaluation, which has changed environments since.
        reasons: why the evaluation failed, by training seed.

    Raises:
        UserError: as `save` does.
    """
    settle(session)
    learners = _sound_learners(session)
    failed = {}
    for seed, reason in reasons.items():
        failed[str(seed)] = Failure(reason, session.frames)._asdict()
    _write(session, learners, worlds, unevaluated=failed)


def _sound_learners(session: Session) -> dict[int, Tree]:
    """The states of the remaining seeds' learners; seeds in which one is not finite stop."""
    if not session.seeds:
        return {}
    learners, reasons = {}, {}
    parts = session.learner.split(session.states, len(session.seeds))
    for seed, state in zip(session.seeds, parts, strict=True):
        learners[seed.number] = state
        if not _finite(state):
            reasons[seed.number] = "its parameters are no longer finite: training diverged"
    drop(session, reasons)
    return learners


def captured(session: Session) -> dict[int, World]:
    """The states of the remaining seeds' environments; seeds whose environments are lost stop."""
    worlds, reasons = {}, {}
    for seed in session.seeds:
        training = session.training.environments[seed.index]
        try:
            worlds[seed.number] = {
                "statistics": training.statistics(),
                "environment": _snapshot(session, training),
                "evaluation_environment": _snapshot(session, session.testing.environments[seed.index]),
            }
        except EnvironmentFaultError as fault:  # the process in which it was stepped has died
            reasons[seed.number] = told(session, seed.number, fault)
    drop(session, reasons)
    return worlds


def _write(
    session: Session,
    learners: Mapping[int, Tree],
    worlds: Mapping[int, World],
    unevaluated: Mapping[str, Any] | None = None,
    *,
    thorough: bool = False,
) -> None:
    """Writes what has been collected of the remaining seeds, and notes it for callbacks."""
    if not session.seeds:
        return
    states = {}
    for seed in session.seeds:
        learner = {"state": learners[seed.number], "memory": seed.memory}
        states[seed.number] = SeedState(learner, seed.save() | worlds[seed.number])
    common = _common(session) | ({} if unevaluated is None else {"unevaluated": unevaluated})
    replays = {seed.number: seed.replay for seed in session.seeds}
    # From these, the policies of seeds that have failed can still be loaded.
    keep = {failure.good for failure in session.failed.values() if failure.good is not None}
    before = session.writer.present
    session.writer.save(session.frames, common, states, replays, keep, thorough=thorough)
    if session.writer.present != before:
        path = session.run.checkpoints / f"{session.frames:09d}"
        session.calls.checkpoint(session.frames, str(path))


def _tell_of_shared_streams(session: Session) -> None:
    """Warns once if environments draw from random streams of the process, which seeds then share."""
    if session.shared is None or len(session.config.options.seeds) < 2 or not drawn_since(session.shared):
        return
    session.shared = None
    session.reporter.message(
        f"{session.config.task} draws from `random`, `numpy.random` or a generator of its class or module, "
        "which all seeds share: a seed among others is not the same as alone; draw from the environment's "
        "own self.np_random"
    )


def watch_classes(session: Session) -> None:
    """Remembers what the environments' classes and modules hold."""
    if users := _written_by_users(session):
        session.changes = changes(holders_of(users[0]))


def _written_by_users(session: Session) -> list[Any]:
    """The environments in this process that may share something, as those of the suites do not."""
    found = []
    for environment in [*session.training.environments, *session.testing.environments]:
        if isinstance(environment, Environment) and not environment.simulator.in_threads:
            found.append(written_by_user(environment.simulator))
    return found


def _watch_again(users: list[Any]) -> None:
    """Finds the generators of modules that environments have imported only when they were used."""
    if users:
        watch(users[-1])  # as last before


def _untold(session: Session, names: list[str]) -> list[str]:
    """Those of some names that no message has named before."""
    new = [name for name in names if name not in session.told_names]
    session.told_names.update(new)
    return new


def note_streams(session: Session) -> None:
    """Notes the shared streams as they are once seeds are set, or states restored."""
    session.shared, session.generators = capture_shared(), places()


def tell_of_what_classes_hold(session: Session) -> None:
    """Warns once of each number that an environment changes in its classes or modules, and of generators."""
    users = _written_by_users(session)
    _watch_again(users)
    if late := sorted(places() - session.generators):
        session.generators |= {*late}
        session.reporter.message(
            f"{session.config.task} made the random generators {', '.join(late)} after its seed was set: "
            "another run may differ; draw from self.np_random"
        )
    hidden = _untold(session, out_of_reach(users[0]) if users else [])
    if hidden:
        session.reporter.message(
            f"{session.config.task} holds random generators in {', '.join(hidden)}, where they are neither "
            "seeded nor saved: a resumed run may go on differently; draw from self.np_random"
        )
    changed = _untold(session, session.changes() if session.changes is not None else [])
    if changed:
        session.reporter.message(
            f"{session.config.task} changes {', '.join(changed)}, which all seeds share and no checkpoint "
            "holds: a resumed run may go on differently; keep it in the environment itself"
        )


def _common(session: Session) -> dict[str, Any]:
    """What all seeds have in common, as JSON values."""
    return {
        "config": session.config.to_json(),
        "decisions": session.decisions,
        "updates": session.updates,
        "failed": {str(seed): failure._asdict() for seed, failure in session.failed.items()},
        "logs": session.logs.positions(),
        "streams": capture_shared(),
        "interface": describe(session.training.environments[0].simulator),
    }


def _snapshot(session: Session, environment: Anywhere) -> dict[str, Any] | None:
    """The state of an environment; None, with a message the first time, if it cannot be captured."""
    try:
        return environment.snapshot()
    except UnrestorableError as reason:
        if not session.told_unrestorable:
            session.told_unrestorable = True
            session.reporter.message(
                f"{session.config.task} cannot be restored exactly ({reason}): "
                "a resumed run starts a fresh episode"
            )
        return None


def _finite(state: Tree) -> bool:
    for leaf in jax.device_get(jax.tree.leaves(state)):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            return False
    return True


def restore(session: Session, *, without_damaged_replay: bool = False) -> bool:
    """Restores a session from the newest sound checkpoint of its run.

    Args:
        session: a new one; it is changed.
        without_damaged_replay: whether to continue without rows of replay that are damaged beyond repair.

    Returns:
        Whether the evaluation at that checkpoint had failed, so that it is to be made again.

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
    session.writer.continue_from(saved)
    session.decisions, session.updates = common["decisions"], common["updates"]
    for number, entry in common["failed"].items():
        session.failed[int(number)] = Failure(**entry)
    _check_seeds(session, saved)
    going, states = [], []
    for seed in session.seeds:
        if failure := session.failed.get(seed.number):
            reporter.message(f"seed {seed.number} had failed: {failure.reason}")
        else:
            with malformed(saved.path):
                states.append(_restore_seed(session, saved, seed))
            going.append(seed)
    session.seeds = going
    if not going:
        raise UserError(f"every seed of {session.run.path} has failed: start a new run with other settings")
    session.states = session.learner.states(states)
    _watch_again(_written_by_users(session))
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
        told = "; ".join(differs)
        reporter.message(f"versions have changed ({told}): numbers may not continue bit for bit")
    reporter.message(f"resumed from the checkpoint at {session.frames:,} frames")
    return "unevaluated" in common


def _lost(session: Session, saved: Checkpoint) -> list[dict[str, Any]]:
    """Lists for the manifest what a checkpoint has lost of its replay, and reports it."""
    losses = []
    for seed in session.seeds:
        segments = saved.lost[seed.number]
        if not segments:
            continue
        rows = sum(segment["last"] - segment["first"] for segment in segments)
        losses.append({"frames": saved.frames, "seed": seed.number, "rows": rows})
        session.reporter.message(
            f"seed {seed.number} goes on without {rows:,} rows of replay, which are damaged; "
            f"{len(seed.replay):,} transitions are left"
        )
        if not len(seed.replay):
            raise UserError(f"nothing is left of the replay of seed {seed.number}: start a new run")
    return losses


def _check_seeds(session: Session, saved: Checkpoint) -> None:
    """Raises UserError unless the run and the checkpoint have the same seeds."""
    named, there = set(session.config.options.seeds), {*saved.seeds, *session.failed}
    if named != there:
        raise UserError(
            f"{session.run.path / 'config.json'} names the seeds {sorted(named)}, and the checkpoint has "
            f"{sorted(there)}: put them back; for other seeds start a new run"
        )


def _restore_seed(session: Session, saved: Checkpoint, seed: Seed) -> Tree:
    """Restores a seed and its environments; returns the state of its learner."""
    memory = session.algorithm.memory
    learner, plain = saved.state(seed.number, {"state": session.initial_state(seed.number), "memory": memory})
    check(plain, PlainState, f"{saved.path / 'manifest.json'}: seeds.{seed.number}.plain")
    seed.load(plain)
    if seed.observation.shape != (session.spec.observation_size,):
        raise ValueError(f"its observation has the shape {list(seed.observation.shape)}")
    seed.memory = learner["memory"]
    saved.fill(seed.number, seed.replay)
    seed.replay.load_priorities(plain.get("priorities"))
    if plain["environment"] is not None:
        session.training.environments[seed.index].restore(plain["environment"])
    else:  # the episode under way is lost
        seed.replay.end_episode()
        seed.memory = session.algorithm.recall(seed.memory, memory)
        start = integer(stream(seed.number, Stream.ENVIRONMENT, session.frames))
        seed.observation = session.training.reset(seed.index, start)
        session.training.environments[seed.index].adopt(plain.get("statistics", {}), fixed=False)
    if plain["evaluation_environment"] is not None:
        session.testing.environments[seed.index].restore(plain["evaluation_environment"])
    return learner["state"]
