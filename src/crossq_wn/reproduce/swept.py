"""The paper's runs as a sweep, which trains them on any cluster: its file, and where its runs lie."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.errors import UserError
from crossq_wn.reproduce.studies import PlannedRun, Scale, values_of
from crossq_wn.sweeps import history
from crossq_wn.sweeps.plans import folder_of, seed_range
from crossq_wn.sweeps.spaces import toml

_OURS = "# crossq-wn reproduce "  # how a file that was written here begins


def written(scale: Scale, runs: Sequence[PlannedRun], seeds_per_process: int | None, command: str) -> str:
    """Writes a sweep's file for planned runs.

    Args:
        scale: of the runs.
        runs: to train.
        seeds_per_process: seeds of a run that train in one process; None: all.
        command: its arguments, for a comment.
    """
    lines = [
        f"{_OURS}{command}",
        *([] if seeds_per_process is None else [f"seeds_per_process = {seeds_per_process}"]),
    ]
    lines += ["[defaults]", f"seeds = {toml(seed_range(scale.seeds))}", *_lines(scale.options)]
    for number, (tasks, alike) in enumerate(_groups(runs), 1):
        group = f"group.tasks-{number}"
        lines += ["", f"[{group}.defaults]", f"frames = {alike[0].config.options.frames}"]
        lines += [f"[{group}.grid]", f"task = {toml(tasks)}"]
        for run in alike:
            lines += [f"[[{group}.list]]  # {run.system.label}", f"algorithm = {toml(run.system.algorithm)}"]
            lines += _lines(values_of(scale, run.system))
    return "\n".join([*lines, ""])


def write(path: Path, text: str) -> None:
    """Writes a sweep's file; replaces one that was written here, and no other.

    Raises:
        UserError: another file is there, or none can be written.
    """
    if path.exists() and not files.read(path, files.MOST_JSON).startswith(_OURS.encode()):
        raise UserError(f"--plan {path}: another file is there: choose another name")
    files.write_atomically(path, text)


def trained(runs: Sequence[PlannedRun], out: Path) -> list[PlannedRun]:
    """The same runs as a sweep trains them in a folder, which may divide their seeds among processes.

    Raises:
        UserError: the folder holds no sweep.
    """
    count = history.kept_plan(out).seeds_per_process
    return [part for run in runs for part in _parts(run, count or len(run.config.options.seeds), out)]


def _parts(run: PlannedRun, count: int, out: Path) -> Iterator[PlannedRun]:
    seeds = run.config.options.seeds
    for first in range(0, len(seeds), count):
        options = replace(run.config.options, seeds=seeds[first : first + count])
        config = replace(run.config, options=options)
        yield PlannedRun(out / folder_of(config), run.system, config)


def _groups(runs: Sequence[PlannedRun]) -> list[tuple[list[str], list[PlannedRun]]]:
    """Tasks on which the same systems are trained for as long, and those runs on the first of them."""
    by_task: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_task.setdefault(run.config.task, []).append(run)
    groups: dict[Any, tuple[list[str], list[PlannedRun]]] = {}
    for task, here in by_task.items():
        alike = here[0].config.options.frames, tuple(run.system for run in here)
        groups.setdefault(alike, ([], here))[0].append(task)
    return list(groups.values())


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {toml(value)}" for name, value in values.items()]
