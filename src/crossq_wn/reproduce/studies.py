"""The runs that each figure of the paper needs, at four scales.

A run is stored in ROOT/SCALE/TASK/SYSTEM whichever figure asks for it, so figures share runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crossq_wn.environments import PAPER_GROUPS, PAPER_TASKS, paper_frames
from crossq_wn.errors import UserError, nearest, shown
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.runs.system import System
from crossq_wn.sweeps.plans import slug
from crossq_wn.training import api


class PlannedSystem(NamedTuple):
    """A system to compare, with the paper's name for it."""

    label: str
    system: System  # its changes from the algorithm's default preset, the same at every scale

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return self.system.algorithm

    @property
    def utd(self) -> int:
        """Gradient updates per agent decision, which every plan fixes."""
        assert self.system.utd is not None
        return self.system.utd

    @property
    def changes(self) -> dict[str, Any]:
        """The settings other than the UTD ratio that differ from the default preset; an ablation has some."""
        return dict(self.system.changes)


class FigurePlan(NamedTuple):
    """The runs of one figure: every system on every task."""

    tasks: tuple[str, ...]
    systems: tuple[PlannedSystem, ...]


@dataclass(frozen=True)
class Scale:
    """How large the studies are."""

    name: str
    about: str  # one sentence for readers of a verdict
    decides: bool  # whether its verdicts are meaningful
    seeds: tuple[int, ...]
    frames: Callable[[str], int]  # task -> environment frames per seed
    changes: Mapping[str, Any]  # applied to every system that has these settings, such as narrower networks
    options: Mapping[str, Any]  # further arguments of `api.configure`
    figures: Mapping[str, FigurePlan]  # by name, such as fig3
    along: Literal["frames", "updates"] = "frames"  # what its curves run over


class PlannedRun(NamedTuple):
    """One process: a system on a task with all its seeds."""

    path: Path
    system: PlannedSystem
    config: RunConfig

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.config.task}, {self.system.label}"


def planned(label: str, algorithm: str, utd: int, **changes: Any) -> PlannedSystem:
    """Makes a planned system; its label gets the UTD ratio.

    Args:
        label: the paper's name; after a comma, the name of an ablation.
        algorithm: its name in the table of algorithms.
        utd: gradient updates per agent decision.
        changes: other settings that differ from the default preset.
    """
    name, comma, ablation = label.partition(",")
    system = System(algorithm, utd, "default", tuple(changes.items()))
    return PlannedSystem(f"{name} UTD {utd}{comma}{ablation}", system)


def crossq(utd: int) -> PlannedSystem:
    """CrossQ without a target network (figure 3)."""
    return planned("CrossQ", "crossq", utd)


def wn(utd: int, but: str = "", **changes: Any) -> PlannedSystem:
    """CrossQ + WN, or an ablation of it.

    Args:
        utd: gradient updates per agent decision.
        but: the name of the ablation.
        changes: settings that differ from the default preset.
    """
    return planned(f"CrossQ + WN, {but}" if but else "CrossQ + WN", "crossq-wn", utd, **changes)


def ablations(
    reset_updates: int | None, l2_scales: Iterable[float], utd: int = 5
) -> tuple[PlannedSystem, ...]:
    """The systems of figure 5.

    The paper gives neither the interval of its resets nor the scales of its penalty, so ours are our choice.

    Args:
        reset_updates: gradient updates between resets; None leaves that ablation out.
        l2_scales: scales of the penalty, one system for each.
        utd: gradient updates per agent decision; the paper's are 5.
    """
    resets = () if reset_updates is None else (wn(utd, "resets", reset_updates=reset_updates),)
    return (
        wn(utd),
        # That is CrossQ with a target network, and CrossQ has no weight decay.
        wn(utd, "no WN", weight_norm="none", actor_weight_decay=0.0, critic_weight_decay=0.0),
        wn(utd, "no target network", target_network=False),
        *resets,
        *(wn(utd, f"L2 {scale:g}", weight_norm="l2", l2_scale=scale) for scale in l2_scales),
    )


SIMBA = planned("SimBa", "simba", 2)
SIMBA_8 = planned("SimBa", "simba", 8)
BRO = planned("BRO", "bro", 10)
BRO_FAST = planned("BRO", "bro-fast", 2)
SR_SAC = planned("SR-SAC", "sr-sac", 32)

_NORMS = (crossq(1), crossq(5), wn(1), wn(5))
_LADDER = (wn(1), wn(2), wn(5), wn(10))
_DMC_HARD, _DMC_EASY, _MYO_HARD, _ = PAPER_GROUPS.values()


def _like_the_paper(
    tasks: tuple[str, ...], resets: int, l2_scales: tuple[float, ...]
) -> dict[str, FigurePlan]:
    """A plan for every figure on these tasks, without the paper's most expensive systems."""
    best = FigurePlan(tasks, (wn(2), SIMBA, BRO_FAST))
    return {
        "fig1": best,
        "fig2": best,  # the speed of the same runs
        "fig3": FigurePlan(tasks, _NORMS),
        "fig4": FigurePlan(tasks, _LADDER),
        "fig5": FigurePlan(tasks, ablations(resets, l2_scales)),
        "fig6": FigurePlan(tasks, _LADDER),
        "fig7": FigurePlan(tasks, (wn(5), crossq(1), crossq(5), BRO_FAST)),
    }


PAPER = Scale(
    name="paper",
    about="the paper's tasks, networks (Table 1) and 10 seeds; 1M frames, 200k on easier tasks (section 5.1)",
    decides=True,
    seeds=tuple(range(10)),
    frames=paper_frames,
    changes={},
    options={"eval_every": 25_000, "eval_episodes": 5},
    figures={
        "fig1": FigurePlan(PAPER_TASKS, (wn(2), SIMBA, BRO_FAST)),
        "fig2": FigurePlan(PAPER_TASKS, (wn(2), SIMBA, BRO_FAST)),
        "fig3": FigurePlan(_DMC_HARD + _MYO_HARD, _NORMS),
        # The caption speaks of 15 DMC tasks, the text of both suites.
        "fig4": FigurePlan(PAPER_TASKS, (*_LADDER, wn(20), SIMBA, SIMBA_8, BRO_FAST, BRO)),
        "fig5": FigurePlan(PAPER_TASKS, ablations(250_000, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))),
        "fig6": FigurePlan(_DMC_HARD + _DMC_EASY, (*_LADDER, wn(20), SR_SAC)),
        "fig7": FigurePlan(PAPER_TASKS, (wn(5), crossq(1), crossq(5), BRO, SR_SAC)),
    },
)

# Figures 3 and 4 need 12 runs of 3 seeds: about 4 core-hours, or 2 to 3 hours on two cores.
LAPTOP = Scale(
    name="laptop",
    about="two of the paper's easier tasks, networks a quarter as wide, 40k frames, 3 seeds",
    decides=True,
    seeds=tuple(range(3)),
    frames=lambda task: 40_000,
    changes={"critic_width": 128, "actor_width": 64, "warmup": 2_000},
    options={"eval_every": 5_000, "eval_episodes": 5, "checkpoint_every": 5_000},
    figures=_like_the_paper(("walker-run", "cheetah-run"), 50_000, (1e-4, 1e-3, 1e-2)),
)

# Norms, effective learning rates and dead neurons follow the number of gradient updates. The paper's runs at
# a UTD ratio of 5 make 2.5 million; here a UTD ratio of 20 makes 2.4 million in a quarter of the frames.
_CLIMB = (wn(2), wn(10), wn(20))
_LONG_TASKS = ("hopper-hop", "walker-run", "humanoid-stand")
WORKSTATION = Scale(
    name="workstation",
    about="as many gradient updates as the paper's runs: three of its tasks, networks a quarter as wide, "
    "250k frames, UTD ratios up to 20, 3 seeds",
    decides=True,
    seeds=tuple(range(3)),
    frames=lambda task: 250_000,
    changes={"critic_width": 128, "actor_width": 64},
    options={"eval_every": 12_500, "eval_episodes": 5, "checkpoint_every": 12_500, "log_every": 2_500},
    figures={
        "fig3": FigurePlan(_LONG_TASKS, (crossq(2), crossq(10), crossq(20), *_CLIMB)),
        "fig4": FigurePlan(_LONG_TASKS, _CLIMB),
        "fig5": FigurePlan(_LONG_TASKS, ablations(None, (1e-4, 1e-3, 1e-2), utd=20)),
    },
    along="updates",
)

SMOKE = Scale(
    name="smoke",
    about="tiny networks and a few thousand frames; shows that the machinery works, and nothing more",
    decides=False,
    seeds=(0, 1, 2),
    frames=lambda task: 3_000,
    changes={"critic_width": 16, "actor_width": 16, "warmup": 500, "batch_size": 32},
    options={"eval_every": 1_000, "eval_episodes": 1, "checkpoint_every": 1_000, "log_every": 200},
    figures=_like_the_paper(("pendulum-swingup", "cheetah-run"), 2_000, (1e-3,)),
)

SCALES = {scale.name: scale for scale in (SMOKE, LAPTOP, WORKSTATION, PAPER)}


def scale_called(name: str) -> Scale:
    """The scale of that name.

    Raises:
        UserError: there is none of that name; the message suggests the nearest.
    """
    if name not in SCALES:
        raise UserError(f"--scale is {name!r}: {nearest(name, SCALES)}choose from {', '.join(SCALES)}")
    return SCALES[name]


def plan(scale: Scale, figures: Iterable[str], root: Path) -> list[PlannedRun]:
    """Lists the runs that these figures need, each once.

    Args:
        scale: the scale of the runs.
        figures: such as fig3.
        root: the folder that holds the runs.

    Raises:
        UserError: a figure is unknown; the message suggests the nearest.
    """
    runs: dict[Path, PlannedRun] = {}
    for figure in figures:
        if figure not in scale.figures:
            known = ", ".join(scale.figures)
            raise UserError(f"unknown figure {figure!r}: {nearest(figure, scale.figures)}choose from {known}")
        tasks, systems = scale.figures[figure]
        for task in tasks:
            for system in systems:
                run = _run(scale, task, system, root)
                runs[run.path] = run
    return list(runs.values())


def unlike(runs: Sequence[PlannedRun]) -> list[str]:
    """The parts of the protocol in which systems differ by plan, a line per difference."""
    by_task: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_task.setdefault(run.config.task, []).append(run)
    places: dict[str, list[str]] = {}  # a difference -> the tasks that have it
    for task, here in by_task.items():
        for name in here[0].config.protocol:
            values: dict[Any, list[str]] = {}  # value -> labels of the systems that have it
            for run in here:
                values.setdefault(run.config.protocol[name], []).append(run.system.label)
            if len(values) > 1:
                # A system may have a run for each of its seeds.
                parts = [
                    f"{shown(value)} ({', '.join(dict.fromkeys(labels))})" for value, labels in values.items()
                ]
                places.setdefault(f"{name} is {' but '.join(parts)}", []).append(task)
    return [f"protocols differ by plan: {told}, on {', '.join(tasks)}" for told, tasks in places.items()]


def _run(scale: Scale, task: str, planned: PlannedSystem, root: Path) -> PlannedRun:
    options = {"seeds": scale.seeds, "frames": scale.frames(task), **_QUIET, **scale.options}
    config = api.configure(task, algorithm=planned.algorithm, **options, **values_of(scale, planned))
    path = root / scale.name / slug(task) / slug(f"{planned.algorithm} {_words(_own(planned))}")
    return PlannedRun(path, planned, config)


def values_of(scale: Scale, planned: PlannedSystem) -> dict[str, Any]:
    """The settings of a system at a scale that differ from the default preset."""
    usual = preset_settings(planned.algorithm, "default")
    shared = {name: value for name, value in scale.changes.items() if hasattr(usual, name)}
    return {**shared, **_own(planned)}


def _own(planned: PlannedSystem) -> dict[str, Any]:
    return {"utd": planned.utd, **planned.changes}


_QUIET = {"video": False, "tensorboard": False}


def _words(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in changes.items())
