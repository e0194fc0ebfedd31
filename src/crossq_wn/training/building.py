"""Makes what a run's configuration describes: its environments, problem, algorithm and replay."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.acting.folding import folded
from crossq_wn.acting.operations import Network, function_of
from crossq_wn.algorithms import recipe_of
from crossq_wn.algorithms.normalisers import normalise_observations
from crossq_wn.environments import Environment, TaskLike, given, lookup, make
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.remote import Anywhere
from crossq_wn.errors import UserError, one_line, option
from crossq_wn.lazy import jax
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import processors
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.types import Algorithm, Priorities, Spec, Tree, network_of

AnyTask = TaskLike | Any  # or a gymnasium.Env that exists already


def make_environment(config: RunConfig, task: AnyTask | None = None, *, render: bool = False) -> Environment:
    """Makes an environment of a run.

    Args:
        config: the run's configuration.
        task: a class or function that makes the environment, where no module can be imported for it, or a
            gymnasium.Env that exists already.
        render: whether pictures will be asked for.

    Raises:
        UserError: the task is unknown, its suite is not installed, or its spaces are not supported.
    """
    if exists(task):
        return given(task, lookup(config.task), **_protocol(config))
    return make(task or config.task, render=render, **_protocol(config))


@contextmanager
def crew_for(config: RunConfig, task: AnyTask | None) -> Iterator[Crew | None]:
    """Provides the crew to which a run may move its environments, for training and for evaluations.

    Args:
        config: the run's configuration.
        task: as in `make_environment`.

    Yields:
        The crew, without processes so far; None where they could not be faster.
    """
    seeds = len(config.options.seeds)
    if min(seeds, processors()) < 2:
        yield None
        return
    recipe, on_cpu = recipe_for(config, task), jax.default_backend() == "cpu"
    with closing(Crew(recipe, seeds=seeds, sets=2, workers=processors(), alone=not on_cpu)) as crew:
        if exists(task):
            crew.refusal = "it was given as an object, and a class or a function could make others like it"
        yield crew


def recipe_for(config: RunConfig, task: TaskLike | None) -> Callable[[], Environment]:
    """What makes an environment of a run, here or in another process; takes what `make_environment` does."""
    return partial(make, task or config.task, **_protocol(config))


def _protocol(config: RunConfig) -> dict[str, Any]:
    return {
        "action_repeat": config.action_repeat,
        "episode_frames": config.episode_frames,
        "terminations": config.options.terminations,
        "frame_stack": config.options.frame_stack,
    }


def exists(task: AnyTask | None) -> bool:
    """Whether a task is an environment that exists already, and not a name, a class or a function."""
    return not (task is None or isinstance(task, str) or callable(task))


def spec_of(config: RunConfig, environment: Anywhere) -> Spec:
    """The problem that a run's environment poses."""
    return Spec(environment.observation_size, environment.action_size, config.discount)


def saved_spec(config: RunConfig, saved: Checkpoint) -> Spec:
    """The problem that a run was trained on, according to one of its checkpoints."""
    interface = saved.training["interface"]  # of single observations, as the environment returns them
    size = config.options.frame_stack * interface["observation_size"]
    return Spec(size, np.size(interface["action_low"]), config.discount)


def build_algorithm(config: RunConfig, spec: Spec) -> Algorithm:
    """Builds the algorithm of a run.

    Raises:
        UserError: observations are to be normalised, and the algorithm does that already.
    """
    algorithm = recipe_of(config.system.algorithm).build(spec, config.settings)
    if not config.options.normalise_observations:
        return algorithm
    _require_plain_observations(algorithm, config)
    return normalise_observations(spec)(algorithm)


def _require_plain_observations(algorithm: Algorithm, config: RunConfig) -> None:
    if algorithm.normalises:
        raise UserError(
            f"{config.system.algorithm} normalises observations by running statistics of its own: leave out "
            f"{option('normalise_observations')}"
        )


def check_options(config: RunConfig) -> None:
    """Raises UserError if a run's options do not go together with its algorithm, as far as is known so soon.

    What is a user's own is built for its own problem alone, and checked then.
    """
    name = config.system.algorithm
    if config.options.normalise_observations and ":" not in name:
        usual = preset_settings(name, config.system.preset).for_run(config.decisions)
        _require_plain_observations(recipe_of(name).build(Spec(1, 1, config.discount), usual), config)


def saved_state(algorithm: Algorithm, saved: Checkpoint, seed: int) -> Tree:
    """Reads the state of one seed's learner from a checkpoint.

    Args:
        algorithm: of the run.
        saved: the checkpoint.
        seed: the training seed.

    Raises:
        UserError: the checkpoint holds the state of another algorithm or of networks of other sizes.
    """
    like = {"state": algorithm.init(ShapesOnly()), "memory": algorithm.memory}
    return saved.state(seed, like).learner["state"]


def saved_network(algorithm: Algorithm, spec: Spec, saved: Checkpoint, seed: int) -> Network:
    """The policy network of one seed in a checkpoint of a run with this algorithm; starts no JAX.

    Args:
        algorithm: of the run.
        spec: the problem that it was trained on.
        saved: the checkpoint.
        seed: the training seed.

    Raises:
        UndescribedError: acting by this algorithm takes JAX.
        UserError: the checkpoint is not one of this algorithm.
    """
    try:
        network = folded(network_of(algorithm, saved.tree(seed)))
        with np.errstate(all="ignore"):  # whether its numbers are sound is for others to say
            output = function_of(network.operations)(np.zeros(spec.observation_size, np.float32))
    except (KeyError, TypeError, ValueError) as error:  # an array is missing, or of another shape
        raise saved.misfit(one_line(error)) from None
    if output.shape != (2 * spec.action_size,):
        raise saved.misfit(f"its network has {output.size} outputs")
    return network


def replay_capacity(config: RunConfig) -> int:
    """The number of rows in each seed's replay: the setting's, but no more than the run can fill."""
    # A transition takes a row and the end of an episode another: two per decision at most.
    first = config.prefilled_rows - pinned_rows(config)
    return min(config.settings.replay_size, 2 * config.decisions + first)


def pinned_rows(config: RunConfig) -> int:
    """The number of rows behind the ring of each seed's replay."""
    return config.prefilled_rows if config.pinned_samples else 0


def make_replay(config: RunConfig, spec: Spec, priorities: Priorities | None) -> Replay:
    """Makes an empty replay for one seed.

    Args:
        config: of the run; decides how many rows there may be.
        spec: the problem, which decides how large a row is.
        priorities: by which the algorithm draws; None: it draws uniformly.
    """
    sizes = spec.observation_size, spec.action_size
    return Replay(replay_capacity(config), *sizes, priorities, pinned_rows(config))


def replay_bytes(config: RunConfig, spec: Spec, priorities: Priorities | None) -> int:
    """The size in bytes of one seed's replay when it is full; takes what `make_replay` does."""
    sizes = spec.observation_size, spec.action_size
    return Replay.bytes(replay_capacity(config), *sizes, priorities, pinned_rows(config))
