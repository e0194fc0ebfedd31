"""How does training go, decision by decision? Act, step, store, update; now and then evaluate and save.

One loop serves every algorithm, a fresh run and a resumed one. What it carries between decisions is either
in a `Seed`, in the learner's states, or counted by `Progress`; all of it is in every checkpoint.
"""

from __future__ import annotations  # JAX's types are loaded on first use

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.algorithms import ALGORITHMS, registered
from crossq_wn.environments import Environment, EnvironmentFaultError, TaskLike, Transition, make
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.snapshot import UnrestorableError
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning import learner
from crossq_wn.learning.evaluation import evaluate
from crossq_wn.learning.q_bias import q_bias
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import check_memory, processors, resident_memory
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.directory import RunDirectory
from crossq_wn.training.logs import Logs
from crossq_wn.training.stopwatch import Stopwatch
from crossq_wn.types import Algorithm, Metrics, Spec, Tree

# Named random streams; each training seed spawns its own, so seed k is the same alone and among ten.
_ENVIRONMENT, _WARMUP, _REPLAY, _EVALUATION, _LEARNER = range(5)
_Q_BIAS = 6  # 5 is `trained._FRESH`
_DIVERGED = 1e12  # no task here has values near it


class Status(NamedTuple):
    """What a progress display shows; rates are over the last interval."""

    frames: int
    total_frames: int
    decisions: int
    updates: int
    frames_per_second: float  # all seeds together
    updates_per_second: float  # all seeds together
    rows: list[dict[str, Any]]  # the newest row of metrics of each seed
    evaluations: dict[int, float]  # by seed: the newest evaluation
    metric: str
    seconds_left: float | None  # at the pace since gradient updates began; None before


class Reporter(Protocol):
    """Where progress goes."""

    def status(self, status: Status) -> None:
        """Called once per interval."""

    def message(self, text: str) -> None:
        """Called for what happens rarely."""


class Outcome(NamedTuple):
    """How a call of `run_training` ended."""

    path: Path
    frames: int
    finished: bool
    signal: int | None  # what stopped it before its end
    failed: dict[int, str]  # by seed: why it stopped


@dataclass
class Progress:
    """Counters that all seeds share."""

    decisions: int = 0
    updates: int = 0


@dataclass
class Seed:
    """What one training seed carries besides its learner's state and its environment."""

    seed: int
    index: int  # of its environment in the pools
    replay: Replay
    warmup: np.random.Generator
    sampling: np.random.Generator
    observation: np.ndarray
    episodes: int = 0
    last_episode: dict[str, Any] = field(default_factory=dict)
    evaluation: float | None = None
    resets: int = 0
    memory: Tree = ()  # what acting remembers of the present episode

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "warmup": self.warmup.bit_generator.state,
            "sampling": self.sampling.bit_generator.state,
            "observation": self.observation,
            "episodes": self.episodes,
            "last_episode": self.last_episode,
            "evaluation": self.evaluation,
            "resets": self.resets,
        }

    def load(self, plain: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.warmup.bit_generator.state = plain["warmup"]
        self.sampling.bit_generator.state = plain["sampling"]
        self.observation = plain["observation"]
        self.episodes, self.last_episode = plain["episodes"], plain["last_episode"]
        self.evaluation, self.resets = plain["evaluation"], plain["resets"]


def stream(seed: int, name: int, count: int = 0) -> np.random.SeedSequence:
    """The named random stream of a training seed."""
    return np.random.SeedSequence(seed, spawn_key=(name, count))


def integer(sequence: np.random.SeedSequence) -> int:
    """A seed for libraries that want a small integer."""
    return int(sequence.generate_state(1)[0] >> 1)


def build_algorithm(config: RunConfig, observation_size: int, action_size: int) -> Algorithm:
    """The algorithm of a run."""
    spec = Spec(observation_size, action_size, config.discount)
    return ALGORITHMS[registered(config.system.algorithm)].build(spec, config.settings)


def make_environment(config: RunConfig, task: TaskLike | None = None, *, render: bool = False) -> Environment:
    """An environment of a run; `task` stands in for a name that cannot be imported."""
    return make(
        task or config.task,
        action_repeat=config.action_repeat,
        episode_frames=config.episode_frames,
        terminations=config.options.terminations,
        render=render,
    )


def replay_capacity(config: RunConfig) -> int:
    """Rows of each seed's replay: what is asked for, but no more than the run can fill."""
    # A transition is a row, and so is the end of an episode: two per decision at the very most.
    return min(config.settings.replay_size, 2 * config.decisions)


def run_training(
    config: RunConfig,
    open_run: Callable[[], RunDirectory],
    reporter: Reporter,
    *,
    resume: bool = False,
    task: TaskLike | None = None,
) -> Outcome:
    """Trains until the run's frames are done, a signal arrives or every seed has failed.

    The run directory is opened last, so that what cannot start leaves nothing behind.

    Raises UserError for what the user can mend (see `errors`).
    """
    seeds_count, threads = len(config.options.seeds), processors()
    training = Pool([make_environment(config, task) for _ in config.options.seeds], threads)
    try:
        sizes = training.environments[0].observation_size, training.environments[0].action_size
        if config.options.q_bias and build_algorithm(config, *sizes).appraise is None:
            raise UserError(f"--q-bias: {config.system.algorithm} has no critics to ask; leave it out")
        capacity = replay_capacity(config)
        needed = check_memory(capacity, Replay.bytes(capacity, *sizes), seeds_count)
        reporter.message(f"replay: up to {needed / 2**20:,.0f} MiB for {seeds_count} seed(s)")
        testing = Pool([make_environment(config, task) for _ in config.options.seeds], threads)
        try:
            run = open_run()
            try:
                with jax.default_matmul_precision(config.options.matmul_precision):  # programs are kept by it
                    trainer = _Trainer(config, run, reporter, training, testing, capacity)
                    with _signals() as received:
                        return trainer.train(received, resume)
            finally:
                run.close()
        finally:
            testing.close()
    finally:
        training.close()


class _Trainer:
    """The state of one call of `run_training`."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        reporter: Reporter,
        training: Pool,
        testing: Pool,
        capacity: int,
    ) -> None:
        self.config, self.run, self.reporter = config, run, reporter
        self.training, self.testing = training, testing
        self.sizes = training.environments[0].observation_size, training.environments[0].action_size
        self.algorithm = build_algorithm(config, *self.sizes)
        self.learner = learner.make(
            self.algorithm, len(config.options.seeds), Replay.bytes(capacity, *self.sizes)
        )
        self.progress = Progress()
        self.seeds = [
            Seed(
                seed,
                index,
                Replay(capacity, *self.sizes),
                np.random.default_rng(stream(seed, _WARMUP)),
                np.random.default_rng(stream(seed, _REPLAY)),
                np.zeros(self.sizes[0], np.float32),
                memory=self.algorithm.memory,
            )
            for index, seed in enumerate(config.options.seeds)
        ]
        self.failed: dict[int, dict[str, Any]] = {}  # by seed: why, and its last good checkpoint's frames
        self.states: learner.States = None
        self.feed: Any = None  # of the newest gradient updates, on the device
        self.metrics: Any = None  # of the newest gradient update, joined, on the device
        self.logs = Logs(
            config,
            run.path,
            learner.metric_names(self.algorithm, *self.sizes, diagnostics=config.options.diagnostics),
        )
        self.writer = checkpoints.Writer(run.checkpoints)
        self.warned = False
        self.pace: tuple[float, int] | None = None  # when gradient updates began: clock, decisions
        self.stopwatch = Stopwatch()

    @property
    def frames(self) -> int:
        """Environment frames per seed (a decision cut short by an episode's end counts in full)."""
        return self.progress.decisions * self.config.action_repeat

    def train(self, received: list[int], resume: bool) -> Outcome:
        """The loop."""
        config = self.config
        initial = [self._initial(seed.seed) for seed in self.seeds]
        if resume:
            self._resume(initial)
        else:
            self._start(initial)
        self.stopwatch.lap("record")
        clock, last_frames, last_updates = time.perf_counter(), self.frames, self.progress.updates
        while self.seeds and self.progress.decisions < config.decisions and not received:
            self._decide()
            if self._crossed(config.options.log_every):
                # Rates count the updates of this decision too.
                jax.block_until_ready(self.states)  # type: ignore[no-untyped-call]
                elapsed = max(time.perf_counter() - clock, 1e-9)
                rates = (
                    len(self.seeds) * (self.frames - last_frames) / elapsed,
                    len(self.seeds) * (self.progress.updates - last_updates) / elapsed,
                )
                self._log(*rates)
                clock, last_frames, last_updates = time.perf_counter(), self.frames, self.progress.updates
            if self._crossed(config.options.eval_every):
                self._evaluate()
            if self._crossed(config.options.checkpoint_every):
                self._checkpoint()
            self.stopwatch.lap("record")
        finished = self.progress.decisions >= config.decisions
        if self.seeds:
            self._checkpoint()  # before an evaluation that a longer run would not have made
            if finished and self.frames % config.options.eval_every >= config.action_repeat:
                self._evaluate()
        self.logs.close()
        reasons = {seed: entry["reason"] for seed, entry in self.failed.items()}
        return Outcome(self.run.path, self.frames, finished, received[0] if received else None, reasons)

    def _crossed(self, interval: int) -> bool:
        return self.frames // interval > (self.frames - self.config.action_repeat) // interval

    def _initial(self, seed: int) -> Tree:
        return self.algorithm.init(np.random.default_rng(stream(seed, _LEARNER)))

    def _start(self, initial: list[Tree]) -> None:
        self.states = self.learner.join(initial)
        for position, seed in reversed(list(enumerate(self.seeds))):
            try:
                start = integer(stream(seed.seed, _ENVIRONMENT))
                seed.observation = self.training.reset(seed.index, start).copy()
            except EnvironmentFaultError as fault:
                self._drop(position, str(fault))
        self._evaluate()
        self._checkpoint()

    def _decide(self) -> None:
        """One agent decision of every seed and the gradient updates that belong to it."""
        jax.block_until_ready(self.states)  # type: ignore[no-untyped-call]
        self.stopwatch.lap("update")
        self.stopwatch.next_decision()
        observations = np.stack([seed.observation for seed in self.seeds])
        if self.progress.decisions < self.config.settings.warmup:
            actions = np.stack(
                [s.warmup.uniform(-1, 1, self.sizes[1]).astype(np.float32) for s in self.seeds]
            )
        else:
            actions = self._act(observations)
        self.stopwatch.lap("act")
        if self.config.options.overlap:  # the environment steps while the updates run
            self._update()
            self._step(actions)
        else:
            self._step(actions)
            self._update()
        self.progress.decisions += 1

    def _act(self, observations: np.ndarray) -> np.ndarray:
        memories = self.learner.join([seed.memory for seed in self.seeds])
        actions, memories = self.learner.explore(self.states, memories, observations, self.progress.decisions)
        for seed, memory in zip(self.seeds, self.learner.split(memories, len(self.seeds)), strict=True):
            seed.memory = memory
        return actions

    def _step(self, actions: np.ndarray) -> None:
        results = self.training.step([seed.index for seed in self.seeds], actions)
        self.stopwatch.lap("environment")
        self._store(actions, results)
        self.stopwatch.lap("replay")

    def _update(self) -> None:
        """Starts this decision's gradient updates; nothing waits for them here."""
        settings, progress = self.config.settings, self.progress
        if progress.decisions < settings.warmup or not self.seeds:
            return
        if self.algorithm.resets(progress.decisions + 1):
            self._reset_learners()
        first = progress.decisions == settings.warmup
        for _ in range(1 + first * (self.algorithm.first_updates // settings.utd)):
            places = [self._draw(seed) for seed in self.seeds]
            packed = self.learner.pack([seed.replay for seed in self.seeds], places)
            self.stopwatch.lap("replay")
            self.feed = self.learner.load(self.feed, packed)
            self.stopwatch.lap("transfer")
            self.states, self.metrics = self.learner.update(self.states, self.feed, progress.updates)
            progress.updates += settings.utd
            self.stopwatch.lap("update")

    def _draw(self, seed: Seed) -> np.ndarray:
        settings = self.config.settings
        return seed.replay.draw(
            seed.sampling, settings.utd, settings.batch_size, horizon=self.algorithm.horizon
        )

    def _reset_learners(self) -> None:
        """Every seed's networks and optimisers as they were at first (as in SR-SAC's and BRO's code)."""
        states = self.learner.split(self.states, len(self.seeds))
        for position, seed in enumerate(self.seeds):
            seed.resets += 1
            states[position] = self.algorithm.reset(states[position], self._initial(seed.seed))
        self.states = self.learner.join(states)

    def _store(self, actions: np.ndarray, results: Sequence[Transition | EnvironmentFaultError]) -> None:
        """Puts each seed's transition into its replay and resets environments whose episode is over."""
        if self.learner.observe is not None:
            self._observe(results)
        for position in reversed(range(len(results))):
            seed, result = self.seeds[position], results[position]
            if isinstance(result, EnvironmentFaultError):
                self._drop(position, str(result))
                continue
            over = result.episode is not None
            seed.replay.add(
                seed.observation,
                actions[position],
                result.reward,
                result.next_observation,
                terminated=result.terminated,
                last=over,
            )
            seed.observation = result.next_observation
            if result.episode is not None:
                seed.episodes += 1
                seed.last_episode = {
                    "episode_return": result.episode.total_reward,
                    "episode_frames": result.episode.frames,
                    "episode_success": int(result.episode.success),
                }
                seed.memory = self.algorithm.memory
                try:
                    seed.observation = self.training.reset(seed.index)
                except EnvironmentFaultError as fault:
                    self._drop(position, str(fault))

    def _observe(self, results: Sequence[Transition | EnvironmentFaultError]) -> None:
        """Tells the learners what they watch; of a faulty environment, nothing."""
        sound = [None if isinstance(result, EnvironmentFaultError) else result for result in results]
        assert self.learner.observe is not None
        self.states = self.learner.observe(
            self.states,
            np.stack([seed.observation for seed in self.seeds]),
            np.asarray([result.reward if result else 0.0 for result in sound], np.float32),
            np.asarray([result is None or result.episode is not None for result in sound]),
        )

    def _log(self, frames_rate: float, updates_rate: float) -> None:
        fetched: list[Metrics] = [{} for _ in self.seeds]
        if self.metrics is not None:
            fetched = self.learner.split(jax.device_get(self.metrics), len(self.seeds))
        self.stopwatch.lap("update")
        values = [{k: float(v) for k, v in metrics.items()} for metrics in fetched]
        found = self._diagnose()
        self.stopwatch.lap("record")
        rows = []
        for position in reversed(range(len(self.seeds))):
            wrong = [k for k, v in values[position].items() if not abs(v) < _DIVERGED]
            if wrong:
                name = wrong[0]
                self._drop(
                    position,
                    f"{name} is {values[position][name]} after {self.progress.updates} gradient updates: "
                    "training diverged; try a lower learning rate",
                )
                continue
            rows.append(self._counters(self.seeds[position]) | values[position] | found[position])
        rows.reverse()
        timing = {
            "frames": self.frames,
            "frames_per_second": round(frames_rate, 2),
            "updates_per_second": round(updates_rate, 2),
            "memory_mib": resident_memory() // 2**20,
            **self.stopwatch.per_decision(),
        }
        self.logs.metrics(rows, timing)
        evaluations = {s.seed: s.evaluation for s in self.seeds if s.evaluation is not None}
        self.reporter.status(
            Status(
                self.frames,
                self.config.decisions * self.config.action_repeat,
                self.progress.decisions,
                self.progress.updates,
                frames_rate,
                updates_rate,
                rows,
                evaluations,
                self.config.metric,
                self._seconds_left(),
            )
        )

    def _diagnose(self) -> list[dict[str, float]]:
        """Of each seed's critic, on the newest minibatch."""
        diagnose = self.learner.diagnose
        if self.feed is None or diagnose is None or not self.config.options.diagnostics:
            return [{} for _ in self.seeds]
        found = diagnose(self.states, self.feed, self.progress.updates - 1)
        return [{name: float(value) for name, value in metrics.items()} for metrics in found]

    def _seconds_left(self) -> float | None:
        now = time.perf_counter(), self.progress.decisions
        if self.pace is None and self.progress.updates:
            self.pace = now
        if self.pace is None or now[1] == self.pace[1]:
            return None
        return (now[0] - self.pace[0]) / (now[1] - self.pace[1]) * (self.config.decisions - now[1])

    def _counters(self, seed: Seed) -> dict[str, Any]:
        return {
            "seed": seed.seed,
            "frames": self.frames,
            "decisions": self.progress.decisions,
            "updates": self.progress.updates,
            "episodes": seed.episodes,
            "resets": seed.resets,
            **seed.last_episode,
        }

    def _evaluate(self) -> None:
        if not self.seeds:
            return
        starts = [integer(stream(seed.seed, _EVALUATION, self.frames)) for seed in self.seeds]
        indices = [seed.index for seed in self.seeds]
        done = evaluate(
            self.learner, self.states, self.testing, indices, starts, self.config.options.eval_episodes
        )
        biases = self._q_bias() if self.config.options.q_bias else [{} for _ in self.seeds]
        outcomes = list(zip(done, biases, strict=True))
        for position, outcome in reversed(list(enumerate(outcomes))):
            for fault in outcome:
                if isinstance(fault, EnvironmentFaultError):
                    self._drop(position, f"in evaluation, {fault}")
                    outcomes.pop(position)
                    break
        for seed, (episodes, bias) in zip(self.seeds, outcomes, strict=True):
            assert isinstance(episodes, list)
            assert isinstance(bias, dict)
            results = {
                "return": float(np.mean([e.total_reward for e in episodes])),
                "success_rate": float(np.mean([e.success for e in episodes])),
                **bias,
            }
            seed.evaluation = results[self.config.metric]
            self.logs.evaluation(seed.seed, self.frames, results)
        if not self.seeds:
            return
        shown = ", ".join(f"seed {seed.seed}: {seed.evaluation:.3g}" for seed in self.seeds)
        self.reporter.message(f"evaluation at {self.frames:,} frames, {self.config.metric}: {shown}")

    def _q_bias(self) -> list[dict[str, float] | EnvironmentFaultError]:
        starts = [integer(stream(seed.seed, _Q_BIAS, self.frames)) for seed in self.seeds]
        indices = [seed.index for seed in self.seeds]
        return q_bias(
            self.learner,
            self.states,
            self.testing,
            indices,
            starts,
            self.config.discount,
            self.config.episode_decisions,
            self.progress.decisions,
        )

    def _checkpoint(self) -> None:
        if not self.seeds:
            return
        by_seed = dict(
            zip((s.seed for s in self.seeds), self.learner.split(self.states, len(self.seeds)), strict=True)
        )
        for position in reversed(range(len(self.seeds))):
            if not _finite(by_seed[self.seeds[position].seed]):
                self._drop(position, "its parameters are no longer finite: training diverged")
        states = {
            seed.seed: checkpoints.SeedState(
                {"state": by_seed[seed.seed], "memory": seed.memory},
                seed.plain()
                | {
                    "environment": self._snapshot(self.training.environments[seed.index]),
                    "evaluation_environment": self._snapshot(self.testing.environments[seed.index]),
                },
            )
            for seed in self.seeds
        }
        if not states:
            return
        simulator = self.training.environments[0].simulator
        common = {
            "decisions": self.progress.decisions,
            "updates": self.progress.updates,
            "failed": {str(seed): entry for seed, entry in self.failed.items()},
            "logs": self.logs.positions(),
            "interface": {
                "observation_size": self.sizes[0],
                "action_low": simulator.action_low.tolist(),
                "action_high": simulator.action_high.tolist(),
            },
        }
        keep = {entry["good"] for entry in self.failed.values() if entry["good"] is not None}
        replays = {seed.seed: seed.replay for seed in self.seeds}
        self.writer.save(self.frames, common, states, replays, keep)

    def _snapshot(self, environment: Environment) -> dict[str, Any] | None:
        try:
            return environment.snapshot()
        except UnrestorableError as reason:
            if not self.warned:
                self.warned = True
                self.reporter.message(
                    f"{self.config.task} cannot be restored exactly ({reason}): "
                    "a resumed run starts a fresh episode"
                )
            return None

    def _resume(self, initial: list[Tree]) -> None:
        saved = checkpoints.newest(self.run.checkpoints, self.reporter.message)
        self.writer.continue_from(saved)
        self.progress = Progress(saved.common["decisions"], saved.common["updates"])
        self.failed = {int(seed): entry for seed, entry in saved.common["failed"].items()}
        states, going = [], []
        for seed, like in zip(self.seeds, initial, strict=True):
            if seed.seed in self.failed:
                self.reporter.message(f"seed {seed.seed} had failed: {self.failed[seed.seed]['reason']}")
                continue
            carried, plain = saved.state(seed.seed, {"state": like, "memory": self.algorithm.memory})
            seed.load(plain)
            seed.memory = carried["memory"]
            saved.fill(seed.seed, seed.replay)
            if plain["environment"] is not None:
                self.training.environments[seed.index].restore(plain["environment"])
            else:
                seed.replay.end_episode()
                seed.memory = self.algorithm.memory
                start = integer(stream(seed.seed, _ENVIRONMENT, self.frames))
                seed.observation = self.training.reset(seed.index, start)
            if plain["evaluation_environment"] is not None:
                self.testing.environments[seed.index].restore(plain["evaluation_environment"])
            states.append(carried["state"])
            going.append(seed)
        self.seeds = going
        if not going:
            raise UserError(f"every seed of {self.run.path} has failed: start a new run with other settings")
        self.states = self.learner.join(states)
        self.logs.cut(saved.common["logs"])
        if differs := self.run.note_resumption(self.config):
            told = "; ".join(differs)
            self.reporter.message(f"versions have changed ({told}): numbers may not continue bit for bit")
        self.reporter.message(f"resumed from the checkpoint at {self.frames:,} frames")

    def _drop(self, position: int, reason: str) -> None:
        """Stops one seed; the others go on."""
        seed = self.seeds[position]
        good = self.writer.present
        self.failed[seed.seed] = {"reason": reason, "good": good}
        kept = "no checkpoint yet" if good is None else f"last good checkpoint: {good} frames"
        self.reporter.message(f"seed {seed.seed} stopped at {self.frames:,} frames: {reason} ({kept})")
        self.states, self.metrics = (
            self._without(self.states, position),
            self._without(self.metrics, position),
        )
        self.feed = None  # which was of all seeds
        self.seeds.pop(position)

    def _without(self, joined: Any, position: int) -> Any:
        """What the other seeds have; None if there is no other."""
        if joined is None:
            return None
        left = self.learner.split(joined, len(self.seeds))
        left.pop(position)
        return self.learner.join(left) if left else None


def _finite(state: Tree) -> bool:
    leaves = jax.device_get(jax.tree.leaves(state))
    return all(bool(np.isfinite(leaf).all()) for leaf in leaves if leaf.dtype.kind == "f")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the loop stops between two decisions; a second one is obeyed."""
    received: list[int] = []
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, handlers[number])

    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            handlers[number] = signal.signal(number, receive)
    except ValueError:  # not in the main thread: whoever runs that handles signals
        pass
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
