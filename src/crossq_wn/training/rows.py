"""Rows of metrics: what a training session records of every seed at intervals."""

from __future__ import annotations  # JAX's types are loaded on first use

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.acting.interface import LARGE
from crossq_wn.algorithms import loaded_recipe
from crossq_wn.environments.interface import far_outside
from crossq_wn.environments.remote import Anywhere
from crossq_wn.errors import option
from crossq_wn.lazy import jax
from crossq_wn.machine import resident_memory
from crossq_wn.training.reporting import doing, report
from crossq_wn.training.seeds import Seed
from crossq_wn.training.session import Session
from crossq_wn.training.stopping import drop
from crossq_wn.types import ERRORS, Metrics

# A metric has diverged beyond this, times the squares of the largest reward and of the largest observation.
_DIVERGED = 1e12
LARGE_REWARD = 1e4  # beyond this, in absolute value, rewards learn badly
_DISTANT, _SPREADS = 100, 30  # a mean beyond both, the latter in standard deviations, is far from 0
_LOOKED_AT = 100, 1_000  # transitions, at least and at most, in which such a mean is looked for

Numbers = dict[str, float]


def log(session: Session) -> None:
    """Writes a row of metrics per seed and a row of timing, and reports progress; diverged seeds stop."""
    jax.block_until_ready(session.states)  # type: ignore[no-untyped-call]  # rates count its updates too
    seeds = len(session.seeds)
    frames_rate, updates_rate = session.pace.rates(session.frames, session.updates)
    frames_rate, updates_rate = seeds * frames_rate, seeds * updates_rate
    metrics = _newest_metrics(session)
    session.stopwatch.lap("update")
    diagnostics = _diagnostics(session)
    session.stopwatch.lap("record")
    timed = _timed(session)
    rows, reasons = [], {}
    for seed, reported, diagnosed in zip(session.seeds, metrics, diagnostics, strict=True):
        environment = session.training.environments[seed.index]
        if wrong := _diverged(reported, environment):
            reasons[seed.number] = (
                f"{wrong} is {reported[wrong]} after {session.updates} gradient updates: "
                "training diverged; try a lower learning rate"
            )
        else:
            rows.append(_counters(session, seed) | reported | diagnosed | timed)
    drop(session, reasons)
    tell_of_large_numbers(session)
    tell_of_distant_numbers(session)
    _tell_of_numbers_outside(session)
    timing = {
        "frames": session.frames,
        "frames_per_second": round(frames_rate, 2),
        "updates_per_second": round(updates_rate, 2),
        "memory_mib": resident_memory() // 2**20,
        **session.stopwatch.per_decision(),
    }
    session.logs.metrics(rows, timing)
    session.rows = rows
    report(session)
    session.pace.begin_interval(session.frames, session.updates)


def _timed(session: Session) -> Numbers:
    """What a run in real time records of its timing since the last row."""
    if session.watch is None:
        return {}
    return session.watch.figures(session.decisions - session.config.settings.warmup, session.updates)


def _newest_metrics(session: Session) -> list[Numbers]:
    """The metrics of the newest gradient update, per seed; empty before the first update."""
    if session.metrics is None:
        return [{} for _ in session.seeds]
    return _numbers(session.learner.split(jax.device_get(session.metrics), len(session.seeds)))


def _diagnostics(session: Session) -> list[Numbers]:
    """The diagnostics of each seed's critic on its newest minibatch."""
    diagnose = session.learner.diagnose
    if session.feed is None or diagnose is None or not session.config.options.diagnostics:
        return [{} for _ in session.seeds]
    with nullcontext() if session.diagnosed else doing(session, "compiling"):
        session.diagnosed = True
        return _numbers(diagnose(session.states, session.feed, session.updates - 1))


def _numbers(found: list[Metrics]) -> list[Numbers]:
    """Converts metrics, already on the host, to Python's numbers, which files and reporters need."""
    numbers = []
    for metrics in found:
        numbers.append({name: float(value) for name, value in metrics.items() if name != ERRORS})
    return numbers


def _diverged(metrics: Numbers, environment: Anywhere) -> str | None:
    """The name of the first metric that is not finite, or too large for the environment's numbers."""
    scale = max(1.0, environment.largest_reward) * max(1.0, environment.largest_observation)
    for name, value in metrics.items():
        if not (math.isfinite(value) and abs(value) < _DIVERGED * scale * scale):
            return name
    return None


def tell_of_large_numbers(session: Session) -> None:
    """Warns once if rewards or observations are so large that networks learn badly from them."""
    if session.told_large:
        return
    large = math.inf if session.algorithm.normalises else LARGE
    recipe = loaded_recipe(session.config.system.algorithm)
    scaled = recipe is not None and recipe.critic(session.config.settings).scales_rewards
    remedy = f", or train with {option('normalise_observations')}"
    for seed in session.seeds:
        environment = session.training.environments[seed.index]
        for what, largest, limit, instead in (
            ("rewards", environment.largest_reward, math.inf if scaled else LARGE_REWARD, ""),
            ("observations", environment.largest_observation, large, remedy),
        ):
            if largest > limit:
                session.told_large = True
                session.reporter.message(
                    f"{session.config.task} has {what} up to {largest:.3g}: networks learn badly from "
                    f"numbers of this scale; divide its {what} by about {largest:.0e} for values near 1"
                    f"{instead}"
                )


class Distant(NamedTuple):
    """A number of an observation that lies far from 0 for how little it changes."""

    number: int  # its index
    mean: float
    spread: float  # the standard deviation


def distant(observations: np.ndarray) -> Distant | None:
    """Finds the number farthest from 0, if batch norm's running mean would take long to get there.

    Args:
        observations: float32 [n, observation_size].
    """
    mean, spread = observations.mean(0, dtype=np.float64), observations.std(0, dtype=np.float64)
    far = np.where(np.abs(mean) > np.maximum(_DISTANT, _SPREADS * spread), np.abs(mean), 0)
    index = int(np.argmax(far))
    return Distant(index, float(mean[index]), float(spread[index])) if far[index] else None


def tell_of_distant_numbers(session: Session) -> None:
    """Warns if the first seed's first observations lie far from 0 for how little they change."""
    if session.told_distant or session.told_large or session.algorithm.normalises:
        return
    for seed in session.seeds[:1]:
        replay = seed.replay
        begin = max(replay.begin, replay.common, replay.end - _LOOKED_AT[1])
        if replay.end - begin < _LOOKED_AT[0]:
            return
        session.told_distant = True  # if there is anything to tell
        if found := distant(replay.read(begin, replay.end).observation):
            session.reporter.message(
                f"{session.config.task} has an observation of {found.mean:,.4g} on average that differs by "
                f"{found.spread:.2g} only: networks learn badly from numbers so far from 0; subtract about "
                f"{found.mean:,.4g}, or train with {option('normalise_observations')}"
            )


def _tell_of_numbers_outside(session: Session) -> None:
    """Warns once if observations since the last row, which replay holds, lie far outside their space."""
    recent = 2 * max(1, session.config.options.log_every // session.config.action_repeat)
    for seed in session.seeds if not session.told_outside else ():
        replay = seed.replay
        rows = replay.read(max(replay.begin, replay.common, replay.end - recent), replay.end)
        outside = far_outside(rows.observation, session.training.environments[seed.index].simulator)
        if outside is not None:
            session.told_outside = True
            session.reporter.message(
                f"{session.config.task} returned {outside.example}, far outside: check the units, or widen "
                "the bounds if that is as it should be; training goes on"
            )
            return


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
