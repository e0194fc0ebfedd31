"""What a run's configuration stands for: its problem, its algorithm, its environments and its replay."""

import numpy as np

from crossq_wn.algorithms import recipe_of
from crossq_wn.environments import Environment, TaskLike, make
from crossq_wn.learning.replay import Replay
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig
from crossq_wn.types import Algorithm, Spec, Tree


def make_environment(config: RunConfig, task: TaskLike | None = None, *, render: bool = False) -> Environment:
    """Makes an environment of a run.

    Args:
        config: the run's configuration.
        task: the environment's class or factory, for a task that cannot be imported by its name.
        render: whether it will be asked for pictures.
    """
    return make(
        task or config.task,
        action_repeat=config.action_repeat,
        episode_frames=config.episode_frames,
        terminations=config.options.terminations,
        render=render,
    )


def spec_of(config: RunConfig, environment: Environment) -> Spec:
    """The problem that a run's environment poses."""
    return Spec(environment.observation_size, environment.action_size, config.discount)


def saved_spec(config: RunConfig, saved: Checkpoint) -> Spec:
    """The problem that a run was trained on, by one of its checkpoints."""
    interface = saved.common["interface"]
    return Spec(interface["observation_size"], np.size(interface["action_low"]), config.discount)


def build_algorithm(config: RunConfig, spec: Spec) -> Algorithm:
    """Builds the algorithm of a run."""
    return recipe_of(config.system.algorithm).build(spec, config.settings)


def saved_state(algorithm: Algorithm, saved: Checkpoint, seed: int) -> Tree:
    """The state of one seed's learner in a checkpoint of a run with this algorithm."""
    like = {"state": algorithm.init(ShapesOnly()), "memory": algorithm.memory}
    return saved.state(seed, like).learner["state"]


def replay_capacity(config: RunConfig) -> int:
    """Rows of each seed's replay: as many as the settings say, but no more than the run can fill."""
    # A transition is a row, and so is the end of an episode: two per decision at the very most.
    return min(config.settings.replay_size, 2 * config.decisions)


def make_replay(config: RunConfig, spec: Spec) -> Replay:
    """Makes the empty replay of one seed."""
    return Replay(replay_capacity(config), spec.observation_size, spec.action_size)


def replay_bytes(config: RunConfig, spec: Spec) -> int:
    """Bytes that the full replay of one seed takes."""
    return Replay.bytes(replay_capacity(config), spec.observation_size, spec.action_size)
