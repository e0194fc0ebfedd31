"""What a run's configuration stands for: its algorithm, its environments and the size of its replay."""

from crossq_wn.algorithms import ALGORITHMS, registered
from crossq_wn.environments import Environment, TaskLike, make
from crossq_wn.runs.config import RunConfig
from crossq_wn.types import Algorithm, Spec


def build_algorithm(config: RunConfig, observation_size: int, action_size: int) -> Algorithm:
    """The algorithm of a run, for observations and actions of these sizes."""
    spec = Spec(observation_size, action_size, config.discount)
    return ALGORITHMS[registered(config.system.algorithm)].build(spec, config.settings)


def make_environment(config: RunConfig, task: TaskLike | None = None, *, render: bool = False) -> Environment:
    """An environment of a run.

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


def replay_capacity(config: RunConfig) -> int:
    """Rows of each seed's replay: as many as the settings say, but no more than the run can fill."""
    # A transition is a row, and so is the end of an episode: two per decision at the very most.
    return min(config.settings.replay_size, 2 * config.decisions)
