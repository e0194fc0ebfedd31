"""Which runs does each figure of the paper need? Studies as data, at three scales, and the plan they make.

A run is what it is, not whom it serves: it lies in ROOT/SCALE/TASK/SYSTEM, so figures share it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.environments import PAPER_GROUPS, PAPER_TASKS, paper_frames
from crossq_wn.errors import UserError, nearest
from crossq_wn.runs.config import RunConfig, preset_settings
from crossq_wn.training import api


class System(NamedTuple):
    """What is compared: an algorithm, and what leaves its default preset."""

    label: str  # as claims and tables name it
    algorithm: str
    changes: Mapping[str, Any]


class Study(NamedTuple):
    """One figure's runs: every system on every task."""

    tasks: tuple[str, ...]
    systems: tuple[System, ...]


@dataclass(frozen=True)
class Scale:
    """How large the studies are."""

    name: str
    about: str  # one sentence for whoever reads a verdict
    decides: bool  # whether its verdicts mean anything
    seeds: tuple[int, ...]
    frames: Callable[[str], int]  # task -> environment frames per seed
    changes: Mapping[str, Any]  # of every system that has these settings, such as narrower networks
    options: Mapping[str, Any]  # further arguments of `api.configure`
    studies: Mapping[str, Study]  # by figure


class Run(NamedTuple):
    """One process: a system on a task with all its seeds."""

    path: Path
    label: str
    config: RunConfig
    command: tuple[str, ...]  # arguments of crossq-wn that train it


def crossq(utd: int) -> System:
    """CrossQ without a target network (figure 3)."""
    return System(f"CrossQ UTD {utd}", "crossq", {"utd": utd})


def wn(utd: int, but: str = "", **changes: Any) -> System:
    """CrossQ + WN, or an ablation of it."""
    label = f"CrossQ + WN UTD {utd}" + (f", {but}" if but else "")
    return System(label, "crossq-wn", {"utd": utd, **changes})


def ablations(reset_updates: int, l2_scales: Iterable[float]) -> tuple[System, ...]:
    """Figure 5. The paper states neither when it resets nor the penalty's scales: both are our choice."""
    return (
        wn(5),
        # CrossQ with a target network, so without decay.
        wn(5, "no WN", weight_norm="none", actor_weight_decay=0.0, critic_weight_decay=0.0),
        wn(5, "no target network", target_network=False),
        wn(5, "resets", reset_updates=reset_updates),
        *(wn(5, f"L2 {scale:g}", weight_norm="l2", l2_scale=scale) for scale in l2_scales),
    )


SIMBA = System("SimBa UTD 2", "simba", {"utd": 2})
SIMBA_8 = System("SimBa UTD 8", "simba", {"utd": 8})
BRO = System("BRO UTD 10", "bro", {"utd": 10})
BRO_FAST = System("BRO UTD 2", "bro-fast", {"utd": 2})
SR_SAC = System("SR-SAC UTD 32", "sr-sac", {"utd": 32})

_NORMS = (crossq(1), crossq(5), wn(1), wn(5))
_LADDER = (wn(1), wn(2), wn(5), wn(10))
_DMC_HARD, _DMC_EASY, _MYO_HARD, _ = PAPER_GROUPS.values()


def _like_the_paper(tasks: tuple[str, ...], resets: int, l2_scales: tuple[float, ...]) -> dict[str, Study]:
    """Every figure on these tasks, without the paper's most expensive systems."""
    best = Study(tasks, (wn(2), SIMBA, BRO_FAST))
    return {
        "fig1": best,
        "fig2": best,  # the speed of the same runs
        "fig3": Study(tasks, _NORMS),
        "fig4": Study(tasks, _LADDER),
        "fig5": Study(tasks, ablations(resets, l2_scales)),
        "fig6": Study(tasks, _LADDER),
        "fig7": Study(tasks, (wn(5), crossq(1), crossq(5), BRO_FAST)),
    }


PAPER = Scale(
    name="paper",
    about="the paper's tasks, networks (Table 1) and 10 seeds; 1M frames, 200k on easier tasks (section 5.1)",
    decides=True,
    seeds=tuple(range(10)),
    frames=paper_frames,
    changes={},
    options={"eval_every": 25_000, "eval_episodes": 5},
    studies={
        "fig1": Study(PAPER_TASKS, (wn(2), SIMBA, BRO_FAST)),
        "fig2": Study(PAPER_TASKS, (wn(2), SIMBA, BRO_FAST)),
        "fig3": Study(_DMC_HARD + _MYO_HARD, _NORMS),
        # Its caption says 15 DMC tasks, its text both suites.
        "fig4": Study(PAPER_TASKS, (*_LADDER, wn(20), SIMBA, SIMBA_8, BRO_FAST, BRO)),
        "fig5": Study(PAPER_TASKS, ablations(250_000, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))),
        "fig6": Study(_DMC_HARD + _DMC_EASY, (*_LADDER, wn(20), SR_SAC)),
        "fig7": Study(PAPER_TASKS, (wn(5), crossq(1), crossq(5), BRO, SR_SAC)),
    },
)

# Figures 3 and 4 are 12 runs of 3 seeds: about 4 core-hours, so 2 to 3 hours of two cores.
LAPTOP = Scale(
    name="laptop",
    about="two of the paper's easier tasks, networks a quarter as wide, 40k frames, 3 seeds",
    decides=True,
    seeds=tuple(range(3)),
    frames=lambda task: 40_000,
    changes={"critic_width": 128, "actor_width": 64, "warmup": 2_000},
    options={"eval_every": 5_000, "eval_episodes": 5, "checkpoint_every": 5_000},
    studies=_like_the_paper(("walker-run", "cheetah-run"), 50_000, (1e-4, 1e-3, 1e-2)),
)

SMOKE = Scale(
    name="smoke",
    about="tiny networks and a few thousand frames; it proves that the machinery works, and nothing else",
    decides=False,
    seeds=(0, 1, 2),
    frames=lambda task: 3_000,
    changes={"critic_width": 16, "actor_width": 16, "warmup": 500, "batch_size": 32},
    options={"eval_every": 1_000, "eval_episodes": 1, "checkpoint_every": 1_000, "log_every": 200},
    studies=_like_the_paper(("pendulum-swingup", "cheetah-run"), 2_000, (1e-3,)),
)

SCALES = {scale.name: scale for scale in (SMOKE, LAPTOP, PAPER)}


def scale_called(name: str) -> Scale:
    """A scale by name. Raises UserError for unknown ones, suggesting the nearest."""
    if name not in SCALES:
        raise UserError(f"--scale is {name!r}: {nearest(name, SCALES)}known are {', '.join(SCALES)}")
    return SCALES[name]


def plan(scale: Scale, figures: Iterable[str], root: Path) -> list[Run]:
    """The runs that these figures need, each once.

    Raises UserError for an unknown figure, suggesting the nearest.
    """
    runs: dict[Path, Run] = {}
    for figure in figures:
        if figure not in scale.studies:
            known = ", ".join(scale.studies)
            raise UserError(f"unknown figure {figure!r}: {nearest(figure, scale.studies)}known are {known}")
        tasks, systems = scale.studies[figure]
        made = [_run(scale, task, system, root) for task in tasks for system in systems]
        runs |= {run.path: run for run in made}
    return list(runs.values())


def unlike(runs: Sequence[Run]) -> list[str]:
    """In what parts of the protocol systems differ on a task by plan, a line per difference."""
    places: dict[str, list[str]] = {}  # the difference -> on which tasks
    for task in dict.fromkeys(run.config.task for run in runs):
        here = [run for run in runs if run.config.task == task]
        for name in here[0].config.protocol:
            values: dict[Any, list[str]] = {}
            for run in here:
                values.setdefault(run.config.protocol[name], []).append(run.label)
            if len(values) > 1:
                parts = [f"{value} ({', '.join(labels)})" for value, labels in values.items()]
                places.setdefault(f"{name} is {' but '.join(parts)}", []).append(task)
    return [f"protocols differ by plan: {told}, on {', '.join(tasks)}" for told, tasks in places.items()]


def _run(scale: Scale, task: str, system: System, root: Path) -> Run:
    usual = preset_settings(system.algorithm, "default")
    changes = {**{k: v for k, v in scale.changes.items() if hasattr(usual, k)}, **system.changes}
    options = {"seeds": scale.seeds, "frames": scale.frames(task), **_QUIET, **scale.options}
    config = api.configure(task, algorithm=system.algorithm, **options, **changes)
    path = root / scale.name / _slug(task) / _slug(f"{system.algorithm} {_words(system.changes)}")
    flags = [flag for name, value in {**options, **changes}.items() for flag in _flag(name, value)]
    command = ("train", task, "--algorithm", system.algorithm, *flags, "--out", str(path))
    return Run(path, system.label, config, command)


_QUIET = {"video": False, "tensorboard": False}


def _flag(name: str, value: Any) -> tuple[str, ...]:
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return (f"--{words}",) if value else (f"--no-{words}",)
    if name == "seeds":
        return (f"--{words}", ",".join(map(str, value)))
    return (f"--{words}", *map(str, value if isinstance(value, tuple) else (value,)))


def _words(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in changes.items())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
