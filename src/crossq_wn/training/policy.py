"""Trained policies: acting with the newest checkpoint of a run, evaluating it and recording videos."""

import io
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.environments import Environment, EnvironmentFaultError, Episode, TaskLike
from crossq_wn.environments.interface import Interface, check_unchanged, describe, why_no_action
from crossq_wn.environments.pool import Pool
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, one_line
from crossq_wn.lazy import jax
from crossq_wn.learning.evaluation import Arena, evaluate
from crossq_wn.learning.learner import one_by_one
from crossq_wn.learning.q_bias import Bias, q_bias
from crossq_wn.machine import use_jax
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.runs.config import read_config, with_algorithm
from crossq_wn.runs.manifests import malformed
from crossq_wn.runs.trust import require_algorithm, require_task
from crossq_wn.training.building import build_algorithm, make_environment, saved_spec, saved_state
from crossq_wn.training.seeds import Stream, integer, stream

# Uses of the stream of fresh episodes, so that none repeats another's.
_EVALUATION, _VIDEO, _Q_BIAS = range(3)


class TrainedPolicy:
    """The trained policy of one seed of a run, which `load` makes.

    Attributes:
        path: the run directory.
        config: the run's configuration.
        seed: the training seed.
        frames: environment frames that it has been trained for.
        observation_size: numbers in an observation.
    """

    def __init__(
        self, path: Path, seed: int | None, warn: Callable[[str], None], *, trust: bool = False
    ) -> None:
        use_jax()
        self.path, self._trust, config = path, trust, read_config(path)
        require_algorithm(config, path, trust=trust)
        self.config = with_algorithm(config)
        newest = checkpoints.newest(path / "checkpoints", warn, with_replay=False)
        self.seed = self._choose(newest, seed)
        saved = newest if self.seed in newest.seeds else self._last_good(newest)
        self.frames = saved.frames
        self._statistics = saved.statistics(self.seed)
        self._saved_interface = saved.training["interface"]
        with malformed(saved.path):
            self._interface = Interface(self._saved_interface)
            spec = saved_spec(self.config, saved)
        self.observation_size = spec.observation_size
        algorithm = build_algorithm(self.config, spec)
        self.learner, self.state = one_by_one(algorithm), saved_state(algorithm, saved, self.seed)

        # An observation that comes alone counts as the beginning of an episode: nothing is remembered.
        def act(state: Any, observation: Any) -> Any:
            return algorithm.exploit(state, algorithm.memory, observation)[0]

        self._act = jax.jit(jax.vmap(act, in_axes=(None, 0)))

    def act(self, observation: Any) -> np.ndarray:
        """Chooses the deterministic action, in the environment's own units.

        Args:
            observation: what the environment returns, be it an array, a list or a dict, or its numbers in one
                flat row; or n of them, which lead with an axis of their own. DeepMind Control's observations
                are flattened part by part in their own order, those of a Gymnasium Dict space in its order.

        Returns:
            An action of the environment's shape and type, exactly as the environment gets it, or n of them.

        Raises:
            UserError: the observation has another size, or the policy has no sound action for it.
        """
        flat = self._interface.flatten(observation)
        batch = np.atleast_2d(flat)
        chosen = np.asarray(self._act(self.state, batch))
        actions = []
        for seen, action in zip(batch, chosen, strict=True):
            if not (np.isfinite(seen).all() and np.isfinite(action).all()):
                raise UserError(f"the policy of {self.path} has no action: {why_no_action(seen)}")
            actions.append(self._interface.in_units(action))
        return actions[0] if flat.ndim == 1 else np.array(actions).reshape(-1, *self._interface.low.shape)

    def environment(self, task: TaskLike | None = None, *, render: bool = False) -> Environment:
        """Makes an environment like the one that the policy was trained on.

        Args:
            task: a class or function that makes the environment, where no module can be imported for it.
            render: whether pictures will be asked for.

        Raises:
            UserError: it cannot be made, or its sizes or bounds have changed since training, or its module
                is not trusted.
        """
        require_task(self.config, self.path, trust=self._trust, task=None if isinstance(task, str) else task)
        made = make_environment(self.config, task, render=render)
        try:
            check_unchanged(self._saved_interface, describe(made.simulator), self.config.task)
        except UserError:
            made.close()
            raise
        with malformed(self.path):
            made.adopt(self._statistics, fixed=True)
        return made

    def _choose(self, saved: Checkpoint, seed: int | None) -> int:
        known = list(self.config.options.seeds)
        if seed is None:
            return saved.seeds[0]
        if seed not in known:
            raise UserError(f"{self.path} has no seed {seed}: it has {', '.join(map(str, known))}")
        return seed

    def _last_good(self, newest: Checkpoint) -> Checkpoint:
        """The last checkpoint of a seed before it failed."""
        failure = newest.training["failed"].get(str(self.seed))
        good = None if failure is None else failure["good"]
        if good is None:
            raise UserError(f"seed {self.seed} of {self.path} failed before its first checkpoint")
        try:
            return Checkpoint(self.path / "checkpoints" / f"{good:09d}", with_replay=False)
        except DamagedError as damage:
            raise UserError(
                f"the last good checkpoint of seed {self.seed} of {self.path} is damaged: {damage}"
            ) from None


def load(
    path: str | Path,
    *,
    seed: int | None = None,
    warn: Callable[[str], None] = lambda text: None,
    trust: bool = False,
) -> TrainedPolicy:
    """Loads a trained policy from the newest checkpoint of a run.

    Args:
        path: the run directory.
        seed: one of its training seeds; by default the first.
        warn: is told of damaged checkpoints, in a line each.
        trust: whether code that the run names, and that you have not trained with here, may be imported.

    Raises:
        UserError: there is no run, no such seed, no usable checkpoint, or an algorithm that is not trusted.
    """
    return TrainedPolicy(Path(path), seed, warn, trust=trust)


def evaluate_policy(policy: TrainedPolicy, episodes: int, task: TaskLike | None = None) -> list[Episode]:
    """Plays episodes that training never saw, with the deterministic policy.

    Args:
        policy: the policy to evaluate.
        episodes: the number of episodes.
        task: a class or function that makes the environment, where no module can be imported for it.

    Returns:
        The finished episodes, the same ones at every call.

    Raises:
        UserError: the environment failed or cannot be made.
    """
    with _arena(policy, task, _EVALUATION) as arena:
        (result,) = evaluate(policy.learner, [policy.state], arena, episodes)
    if isinstance(result, EnvironmentFaultError):
        raise result
    return result


def measure_q_bias(policy: TrainedPolicy, task: TaskLike | None = None) -> Bias:
    """Measures the bias of the critics under the stochastic policy (see `q_bias`).

    Args:
        policy: the policy whose critics are asked.
        task: a class or function that makes the environment, where no module can be imported for it.

    Returns:
        The mean and standard deviation of the bias.

    Raises:
        UserError: the algorithm has no critics to ask, or the environment failed.
    """
    config = policy.config
    if policy.learner.appraise is None:
        raise UserError(f"{config.system.algorithm} has no critics to ask: their bias cannot be measured")
    with _arena(policy, task, _Q_BIAS) as arena:
        (result,) = q_bias(
            policy.learner,
            [policy.state],
            arena,
            discount=config.discount,
            time_limit=config.episode_decisions,
            decisions=policy.frames // config.action_repeat,
        )
    if isinstance(result, EnvironmentFaultError):
        raise result
    return result


@contextmanager
def _arena(policy: TrainedPolicy, task: TaskLike | None, use: int) -> Iterator[Arena]:
    """Provides an environment for one of the uses above, started from a seed of its own."""
    with kept_shared(), closing(Pool([policy.environment(task)], threads=1)) as pool:
        yield Arena(pool, [0], [integer(stream(policy.seed, Stream.FRESH, use))])


def record(
    policy: TrainedPolicy, out: Path, *, height: int = 240, width: int = 320, task: TaskLike | None = None
) -> Episode:
    """Records one episode as an H.264 mp4 of 25 pictures per second, one picture per agent decision.

    Args:
        policy: the policy that plays.
        out: the file to write; missing folders are made.
        height: of the video in pixels.
        width: of the video in pixels.
        task: a class or function that makes the environment, where no module can be imported for it.

    Returns:
        The recorded episode.

    Raises:
        UserError: the environment renders nothing, or rendering does not work here.
    """
    import av

    with kept_shared(), closing(policy.environment(task, render=True)) as environment:
        episodes: list[Episode] = []
        pictures = _pictures(policy, environment, (height, width), episodes)
        first = next(pictures)
        film = io.BytesIO()
        with av.open(film, "w", format="mp4") as container:
            video: Any = container.add_stream("libx264", rate=25)
            # Encoders want even sizes.
            video.height, video.width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
            video.pix_fmt = "yuv420p"

            def encode(picture: np.ndarray) -> None:
                shown = np.ascontiguousarray(picture[: video.height, : video.width])
                for packet in video.encode(av.VideoFrame.from_ndarray(shown, "rgb24")):
                    container.mux(packet)

            encode(first)
            for picture in pictures:
                encode(picture)
            for packet in video.encode():
                container.mux(packet)
    if out.is_relative_to(policy.path):
        files.make_folder(out.parent, within=policy.path)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(out, film.getvalue())
    return episodes[0]


def _pictures(
    policy: TrainedPolicy, environment: Environment, size: tuple[int, int], episodes: list[Episode]
) -> Iterator[np.ndarray]:
    """Yields an episode's pictures, uint8 [height, width, 3]; appends the finished episode to `episodes`."""
    observation = environment.reset(integer(stream(policy.seed, Stream.FRESH, _VIDEO)))
    yield _picture(environment, size)
    memories = policy.learner.fresh_memories(1)
    while not episodes:
        actions, memories = policy.learner.exploit([policy.state], memories, observation[None])
        result = environment.step(actions[0])
        observation = result.next_observation
        yield _picture(environment, size)
        if result.episode is not None:
            episodes.append(result.episode)


def _picture(environment: Environment, size: tuple[int, int]) -> np.ndarray:
    try:
        return environment.render(*size)
    except UserError:
        raise
    except Exception as error:  # of a driver, or of the environment's own renderer
        told = f"{environment.task.name} cannot be rendered here ({type(error).__name__}: {one_line(error)})"
        if environment.simulator.physics is not None:  # MuJoCo's renderer, which doctor examines
            told += ": `crossq-wn doctor` names the fix"
        raise UserError(told) from None
