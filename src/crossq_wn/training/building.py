"""Makes what a run's configuration describes besides its algorithm: environments, problem and replay."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from crossq_wn.environments import Environment, TaskLike, given, lookup, make
from crossq_wn.environments.crew import Crew
from crossq_wn.environments.remote import Anywhere
from crossq_wn.environments.streams import made_from
from crossq_wn.lazy import jax
from crossq_wn.learning.replay import Replay
from crossq_wn.machine import processors
from crossq_wn.runs.config import RunConfig
from crossq_wn.training.seeds import Stream, integer, stream
from crossq_wn.types import Priorities, Spec

AnyTask = TaskLike | Any  # or a gymnasium.Env that exists already


def make_environment(
    config: RunConfig, task: AnyTask | None = None, *, seed: int | None = None, render: bool = False
) -> Environment:
    """Makes an environment of a run, the same one each time.

    Args:
        config: the run's configuration.
        task: a class or function that makes the environment, where no module can be imported for it, or a
            gymnasium.Env that exists already.
        seed: the training seed, which decides what it draws while it is made, as masses and lengths; None:
            the run's first one.
        render: whether pictures will be asked for.

    Raises:
        UserError: the task is unknown, its suite is not installed, or its spaces are not supported.
    """
    if exists(task):
        return given(task, lookup(config.task), **_protocol(config))
    return recipe_for(config, task, seed=seed, render=render)()


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


def recipe_for(
    config: RunConfig, task: TaskLike | None, *, seed: int | None = None, render: bool = False
) -> Callable[[], Environment]:
    """What makes an environment of a run, here or in another process; takes what `make_environment` does."""
    start = integer(stream(config.options.seeds[0] if seed is None else seed, Stream.MAKING))
    return partial(made_from, start, partial(make, task or config.task, render=render, **_protocol(config)))


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
