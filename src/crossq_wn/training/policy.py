"""How is a finished run used? `load(run).act(observation)`, evaluation and video of its newest checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.environments import Environment, EnvironmentFaultError, Episode, TaskLike
from crossq_wn.environments.pool import Pool
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning.evaluation import evaluate
from crossq_wn.learning.learner import one_by_one
from crossq_wn.learning.q_bias import q_bias
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import read_config
from crossq_wn.training.loop import build_algorithm, integer, make_environment, stream

_FRESH = 5  # the random stream of episodes that training never evaluates on


class TrainedPolicy:
    """The policy of one seed of a run.

    Attributes:
        config: the run's configuration.
        seed: the training seed it is from.
        frames: environment frames it was trained for.
    """

    def __init__(self, path: Path, seed: int | None, warn: Callable[[str], None]) -> None:
        self.path, self.config = path, read_config(path)
        saved = checkpoints.newest(path / "checkpoints", warn, with_replay=False)
        self.seed = self._choose(saved, seed)
        if self.seed not in saved.seeds:  # it failed: its last good checkpoint was kept
            good = saved.common["failed"][str(self.seed)]["good"]
            if good is None:
                raise UserError(f"seed {self.seed} of {path} failed before its first checkpoint")
            try:
                saved = checkpoints.Checkpoint(path / "checkpoints" / f"{good:09d}", with_replay=False)
            except checkpoints.DamagedError as damage:
                raise UserError(
                    f"the last good checkpoint of seed {self.seed} of {path} is damaged: {damage}"
                ) from None
        self.frames = saved.frames
        interface = saved.common["interface"]
        self._low, self._high = np.asarray(interface["action_low"]), np.asarray(interface["action_high"])
        self.observation_size: int = interface["observation_size"]
        algorithm = build_algorithm(self.config, self.observation_size, self._low.size)
        self.learner = one_by_one(algorithm)
        like = {"state": algorithm.init(np.random.default_rng(0)), "memory": algorithm.memory}
        self.state = saved.state(self.seed, like).learner["state"]
        # Observations that come alone are taken for beginnings: no plan is carried from call to call.
        act = jax.vmap(
            lambda state, observation: algorithm.exploit(state, algorithm.memory, observation)[0],
            in_axes=(None, 0),
        )
        self._act = jax.jit(act)

    def act(self, observation: Any) -> np.ndarray:
        """The deterministic action, in the environment's own units.

        Args:
            observation: [observation_size] or [n, observation_size]; for DeepMind Control the parts of the
                observation flattened in their own order, for a Gymnasium Dict space in sorted order.

        Returns:
            An action of the environment's shape, or n of them.

        Raises:
            UserError: the observation has another size.
        """
        batch = np.asarray(observation, np.float32)
        single = batch.ndim == 1
        batch = np.atleast_2d(batch)
        if batch.shape[-1] != self.observation_size or batch.ndim != 2:
            raise UserError(
                f"the observation has shape {np.shape(observation)}: this policy was trained on "
                f"[{self.observation_size}] or [n, {self.observation_size}]"
            )
        action = np.asarray(self._act(self.state, batch), np.float64).reshape(-1, *self._low.shape)
        scaled = (self._low + 0.5 * (action + 1.0) * (self._high - self._low)).astype(np.float32)
        scaled = np.where(scaled > self._high, np.nextafter(scaled, np.float32(-np.inf)), scaled)
        scaled = np.where(scaled < self._low, np.nextafter(scaled, np.float32(np.inf)), scaled)
        return np.asarray(scaled[0] if single else scaled)

    def environment(self, task: TaskLike | None = None, *, render: bool = False) -> Environment:
        """An environment like the one it was trained on."""
        return make_environment(self.config, task, render=render)

    def _choose(self, saved: checkpoints.Checkpoint, seed: int | None) -> int:
        known = list(self.config.options.seeds)
        if seed is None:
            return saved.seeds[0]
        if seed not in known:
            raise UserError(f"{self.path} has no seed {seed}: it has {', '.join(map(str, known))}")
        return seed


def load(
    path: str | Path, *, seed: int | None = None, warn: Callable[[str], None] = lambda text: None
) -> TrainedPolicy:
    """The newest policy of a run.

    Args:
        path: a run directory.
        seed: one of its training seeds; by default the first.
        warn: told of damaged checkpoints.

    Raises:
        UserError: no run, no such seed, or no usable checkpoint.
    """
    return TrainedPolicy(Path(path), seed, warn)


def evaluate_policy(policy: TrainedPolicy, episodes: int, task: TaskLike | None = None) -> list[Episode]:
    """Fresh episodes with the deterministic policy."""
    pool = Pool([policy.environment(task)], threads=1)
    try:
        start = integer(stream(policy.seed, _FRESH))
        result = evaluate(policy.learner, [policy.state], pool, [0], [start], episodes)[0]
        if isinstance(result, EnvironmentFaultError):
            raise result
        return result
    finally:
        pool.close()


def measure_q_bias(policy: TrainedPolicy, task: TaskLike | None = None) -> dict[str, float]:
    """Mean and standard deviation of the critics' bias under the stochastic policy (see `q_bias`).

    Raises:
        UserError: the algorithm has no critics to ask.
    """
    if policy.learner.appraise is None:
        raise UserError(f"--q-bias: {policy.config.system.algorithm} has no critics to ask; leave it out")
    config, start = policy.config, integer(stream(policy.seed, _FRESH, 2))
    pool = Pool([policy.environment(task)], threads=1)
    try:
        result = q_bias(
            policy.learner,
            [policy.state],
            pool,
            [0],
            [start],
            config.discount,
            config.episode_decisions,
            policy.frames // config.action_repeat,
        )[0]
        if isinstance(result, EnvironmentFaultError):
            raise result
        return result
    finally:
        pool.close()


def record(
    policy: TrainedPolicy, out: Path, *, height: int = 240, width: int = 320, task: TaskLike | None = None
) -> Episode:
    """Writes one episode as an H.264 mp4: one picture per decision, 25 per second.

    Raises:
        UserError: nothing can be rendered here; the message says what to install.
    """
    import av

    environment = policy.environment(task, render=True)
    try:
        observation = environment.reset(integer(stream(policy.seed, _FRESH, 1)))
        first = _picture(environment, height, width)
        out.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(out), "w") as container:
            video: Any = container.add_stream("libx264", rate=25)
            # Encoders want even sizes.
            video.height, video.width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
            video.pix_fmt = "yuv420p"
            picture, episode = first, None
            memories = policy.learner.memory(1)
            while True:
                shown = np.ascontiguousarray(picture[: video.height, : video.width])
                for packet in video.encode(av.VideoFrame.from_ndarray(shown, "rgb24")):
                    container.mux(packet)
                if episode is not None:
                    break
                actions, memories = policy.learner.exploit([policy.state], memories, observation[None])
                result = environment.step(actions[0])
                observation, episode = result.next_observation, result.episode
                picture = _picture(environment, height, width)
            for packet in video.encode():
                container.mux(packet)
        return episode
    finally:
        environment.close()


def _picture(environment: Environment, height: int, width: int) -> np.ndarray:
    try:
        return environment.render(height, width)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"cannot render here ({type(error).__name__}: {error}): `crossq-wn doctor` names the fix"
        ) from None
