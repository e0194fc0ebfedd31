"""Trained policies: acting, within 0.3 s, and evaluating, for which more is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossq_wn.acting.interface import Interface, PolicyError, Stack
from crossq_wn.acting.operations import Network
from crossq_wn.acting.policy import Actor
from crossq_wn.algorithms.own_networks import give as give_networks
from crossq_wn.errors import UserError
from crossq_wn.machine import use_jax
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.checksums import DamagedError
from crossq_wn.runs.config import read_config, with_algorithm
from crossq_wn.runs.folders import named, run_in
from crossq_wn.runs.manifests import last_good, malformed
from crossq_wn.runs.schema import SeedNumber
from crossq_wn.runs.trust import require_algorithm, require_unchanged
from crossq_wn.training.actors import Choose, InNumpy, JaxActor
from crossq_wn.training.algorithms import (
    build_algorithm,
    naming_own,
    saved_network,
    saved_spec,
    saved_state,
)
from crossq_wn.types import Tree, UndescribedError

if TYPE_CHECKING:
    from crossq_wn.environments import Environment, Episode
    from crossq_wn.learning.evaluation import Actors, Arena
    from crossq_wn.learning.interface import Learner
    from crossq_wn.learning.q_bias import Bias
    from crossq_wn.training.building import AnyTask

# Uses of the stream of fresh episodes, so that none repeats another's.
_EVALUATION, VIDEO, _Q_BIAS, EXPORT = range(4)


class TrainedPolicy:
    """The trained policy of one seed of a run, which `load` makes.

    Attributes:
        path: the run directory.
        config: the run's configuration.
        seed: the training seed.
        frames: environment frames that it has been trained for.
        updates: gradient updates that it has been trained by.
        observation_size: numbers in an observation.
        spec: the problem that it was trained on; with `frame_stack`, its observations are stacked.
        interface: what observations and actions are like.
        saved: the checkpoint that it is from.
        warn: is told what the user should know.
        trust: whether code that the run names may be imported.
        algorithm: of the run.
    """

    def __init__(
        self, path: Path, seed: int | None, warn: Callable[[str], None], *, trust: bool = False
    ) -> None:
        self.path, self.warn, self.trust, config = path, warn, trust, read_config(path)
        require_algorithm(config, path, trust=trust)
        self.config = with_algorithm(config)
        require_unchanged(self.config, path)
        newest = checkpoints.newest(path / "checkpoints", warn, with_replay=False)
        self.seed = self._choose(newest, seed)
        saved = newest if self.seed in newest.seeds else self._last_good(newest)
        self.saved = saved
        with malformed(saved.path):
            self.interface = Interface(saved.training["interface"])
            self.spec = saved_spec(self.config, saved)
            self.frames, self.updates = saved.progress(self.seed)
        self.observation_size = self.interface.size
        self.algorithm = build_algorithm(self.config, self.spec)
        # Where a search acts, the network alone would act less well.
        network = self.network() if self.algorithm.prior is None else None
        self._actor = None if network is None else Actor(network, self.interface, str(path))
        self._stack = Stack(self.config.options.frame_stack)

    @cached_property
    def learner(self) -> Learner:
        """The algorithm in JAX, which is loaded only for this."""
        from crossq_wn.learning.learner import one_by_one

        use_jax()
        return one_by_one(self.algorithm)

    @cached_property
    def state(self) -> Tree:
        """The state of the algorithm's learner, in JAX."""
        use_jax()
        with naming_own(self.config):
            return saved_state(self.algorithm, self.saved, self.seed)

    @cached_property
    def choose(self) -> Choose:
        """Chooses actions in [-1, 1], as the steps of `environment()` take them, for flat observations.

        Nothing is remembered: each observation counts as the first of an episode.
        """
        return self._in_jax.choose if self._actor is None else self._actor.choose

    @cached_property
    def _in_jax(self) -> JaxActor:
        naming = partial(naming_own, self.config)
        return JaxActor(self.algorithm, self.state, str(self.path), self.interface.layout, naming)

    @property
    def players(self) -> tuple[Actors, list[Any]]:
        """What plays the policy's episodes: the functions, and what they take as the states of one seed."""
        if self._actor is not None:
            return InNumpy(), [self._actor]
        return self.learner, [self.state]

    def act(
        self, observation: Any, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Chooses an action, in the environment's own units.

        Args:
            observation: what the environment returns, be it an array, a list or a dict, or its numbers in one
                flat row; or n of them, which lead with an axis of their own. DeepMind Control's observations
                are flattened part by part in their own order, those of a Gymnasium Dict space in its order.
            deterministic: whether it is the policy's mode; if not, it is drawn at random.
            generator: where random actions draw their noise; by default one of the policy's own.

        Returns:
            An action of the environment's shape and type, exactly as the environment gets it, or n of them.

        Raises:
            UserError: the observation has another size, or the policy has no sound action for it.
        """
        decide = self._in_jax.act if self._actor is None else self._actor.choose
        try:
            newest = self.interface.flatten(observation)
            chosen = self._stack.act(newest, lambda rows: decide(rows, deterministic, generator))
        except PolicyError as error:
            raise UserError(str(error)) from None
        return self.interface.in_units(chosen)

    def reset(self, episodes: Any = None) -> None:
        """Says that the next observation of an episode that `act` gets is its first.

        It counts if the run was trained with `frame_stack`, or if its algorithm remembers something while it
        acts, as TD-MPC2 does its plan.

        Args:
            episodes: of n that it acts in side by side, a mask or the indices of those that begin, such as
                `terminated | truncated` of a vector environment that resets in the same step; None: all.

        Raises:
            UserError: there are no such episodes.
        """
        try:
            self._stack.reset(episodes)
            if self._actor is None:
                self._in_jax.reset(episodes)
        except PolicyError as error:
            raise UserError(str(error)) from None

    def environment(self, task: AnyTask | None = None, *, render: bool = False) -> Environment:
        """Makes an environment like the one that the policy was trained on.

        Its steps take actions in [-1, 1]: those of `choose`. Those of a run in real time keep its rate, and
        a robot gets its safe action where they come late or an episode is broken off.

        Args:
            task: a class or function that makes the environment, where no module can be imported for it, or a
                gymnasium.Env that exists already.
            render: whether pictures will be asked for.

        Raises:
            UserError: it cannot be made, or its sizes or bounds have changed since training, or its module
                is not trusted.
        """
        from crossq_wn.training.playing import environment_for

        return environment_for(self, task, render=render)

    def evaluate(self, task: AnyTask | None = None, episodes: int = 10) -> list[Episode]:
        """Plays episodes with the deterministic policy, as `evaluate_policy` does.

        Args:
            task: as there; an environment that exists already stays open.
            episodes: how many.
        """
        return evaluate_policy(self, episodes, task)

    def network(self) -> Network | None:
        """The policy network in numpy, perhaps only where a search starts; None if it is not described."""
        try:
            return saved_network(self.config, self.algorithm, self.spec, self.saved, self.seed)
        except UndescribedError:
            return None

    def _choose(self, saved: Checkpoint, seed: int | None) -> int:
        known = list(self.config.options.seeds)
        if seed is None:
            failed = saved.training["failed"]
            return next((each for each in saved.seeds if SeedNumber(each) not in failed), saved.seeds[0])
        if seed not in known:
            raise UserError(f"{self.path} has no seed {seed}: it has {', '.join(map(str, known))}")
        return seed

    def _last_good(self, newest: Checkpoint) -> Checkpoint:
        """The last checkpoint of a seed before it failed."""
        failure = newest.training["failed"].get(SeedNumber(self.seed))
        good = None if failure is None else failure["good"]
        if good is None:
            raise UserError(f"seed {self.seed} of {self.path} failed before its first checkpoint")
        try:
            return Checkpoint(last_good(self.path / "checkpoints", good), with_replay=False)
        except DamagedError as damage:
            raise UserError(
                f"the last good checkpoint of seed {self.seed} of {self.path} is damaged: {damage}"
            ) from None


def load(
    path: str | PathLike[str],
    *,
    seed: int | None = None,
    warn: Callable[[str], None] = lambda text: None,
    trust: bool = False,
    networks: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
) -> TrainedPolicy:
    """Loads a trained policy from the newest checkpoint of a run.

    Args:
        path: the run directory, a folder that holds one run, or how training ended (`Outcome`).
        seed: one of its training seeds; by default the first that has not failed.
        warn: is told of damaged checkpoints and of a policy without gradient updates, in a line each.
        trust: whether code that the run names, and that you have not trained with here, may be imported.
        networks: the functions of networks of your own, where no module can be imported for them.

    Raises:
        UserError: there is no run, no such seed, no usable checkpoint, or an algorithm or a network that is
            not trusted or has changed.
    """
    give_networks(networks)
    policy = TrainedPolicy(run_in(named("path", path)), seed, warn, trust=trust)
    if not policy.updates:
        warn(
            f"seed {policy.seed} of {policy.path} is untrained: it has made no gradient update in "
            f"{policy.frames:,} frames (its warm-up is {policy.config.settings.warmup:,} agent decisions)"
        )
    return policy


def evaluate_policy(policy: TrainedPolicy, episodes: int, task: AnyTask | None = None) -> list[Episode]:
    """Plays episodes that training never saw, with the deterministic policy.

    Args:
        policy: the policy to evaluate.
        episodes: the number of episodes.
        task: what makes the environment, if no module can be imported for it, or a gymnasium.Env itself.

    Returns:
        The finished episodes, the same ones at every call.

    Raises:
        UserError: the environment failed or cannot be made.
    """
    from crossq_wn.environments import EnvironmentFaultError
    from crossq_wn.learning.evaluation import evaluate
    from crossq_wn.training.building import exists
    from crossq_wn.training.playing import evaluate_robot

    robot = policy.config.options.real_time is not None and not exists(task)
    network = policy.network() if robot else None
    if network is not None:
        return evaluate_robot(policy, network, episodes, _first_seed(policy, _EVALUATION), task)
    with _arena(policy, task, _EVALUATION) as arena, naming_own(policy.config):
        (result,) = evaluate(*policy.players, arena, episodes)
    if isinstance(result, EnvironmentFaultError):
        raise result
    return result


def measure_q_bias(policy: TrainedPolicy, task: AnyTask | None = None) -> Bias:
    """Measures the bias of the critics under the stochastic policy (see `q_bias`).

    Args:
        policy: the policy whose critics are asked.
        task: a class or function that makes the environment, where no module can be imported for it.

    Returns:
        The mean and standard deviation of the bias.

    Raises:
        UserError: the algorithm has no critics, or the environment failed.
    """
    from crossq_wn.environments import EnvironmentFaultError
    from crossq_wn.learning.q_bias import q_bias

    config = policy.config
    if policy.learner.appraise is None:
        raise UserError(f"{config.system.algorithm} has no critics whose bias could be measured")
    with _arena(policy, task, _Q_BIAS) as arena, naming_own(config):
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
def _arena(policy: TrainedPolicy, task: AnyTask | None, use: int) -> Iterator[Arena]:
    """Provides an environment for one of the uses above, started from a seed of its own."""
    from crossq_wn.environments.pool import Pool
    from crossq_wn.environments.streams import kept_shared
    from crossq_wn.learning.evaluation import Arena
    from crossq_wn.real_time.pacing import Paced
    from crossq_wn.training.building import exists

    with kept_shared():
        environment = policy.environment(task)
        pool = Pool([environment], threads=1)
        try:
            yield Arena(pool, [0], [_first_seed(policy, use)])
            if isinstance(environment, Paced):
                environment.tell(policy.warn)
        finally:
            if not exists(task):
                pool.close()
            elif isinstance(environment, Paced):
                environment.pause()


def _first_seed(policy: TrainedPolicy, use: int) -> int:
    """The seed of an environment's first reset, for one of the uses above."""
    from crossq_wn.training.seeds import Stream, integer, stream

    return integer(stream(policy.seed, Stream.FRESH, use))
