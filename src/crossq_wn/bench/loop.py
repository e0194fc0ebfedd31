"""How fast is training here, and how near to what the machine can do? All measured in one run, in turns.

Speeds drift with heat and neighbours, so nothing is remembered: an update is compared with its own matrix
products, environments with their bare physics and a peer with us in alternating rounds; every figure is the
median of the rounds.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.algorithms.settings import Settings
from crossq_wn.bench import peers
from crossq_wn.environments import Environment
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning import learner
from crossq_wn.learning.replay import Replay, random_batch
from crossq_wn.machine import peak_memory, processors, use_compilation_cache
from crossq_wn.runs import directory
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.runs.system import System
from crossq_wn.training import api
from crossq_wn.training.loop import build_algorithm, make_environment, replay_capacity, run_training
from crossq_wn.training.stopwatch import PHASES
from crossq_wn.types import Algorithm

ROUNDS = 7
_LEAD = 0.3  # times the seconds of a round: not counted, before each measurement
_LOOPS = 3
_LOOP = 7  # times the seconds of a round: the whole training loop
_WARMUP = 300  # decisions before its first update
_ROWS = 5_000  # of replay behind updates that are measured alone
_IN_FLIGHT = 100  # products that an accelerator is given before anything waits

Figures = dict[str, Any]
Say = Callable[[str], None]
Measure = Callable[[float], float]  # seconds to spend -> seconds per call


class Product(NamedTuple):
    """One matrix product: the operands' shapes, and what `lax.dot_general` contracts and batches."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    dimensions: Any


def bench(config: RunConfig, say: Say, against: str | None = None, seconds: float = 0.7) -> Figures:
    """Measures a run's configuration; figures by name, times in ms or s, rates per second.

    Args:
        config: what to measure; its frames, evaluations and checkpoints do not matter.
        say: told what is being measured.
        against: a peer to measure in turn, "sbx" or nothing.
        seconds: of each thing measured, in each round.

    Raises UserError if a process that it starts fails.
    """
    with jax.default_matmul_precision(config.options.matmul_precision):
        return _bench(config, say, against, seconds)


def _bench(config: RunConfig, say: Say, against: str | None, seconds: float) -> Figures:
    say("starting twice in a process of its own: compilation, cold and with the persistent cache")
    figures = _first_updates(config)
    use_compilation_cache()
    environment = make_environment(config)
    sizes = environment.observation_size, environment.action_size
    environment.close()
    algorithm = build_algorithm(config, *sizes)
    update = _updates(algorithm, config, sizes)
    update(0.0)  # compiles
    say("the whole training loop")
    loops: list[Figures] = []
    over_updates: list[float] = []
    before = update(2 * seconds)
    for _ in range(_LOOPS):
        loops.append(_loop(config, before, _LOOP * seconds))
        after = update(2 * seconds)
        alone = (before + after) / 2 * config.settings.utd * len(config.options.seeds)
        over_updates.append(loops[-1]["decision_ms"] / 1e3 / alone)
        before = after
    capacity = replay_capacity(config)
    figures |= sorted(loops, key=lambda loop: loop["decision_ms"])[_LOOPS // 2] | _memory()
    figures["replay_mib"] = len(config.options.seeds) * Replay.bytes(capacity, *sizes) / 2**20
    figures["loop_over_updates"] = statistics.median(over_updates)
    crossq = replace(config, system=System("crossq"), settings=_crossq_of_equal_size(config.settings))
    with peers.start(against, crossq.settings, sizes, say) as peer, _environments(config) as environments:
        rivals: dict[str, Measure] = {
            "update": update,
            "floor": _floor(matrix_products(algorithm, config, sizes), len(config.options.seeds)),
            **environments,
        }
        if algorithm.view is not None:
            rivals["diagnosis"] = _diagnosis(algorithm, config, sizes)
        if peer is not None:
            if peer.device != jax.default_backend():
                say(f"{against} runs on {peer.device}, we on {jax.default_backend()}: do not compare them")
            rivals["crossq_update"] = _fed_updates(build_algorithm(crossq, *sizes), crossq, sizes)
            rivals[f"{against}_update"] = peer.measure
        for measure in rivals.values():
            measure(0.0)  # compiles, touches memory
        taken: dict[str, list[float]] = {name: [] for name in rivals}
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}: {', '.join(rivals)}")
            for name, measure in rivals.items():
                measure(_LEAD * seconds)  # threads of the one before, such as BLAS's, still wait actively
                taken[name].append(measure(seconds))
    median = {name: statistics.median(values) for name, values in taken.items()}
    count, frames = len(config.options.seeds), config.action_repeat * len(config.options.seeds)
    figures |= {
        "update_ms": 1e3 * median["update"],
        "floor_ms": 1e3 * median["floor"],
        "update_over_floor": _ratio(taken, "update", "floor"),
        "seed_updates_per_s": 1 / median["update"],
        "updates_per_s": 1 / median["update"] / count,
        "environment_frames_per_s": frames / median["environment"],
    }
    if "physics" in median:
        figures |= {
            "physics_frames_per_s": frames / median["physics"],
            "environment_over_physics": _ratio(taken, "environment", "physics"),
        }
    if against:
        figures |= {
            "crossq_update_ms": 1e3 * median["crossq_update"],
            f"{against}_update_ms": 1e3 * median[f"{against}_update"],
            f"crossq_speed_over_{against}": _ratio(taken, f"{against}_update", "crossq_update"),
            f"{against}_device": peer and peer.device,
        }
    if "diagnosis" in median:
        interval = config.options.log_every / config.action_repeat * config.settings.utd  # gradient updates
        figures["diagnostics_share"] = median["diagnosis"] / (interval * median["update"])
    return figures


def _memory() -> Figures:
    """Peaks so far."""
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "host_memory_mib": peak_memory() / 2**20,
        "device_memory_mib": on_device.get("peak_bytes_in_use", 0) / 2**20 or None,
    }


_MEANINGS = {
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


def describe(figures: Figures) -> list[list[str]]:
    """Rows for a person: figure, value, meaning."""
    rows = [[k, f"{figures[k]:.4g}", text] for k, text in _MEANINGS.items() if figures.get(k) is not None]
    split = {f"split.{name}": value for name, value in figures["split"].items()}
    return [*rows, *([k, f"{v:.4g}", "of a decision of the whole loop"] for k, v in split.items())]


def _crossq_of_equal_size(settings: Settings) -> Settings:
    """What peers implement, with the sizes of the settings measured."""
    shared = ("utd", "batch_size", "actor_width", "critic_width", "critics", "policy_delay")
    sizes = {name: getattr(settings, name) for name in shared if hasattr(settings, name)}
    return replace(preset_settings("crossq", "default"), **sizes)


def matrix_products(algorithm: Algorithm, config: RunConfig, sizes: tuple[int, int]) -> dict[Product, float]:
    """The matrix products of one gradient update and how often each is computed, read from its jaxpr.

    A branch of a condition is what the policy delay skips, and counts in that proportion.
    """
    horizon = (algorithm.horizon,) if algorithm.horizon > 1 else ()
    generator = np.random.default_rng(0)
    batch = random_batch(generator, *sizes, config.settings.batch_size, *horizon)
    state = algorithm.init(generator)
    jaxpr = jax.make_jaxpr(algorithm.update)(state, batch, np.int32(0)).jaxpr
    found: Counter[Product] = Counter()
    for product, times in _products(jaxpr, 1 / algorithm.period):
        found[product] += times  # type: ignore[assignment]
    return dict(found)


def _products(jaxpr: Any, branch: float) -> Iterator[tuple[Product, float]]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (variable.aval.shape for variable in equation.invars)
            yield Product(left, right, equation.params["dimension_numbers"]), 1.0
        times = {"cond": branch, "scan": equation.params.get("length", 1)}.get(equation.primitive.name, 1)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                for product, count in _products(getattr(inner, "jaxpr", inner), branch):
                    yield product, times * count


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")


class _Trainee(NamedTuple):
    """What updates need."""

    learn: learner.Learner
    states: learner.States
    pack: Callable[[], Any]  # draws one decision's minibatches, as training does


def _trainee(algorithm: Algorithm, config: RunConfig, sizes: tuple[int, int]) -> _Trainee:
    """All seeds' learners, and replays of random transitions."""
    seeds, settings = config.options.seeds, config.settings
    learn = learner.make(algorithm, len(seeds), Replay.bytes(replay_capacity(config), *sizes))
    states = learn.join([algorithm.init(np.random.default_rng(seed)) for seed in seeds])
    generators = [np.random.default_rng(seed) for seed in seeds]
    replays = [_replay(generator, sizes) for generator in generators]

    def pack() -> Any:
        places = [
            replay.draw(generator, settings.utd, settings.batch_size, horizon=algorithm.horizon)
            for replay, generator in zip(replays, generators, strict=True)
        ]
        return learn.pack(replays, places)

    return _Trainee(learn, states, pack)


def _replay(generator: np.random.Generator, sizes: tuple[int, int]) -> Replay:
    replay = Replay(_ROWS, *sizes)
    columns = map(np.asarray, random_batch(generator, *sizes, _ROWS))
    for observation, action, reward, _, following in zip(*columns, strict=True):
        replay.add(observation, action, reward, following, terminated=False, last=False)
    return replay


def _updates(algorithm: Algorithm, config: RunConfig, sizes: tuple[int, int]) -> Measure:
    """Seconds per gradient update of one seed, when all seeds update, on minibatches at hand."""
    learn, states, pack = _trainee(algorithm, config, sizes)
    utd, count = config.settings.utd, len(config.options.seeds)
    feed, done = learn.load(None, pack()), 0

    def decision() -> None:
        nonlocal states, done
        states, _ = learn.update(states, feed, done)
        done += utd

    def wait() -> None:
        jax.block_until_ready(states)  # type: ignore[no-untyped-call]

    # A multiple of the period, so that every round does the same work.
    return lambda budget: _seconds_per_call(decision, budget, algorithm.period, wait) / (utd * count)


def _fed_updates(algorithm: Algorithm, config: RunConfig, sizes: tuple[int, int]) -> Measure:
    """The same with all that a peer's call does: drawing and sending minibatches, fetching metrics."""
    learn, states, pack = _trainee(algorithm, config, sizes)
    utd, count = config.settings.utd, len(config.options.seeds)
    feed, done = None, 0

    def decision() -> None:
        nonlocal states, feed, done
        feed = learn.load(feed, pack())
        states, metrics = learn.update(states, feed, done)
        jax.device_get(metrics)
        done += utd

    return lambda budget: _seconds_per_call(decision, budget, algorithm.period) / (utd * count)


def _diagnosis(algorithm: Algorithm, config: RunConfig, sizes: tuple[int, int]) -> Measure:
    """Seconds per diagnosis of one seed's critic."""
    learn, states, pack = _trainee(algorithm, config, sizes)
    feed, diagnose = learn.load(None, pack()), learn.diagnose
    assert diagnose is not None
    return lambda budget: (
        _seconds_per_call(lambda: diagnose(states, feed, 0), budget / 2) / len(config.options.seeds)
    )


def _floor(products: dict[Product, float], seeds: int) -> Measure:
    """Seconds that the matrix products of one update of one seed take, on operands at hand.

    One seed's at a time on a CPU, where BLAS itself multiplies; all seeds' at once on accelerators.
    """
    on_cpu = jax.default_backend() == "cpu"
    measures = [
        (_by_blas(product) if on_cpu else _by_device(product, seeds), times)
        for product, times in products.items()
    ]
    return lambda budget: sum(times * measure(budget / len(measures)) for measure, times in measures)


def _by_blas(product: Product) -> Measure:
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal(s, np.float32) for s in (product.left, product.right))
    a, b = _as_matrices(left, right, product.dimensions)
    out = a @ b
    return lambda budget: _seconds_per_call(lambda: np.matmul(a, b, out=out), budget)


def _by_device(product: Product, seeds: int) -> Measure:
    generator = np.random.default_rng(0)
    x, y = jax.device_put(
        tuple(generator.standard_normal((seeds, *s), np.float32) for s in (product.left, product.right))
    )
    multiply = jax.jit(jax.vmap(lambda x, y: jax.lax.dot_general(x, y, product.dimensions)))
    newest = multiply(x, y)

    def call() -> None:
        nonlocal newest
        newest = multiply(x, y)

    def wait() -> None:
        jax.block_until_ready(newest)  # type: ignore[no-untyped-call]

    return lambda budget: _seconds_per_call(call, budget, _IN_FLIGHT, wait) / seeds


def _as_matrices(left: np.ndarray, right: np.ndarray, dimensions: Any) -> tuple[np.ndarray, np.ndarray]:
    (left_sum, right_sum), (left_batch, right_batch) = dimensions
    keep = [i for i in range(left.ndim) if i not in (*left_sum, *left_batch)]
    a = left.transpose(*left_batch, *keep, *left_sum)
    keep = [i for i in range(right.ndim) if i not in (*right_sum, *right_batch)]
    b = right.transpose(*right_batch, *right_sum, *keep)
    batch, inner = a.shape[: len(left_batch)], [left.shape[i] for i in left_sum]
    size = int(np.prod(inner))
    return a.reshape(*batch, -1, size), b.reshape(*batch, size, -1)


@contextmanager
def _environments(config: RunConfig) -> Iterator[dict[str, Measure]]:
    """Seconds per decision of all seeds' environments: as in training, and of their physics alone."""
    threads = min(processors(), len(config.options.seeds))
    played, bare = ([make_environment(config) for _ in config.options.seeds] for _ in range(2))
    pool, executor = Pool(played, threads), ThreadPoolExecutor(threads)
    indices, generator = list(range(len(config.options.seeds))), np.random.default_rng(0)
    for environment in (*played, *bare):
        environment.reset(0)

    def decide() -> None:
        actions = generator.uniform(-1, 1, (len(indices), played[0].action_size)).astype(np.float32)
        for index, result in zip(indices, pool.step(indices, actions), strict=True):
            if isinstance(result, Exception):
                raise result
            if result.episode is not None:
                pool.reset(index)

    generators = [np.random.default_rng(seed) for seed in config.options.seeds]
    ways: list[Callable[..., Any]] = [map] if threads == 1 else [map, executor.map]

    def advance(environment: Environment, generator: np.random.Generator) -> None:
        environment.simulator.physics.advance(config.action_repeat, generator)
        environment.frames += config.action_repeat
        if environment.frames >= (environment.episode_frames or 1000):
            environment.reset()

    measures: dict[str, Measure] = {"environment": lambda budget: _seconds_per_call(decide, budget)}
    if all(environment.simulator.physics is not None for environment in bare):

        def once(run: Callable[..., Any]) -> None:
            list(run(advance, bare, generators))

        # Whichever way is faster, as in training.
        measures["physics"] = lambda budget: min(
            _seconds_per_call(partial(once, run), budget / len(ways)) for run in ways
        )
    try:
        yield measures
    finally:
        executor.shutdown()
        pool.close()
        for environment in bare:
            environment.close()


def _seconds_per_call(
    call: Callable[[], Any], budget: float, multiple: int = 1, wait: Callable[[], Any] = lambda: None
) -> float:
    """The mean over about `budget` seconds of calls, and over a multiple of `multiple` calls."""
    wait()
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < budget:
        for _ in range(multiple):
            call()
        wait()
        done += multiple
    return (time.perf_counter() - start) / done


def _loop(config: RunConfig, update_seconds: float, seconds: float) -> Figures:
    """The real training loop in a temporary run directory, by its own stopwatch."""
    per_decision = update_seconds * config.settings.utd * len(config.options.seeds)
    decisions = max(30, int(seconds / per_decision)) // 6 * 6
    options = replace(
        config.options,
        frames=(_WARMUP + decisions) * config.action_repeat,
        eval_episodes=1,
        eval_every=10**9,
        checkpoint_every=10**9,
        log_every=decisions // 6 * config.action_repeat,
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
    laps = [{f"{phase}_ms": float(row[f"{phase}_ms"]) for phase in PHASES} for row in rows]
    decision = statistics.median(sum(lap.values()) for lap in laps)
    return {
        "frames_per_s": 1e3 * len(config.options.seeds) * config.action_repeat / decision,
        "decision_ms": decision,
        "split": {name: statistics.median(lap[name] for lap in laps) for name in laps[0]},
    }


def _first_updates(config: RunConfig) -> Figures:
    """Seconds of the first update, compilation included, in a new process; cold, then with the cache."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "config.json"
        described.write_text(json.dumps(config.to_json()))
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache")}
        for state in ("cold", "cached"):
            command = [sys.executable, "-m", "crossq_wn.bench.loop", str(described)]
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"a first update in a process of its own failed: {done.stderr.strip()}")
            figures[f"first_update_{state}_s"] = float(done.stdout.splitlines()[-1])
    return figures


def _first_update(path: Path) -> float:
    config = RunConfig.from_json(json.loads(path.read_text()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # type: ignore[no-untyped-call]
    environment = make_environment(config)
    sizes = environment.observation_size, environment.action_size
    algorithm = build_algorithm(config, *sizes)
    learn, states, pack = _trainee(algorithm, config, sizes)
    with jax.default_matmul_precision(config.options.matmul_precision):
        feed = learn.load(None, pack())
        start = time.perf_counter()
        states, _ = learn.update(states, feed, 0)
        jax.block_until_ready(states)  # type: ignore[no-untyped-call]
        return time.perf_counter() - start


def _ratio(taken: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the rounds' ratios: what drifts from round to round cancels."""
    return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))


if __name__ == "__main__":
    print(_first_update(Path(sys.argv[1])))
