"""Stops seeds that failed, and keeps those that can be trained on once the fault is mended.

What is kept is the state after the last decision that was completed. Of the environment, which may have
changed since, it is the state in the last checkpoint; the decisions since then, which replay has, bring
another environment to where this one was (`retracing`).
"""

from __future__ import annotations  # JAX's types are loaded on first use

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from crossq_wn.environments import EnvironmentFaultError
from crossq_wn.environments.remote import Anywhere
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.errors import UserError
from crossq_wn.runs.checkpoints import Checkpoint, SeedState
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.training.seeds import Seed
from crossq_wn.training.session import Aside, Failure, Session, settle
from crossq_wn.types import Tree

World = dict[str, Any]  # of a seed: the states of its environments, and what their wrappers have learned


def drop(
    session: Session,
    reasons: Mapping[int, str],
    worlds: Mapping[int, World] | None = None,
    *,
    unevaluated: bool = False,
) -> None:
    """Stops seeds that failed. The others continue as if they had been alone.

    Args:
        session: is changed.
        reasons: why each one stops, by training seed; may be empty, or name some that have stopped already.
        worlds: of these seeds, where they are known.
        unevaluated: whether an evaluation has failed or is still to be made where they stop.
    """
    reasons = {seed.number: reasons[seed.number] for seed in session.seeds if seed.number in reasons}
    if not reasons:
        return
    settle(session)
    _keep(session, reasons, worlds)
    _note(session, reasons, unevaluated=unevaluated)
    going = [position for position, seed in enumerate(session.seeds) if seed.number not in reasons]
    if session.states is not None:
        session.states = session.learner.states(_only(session, session.states, going)) if going else None
    if session.metrics is not None:
        session.metrics = session.learner.join(_only(session, session.metrics, going)) if going else None
    session.feed = None  # it was joined over all seeds
    session.seeds = [session.seeds[position] for position in going]


def rewind(session: Session, seed: Seed) -> None:
    """Takes back what a seed drew and remembered for a decision that was not completed."""
    if session.decisions < session.config.settings.warmup:
        seed.warmup.bit_generator.advance(2**128 - session.spec.action_size)  # type: ignore[attr-defined]
    else:
        seed.memory = seed.earlier_memory


def _keep(session: Session, reasons: Mapping[int, str], worlds: Mapping[int, World] | None) -> None:
    """Keeps the seeds that stop for what can be mended; a robot's journal and checkpoint do that already."""
    if session.watch is not None:
        return
    parts = session.learner.split(session.states, len(session.seeds))
    for seed, state in zip(session.seeds, parts, strict=True):
        if seed.number in reasons and seed.number in session.causes:
            world = _world(session, seed) if worlds is None else worlds[seed.number]
            kept = SeedState({"state": state, "memory": seed.memory}, seed.save() | world)
            session.writer.outdate()
            session.aside[seed.number] = Aside(kept, seed.replay, session.decisions, session.updates)


def _note(session: Session, reasons: Mapping[int, str], *, unevaluated: bool) -> None:
    """Notes why seeds stop, and tells it, unless no seed is left: then the error that ends the run does."""
    good, lines = session.writer.present, []
    for seed, reason in reasons.items():
        if seed in session.aside:
            session.failed[seed] = Failure(reason, session.frames, session.updates, unevaluated)
            left = f"`crossq-wn resume {session.run.path}` trains it on once that is mended"
        else:
            session.failed[seed] = Failure(reason, good)
            kept = f"its last good state is in the checkpoint at {good} frames"  # where others may be ahead
            left = "no checkpoint yet" if good is None else kept
        lines.append(f"seed {seed} stopped at {session.frames:,} frames: {reason} ({left})")
    for line in lines if not session.lost else ():
        session.reporter.message(line)


def _world(session: Session, seed: Seed) -> World:
    """What is known of a seed's environments after a fault in one of them."""
    training, testing = (pool.environments[seed.index] for pool in (session.training, session.testing))
    world = {"statistics": {}, **_origin(session, seed)}
    with contextlib.suppress(EnvironmentFaultError):  # the process in which it was stepped has died
        world["statistics"] = training.statistics()
    with contextlib.suppress(EnvironmentFaultError):
        world["evaluation_environment"] = snapshot(session, testing)
    return world


def _origin(session: Session, seed: Seed) -> World:
    """The environments' states in the last checkpoint, and the row of replay that came next."""
    unknown: World = {"environment": None, "evaluation_environment": None}
    if session.writer.newest is None:
        return unknown
    try:
        saved = Checkpoint(session.writer.newest, with_replay=False)
        plain = saved.plain(seed.number)
    except (DamagedError, UserError, KeyError):
        return unknown
    since = plain.get("since", saved.end(seed.number))
    found = {name: plain[name] for name in unknown}
    if plain["environment"] is None or not seed.replay.begin <= since <= seed.replay.end:
        return found | {"environment": None}
    return found | {"since": since}


def snapshot(session: Session, environment: Anywhere) -> dict[str, Any] | None:
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


def _only(session: Session, joined: Any, positions: Sequence[int]) -> list[Tree]:
    """Selects the parts of joined trees that belong to the seeds at these positions."""
    parts = session.learner.split(joined, len(session.seeds))
    return [parts[position] for position in positions]
