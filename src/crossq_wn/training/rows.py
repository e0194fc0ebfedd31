"""Rows of metrics: what a training session records of every seed, and what it tells its reporter."""

from __future__ import annotations  # JAX's types are loaded on first use

from typing import Any

from crossq_wn.lazy import jax
from crossq_wn.machine import resident_memory
from crossq_wn.training.progress import Status
from crossq_wn.training.seeds import Seed
from crossq_wn.training.session import Session, drop
from crossq_wn.types import Metrics

_DIVERGED = 1e12  # no task here has values near it

Numbers = dict[str, float]


def log(session: Session) -> None:
    """Writes a row per seed and one of the clock, and reports progress; seeds that have diverged stop."""
    jax.block_until_ready(session.states)  # type: ignore[no-untyped-call]  # rates count its updates too
    seeds = len(session.seeds)
    frames_rate, updates_rate = session.pace.rates(session.frames, session.updates)
    frames_rate, updates_rate = seeds * frames_rate, seeds * updates_rate
    metrics = _newest_metrics(session)
    session.stopwatch.lap("update")
    diagnostics = _diagnostics(session)
    session.stopwatch.lap("record")
    rows, reasons = [], {}
    for seed, reported, diagnosed in zip(session.seeds, metrics, diagnostics, strict=True):
        if wrong := _diverged(reported):
            reasons[seed.number] = (
                f"{wrong} is {reported[wrong]} after {session.updates} gradient updates: "
                "training diverged; try a lower learning rate"
            )
        else:
            rows.append(_counters(session, seed) | reported | diagnosed)
    drop(session, reasons)
    timing = {
        "frames": session.frames,
        "frames_per_second": round(frames_rate, 2),
        "updates_per_second": round(updates_rate, 2),
        "memory_mib": resident_memory() // 2**20,
        **session.stopwatch.per_decision(),
    }
    session.logs.metrics(rows, timing)
    session.reporter.status(_status(session, rows, frames_rate, updates_rate))
    session.pace.begin_interval(session.frames, session.updates)


def _newest_metrics(session: Session) -> list[Numbers]:
    """What the newest gradient update reported, per seed; nothing before the first one."""
    if session.metrics is None:
        return [{} for _ in session.seeds]
    return _numbers(session.learner.split(jax.device_get(session.metrics), len(session.seeds)))


def _diagnostics(session: Session) -> list[Numbers]:
    """The diagnostics of each seed's critic on its newest minibatch."""
    diagnose = session.learner.diagnose
    if session.feed is None or diagnose is None or not session.config.options.diagnostics:
        return [{} for _ in session.seeds]
    return _numbers(diagnose(session.states, session.feed, session.updates - 1))


def _numbers(found: list[Metrics]) -> list[Numbers]:
    return [{name: float(value) for name, value in metrics.items()} for metrics in found]


def _diverged(metrics: Numbers) -> str | None:
    """The first metric that is not a number or far beyond all that training brings about."""
    for name, value in metrics.items():
        if not abs(value) < _DIVERGED:
            return name
    return None


def _counters(session: Session, seed: Seed) -> dict[str, Any]:
    return {
        "seed": seed.number,
        "frames": session.frames,
        "decisions": session.decisions,
        "updates": session.updates,
        "episodes": seed.episodes,
        "resets": seed.resets,
        **seed.last_episode,
    }


def _status(session: Session, rows: list[dict[str, Any]], frames_rate: float, updates_rate: float) -> Status:
    config, evaluations = session.config, {}
    for seed in session.seeds:
        if seed.evaluation is not None:
            evaluations[seed.number] = seed.evaluation
    return Status(
        frames=session.frames,
        total_frames=config.decisions * config.action_repeat,
        decisions=session.decisions,
        updates=session.updates,
        frames_per_second=frames_rate,
        updates_per_second=updates_rate,
        rows=rows,
        evaluations=evaluations,
        metric=config.metric,
        seconds_left=session.pace.seconds_left(session.decisions, session.updates, config.decisions),
    )
