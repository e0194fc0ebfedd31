"""Tasks and environments: which task a name stands for, and how its environment is made."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from crossq_wn.environments.attributes import written_by_user
from crossq_wn.environments.core import (
    Environment,
    EnvironmentFaultError,
    Episode,
    Frame,
    Simulator,
    Task,
    Transition,
)
from crossq_wn.environments.streams import watch
from crossq_wn.environments.suite import Group, Suite
from crossq_wn.environments.suites import PAPER_GROUPS, PAPER_TASKS, SUITES, paper_frames, suite_of
from crossq_wn.errors import UserError
from crossq_wn.machine import trim_memory
from crossq_wn.naming import name_of
from crossq_wn.own_modules import found_in, import_user_module, unknown_task

TaskLike = str | Callable[[], Any]


def lookup(task: TaskLike) -> Task:
    """Finds the task that a name or a callable stands for.

    Args:
        task: a short name such as dog-run, a suite's own name for a task, `module:task` where the module
            registers a suite, `module:factory`, or a callable that returns a gymnasium.Env.

    Raises:
        UserError: the name is unknown; the message suggests the nearest.
    """
    if not isinstance(task, str):
        _check_callable(task)
        return _of_factory(name_of(task))
    module = task.partition(":")[0] if ":" in task else ""
    if module and module != "__main__":
        prepare_graphics(render=False)
        # A failed import is left for `make` to report: with a callable at hand, the module is not needed.
        with contextlib.suppress(UserError):
            import_user_module(task, f"the task {task!r}")
    found = _find(task)
    if found is not None:
        return found
    if module and not _lacks(module, task):  # a factory, if only in a module that is missing here
        return _of_factory(task)
    known: list[str] = []
    for suite in SUITES.values():
        known += map(suite.full_name, suite.tasks if suite.installed else ())
    raise unknown_task(task, known)


def require_named(task: str) -> None:
    """Raises UserError if a task is `module:name` of a module that can be imported here and lacks the name.

    What cannot be imported here may be on another machine.
    """
    module, _, name = task.partition(":")
    named = all(map(str.isidentifier, name.split(".")))  # and no id, nor what was given as a callable
    if not named or module == "__main__" or suite_of(task).name != "gymnasium":
        return
    try:
        found = import_user_module(task, f"the task {task!r}")
    except UserError:
        return
    found_in(found, task, f"the task is {task!r}")


def make(
    task: TaskLike,
    *,
    action_repeat: int | None = None,
    episode_frames: int | None = None,
    terminations: bool = True,
    frame_stack: int = 1,
    render: bool = False,
) -> Environment:
    """Makes one environment.

    Args:
        task: as in `lookup`.
        action_repeat: environment frames per agent decision; by default the suite's.
        episode_frames: time limit in environment frames; by default the suite's.
        terminations: whether an episode ends when its task terminates; if not, it runs to the time limit, as
            in BRO.
        frame_stack: observations that make one, those of the newest decisions.
        render: whether pictures will be made; chooses MuJoCo's backend unless that is already chosen.

    Raises:
        UserError: the task is unknown, its suite is not installed, or its spaces are not supported.
    """
    if render:
        prepare_graphics(render=True)
    known = lookup(task)
    prepare_graphics(render=render or known.name in SUITES[known.suite].opengl)
    episode_frames = known.episode_frames if episode_frames is None else episode_frames
    return Environment(
        _watched(_simulator(task, known, episode_frames, render)),
        known,
        action_repeat=known.action_repeat if action_repeat is None else action_repeat,
        episode_frames=episode_frames,
        terminations=terminations,
        frame_stack=frame_stack,
    )


def given(
    environment: Any,
    task: Task,
    *,
    action_repeat: int,
    episode_frames: int | None,
    terminations: bool,
    frame_stack: int,
) -> Environment:
    """As `make`, around a gymnasium.Env that exists already.

    Args:
        environment: a gymnasium.Env; it stays the caller's to close.
        task: what is known of it.
        action_repeat: environment frames per agent decision.
        episode_frames: time limit in environment frames; None: its own.
        terminations: whether an episode ends when its task terminates.
        frame_stack: observations that make one.

    Raises:
        UserError: it is no gymnasium.Env, or its spaces are not supported.
    """
    return Environment(
        _watched(_simulator(lambda: environment, task, episode_frames, render=False)),
        task,
        action_repeat=action_repeat,
        episode_frames=episode_frames,
        terminations=terminations,
        frame_stack=frame_stack,
    )


def prepare_graphics(*, render: bool) -> None:
    """Chooses MuJoCo's OpenGL backend, unless the user has chosen one.

    MuJoCo reads the choice when it is first imported, so this must be called before; later it has no effect.

    Args:
        render: whether pictures will be made, which takes a backend that works without a display.
    """
    if "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", "egl" if render else "disabled")


def _check_callable(task: object) -> None:
    """Raises UserError if a task is neither a name nor a class or function that makes environments."""
    if callable(task):
        return
    fix = "it must be a name such as 'cheetah-run', or a class or function that makes a gymnasium.Env"
    if inspect.getattr_static(task, "step", None) is not None:
        fix = "every seed needs environments of its own, so give the class, or a function that makes one"
    raise UserError(f"the task is {task!r}: {fix}")


def tidy() -> None:
    """Gives back the memory that was only needed to make environments, after many have been made."""
    models, mujoco = sys.modules.get("crossq_wn.environments.models"), sys.modules.get("mujoco")
    if models is not None:
        models.forget()
    if mujoco is not None:
        mujoco.mj_clearCache(mujoco.mj_getCache())  # meshes and textures as they were read
        mujoco.MjModel.from_xml_string("<mujoco/>")  # MuJoCo keeps what it has parsed until it parses again
    trim_memory()


def _of_factory(where: str) -> Task:
    suite = SUITES["gymnasium"]
    return Task(where, suite.name, where, suite.action_repeat, None, suite.discount, suite.metric)


def _find(task: str) -> Task | None:
    for key, suite in SUITES.items():
        if suite.name != key:
            raise UserError(
                f"SUITES[{key!r}] holds a suite called {suite.name!r}: both names must be the same"
            )
        found = suite.find(task)
        if found is not None:
            return found
    return None


def _lacks(module: str, task: str) -> bool:
    """Whether a module that registers suites has no factory of this name either."""
    loaded = sys.modules.get(module)
    factory = task.partition(":")[2].partition(".")[0]
    registers = any(suite.module == module for suite in SUITES.values())
    return registers and loaded is not None and not hasattr(loaded, factory)


def _simulator(task: TaskLike, known: Task, episode_frames: int | None, render: bool) -> Simulator:
    if not isinstance(task, str):
        from crossq_wn.environments.factories import from_callable
        from crossq_wn.environments.gymnasium import Gymnasium

        return Gymnasium(from_callable(task, known.name, render=render), known.name)
    suite = SUITES[known.suite]
    try:
        return suite.make(known, episode_frames=episode_frames, render=render)
    except ImportError as error:
        fix = f": install it with {suite.install_command}" if suite.install_command else ""
        raise UserError(
            f"{known.name} needs {suite.title}, which cannot be imported ({error}){fix}"
        ) from None


def _watched(simulator: Simulator) -> Simulator:
    """The simulator, once the random streams that it may share with others are known."""
    if not simulator.in_threads:  # of the suites it is known that they share nothing
        watch(written_by_user(simulator))
    return simulator


__all__ = [
    "PAPER_GROUPS",
    "PAPER_TASKS",
    "SUITES",
    "Environment",
    "EnvironmentFaultError",
    "Episode",
    "Frame",
    "Group",
    "Suite",
    "Task",
    "TaskLike",
    "Transition",
    "given",
    "lookup",
    "make",
    "paper_frames",
    "prepare_graphics",
    "require_named",
    "suite_of",
    "tidy",
]
