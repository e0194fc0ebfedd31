"""How is the paper reproduced? Plan the runs, train what is missing, draw, and judge the paper's claims."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from crossq_wn.machine import processors
from crossq_wn.reproduce.cost import cost
from crossq_wn.reproduce.pages import check_out, write
from crossq_wn.reproduce.results import Judged, damaged, draw, ended_early, judge_all
from crossq_wn.reproduce.studies import Run, Scale, plan, scale_called, unlike
from crossq_wn.reproduce.workers import Outcome, look, remaining, train
from crossq_wn.runs.protocol import read_terms, simulator_conflicts

COLUMNS = [
    "system", "runs", "seeds", "frames per seed", "gradient updates", "ms each", "core-hours", "disk",
    "finished",
]  # fmt: skip


class Bill(NamedTuple):
    """What a plan costs."""

    rows: list[list[str]]  # one per system, see COLUMNS
    core_hours: float  # that remain
    longest: float  # of them, the longest single run's
    hours: float  # that remain, so many runs side by side; never less than the longest run's
    unfinished: int  # runs
    disk: float  # GB, once all is trained


def bill(runs: Sequence[Run], jobs: int) -> Bill:
    """What a plan costs, about, before anything is trained.

    Raises UserError if a run directory holds something else.
    """
    rows = []
    for label in dict.fromkeys(run.label for run in runs):
        mine = [run for run in runs if run.label == label]
        costs = [cost(run.config) for run in mine]
        options = mine[0].config.options
        frames = sorted({run.config.options.frames for run in mine})
        rows.append([
            label, str(len(mine)), str(len(options.seeds)), " to ".join(f"{n:,}" for n in frames),
            f"{sum(c.updates for c in costs):,}",
            f"{max(c.update_seconds for c in costs) * 1e3:.1f}",
            f"{sum(c.core_seconds for c in costs) / 3600:.2f}",
            f"{sum(c.disk for c in costs) / 1e9:.2f} GB",
            str(sum(look(run).kind == "finished" for run in mine)),
        ])  # fmt: skip
    left = [remaining(run) / 3600 for run in runs if look(run).kind != "finished"]
    total, longest = sum(left), max(left, default=0.0)
    disk = sum(cost(run.config).disk for run in runs) / 1e9
    return Bill(rows, total, longest, max(total / jobs, longest), len(left), disk)


def default_jobs() -> int:
    """How many runs to train side by side: one per processor, or one on a GPU, where seeds share it."""
    return 1 if importlib.util.find_spec("jax_cuda12_plugin") else processors()


def conclude(
    scale: Scale,
    figures: Sequence[str],
    runs: Sequence[Run],
    failed: dict[Path, str],
    out: Path,
    warn: Callable[[str], None],
) -> tuple[list[Judged], list[Path]]:
    """Judges and draws what has finished and can be read.

    Args:
        scale: whose studies the figures are.
        figures: such as fig3.
        runs: all that were planned.
        failed: by run directory: why.
        out: the folder for verdicts, numbers and pictures.
        warn: told of what cannot be read or drawn, and of what should be alike and is not.

    Returns:
        What was found, and the files written.
    """
    states = {run.path: look(run).kind for run in runs}
    ended = [run for run in runs if states[run.path] == "finished"]
    lost = damaged(ended)
    finished = [run for run in ended if run.path not in lost]
    other = simulator_conflicts(read_terms(run.path for run in finished))
    notes = [f"DIFFERENT SIMULATORS, so that runs may not be comparable: {line}" for line in other]
    notes += unlike(runs)
    notes += [
        f"{path} does not count: {why}; once it is moved away, the same command trains it again"
        for path, why in lost.items()
    ]
    judged = judge_all(scale, figures, finished, notes.append)
    for note in notes:
        warn(note)
    notes += ended_early(finished)
    if len(ended) < len(runs):
        notes.append(f"{len(runs) - len(ended)} of {len(runs)} runs have not finished and do not count")
    notes += [f"{run.config.task}, {run.label}: {failed[run.path]}" for run in runs if run.path in failed]
    command = f"crossq-wn reproduce {' '.join(figures)} --scale {scale.name}"
    written = write(judged, scale, runs, notes, command, out)
    return judged, [*written, *draw(scale, figures, finished, out, warn)]


__all__ = [
    "COLUMNS", "Bill", "Judged", "Outcome", "Run", "Scale",
    "bill", "check_out", "conclude", "default_jobs", "plan", "scale_called", "train",
]  # fmt: skip
