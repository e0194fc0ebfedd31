"""The environments that trained policies play in, and robots that they move."""

import pickle
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from crossq_wn.acting.operations import Network
from crossq_wn.environments import Environment, Episode, TaskLike
from crossq_wn.environments.interface import check_unchanged, describe
from crossq_wn.environments.worker import Recipe
from crossq_wn.errors import UserError
from crossq_wn.real_time.acting import Evaluate, Played, Setup
from crossq_wn.real_time.hanging import Hanging, Lookout
from crossq_wn.real_time.memory import shape_for
from crossq_wn.real_time.pacing import Paced
from crossq_wn.real_time.playing import Timing, tell_of_timing
from crossq_wn.real_time.priority import what_is_denied
from crossq_wn.real_time.robot import noted
from crossq_wn.real_time.schedule import schedule_of
from crossq_wn.real_time.side import ActingProcess
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.manifests import malformed
from crossq_wn.runs.trust import require_task
from crossq_wn.signals import collected_signals, deliver
from crossq_wn.training.building import AnyTask, exists, make_environment, recipe_for
from crossq_wn.types import Spec

_LOOK_SECONDS = 0.1  # between two looks at what a robot is doing
_AHEAD = 1  # decisions for which there is room in memory: those of an evaluation do not pass through it


class Trained(Protocol):
    """A `TrainedPolicy`, as far as its environment is concerned."""

    path: Path
    config: RunConfig
    seed: int
    spec: Spec
    saved: Checkpoint
    warn: Callable[[str], None]
    trust: bool


def environment_for(policy: Trained, task: AnyTask | None, *, render: bool = False) -> Environment:
    """Makes the environment of `TrainedPolicy.environment`; takes what that does.

    Args:
        policy: whose run says what it is like.
        task: as there.
        render: as there.
    """
    make, hertz = _recipe(policy, task, render=render), policy.config.options.real_time
    if hertz is None:
        return make()
    schedule = schedule_of(hertz)
    with ExitStack() as undo:
        lookout = Lookout(Hanging(schedule, policy.config.task, policy.warn, "the program"))
        undo.callback(lookout.end)
        made = noted(lookout.note_call, "__init__", make)
        if not exists(task):
            undo.callback(made.close)
        # A robot must not get its actions as fast as they can be computed.
        paced = Paced(made, schedule, note_call=lookout.note_call)
        undo.pop_all()
    weakref.finalize(paced, lookout.end)
    return cast("Environment", paced)


def evaluate_robot(
    policy: Trained, network: Network, episodes: int, seed: int, task: TaskLike | None
) -> list[Episode]:
    """Plays episodes as training plays its evaluations: in an acting process, by the same rules.

    Args:
        policy: of a run in real time.
        network: of the policy.
        episodes: how many.
        seed: of the first reset.
        task: what makes the environment, if not what the run names.

    Raises:
        UserError: the robot failed or cannot be made.
    """
    schedule = schedule_of(policy.config.options.real_time or 1)
    hanging = Hanging(schedule, policy.config.task, policy.warn, "the evaluation")
    unused = np.random.SeedSequence(0)  # the policy is deterministic
    process = ActingProcess(Setup(_recipe(policy, task), schedule, 0, 0, unused, unused), hanging)
    with collected_signals() as signals, closing(process):
        denied = what_is_denied(process.description.priority)
        if denied is not None:
            policy.warn(denied)
        content, spec = pickle.dumps(network), policy.spec
        process.open_memory(shape_for(spec.observation_size, spec.action_size, _AHEAD, content))
        process.shared.publish(content, 0)
        process.order(Evaluate(episodes, seed, {}))
        played = _played(process, hanging, signals)
    deliver(signals)
    if len(played.episodes) < episodes:  # a signal broke it off that the user's own code handles
        raise KeyboardInterrupt
    tell_of_timing(policy.warn, played.timing)
    return played.episodes


def _played(process: ActingProcess, hanging: Hanging, signals: Sequence[int]) -> Played:
    """Waits for the end of an evaluation, which a signal brings about."""
    while not signals or process.stop():
        news = process.news(_LOOK_SECONDS)
        if isinstance(news, Played):
            return news
        hanging.look(process.call, time.monotonic())
    return Played([], Timing())


def _recipe(policy: Trained, task: AnyTask | None, *, render: bool = False) -> Recipe:
    """What makes an environment like the one that a policy was trained on."""
    config = policy.config
    if not exists(task):
        require_task(config, policy.path, trust=policy.trust, task=None if isinstance(task, str) else task)
    with malformed(policy.path):
        learned = policy.saved.statistics(policy.seed)
    before = _Before(config.task, policy.path, policy.saved.training["interface"], learned)
    if exists(task):
        return partial(_given, config, task, before)
    return partial(_made, recipe_for(config, task, seed=policy.seed, render=render), before)


class _Before(NamedTuple):
    """What the environment of training was like."""

    task: str
    path: Path  # of the run
    interface: Mapping[str, Any]
    learned: Mapping[str, Any]  # by wrappers


def _made(make: Recipe, before: _Before) -> Environment:
    made = make()
    try:
        _take_over(made, before)
    except UserError:
        made.close()
        raise
    return made


def _given(config: RunConfig, task: Any, before: _Before) -> Environment:
    made = make_environment(config, task)
    _take_over(made, before)
    return made


def _take_over(made: Environment, before: _Before) -> None:
    """Checks that an environment has not changed since training, and gives it what wrappers had learned."""
    check_unchanged(before.interface, describe(made.simulator), before.task)
    with malformed(before.path):
        made.adopt(dict(before.learned), fixed=True)
