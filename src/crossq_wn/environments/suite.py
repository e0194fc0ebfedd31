"""The record of a benchmark suite: tasks, protocol, scores and groups, and how a simulator is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from crossq_wn.environments.core import Simulator, Task
from crossq_wn.errors import UserError
from crossq_wn.installation import install_command, version

METRICS = ("return", "success_rate")  # every evaluation measures the first, and the second if there is any


_NO_NAMES = r"(?!)"


class Group(NamedTuple):
    """Tasks over which figures and verdicts aggregate."""

    title: str
    tasks: tuple[str, ...]  # short names
    paper_frames: int | None = None  # environment frames per seed in the paper; None: not in the paper


class Maker(Protocol):
    """Makes a suite's simulators."""

    def __call__(self, task: Task, *, episode_frames: int | None, render: bool) -> Simulator:
        """Makes the simulator of a task.

        Args:
            task: the task; `task.identifier` is the suite's own name for it.
            episode_frames: the time limit that `core.Environment` will enforce, in environment frames; with
                None it enforces none, so the simulator must.
            render: whether pictures will be made.

        Raises:
            ImportError: a package is missing; the user is then told `Suite.install_command`.
            UserError: anything else that the user can mend.
        """


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One benchmark suite: its tasks and their protocol, its scores and groups, and its simulators."""

    name: str  # the suite's key in `SUITES`
    title: str
    panel: str  # the title of all its groups together, in a figure
    tasks: Mapping[str, str]  # short name -> the suite's own name for the task
    make: Maker
    groups: tuple[Group, ...] = ()
    metric: str = "return"  # the one of `METRICS` that results are about
    scale: float = 1.0  # a score is the metric divided by this
    bounded: bool = False  # whether no score can exceed 1
    action_repeat: int = 1  # environment frames per agent decision
    episode_frames: int | None = None  # time limit in environment frames; None: the environment's own
    discount: float = 0.99  # per agent decision
    packages: tuple[str, ...] = ()  # distributions whose versions decide its physics
    install: str = ""  # the command that installs these packages; by default this package's own
    extra: str = ""  # the extras of this package that require them, if they come with none
    own_names: str = _NO_NAMES  # regular expression of further names that `make` accepts; by default none
    opengl: tuple[str, ...] = ()  # tasks that cannot even be trained without a renderer
    module: str = ""  # the module that registers it, if it is not in this package: `__name__`
    foreign: bool = False  # known only from the manifest.json of a run, because its module is not loaded

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            known = " or ".join(METRICS)
            raise UserError(f"the suite {self.name!r} has the metric {self.metric!r}: it must be {known}")
        if not self.scale > 0:
            raise UserError(f"the suite {self.name!r} has the scale {self.scale}: it must be above 0")
        try:
            re.compile("" if self.foreign else self.own_names)  # a stranger's expression may take forever
        except re.error as error:
            raise UserError(
                f"the suite {self.name!r} has the own_names {self.own_names!r}: it must be a regular "
                f"expression, but {error}"
            ) from None

    @property
    def install_command(self) -> str:
        """The command that installs its packages; empty where none is known."""
        if self.install or self.module:
            return self.install
        return install_command(self.extra)

    @property
    def shipped(self) -> bool:
        """Whether its packages are installed with this one."""
        return not (self.extra or self.module)

    @property
    def installed(self) -> bool:
        """Whether its packages are there."""
        return all(version(name) is not None for name in self.packages)

    @property
    def unit(self) -> str:
        """The unit of a score in words, such as `return / 1000`."""
        words = self.metric.replace("_", " ")
        return words if self.scale == 1 else f"{words} / {self.scale:g}"

    def full_name(self, short: str) -> str:
        """A task's name in results and run directories: `module:short` for suites from other packages.

        Args:
            short: the task's name in `tasks`.
        """
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
            The task, or None if it is not one of this suite.
        """
        if self.foreign and not name.startswith(f"{self.module}:"):
            return None  # a run's manifest.json must not redefine other tasks
        short = name.removeprefix(f"{self.module}:") if self.module else name
        for spelling in (short, short.replace("_", "-").lower()):  # as users and dm_control write names
            if spelling in self.tasks:
                return self._task(spelling, self.tasks[spelling], self.episode_frames)
        if not (self.own_names != _NO_NAMES if self.foreign else re.fullmatch(self.own_names, short)):
            return None
        for listed, identifier in self.tasks.items():
            if identifier == short:
                return self._task(listed, identifier, self.episode_frames)
        return self._task(short, short, None)  # an unlisted task has its own time limit, unknown here

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
        """Everything except `make` as plain values, from which `remember` restores the suite."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("make", "foreign")
        }
