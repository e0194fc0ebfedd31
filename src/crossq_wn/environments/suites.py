"""The table of benchmark suites, whose records are all that the rest of the package knows of a suite.

To add a suite, write an adapter that implements `core.Simulator`, and register a record in `SUITES`, here or
in a module of your own (docs/your-own-suite.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from crossq_wn.environments.core import Simulator, Task
from crossq_wn.environments.suite import Group, Suite
from crossq_wn.errors import UserError


def remember(description: Mapping[str, Any]) -> None:
    """Adds a suite whose module is not loaded, so that its results can be read, grouped and labelled.

    A suite that is already known stays as it is.

    Args:
        description: what `Suite.description` returned, possibly after a round trip through JSON.

    Raises:
        UserError: the same name stands for another suite, or it takes titles of another's groups.
        KeyError, TypeError, ValueError: it is damaged.
    """
    known = SUITES.get(description["name"])
    if known is not None and not known.foreign:
        return  # the loaded record can also make simulators
    values: dict[str, Any] = {"make": _make_unloaded, "foreign": True}
    for field in fields(Suite):
        if field.name in description:
            value = description[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
    values["tasks"] = dict(description["tasks"])
    values["groups"] = tuple(
        Group(str(title), tuple(tasks), None) for title, tasks, _ in description["groups"]
    )
    suite = Suite(**values)
    if known is None:
        _check_titles(suite)
    elif known.description() != suite.description():
        raise UserError(f"manifest.json describes the suite {suite.name!r} differently from an earlier run's")
    SUITES[suite.name] = suite


def _check_titles(suite: Suite) -> None:
    """Checks that the titles of a new suite are not those of another; raises UserError otherwise."""
    titles: set[str] = set()
    for each in SUITES.values():
        titles |= {*each.grouped(), each.panel}
    if taken := titles & {*suite.grouped(), suite.panel}:
        raise UserError(
            f"the suite {suite.name!r} in manifest.json takes the title {taken.pop()!r} of another suite"
        )


def simulator_packages() -> list[str]:
    """The distributions whose versions decide the physics of any suite, each once."""
    found: dict[str, None] = {}
    for suite in SUITES.values():
        found |= dict.fromkeys(suite.packages)
    return list(found)


def suite_of(task: str) -> Suite:
    """Finds the suite of a task without loading a simulator or a module.

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
    from crossq_wn.environments.factories import from_factory, from_id
    from crossq_wn.environments.gymnasium import Gymnasium

    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    if episode_frames is not None:
        options["max_episode_steps"] = -1  # Gymnasium's own time limit is off
    if ":" in task.identifier:
        return Gymnasium(from_factory(task.identifier, **options), task.name)
    return Gymnasium(from_id(task.identifier, **options), task.name)


def _make_unloaded(task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
    suite = SUITES[task.suite]
    raise UserError(
        f"{task.name} belongs to the suite {suite.name!r}, whose module {suite.module!r} cannot be imported: "
        "install the module, or run this in its folder"
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


# By name. The groups and their frames are those of paper v2, sections 5 and 5.1.
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
        extra="published,myosuite",
        own_names=r"myo[^:]*(-v\d+|/[^:]*)",
        make=_make_myosuite,
    ),
    "gymnasium": Suite(
        name="gymnasium",
        title="Gymnasium MuJoCo",
        panel="Gymnasium",
        tasks={name: name for name in _GYMNASIUM},
        packages=("mujoco", "gymnasium"),
        own_names=r"[^:]*(-v\d+|/[^:]*)",
        make=_make_gymnasium,
    ),
}  # fmt: skip

# By title of the group: 15 tasks of DeepMind Control and 10 of MyoSuite (paper v2, figure 7); of either suite
# the hard ones come first, as in section 5.
PAPER_GROUPS: dict[str, tuple[str, ...]] = SUITES["dmc"].grouped() | SUITES["myosuite"].grouped()
PAPER_TASKS: tuple[str, ...] = sum(PAPER_GROUPS.values(), ())


def paper_frames(task: str) -> int:
    """The environment frames per seed for which the paper trains on a task.

    Raises:
        UserError: the task is not one of the paper's.
    """
    for group in suite_of(task).groups:
        if task in group.tasks and group.paper_frames is not None:
            return group.paper_frames
    raise UserError(f"{task!r} is not one of the paper's tasks: they are {', '.join(PAPER_TASKS)}")
