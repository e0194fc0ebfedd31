"""Benchmark suites: a record for each, which is all that the rest of the package knows of it.

A suite is added by an adapter that implements `core.Simulator` and a record in `SUITES`, here or in a module
of your own (docs/your-own-suite.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from crossq_wn.environments.core import Simulator, Task
from crossq_wn.errors import UserError

INSTALL = "pip install --upgrade crossq-wn"
METRICS = ("return", "success_rate")  # what an evaluation measures of every task


class Group(NamedTuple):
    """Tasks that figures and verdicts aggregate over."""

    title: str
    tasks: tuple[str, ...]  # short names
    paper_frames: int | None = None  # environment frames per seed in the paper; None: not in the paper


class Maker(Protocol):
    """How a suite makes its simulators."""

    def __call__(self, task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
        """Makes the simulator of a task.

        Args:
            task: the task; `task.identifier` is the suite's own name for it.
            episode_frames: the time limit that `core.Environment` will keep, in environment frames; None: it
                keeps none, so the simulator must.
            render: whether pictures will be asked for.

        Raises:
            ImportError: a package is missing; `Suite.install` is suggested then.
            UserError: anything else that the user can mend.
        """


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One benchmark suite: its tasks, their protocol, how they are scored and grouped, how they are made."""

    name: str  # the suite's key in `SUITES`
    title: str
    panel: str  # the title of all its groups together, in a figure
    tasks: Mapping[str, str]  # short name -> the suite's own name for the task
    make: Maker
    groups: tuple[Group, ...] = ()
    metric: str = "return"  # what is reported first: one of `METRICS`
    scale: float = 1.0  # a score is the metric divided by this
    bounded: bool = False  # whether no score exceeds 1
    action_repeat: int = 1  # frames per decision
    episode_frames: int | None = None  # time limit in frames; None: the environment's own
    discount: float = 0.99  # per decision
    packages: tuple[str, ...] = ()  # distributions whose versions decide its physics
    install: str = ""  # the command that installs these packages
    own_names: str = r"(?!)"  # regular expression of further names that `make` understands; this matches none
    opengl: tuple[str, ...] = ()  # tasks that need a renderer to be trained at all
    module: str = ""  # where it is registered, if outside this package: `__name__`

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            known = " or ".join(METRICS)
            raise UserError(f"the suite {self.name!r} has the metric {self.metric!r}: it must be {known}")
        if not self.scale > 0:
            raise UserError(f"the suite {self.name!r} has the scale {self.scale}: it must be above 0")
        try:
            re.compile(self.own_names)
        except re.error as error:
            raise UserError(
                f"the suite {self.name!r} has the own_names {self.own_names!r}: it must be a regular "
                f"expression, but {error}"
            ) from None

    @property
    def unit(self) -> str:
        """A score's unit in words, such as `return / 1000`."""
        words = self.metric.replace("_", " ")
        return words if self.scale == 1 else f"{words} / {self.scale:g}"

    def full_name(self, short: str) -> str:
        """A task's name in results and run directories: `module:short` if the suite is from outside."""
        return f"{self.module}:{short}" if self.module else short

    def grouped(self) -> dict[str, tuple[str, ...]]:
        """The full names of the tasks in each group, by the group's title."""
        found = {}
        for group in self.groups:
            found[group.title] = tuple(self.full_name(short) for short in group.tasks)
        return found

    def find(self, name: str) -> Task | None:
        """Finds the task that a name stands for.

        Args:
            name: a task's short or full name, spelt with `-` or `_`, or a name that `own_names` matches.

        Returns:
            The task, or None if this suite does not have it.
        """
        short = name.removeprefix(f"{self.module}:") if self.module else name
        for spelling in (short, short.replace("_", "-").lower()):
            if spelling in self.tasks:
                return self._task(spelling, self.tasks[spelling], self.episode_frames)
        if not re.fullmatch(self.own_names, short):
            return None
        for listed, identifier in self.tasks.items():
            if identifier == short:
                return self._task(listed, identifier, self.episode_frames)
        return self._task(short, short, None)  # the time limit of a task that is not listed is unknown here

    def _task(self, short: str, identifier: str, episode_frames: int | None) -> Task:
        return Task(
            self.full_name(short),
            self.name,
            identifier,
            self.action_repeat,
            episode_frames,
            self.discount,
            self.metric,
        )

    def description(self) -> dict[str, Any]:
        """Returns everything but `make` as plain values, which `remember` takes back."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "make"}


def remember(description: Mapping[str, Any]) -> None:
    """Makes a suite known whose module is not loaded, so that its results can be read, grouped and labelled.

    A suite that is known already stays as it is.

    Args:
        description: what `Suite.description` returned, perhaps by way of JSON.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    if description["name"] in SUITES:
        return
    values: dict[str, Any] = {"make": _make_unloaded}
    for field in fields(Suite):
        if field.name in description:
            value = description[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
    values["tasks"] = dict(description["tasks"])
    values["groups"] = tuple(Group(title, tuple(tasks), None) for title, tasks, _ in description["groups"])
    SUITES[description["name"]] = Suite(**values)


def simulator_packages() -> list[str]:
    """Lists the distributions whose versions decide the physics of any suite, each once."""
    found: dict[str, None] = {}
    for suite in SUITES.values():
        found |= dict.fromkeys(suite.packages)
    return list(found)


def suite_of(task: str) -> Suite:
    """Finds the suite of a task, without loading a simulator or a module.

    Args:
        task: its name in results and run directories.

    Returns:
        The suite; Gymnasium for names that no suite has, such as `module:factory`.
    """
    for suite in SUITES.values():
        if suite.find(task) is not None:
            return suite
    return SUITES["gymnasium"]


def _make_dm_control(task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
    from crossq_wn.environments.dm_control import DMControl

    domain, name = task.identifier.split(":")
    return DMControl(domain, name)


def _make_myosuite(task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
    from crossq_wn.environments.myosuite import MyoSuite

    return MyoSuite(task.identifier, episode_frames)


def _make_gymnasium(task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
    from crossq_wn.environments.gymnasium import Gymnasium, from_factory, from_id

    if ":" in task.identifier:
        return Gymnasium(from_factory(task.identifier), task.name)
    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    if episode_frames is not None:
        options["max_episode_steps"] = -1  # no limit of its own
    return Gymnasium(from_id(task.identifier, **options), task.name)


def _make_unloaded(task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
    suite = SUITES[task.suite]
    raise UserError(
        f"{task.name} belongs to the suite {suite.name!r}, whose module {suite.module!r} cannot be imported: "
        "run this where that module lies, or install it"
    )


# All tasks of dm_control 1.0.38, by domain.
_DM_CONTROL = {
    "acrobot": "swingup swingup_sparse",
    "ball_in_cup": "catch",
    "cartpole": "balance balance_sparse swingup swingup_sparse two_poles three_poles",
    "cheetah": "run",
    "dog": "stand walk trot run fetch",
    "finger": "spin turn_easy turn_hard",
    "fish": "upright swim",
    "hopper": "stand hop",
    "humanoid": "stand walk run run_pure_state",
    "humanoid_CMU": "stand walk run",
    "lqr": "lqr_2_1 lqr_6_2",
    "manipulator": "bring_ball bring_peg insert_ball insert_peg",
    "pendulum": "swingup",
    "point_mass": "easy hard",
    "quadruped": "walk run escape fetch",
    "reacher": "easy hard",
    "stacker": "stack_2 stack_4",
    "swimmer": "swimmer6 swimmer15",
    "walker": "stand walk run",
}
_MYOSUITE = {
    "myo-reach": "myoHandReach",
    "myo-pose": "myoHandPose",
    "myo-obj-hold": "myoHandObjHold",
    "myo-key-turn": "myoHandKeyTurn",
    "myo-pen-twirl": "myoHandPenTwirl",
}
_GYMNASIUM = (
    "Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5", "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5", "Walker2d-v5",
)  # fmt: skip


def _dm_control_tasks() -> dict[str, str]:
    found = {}
    for domain, tasks in _DM_CONTROL.items():
        for task in tasks.split():
            short = f"{domain}-{task}".replace("_", "-").lower()
            found[short] = f"{domain}:{task}"
    return found


def _myosuite_tasks() -> dict[str, str]:
    easy = {short: f"{name}Fixed-v0" for short, name in _MYOSUITE.items()}
    hard = {f"{short}-hard": f"{name}Random-v0" for short, name in _MYOSUITE.items()}
    return easy | hard


# By name. Groups and frames: paper v2, sections 5 and 5.1.
SUITES: dict[str, Suite] = {
    "dmc": Suite(
        name="dmc",
        title="DeepMind Control",
        panel="DMC",
        tasks=_dm_control_tasks(),
        groups=(
            Group(
                "DMC dog & humanoid",
                ("dog-stand", "dog-walk", "dog-trot", "dog-run", "humanoid-stand", "humanoid-walk",
                 "humanoid-run"),
                paper_frames=1_000_000,
            ),
            Group(
                "DMC medium & easy",
                ("cheetah-run", "walker-run", "hopper-stand", "finger-turn-hard", "quadruped-run",
                 "fish-swim", "hopper-hop", "pendulum-swingup"),
                paper_frames=200_000,
            ),
        ),
        scale=1000.0,
        bounded=True,
        action_repeat=2,
        episode_frames=1000,
        packages=("mujoco", "dm_control"),
        install=INSTALL,
        opengl=("quadruped-escape",),  # uploads its terrain to a renderer at every reset
        make=_make_dm_control,
    ),
    "myosuite": Suite(
        name="myosuite",
        title="MyoSuite",
        panel="MyoSuite",
        tasks=_myosuite_tasks(),
        groups=(
            Group("Myo hard", tuple(f"{short}-hard" for short in _MYOSUITE), paper_frames=1_000_000),
            Group("Myo easy", tuple(_MYOSUITE), paper_frames=200_000),
        ),
        metric="success_rate",
        bounded=True,
        action_repeat=2,
        episode_frames=100,
        discount=0.95,
        packages=("mujoco", "myosuite"),
        install="pip install 'crossq-wn[myosuite]'",
        own_names=r"myo[^:]*(-v\d+|/[^:]*)",
        make=_make_myosuite,
    ),
    "gymnasium": Suite(
        name="gymnasium",
        title="Gymnasium MuJoCo",
        panel="Gymnasium",
        tasks={name: name for name in _GYMNASIUM},
        packages=("mujoco", "gymnasium"),
        install=INSTALL,
        own_names=r"[^:]*(-v\d+|/[^:]*)",
        make=_make_gymnasium,
    ),
}  # fmt: skip

# Paper v2, figure 7: 15 tasks of DeepMind Control and 10 of MyoSuite, by the title of their group.
PAPER_GROUPS: dict[str, tuple[str, ...]] = SUITES["dmc"].grouped() | SUITES["myosuite"].grouped()
PAPER_TASKS: tuple[str, ...] = sum(PAPER_GROUPS.values(), ())


def paper_frames(task: str) -> int:
    """Returns the environment frames per seed for which the paper trains on a task.

    Raises:
        UserError: the task is not one of the paper's.
    """
    for group in suite_of(task).groups:
        if task in group.tasks and group.paper_frames is not None:
            return group.paper_frames
    raise UserError(f"{task!r} is not one of the paper's tasks: they are {', '.join(PAPER_TASKS)}")
