"""How long gradient updates take: by themselves, with replay, the first one, and with diagnostics.

Run as a program, it prints the seconds of a first update, compilation included:

    python -m crossq_wn.bench.updates CONFIG.json
"""

from __future__ import annotations  # JAX's types are loaded on first use

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.bench.floor import Measure, seconds_per_call
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning import learner
from crossq_wn.learning.interface import Learner, States
from crossq_wn.learning.replay import Replay
from crossq_wn.learning.rows import random_batch
from crossq_wn.machine import collecting_seldom
from crossq_wn.runs.config import RunConfig, with_algorithm
from crossq_wn.training.algorithms import build_algorithm
from crossq_wn.training.building import make_environment, replay_bytes, spec_of
from crossq_wn.types import Algorithm, Sampling, Spec

_ROWS = 5_000  # rows of replay from which measured updates draw


@dataclass
class Trainee:
    """The learners of all seeds, which have replays of random transitions and are ready to make updates."""

    learn: Learner
    states: States
    pack: Callable[[], Any]  # draws one decision's minibatches, as training does
    utd: int
    seeds: int
    period: int  # decisions after which the pattern of work repeats
    stride: int  # by how much the count of updates grows, so that updates of all kinds are measured alike
    feed: Any = None
    done: int = 0  # count of gradient updates per seed

    def load(self) -> None:
        """Draws minibatches and sends them to the device."""
        self.feed = self.learn.load(self.feed, self.pack())

    def update(self) -> Any:
        """Makes the updates of one decision on the newest minibatches; returns their metrics."""
        self.states, metrics = self.learn.update(self.states, self.feed, self.done)
        self.done += self.stride
        return metrics

    def wait(self) -> None:
        """Returns once all updates are done."""
        jax.block_until_ready(self.states)  # type: ignore[no-untyped-call]


def trainee(algorithm: Algorithm, config: RunConfig, spec: Spec) -> Trainee:
    """Makes the learners of all seeds, and replays with random transitions.

    Args:
        algorithm: for one seed.
        config: gives the seeds, the UTD ratio and the batch size.
        spec: the problem, which decides the sizes of transitions.
    """
    seeds, settings = config.options.seeds, config.settings
    learn = learner.make(algorithm, len(seeds), replay_bytes(config, spec, algorithm.sampling.priorities))
    states = learn.states([algorithm.init(np.random.default_rng(seed)) for seed in seeds])
    generators = [np.random.default_rng(seed) for seed in seeds]
    replays = [_replay(generator, spec, algorithm.sampling) for generator in generators]

    def pack() -> Any:
        places = []
        for replay, generator in zip(replays, generators, strict=True):
            places.append(replay.draw(generator, settings.utd, settings.batch_size, algorithm.sampling))
        return learn.pack(replays, places)

    burst, utd = algorithm.burst, settings.utd  # where bursts recur, updates of one kind come many at once
    stride = burst.updates if burst.every else utd
    return Trainee(learn, states, pack, utd, len(seeds), algorithm.period, stride)


def _replay(generator: np.random.Generator, spec: Spec, sampling: Sampling) -> Replay:
    replay = Replay(_ROWS, spec.observation_size, spec.action_size, sampling.priorities)
    columns = map(np.asarray, random_batch(generator, spec, _ROWS)[:5])
    for observation, action, reward, _, following in zip(*columns, strict=True):
        replay.add(observation, action, reward, following, terminated=False, last=False)
    return replay


def updates(trained: Trainee) -> Measure:
    """Measures seconds per gradient update and seed, all seeds updating, on minibatches already loaded."""
    trained.load()
    # Rounds of `period` decisions, so that every round makes the same number of actor updates.
    each = trained.utd * trained.seeds
    return lambda budget: seconds_per_call(trained.update, budget, trained.period, trained.wait) / each


def fed_updates(trained: Trainee) -> Measure:
    """Measures updates with all that a peer's call does too: minibatches drawn and sent, metrics fetched."""

    def decision() -> None:
        trained.load()
        jax.device_get(trained.update())

    return lambda budget: seconds_per_call(decision, budget, trained.period) / (trained.utd * trained.seeds)


def diagnosis(trained: Trainee) -> Measure:
    """Measures seconds per diagnosis of one seed's critic, for an algorithm that has diagnostics."""
    trained.load()
    diagnose = trained.learn.diagnose
    assert diagnose is not None

    def once() -> None:
        diagnose(trained.states, trained.feed, 0)

    def measure(budget: float) -> float:
        once()  # compiles
        return seconds_per_call(once, budget / 2) / trained.seeds

    return measure


def first(trained: Trainee) -> float:
    """Measures the seconds of the first update, compilation included."""
    trained.load()
    start = time.perf_counter()
    trained.update()
    trained.wait()
    return time.perf_counter() - start


def first_cached(config: RunConfig) -> float:
    """Measures the first update in a new process, which finds compiled programs in this process's cache.

    Raises:
        UserError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "config.json"
        described.write_text(json.dumps(config.to_json()))
        command = [sys.executable, "-m", "crossq_wn.bench.updates", str(described)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the first update failed in a new process: {done.stderr.strip()}")
    return float(done.stdout.splitlines()[-1])


@collecting_seldom()
def main(path: Path) -> None:
    """Prints the seconds of the first update; the file holds a run's configuration as JSON."""
    config = with_algorithm(RunConfig.from_json(json.loads(path.read_text())))
    spec = problem_of(config)
    with jax.default_matmul_precision(config.options.matmul_precision):
        print(first(trainee(build_algorithm(config, spec), config, spec)))


def problem_of(config: RunConfig) -> Spec:
    """The problem that a run's environment poses; makes and closes the environment."""
    with closing(make_environment(config)) as environment:
        return spec_of(config, environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
