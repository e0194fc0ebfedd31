"""How fast training is on this machine, and how close to what the machine can do.

Speeds drift with heat and with other processes, so no figure is kept from run to run. An update is compared
with its own matrix products, environments with their bare physics, and a peer with this package, in
alternating rounds; every figure is the median of the rounds.
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
from crossq_wn.machine import peak_memory, use_jax
from crossq_wn.runs import directory
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.runs.system import System
from crossq_wn.training import api
from crossq_wn.training.building import build_algorithm, replay_bytes
from crossq_wn.training.loop import run_training
from crossq_wn.training.stopwatch import PHASES
from crossq_wn.types import Algorithm, Spec

ROUNDS = 7
_LEAD = 0.3  # an uncounted lead before each measurement, as a multiple of its seconds
_LOOPS = 3  # times that the whole training loop is run
_LOOP = 7  # the duration of such a loop, as a multiple of a measurement's seconds
_WARMUP = 300  # agent decisions before the loop's first update
_ROWS = 6  # rows of metrics that the loop writes

Figures = dict[str, Any]
Say = Callable[[str], None]
Taken = dict[str, list[float]]  # what was measured -> seconds, in each round

MEANINGS = {
    "first_update_cold_s": "first update in a new process, without the compilation cache",
    "first_update_cached_s": "first update in a new process, with the compilation cache",
    "update_ms": "one gradient update of one seed",
    "floor_ms": "the matrix products of one update alone, at BLAS or device speed",
    "update_over_floor": "update over its matrix products; 1 is the limit",
    "updates_per_s": "gradient updates per second, of each seed",
    "seed_updates_per_s": "gradient updates per second, all seeds together",
    "environment_frames_per_s": "environment frames per second without learning, all seeds together",
    "physics_frames_per_s": "environment frames per second of the physics alone, all seeds together",
    "environment_over_physics": "environment over its physics; 1 is the limit",
    "crossq_update_ms": "CrossQ of equal sizes, with minibatches drawn from replay and metrics fetched",
    "sbx_update_ms": "sbx's CrossQ, with minibatches drawn from replay and metrics fetched",
    "crossq_speed_over_sbx": "how many times as fast as sbx",
    "diagnostics_share": "time for diagnostics, as a share of the time for updates",
    "frames_per_s": "environment frames per second of the whole training loop, all seeds together",
    "decision_ms": "one decision of the whole training loop",
    "loop_over_updates": "a decision of the loop over its updates alone; 1 is the limit",
    "host_memory_mib": "peak memory of the training loop, with an almost empty replay",
    "device_memory_mib": "peak memory on the accelerator",
    "replay_mib": "full replay of all seeds, as configured",
}


def bench(config: RunConfig, say: Say, against: str | None = None, seconds: float = 0.7) -> Figures:
    """Measures how fast a configuration trains.

    Args:
        config: what to measure; its frames, evaluations and checkpoints do not matter.
        say: is told what is being measured.
        against: a peer to compare with, such as "sbx", or None.
        seconds: to spend on each measurement in each round.

    Returns:
        Figures by name (see `MEANINGS`): times in ms or s, rates per second. A ratio that cannot be true is
        None; `disturbed` holds sentences on what shows that something else kept the machine busy.

    Raises:
        UserError: a process that was started for a measurement failed.
    """
    with jax.default_matmul_precision(config.options.matmul_precision):
        say("the first update in new processes, without and with the compilation cache")
        figures: Figures = dict(first_updates(config))
        use_jax()
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
                    say(f"{against} runs on the {peer.device} and we on the {ours}: do not compare the two")
            taken = _rounds(rivals, seconds, say)
    figures |= _speeds(taken, config) | _against(taken, against)
    return figures | doubts(figures, taken)


def duration(seconds: float, against: str | None) -> float:
    """About how long a bench takes, in seconds, besides compilations and installing a peer.

    Args:
        seconds: to spend on each measurement in each round.
        against: a peer to compare with, or None.
    """
    rivals = 4 if against is None else 6  # an update, its products, the environments and their physics
    loops = 2 + _LOOPS * (_LOOP + 2)
    return seconds * (ROUNDS * (1 + _LEAD) * rivals + loops)


def describe(figures: Figures) -> list[list[str]]:
    """Rows for a table: figure, value, meaning."""
    rows = []
    for name, text in MEANINGS.items():
        if figures.get(name) is not None:
            rows.append([name, f"{figures[name]:.4g}", text])
    for name, value in figures["split"].items():
        rows.append([f"split.{name}", f"{value:.4g}", "part of a decision of the whole training loop"])
    return rows


def _floor(algorithm: Algorithm, config: RunConfig, spec: Spec) -> dict[str, Measure]:
    """Measures of an update's matrix products, and of its diagnostics if the algorithm has any."""
    work = work_of_update(algorithm, spec, config.settings.batch_size)
    found = {"floor": floor(work.products, len(config.options.seeds))}
    if algorithm.view is not None:
        found["diagnosis"] = diagnosis(algorithm, config, spec)
    return found


def _rounds(rivals: Mapping[str, Measure], seconds: float, say: Say) -> Taken:
    """Measures each of them in turn, round after round."""
    for measure in rivals.values():
        measure(0.0)  # compiles, touches memory
    taken: Taken = defaultdict(list)
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}: {', '.join(rivals)}")
        for name, measure in rivals.items():
            # Threads of the previous measurement, such as those of BLAS, still spin for a while.
            measure(_LEAD * seconds)
            taken[name].append(measure(seconds))
    return taken


def _speeds(taken: Taken, config: RunConfig) -> Figures:
    """The figures about updates and environments."""
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


# A ratio and what it compares with its limit.
_LIMITS = {
    "update_over_floor": "an update took {:.3g} of the time of its own matrix products",
    "environment_over_physics": "the environments took {:.3g} of the time of their own physics",
    "loop_over_updates": "the training loop took {:.3g} of the time of its own updates",
}
_IMPOSSIBLE = 0.9  # a ratio to a limit below this is no chance
_UNSTEADY = 0.3  # a spread of equal measurements, between quartiles and over the median, that is not noise


def doubts(figures: Figures, taken: Taken) -> Figures:
    """What shows that the limits, and so the ratios to them, were measured on a busy machine.

    Args:
        figures: what was found.
        taken: the measurements behind it, in seconds, by round.

    Returns:
        `disturbed`, sentences; and None for each ratio that cannot be true.
    """
    found: Figures = {}
    sentences = []
    for name, text in _LIMITS.items():
        ratio = figures.get(name)
        # An accelerator takes the products of a whole update together, and so may beat single ones.
        if ratio is not None and ratio < _IMPOSSIBLE and jax.default_backend() == "cpu":
            found[name] = None
            sentences.append(text.format(ratio))
    for name in ("floor", "physics"):
        if name in taken:
            low, middle, high = np.percentile(taken[name], (25, 50, 75))
            if (spread := (high - low) / middle) > _UNSTEADY:
                sentences.append(f"the middle half of the measurements of {name} spreads over {spread:.0%}")
    return found | {"disturbed": sentences}


def _against(taken: Taken, peer: str | None) -> Figures:
    """The figures about a peer."""
    if peer is None:
        return {}
    theirs = f"{peer}_update"
    return {
        "crossq_update_ms": 1e3 * _median(taken["crossq_update"]),
        f"{theirs}_ms": 1e3 * _median(taken[theirs]),
        f"crossq_speed_over_{peer}": _ratio(taken, theirs, "crossq_update"),
    }


def _memory() -> Figures:
    """The peak memory of this process so far."""
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "host_memory_mib": peak_memory() / 2**20,
        "device_memory_mib": on_device.get("peak_bytes_in_use", 0) / 2**20 or None,
    }


def _crossq_of_equal_size(settings: Settings) -> Settings:
    """Settings of CrossQ, which peers implement too, with the sizes of the given settings."""
    shared = ("utd", "batch_size", "actor_width", "critic_width", "critics", "policy_delay")
    sizes = {name: getattr(settings, name) for name in shared if hasattr(settings, name)}
    return replace(preset_settings("crossq", "default"), **sizes)


def _whole_loop(config: RunConfig, update: Measure, seconds: float) -> Figures:
    """Runs the training loop a few times, with measurements of the updates alone in between."""
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
    # All figures of the median loop, so that its split adds up to its decision.
    return loops[_LOOPS // 2] | {"loop_over_updates": _median(over_updates)}


def _train(config: RunConfig, update_seconds: float, seconds: float) -> Figures:
    """Times the real training loop by its own stopwatch, in a temporary run directory."""
    per_decision = update_seconds * config.settings.utd * len(config.options.seeds)
    decisions = max(30, int(seconds / per_decision)) // _ROWS * _ROWS  # equally many for each row of metrics
    options = replace(
        config.options,
        frames=(_WARMUP + decisions) * config.action_repeat,
        eval_episodes=1,
        eval_every=10**9,
        checkpoint_every=10**9,
        log_every=decisions // _ROWS * config.action_repeat,
        video=False,
        diagnostics=False,  # rows of metrics are far more frequent here than in training
    )
    config = replace(config, options=options, settings=replace(config.settings, warmup=_WARMUP))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        outcome = run_training(config, lambda: directory.create(config, out, ["bench"]), api.Silent())
        if outcome.signal is not None:
            raise KeyboardInterrupt
        with open(outcome.path / "timing.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["updates_per_second"])]
    rows = rows[2:]  # the first rows include warm-up and compilation
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
    """The median of the ratios within each round, which cancel what drifts between rounds."""
    return _median(np.divide(taken[one], taken[other]))


def _median(values: Sequence[float] | np.ndarray) -> float:
    return float(np.median(values))
