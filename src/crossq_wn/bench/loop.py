"""How fast training is here, and how near to what the machine can do.

Speeds drift with heat and neighbours, so nothing is remembered from run to run: an update is compared with
its own matrix products, environments with their bare physics and a peer with us in alternating rounds, and
every figure is the median of the rounds.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import csv
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.algorithms.settings import Settings
from crossq_wn.bench import peers
from crossq_wn.bench.floor import Measure, environments, floor
from crossq_wn.bench.updates import diagnosis, fed_updates, first_updates, problem_of, updates
from crossq_wn.lazy import jax
from crossq_wn.learning.products import work_of_update
from crossq_wn.machine import peak_memory, use_compilation_cache
from crossq_wn.runs import directory
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.runs.system import System
from crossq_wn.training import api
from crossq_wn.training.building import build_algorithm, replay_bytes
from crossq_wn.training.loop import run_training
from crossq_wn.training.stopwatch import PHASES
from crossq_wn.types import Algorithm, Spec

ROUNDS = 7
_LEAD = 0.3  # times the seconds of a round: not counted, before each measurement
_LOOPS = 3
_LOOP = 7  # times the seconds of a round: the whole training loop
_WARMUP = 300  # decisions before its first update
_ROWS = 6  # of metrics that the loop writes

Figures = dict[str, Any]
Say = Callable[[str], None]
Taken = dict[str, list[float]]  # what was measured -> seconds, in each round

MEANINGS = {
    "first_update_cold_s": "first update in a new process, compiled from nothing",
    "first_update_cached_s": "the same, from the persistent compilation cache",
    "update_ms": "one gradient update of one seed",
    "floor_ms": "its matrix products alone, at BLAS speed",
    "update_over_floor": "1 is the limit",
    "updates_per_s": "gradient updates per second, of each seed",
    "seed_updates_per_s": "gradient updates per second, all seeds together",
    "environment_frames_per_s": "environments alone, all seeds together",
    "physics_frames_per_s": "their physics alone",
    "environment_over_physics": "1 is the limit",
    "crossq_update_ms": "CrossQ of equal sizes, minibatches drawn from replay and metrics fetched",
    "sbx_update_ms": "sbx's CrossQ, likewise",
    "crossq_speed_over_sbx": "how many times faster than sbx",
    "diagnostics_share": "of the updates' time, at a row of metrics every 1,000 frames",
    "frames_per_s": "the whole training loop, all seeds together",
    "decision_ms": "one decision of the whole training loop",
    "loop_over_updates": "a decision over its updates alone, just before and after (median); 1 is the limit",
    "host_memory_mib": "peak of the training loop, whose replay is still almost empty",
    "device_memory_mib": "likewise, on the accelerator",
    "replay_mib": "replay of all seeds in the run asked for, when full",
}


def bench(config: RunConfig, say: Say, against: str | None = None, seconds: float = 0.7) -> Figures:
    """Measures how fast a configuration trains.

    Args:
        config: what to measure; its frames, evaluations and checkpoints do not matter.
        say: told what is being measured.
        against: a peer to measure in turn, "sbx" or nothing.
        seconds: to spend on each thing measured, in each round.

    Returns:
        Figures by name (`MEANINGS`): times in ms or s, rates per second.

    Raises:
        UserError: a process that was started for it failed.
    """
    with jax.default_matmul_precision(config.options.matmul_precision):
        say("starting twice in a process of its own: compilation, cold and with the persistent cache")
        figures: Figures = dict(first_updates(config))
        use_compilation_cache()
        spec = problem_of(config)
        algorithm = build_algorithm(config, spec)
        update = updates(algorithm, config, spec)
        update(0.0)  # compiles
        say("the whole training loop")
        figures |= _whole_loop(config, update, seconds) | _memory()
        figures["replay_mib"] = len(config.options.seeds) * replay_bytes(config, spec) / 2**20
        settings = _crossq_of_equal_size(config.settings)
        with peers.start(against, settings, spec, say) as peer, environments(config) as stepping:
            rivals = {"update": update} | _floor(algorithm, config, spec) | stepping
            if peer is not None:
                crossq = replace(config, system=System("crossq"), settings=settings)
                rivals["crossq_update"] = fed_updates(build_algorithm(crossq, spec), crossq, spec)
                rivals[f"{against}_update"] = peer.measure
                figures[f"{against}_device"] = peer.device
                if peer.device != jax.default_backend():
                    ours = jax.default_backend()
                    say(f"{against} runs on {peer.device}, we on {ours}: do not compare them")
            taken = _rounds(rivals, seconds, say)
    return figures | _speeds(taken, config) | _against(taken, against)


def describe(figures: Figures) -> list[list[str]]:
    """Returns rows for a person: figure, value, meaning."""
    rows = []
    for name, text in MEANINGS.items():
        if figures.get(name) is not None:
            rows.append([name, f"{figures[name]:.4g}", text])
    for name, value in figures["split"].items():
        rows.append([f"split.{name}", f"{value:.4g}", "of a decision of the whole loop"])
    return rows


def _floor(algorithm: Algorithm, config: RunConfig, spec: Spec) -> dict[str, Measure]:
    """An update's matrix products, and its diagnosis if it has one."""
    work = work_of_update(algorithm, spec, config.settings.batch_size)
    found = {"floor": floor(work.products, len(config.options.seeds))}
    if algorithm.view is not None:
        found["diagnosis"] = diagnosis(algorithm, config, spec)
    return found


def _rounds(rivals: Mapping[str, Measure], seconds: float, say: Say) -> Taken:
    """Measures all in turn, in each round."""
    for measure in rivals.values():
        measure(0.0)  # compiles, touches memory
    taken: Taken = defaultdict(list)
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}: {', '.join(rivals)}")
        for name, measure in rivals.items():
            measure(_LEAD * seconds)  # threads of the one before, such as BLAS's, still wait actively
            taken[name].append(measure(seconds))
    return taken


def _speeds(taken: Taken, config: RunConfig) -> Figures:
    """The figures of updates and environments."""
    median = {name: _median(values) for name, values in taken.items()}
    count = len(config.options.seeds)
    frames = config.action_repeat * count
    figures: Figures = {
        "update_ms": 1e3 * median["update"],
        "floor_ms": 1e3 * median["floor"],
        "update_over_floor": _ratio(taken, "update", "floor"),
        "seed_updates_per_s": 1 / median["update"],
        "updates_per_s": 1 / median["update"] / count,
        "environment_frames_per_s": frames / median["environment"],
    }
    if "physics" in median:
        figures["physics_frames_per_s"] = frames / median["physics"]
        figures["environment_over_physics"] = _ratio(taken, "environment", "physics")
    if "diagnosis" in median:
        updates_between = config.options.log_every / config.action_repeat * config.settings.utd
        figures["diagnostics_share"] = median["diagnosis"] / (updates_between * median["update"])
    return figures


def _against(taken: Taken, peer: str | None) -> Figures:
    """The figures beside a peer."""
    if peer is None:
        return {}
    theirs = f"{peer}_update"
    return {
        "crossq_update_ms": 1e3 * _median(taken["crossq_update"]),
        f"{theirs}_ms": 1e3 * _median(taken[theirs]),
        f"crossq_speed_over_{peer}": _ratio(taken, theirs, "crossq_update"),
    }


def _memory() -> Figures:
    """Peaks so far."""
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "host_memory_mib": peak_memory() / 2**20,
        "device_memory_mib": on_device.get("peak_bytes_in_use", 0) / 2**20 or None,
    }


def _crossq_of_equal_size(settings: Settings) -> Settings:
    """What peers implement, with the sizes of the settings measured."""
    shared = ("utd", "batch_size", "actor_width", "critic_width", "critics", "policy_delay")
    sizes = {name: getattr(settings, name) for name in shared if hasattr(settings, name)}
    return replace(preset_settings("crossq", "default"), **sizes)


def _whole_loop(config: RunConfig, update: Measure, seconds: float) -> Figures:
    """Trains a few times, and measures updates alone before and after each time."""
    loops: list[Figures] = []
    over_updates: list[float] = []
    before = update(2 * seconds)
    for _ in range(_LOOPS):
        loop = _train(config, before, _LOOP * seconds)
        after = update(2 * seconds)
        alone = (before + after) / 2 * config.settings.utd * len(config.options.seeds)
        over_updates.append(loop["decision_ms"] / 1e3 / alone)
        loops.append(loop)
        before = after
    loops.sort(key=lambda loop: loop["decision_ms"])
    return loops[_LOOPS // 2] | {"loop_over_updates": _median(over_updates)}


def _train(config: RunConfig, update_seconds: float, seconds: float) -> Figures:
    """Times the real training loop, in a temporary run directory, by its own stopwatch."""
    per_decision = update_seconds * config.settings.utd * len(config.options.seeds)
    decisions = max(30, int(seconds / per_decision)) // _ROWS * _ROWS
    options = replace(
        config.options,
        frames=(_WARMUP + decisions) * config.action_repeat,
        eval_episodes=1,
        eval_every=10**9,
        checkpoint_every=10**9,
        log_every=decisions // _ROWS * config.action_repeat,
        video=False,
        diagnostics=False,  # a row of metrics comes far more often here than in training
    )
    config = replace(config, options=options, settings=replace(config.settings, warmup=_WARMUP))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        outcome = run_training(config, lambda: directory.create(config, out, ["bench"]), api.Silent())
        if outcome.signal is not None:
            raise KeyboardInterrupt
        with open(outcome.path / "timing.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["updates_per_second"])]
    rows = rows[2:]  # before that, warm-up and compilation count in
    laps = {}  # phase -> milliseconds per decision, in each row [rows]
    for phase in PHASES:
        column = f"{phase}_ms"
        laps[column] = np.array([float(row[column]) for row in rows])
    decision = _median(np.sum(list(laps.values()), axis=0))
    return {
        "frames_per_s": 1e3 * len(config.options.seeds) * config.action_repeat / decision,
        "decision_ms": decision,
        "split": {name: _median(values) for name, values in laps.items()},
    }


def _ratio(taken: Taken, one: str, other: str) -> float:
    """The median of the rounds' ratios, in which what drifts from round to round cancels."""
    return _median(np.divide(taken[one], taken[other]))


def _median(values: Sequence[float] | np.ndarray) -> float:
    return float(np.median(values))
