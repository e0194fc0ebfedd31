"""The whole training loop, timed by its own stopwatch: as configured, and with next to nothing to do."""

from __future__ import annotations  # JAX's types are loaded on first use

import csv
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.bench import SECONDS
from crossq_wn.bench.figures import Figures, middle
from crossq_wn.bench.floor import Measure
from crossq_wn.bench.tracing import Trace
from crossq_wn.environments import TaskLike
from crossq_wn.runs import directory
from crossq_wn.runs.config import RunConfig
from crossq_wn.training import api
from crossq_wn.training.loop import run_training
from crossq_wn.training.progress import Status
from crossq_wn.training.stopwatch import PHASES

_LOOPS = 3  # times that the whole training loop is run, at most
_WARMUP = 300  # agent decisions before the loop's first update
_ROWS = 8  # rows of metrics that the loop writes; the first two are not counted, and the last is traced
_FREE = 12_000  # agent decisions of all seeds with an environment that costs nothing
_SMALL = ("critic_width", "actor_width", "width", "encoder_width", "latent_size", "batch_size")


class Loop(NamedTuple):
    """What one run of the training loop gave."""

    decision_ms: float
    split: dict[str, float]  # milliseconds per decision of each phase
    traced: Figures  # launches and transfers per decision


def whole_loop(config: RunConfig, update: Measure, seconds: float, limit: float) -> Figures:
    """Runs the training loop up to three times, with measurements of the updates alone in between.

    Args:
        config: what to train.
        update: measures one gradient update of one seed.
        seconds: for each measurement of the updates; a loop takes some times as many, and with fewer than
            `SECONDS` there are fewer loops.
        limit: seconds after which no other loop begins.
    """
    began = time.perf_counter()
    loops: list[Loop] = []
    over_updates: list[float] = []
    updates = config.updates_per_decision * len(config.options.seeds)
    most = max(1, round(_LOOPS * min(1.0, seconds / SECONDS)))
    before = update(seconds)
    while not loops or (len(loops) < most and time.perf_counter() - began < limit * len(loops) / most):
        # Two loops of which the second does not fit any more are worse than one that was given the time.
        loop = train(config, int(min(7 * seconds, limit / most) / (before * updates)))
        after = update(seconds)
        over_updates.append(loop.decision_ms / 1e3 / ((before + after) / 2 * updates))
        loops.append(loop)
        before = after
    loops.sort(key=lambda loop: loop.decision_ms)
    median = loops[len(loops) // 2]  # all figures of one loop, so that its split adds up to its decision
    return _figures(median, config) | {"loop_over_updates": middle(over_updates)}


def _figures(loop: Loop, config: RunConfig) -> Figures:
    frames = len(config.options.seeds) * config.action_repeat
    return {
        "frames_per_s": 1e3 * frames / loop.decision_ms,
        "decision_ms": loop.decision_ms,
        "split": loop.split,
        **loop.traced,
    }


def loop_overhead(config: RunConfig, seconds: float) -> Figures:
    """Measures a decision of the training loop with the least to do: what is left is the loop itself.

    Args:
        config: gives the algorithm and the seeds.
        seconds: for a measurement; with fewer, fewer decisions are made.
    """
    known = {field.name for field in fields(config.settings)}
    small: dict[str, int] = {name: 8 for name in _SMALL if name in known}
    settings = replace(config.settings, utd=1, **small)
    task = free_task()
    free = api.configure(task, algorithm=config.system.algorithm, seeds=config.options.seeds)
    options = replace(free.options, overlap=config.options.overlap)
    free = replace(free, system=config.system, settings=settings, options=options)
    loop = train(free, int(_FREE * min(1.0, seconds)) // len(config.options.seeds), task)
    return {"loop_overhead_ms": loop.decision_ms}


def free_task() -> Callable[[], Any]:
    """A task whose environments cost nothing: they always return the same, in short episodes.

    The loop evaluates its policy before and after what is timed, which takes as long as an episode does.
    """
    import gymnasium

    class Free(gymnasium.Env[np.ndarray, np.ndarray]):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        seen = np.zeros(3, np.float32)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
            self.steps = 0
            return self.seen, {}

        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            self.steps += 1
            return self.seen, 0.0, False, self.steps == 100, {}

    return Free


class _Watcher:
    """A reporter that traces the last row of metrics."""

    def __init__(self, first: int, frames_per_row: int) -> None:
        self._begin, self._end = first - frames_per_row, first
        self.trace: Trace | None = None

    def status(self, status: Status) -> None:
        """Begins the trace at the row before the last and ends it at the last."""
        if self.trace is None and status.phase == "training" and status.frames == self._begin:
            self.trace = Trace(status.decisions)
        elif self.trace is not None and status.frames == self._end:
            self.trace.end(status.decisions)

    def message(self, text: str) -> None:
        """Does nothing."""


def train(config: RunConfig, decisions: int, task: TaskLike | None = None) -> Loop:
    """Times the real training loop, in a temporary run directory.

    Args:
        config: what to train; its frames, intervals and warm-up do not matter.
        decisions: with updates, at least; a few more than asked for, so that every row has equally many.
        task: makes the environments, where the configuration's name of the task does not.
    """
    per_row = max(3, decisions // _ROWS)
    options = replace(
        config.options,
        frames=(_WARMUP + per_row * _ROWS) * config.action_repeat,
        eval_episodes=1,
        eval_every=10**9,
        checkpoint_every=10**9,
        log_every=per_row * config.action_repeat,
        video=False,
        diagnostics=False,  # rows of metrics are far more frequent here than in training
    )
    config = replace(config, options=options, settings=replace(config.settings, warmup=_WARMUP))
    watcher = _Watcher(_last_row(options.frames, options.log_every), options.log_every)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        outcome = run_training(config, lambda: directory.create(config, out, ["bench"]), watcher, task=task)
        if outcome.signal is not None:
            raise KeyboardInterrupt
        with open(outcome.path / "timing.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["updates_per_second"])]
    laps = {}  # phase -> milliseconds per decision, in each row [rows]
    for phase in PHASES:
        # The first rows include warm-up and compilation, the last one the trace.
        laps[f"{phase}_ms"] = np.array([float(row[f"{phase}_ms"]) for row in rows[2:-1]])
    decision = middle(np.sum(list(laps.values()), axis=0))
    split = {name: middle(values) for name, values in laps.items()}
    return Loop(decision, split, {} if watcher.trace is None else watcher.trace.figures())


def _last_row(frames: int, interval: int) -> int:
    """The environment frames of the last row of metrics."""
    return frames // interval * interval
