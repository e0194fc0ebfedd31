"""Saves a training session as a checkpoint, and restores another session from one."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossq_wn.environments import EnvironmentFaultError
from crossq_wn.environments.attributes import written_by_user
from crossq_wn.environments.core import Environment
from crossq_wn.environments.holders import changes, holders_of
from crossq_wn.environments.interface import bounds_of, describe
from crossq_wn.environments.streams import capture_shared, drawn_since, out_of_reach, places, watch
from crossq_wn.lazy import jax
from crossq_wn.runs.checkpoints import SeedState
from crossq_wn.training.session import Failure, Session, failures, settle, told
from crossq_wn.training.stopping import World, drop, snapshot
from crossq_wn.types import Tree


def save(session: Session, worlds: Mapping[int, World] | None = None, *, thorough: bool = False) -> None:
    """Writes a checkpoint of all seeds but lost ones. Seeds whose parameters are not finite stop first.

    Args:
        session: what is saved.
        worlds: what `captured` returned, if environments have changed since; by default they are captured.
        thorough: whether all of replay on disk is verified, as at the end of training.

    Raises:
        UserError: the checkpoint cannot be written; the one before is untouched.
    """
    settle(session)
    _tell_of_shared_streams(session)
    tell_of_what_classes_hold(session)
    learners = _sound_learners(session)
    _write(session, learners, captured(session) if worlds is None else worlds, thorough=thorough)


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
    session.unevaluated = bool(session.behind)
    session.writer.outdate()
    _write(session, learners, worlds, unevaluated=None if session.behind else failed)


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


def captured(session: Session, *, unevaluated: bool = False) -> dict[int, World]:
    """The states of the remaining seeds' environments; seeds whose environments are lost stop.

    Args:
        session: is changed.
        unevaluated: whether an evaluation is still to be made.
    """
    worlds, reasons = {}, {}
    begun = bool(session.frames) or not unevaluated  # the environments of evaluations, by the first one
    for seed in session.seeds:
        training, testing = (pool.environments[seed.index] for pool in (session.training, session.testing))
        try:
            worlds[seed.number] = {
                "statistics": training.statistics(),
                "environment": snapshot(session, training),
                "evaluation_environment": snapshot(session, testing) if begun else None,
            }
        except EnvironmentFaultError as fault:  # the process in which it was stepped has died
            reasons[seed.number] = told(session, seed.number, fault)
    drop(session, reasons, unevaluated=unevaluated)
    return worlds


def _write(
    session: Session,
    learners: Mapping[int, Tree],
    worlds: Mapping[int, World],
    unevaluated: Mapping[str, Any] | None = None,
    *,
    thorough: bool = False,
) -> None:
    """Writes what has been collected of the seeds, and notes it for callbacks."""
    decisions, _ = session.head
    if not (session.seeds or decisions):  # nothing has begun
        return
    states = {number: each.state for number, each in session.aside.items()}
    replays = {number: each.replay for number, each in session.aside.items()}
    for seed in session.seeds:
        learner = {"state": learners[seed.number], "memory": seed.memory}
        states[seed.number] = SeedState(learner, seed.save() | worlds[seed.number])
        replays[seed.number] = seed.replay
    states = {number: states[number] for number in session.config.options.seeds if number in states}
    common = _common(session) | ({} if unevaluated is None else {"unevaluated": unevaluated})
    frames, before = decisions * session.config.action_repeat, session.writer.stage
    stage = session.decisions if session.seeds else decisions
    session.writer.save(frames, common, states, replays, _needed(session), stage=stage, thorough=thorough)
    if session.writer.stage != before:
        session.calls.checkpoint(session.frames, str(session.writer.newest))


def _needed(session: Session) -> set[int]:
    """The frames of checkpoints from which the policies of seeds that have diverged can still be loaded."""
    stopped = session.failed.values()
    return {each.good for each in stopped if each.good is not None and each.updates is None}


def join(session: Session, worlds: Mapping[int, World] | None) -> None:
    """Writes a checkpoint in which seeds that were behind have caught up, with all rows in their order.

    Args:
        session: is changed.
        worlds: as in `save`.
    """
    if session.decisions >= session.head[0]:  # else others are further ahead
        session.behind.clear()
    write = session.logs.sort()
    session.writer.outdate()
    save(session, worlds, thorough=session.finished)
    write()


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
    if users := written_by_users(session):
        session.changes = changes(holders_of(users[0]))


def written_by_users(session: Session) -> list[Any]:
    """The environments in this process that may share something, as those of the suites do not."""
    found = []
    for environment in [*session.training.environments, *session.testing.environments]:
        if isinstance(environment, Environment) and not environment.simulator.in_threads:
            found.append(written_by_user(environment.simulator))
    return found


def watch_again(users: list[Any]) -> None:
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
    users = written_by_users(session)
    watch_again(users)
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
    decisions, updates = session.head
    simulator = session.training.environments[0].simulator
    return {
        "config": session.config.to_json(),
        "decisions": decisions,
        "updates": updates,
        "failed": failures(session),
        "logs": session.logs.positions(),
        "streams": capture_shared(),
        "interface": describe(simulator),
        "bounds": bounds_of(simulator),
    }


def _finite(state: Tree) -> bool:
    for leaf in jax.device_get(jax.tree.leaves(state)):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            return False
    return True
