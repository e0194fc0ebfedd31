"""How long gradient updates take: by themselves, with replay, the first one, and with diagnostics.

Run as a program, it prints the seconds of a first update, compilation included:

    python -m crossq_wn.bench.updates CONFIG.json
"""

from __future__ import annotations  # JAX's types are loaded on first use

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.bench.floor import Measure, seconds_per_call
from crossq_wn.errors import UserError, naming_options
from crossq_wn.lazy import jax
from crossq_wn.learning import learner
from crossq_wn.learning.replay import Replay, random_batch
from crossq_wn.machine import devices
from crossq_wn.runs.config import RunConfig, with_algorithm
from crossq_wn.training.building import build_algorithm, make_environment, replay_bytes, spec_of
from crossq_wn.training.fitting import check_fits
from crossq_wn.types import Algorithm, Spec

_REFUSED = 2  # the exit code of a process that names in a line what the user can mend
_ROWS = 5_000  # rows of replay from which measured updates draw


class Trainee(NamedTuple):
    """A learner that is ready to make updates."""

    learn: learner.Learner
    states: learner.States
    pack: Callable[[], Any]  # draws one decision's minibatches, as training does


def trainee(algorithm: Algorithm, config: RunConfig, spec: Spec) -> Trainee:
    """Makes the learners of all seeds, and replays with random transitions.

    Args:
        algorithm: for one seed.
        config: gives the seeds, the UTD ratio and the batch size.
        spec: the problem, which decides the sizes of transitions.
    """
    seeds, settings = config.options.seeds, config.settings
    learn = learner.make(algorithm, len(seeds), replay_bytes(config, spec))
    states = learn.join([algorithm.init(np.random.default_rng(seed)) for seed in seeds])
    generators = [np.random.default_rng(seed) for seed in seeds]
    replays = [_replay(generator, spec) for generator in generators]

    def pack() -> Any:
        places = []
        for replay, generator in zip(replays, generators, strict=True):
            drawn = replay.draw(generator, settings.utd, settings.batch_size, horizon=algorithm.horizon)
            places.append(drawn)
        return learn.pack(replays, places)

    return Trainee(learn, states, pack)


def _replay(generator: np.random.Generator, spec: Spec) -> Replay:
    replay = Replay(_ROWS, spec.observation_size, spec.action_size)
    columns = map(np.asarray, random_batch(generator, spec, _ROWS))
    for observation, action, reward, _, following in zip(*columns, strict=True):
        replay.add(observation, action, reward, following, terminated=False, last=False)
    return replay


def updates(algorithm: Algorithm, config: RunConfig, spec: Spec) -> Measure:
    """Measures seconds per gradient update and seed, with all seeds updating, on minibatches already loaded.

    Args:
        algorithm: for one seed.
        config: gives the seeds, the UTD ratio and the batch size.
        spec: the problem.
    """
    learn, states, pack = trainee(algorithm, config, spec)
    utd, count = config.settings.utd, len(config.options.seeds)
    feed, done = learn.load(None, pack()), 0

    def decision() -> None:
        nonlocal states, done
        states, _ = learn.update(states, feed, done)
        done += utd

    def wait() -> None:
        jax.block_until_ready(states)  # type: ignore[no-untyped-call]

    # Rounds of `period` decisions, so that every round makes the same number of actor updates.
    return lambda budget: seconds_per_call(decision, budget, algorithm.period, wait) / (utd * count)


def fed_updates(algorithm: Algorithm, config: RunConfig, spec: Spec) -> Measure:
    """Measures updates with all that a peer's call does too: minibatches drawn and sent, metrics fetched."""
    learn, states, pack = trainee(algorithm, config, spec)
    utd, count = config.settings.utd, len(config.options.seeds)
    feed, done = None, 0

    def decision() -> None:
        nonlocal states, feed, done
        feed = learn.load(feed, pack())
        states, metrics = learn.update(states, feed, done)
        jax.device_get(metrics)
        done += utd

    return lambda budget: seconds_per_call(decision, budget, algorithm.period) / (utd * count)


def diagnosis(algorithm: Algorithm, config: RunConfig, spec: Spec) -> Measure:
    """Measures seconds per diagnosis of one seed's critic, for an algorithm that has diagnostics."""
    learn, states, pack = trainee(algorithm, config, spec)
    feed, diagnose = learn.load(None, pack()), learn.diagnose
    assert diagnose is not None
    count = len(config.options.seeds)
    return lambda budget: seconds_per_call(lambda: diagnose(states, feed, 0), budget / 2) / count


def first_updates(config: RunConfig) -> dict[str, float]:
    """Measures the first update in a new process, compilation included: without and with the cache.

    Returns:
        Seconds: `first_update_cold_s` and `first_update_cached_s`.

    Raises:
        UserError: the process failed.
    """
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "config.json"
        described.write_text(json.dumps(config.to_json()))
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache")}
        for state in ("cold", "cached"):
            command = [sys.executable, "-m", "crossq_wn.bench.updates", str(described)]
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            if done.returncode == _REFUSED:
                raise UserError(done.stderr.strip())
            if done.returncode:
                raise UserError(f"the first update failed in a new process: {done.stderr.strip()}")
            figures[f"first_update_{state}_s"] = float(done.stdout.splitlines()[-1])
    return figures


def first_update(path: Path) -> float:
    """Measures the seconds of this process's first update.

    Args:
        path: a run's configuration as JSON.

    Raises:
        UserError: there is no device, the environment cannot be made, or the learners do not fit into memory.
    """
    config = with_algorithm(RunConfig.from_json(json.loads(path.read_text())))
    # Even the quickest compilations are cached, or the second process would not find all of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # type: ignore[no-untyped-call]
    devices()
    spec = problem_of(config)
    check_fits(config, spec)
    learn, states, pack = trainee(build_algorithm(config, spec), config, spec)
    with jax.default_matmul_precision(config.options.matmul_precision):
        feed = learn.load(None, pack())
        start = time.perf_counter()
        states, _ = learn.update(states, feed, 0)
        jax.block_until_ready(states)  # type: ignore[no-untyped-call]
        return time.perf_counter() - start


def problem_of(config: RunConfig) -> Spec:
    """The problem that a run's environment poses; makes and closes the environment."""
    with closing(make_environment(config)) as environment:
        return spec_of(config, environment)


if __name__ == "__main__":
    try:
        with naming_options():
            print(first_update(Path(sys.argv[1])))
    except UserError as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(_REFUSED)
