"""Learning curves to publish: tidy tables of evaluations, and what must be known to make them again.

A folder holds one table per task, in the format of published curves, and `runs.csv` with a row per seed.
Tables outlive run directories: what a folder holds of other seeds is kept.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.errors import UserError, one_line
from crossq_wn.results import reading
from crossq_wn.results.along import positions
from crossq_wn.results.practice import over, practices
from crossq_wn.results.reading import Warn
from crossq_wn.results.records import RunRecord
from crossq_wn.results.sheets import attempt, strict_sheet, value_of
from crossq_wn.runs.command import arguments
from crossq_wn.runs.config import RunConfig

Row = Mapping[str, Any]

RUNS = "runs.csv"
_SEED = ("task", "algorithm", "utd", "seed")  # what a seed's rows are told by
# Of the tables of tasks. The first ones are those of any published curves, see docs/reference/files.md.
CURVES = (
    "algorithm", "utd", "task", "seed", "metric", "env_step", "value", "updates",
    "action_repeat", "batch_size", "updates_per_decision", "eval_episodes",
)  # fmt: skip
ABOUT = (
    *_SEED, "preset", "frames", "discount", "episode_frames", "terminations", "simulators", "versions",
    "device", "command",
)  # fmt: skip
_PLACE = re.compile(r"(?:(?<=[=,])|^)[~/][^,]*")  # a path that is no name within the folder of the run


class Gathered(NamedTuple):
    """What runs say, ready to be written."""

    curves: dict[str, list[Row]]  # task -> rows of `CURVES`
    about: list[Row]  # rows of `ABOUT`


def gather(runs: Iterable[RunRecord], warn: Warn) -> Gathered:
    """Reads the evaluations of runs and the conditions under which they were made.

    Args:
        runs: complete run directories.
        warn: called with a line for each that cannot be read, which is left out.

    Raises:
        UserError: none is left.
    """
    curves: dict[str, list[Row]] = {}
    about: list[Row] = []
    for run in runs:
        try:
            rows, conditions = _evaluations(run), _conditions(run)
        except UserError as reason:
            warn(f"{run.path} is skipped: {one_line(reason)}")
            continue
        curves.setdefault(run.identity.task, []).extend(rows)
        about += conditions
    if not curves:
        raise UserError("none of these runs can be used: curves come with how they were made")
    return Gathered(curves, about)


def file_name(task: str) -> str:
    """What the files of a task are called, without suffix; any task has a name that is one."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", task).lstrip(".-") or "task"


def _evaluations(run: RunRecord) -> list[Row]:
    """The rows of one run: every evaluation of every seed, with the updates that had been made by then."""
    system, task = run.identity.system, run.identity.task
    practice = over(practices([run])[system], [task])
    known = {name: _only(practice[name]) for name in ("action_repeat", "batch_size", "eval_episodes")}
    known["updates_per_decision"] = run.config.updates_per_decision
    clocks = list(reading.logged([run], "updates").get(system, {}).values())
    rows: list[Row] = []
    for owner, where, metric in run.evaluations.contents:
        if metric not in ("return", "success_rate"):
            continue
        for series in run.evaluations.series(owner, where, metric):
            updates = positions(clocks, series.frames, series.seed)
            for step, value, count in zip(series.frames.tolist(), series.values, updates, strict=True):
                row = _named(run, series.seed) | {"metric": metric, "env_step": step, "value": f"{value:.6g}"}
                rows.append(row | {"updates": "" if np.isnan(count) else round(count)} | known)
    return rows


def _conditions(run: RunRecord) -> list[Row]:
    """A row per seed on how the run was made."""
    config, manifest, protocol = run.config, run.manifest, run.protocols[0]
    versions = {"python": manifest.get("python", ""), **manifest.get("versions", {})}
    device = manifest.get("device", {})
    shared = {
        "preset": config.system.preset,
        "frames": config.options.frames,
        "discount": config.discount,
        "episode_frames": config.episode_frames,
        "terminations": config.options.terminations,
        "simulators": protocol.get("simulators", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "device": f"{device.get('kind', '')}, {device.get('cores', '?')} cores",
        "command": command_of(config, manifest),
    }
    seeds = [str(seed) for seed in config.options.seeds if str(seed) not in run.without]
    return [_named(run, seed) | shared for seed in seeds]


def _named(run: RunRecord, seed: str) -> dict[str, Any]:
    system = run.identity.system
    return {
        "algorithm": system.family.label,
        "utd": system.utd,
        "task": run.identity.task,
        "seed": seed,
    }


def command_of(config: RunConfig, manifest: Mapping[str, Any]) -> str:
    """A command that means a run's configuration; empty if it was no command line that started it.

    What was typed may name a file that readers lack, and a run may have been trained further since. Learning
    rates that fall over a run fall over all of its frames here, and presets are those of this version. Files
    have their names without folders, and W&B is left out.
    """
    words = [str(word) for word in (manifest.get("commands") or [[]])[0]]
    if not words or Path(words[0]).name != "crossq-wn":
        return ""
    spelled = arguments(replace(config, options=replace(config.options, wandb=None)))
    return shlex.join(
        ["crossq-wn", *(_PLACE.sub(lambda found: Path(found[0]).name, word) for word in spelled)]
    )


def merged(old: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows, and those of other seeds that were there before, in order."""
    known = {_key(row) for row in new}
    rows = [*new, *(row for row in old if _key(row) not in known)]
    return sorted(rows, key=_place)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in _SEED)


def _place(row: Row) -> tuple[Any, ...]:
    seed, step = str(row["seed"]), str(row.get("env_step", 0))
    order = (row["task"], row["algorithm"], str(row["utd"]), seed.zfill(9), row.get("metric", ""))
    return *map(str, order), float(step)


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """Reads a table that an earlier call has written; there may be none.

    Raises:
        UserError: it cannot be read, or has other columns, so it is none of ours.
    """
    if not os.path.lexists(path):
        return []
    sheet = value_of(attempt(partial(strict_sheet, named=True, whole=True), path))
    if tuple(sheet.columns) != tuple(columns):
        raise UserError(f"{path} was not written by this command: choose another folder")
    if "env_step" in columns:
        sheet.series(range(len(sheet.lines)), "env_step", "value")  # raises where a cell is no number
    each = zip(*sheet.columns.values(), strict=True)
    return [dict(zip(columns, cells, strict=True)) for cells in each]


def in_columns(rows: Iterable[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with these columns in this order."""
    return [dict(zip(columns, map(row.__getitem__, columns), strict=True)) for row in rows]


def _only(values: Sequence[float]) -> float | str:
    """The value, if there is one; whole numbers without a point."""
    if len(values) != 1:
        return ""
    return int(values[0]) if values[0] == int(values[0]) else values[0]
