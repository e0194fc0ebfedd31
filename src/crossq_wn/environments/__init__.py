"""Which tasks are there, and how is one made? Short names, Gymnasium ids, `module:factory`, or a class."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from crossq_wn.environments.core import (
    Environment,
    EnvironmentFaultError,
    Episode,
    Simulator,
    Task,
    Transition,
)
from crossq_wn.errors import UserError, nearest

TaskLike = str | Callable[[], Any]

# Paper v2, section 5.1 and figure 7: 15 DeepMind Control and 10 MyoSuite tasks.
PAPER_DMC_HARD = tuple(f"{body}-{gait}" for body, gait in (
    ("dog", "stand"), ("dog", "walk"), ("dog", "trot"), ("dog", "run"),
    ("humanoid", "stand"), ("humanoid", "walk"), ("humanoid", "run"),
))  # fmt: skip
PAPER_DMC_EASY = (
    "cheetah-run", "walker-run", "hopper-stand", "finger-turn-hard", "quadruped-run", "fish-swim",
    "hopper-hop", "pendulum-swingup",
)  # fmt: skip
_MYO = {
    "myo-reach": "myoHandReach", "myo-pose": "myoHandPose", "myo-obj-hold": "myoHandObjHold",
    "myo-key-turn": "myoHandKeyTurn", "myo-pen-twirl": "myoHandPenTwirl",
}  # fmt: skip
MYO_IDS = {short: f"{name}Fixed-v0" for short, name in _MYO.items()} | {
    f"{short}-hard": f"{name}Random-v0" for short, name in _MYO.items()
}
PAPER_TASKS = (*PAPER_DMC_HARD, *PAPER_DMC_EASY, *MYO_IDS)
MUJOCO_TASKS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5",
                "InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5",
                "Walker2d-v5")  # fmt: skip
_NEEDS_GL = ("quadruped-escape",)  # uploads its terrain to a renderer at every reset


def dm_control_tasks() -> dict[str, tuple[str, str]]:
    """All tasks of the dm_control suite by short name: `finger-turn-hard` -> (`finger`, `turn_hard`)."""
    _prepare_graphics(render=False)
    from dm_control import suite

    return {f"{d}-{t}".replace("_", "-").lower(): (d, t) for d, t in suite.ALL_TASKS}


def lookup(task: TaskLike) -> Task:
    """What a task name, Gymnasium id, `module:factory` or environment class stands for.

    Raises UserError for an unknown name, suggesting the nearest.
    """
    if not isinstance(task, str):
        where = f"{task.__module__}:{getattr(task, '__qualname__', type(task).__qualname__)}"
        return Task(where, "gymnasium", where, 1, None, 0.99, "return")
    name = task.replace("_", "-").lower()
    if name in MYO_IDS or task in MYO_IDS.values():
        identifier = MYO_IDS.get(name, task)
        short = next(key for key, value in MYO_IDS.items() if value == identifier)
        return Task(short, "myosuite", identifier, 2, 100, 0.95, "success_rate")
    registered = re.search(r"-v\d+$", task) is not None or "/" in task
    if task.startswith("myo") and registered and ":" not in task:
        return Task(task, "myosuite", task, 2, None, 0.95, "success_rate")
    if ":" not in task and not registered:
        _prepare_graphics(name in _NEEDS_GL)
        known = dm_control_tasks()
        if name in known:
            return Task(name, "dmc", ":".join(known[name]), 2, 1000, 0.99, "return")
        hint = nearest(name, [*known, *MYO_IDS]) or "`crossq-wn list tasks` names them; "
        raise UserError(
            f"unknown task {task!r}: {hint}a task is a short name such as dog-run or myo-key-turn-hard, "
            "a registered Gymnasium id, or module:factory"
        )
    return Task(task, "gymnasium", task, 1, None, 0.99, "return")


def make(
    task: TaskLike,
    *,
    action_repeat: int | None = None,
    episode_frames: int | None = None,
    terminations: bool = True,
    render: bool = False,
) -> Environment:
    """Makes one environment.

    Args:
        task: a name, a Gymnasium id, `module:factory`, or a callable that returns a gymnasium.Env.
        action_repeat: frames per decision; by default the suite's.
        episode_frames: time limit in frames; by default the suite's.
        terminations: whether a terminating task ends the episode (false: it runs on, as in BRO).
        render: whether pictures will be asked for; chooses MuJoCo's backend if nothing has yet.

    Raises:
        UserError: the task is unknown, its suite is not installed, or its spaces are not supported.
    """
    known = lookup(task)
    episode_frames = known.episode_frames if episode_frames is None else episode_frames
    _prepare_graphics(render or known.name in _NEEDS_GL)
    simulator = _simulator(task, known, episode_frames, render)
    return Environment(
        simulator,
        known,
        action_repeat=known.action_repeat if action_repeat is None else action_repeat,
        episode_frames=episode_frames,
        terminations=terminations,
    )


def _simulator(task: TaskLike, known: Task, episode_frames: int | None, render: bool) -> Simulator:
    if known.suite == "dmc":
        from crossq_wn.environments.dm_control import DMControl

        domain, name = known.identifier.split(":")
        return DMControl(domain, name)
    if known.suite == "myosuite":
        try:
            from crossq_wn.environments.myosuite import MyoSuite
        except ImportError as error:
            raise UserError(
                f"{known.name} needs MyoSuite, which cannot be imported ({error}): "
                "install it with pip install 'crossq-wn[myosuite]'"
            ) from None
        return MyoSuite(known.identifier, episode_frames)
    from crossq_wn.environments import gymnasium as gym

    if not isinstance(task, str):
        return gym.Gymnasium(gym.from_callable(task, known.name), known.name)
    if ":" in task:
        return gym.Gymnasium(gym.from_factory(task), known.name)
    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    if episode_frames is not None:
        options["max_episode_steps"] = -1  # no limit of its own
    return gym.Gymnasium(gym.from_id(task, **options), known.name)


def _prepare_graphics(render: bool) -> None:
    # MuJoCo chooses its OpenGL backend on first import; without a display its default only warns.
    if "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", "egl" if render else "disabled")


__all__ = [
    "Environment",
    "EnvironmentFaultError",
    "Episode",
    "Task",
    "TaskLike",
    "Transition",
    "lookup",
    "make",
]
