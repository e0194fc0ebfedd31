"""The runs of a sweep: a configuration, a folder and a command line for each."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from crossq_wn.errors import UserError
from crossq_wn.runs.command import arguments
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.options import AGENT_OPTIONS, OPTION_NAMES, RunOptions, unusual
from crossq_wn.runs.system import System
from crossq_wn.sweeps.sheets import Sheet, Values, seed_numbers
from crossq_wn.training import api

# Options that change no number of a run but its length, and what is recorded: they name no folder.
NOT_NUMBERS = ("frames", "checkpoint_every", "log_every", "video", "tensorboard", "wandb")
_QUIET = {"video": False, "tensorboard": False}  # in a sweep, unless it is asked for
_LONG = 120  # letters of a folder's name


class Planned(Protocol):
    """What a sweep needs to know of a run."""

    @property
    def path(self) -> Path:
        """Its run directory."""

    @property
    def config(self) -> RunConfig:
        """Its configuration."""

    @property
    def name(self) -> str:
        """Its name in messages."""


class Run(NamedTuple):
    """A process of a sweep: a system on a task with some of its seeds."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.config.task}, {self.config.system.label}, {_seeds(self.config)}"


def plan(sheet: Sheet, out: Path) -> list[Run]:
    """Lists the runs of a sweep, each once.

    Args:
        sheet: what the sweep's file says.
        out: the folder for its runs: OUT/TASK/SYSTEM/SEEDS. A run's folder follows from its own options, so
            a sweep that is enlarged keeps the folders of its runs.

    Raises:
        UserError: an option or a value is wrong, or two runs differ only in what names no folder.
    """
    runs: dict[Path, Run] = {}
    for section in sheet.sections:
        for values in section.assignments():
            try:
                configs = list(_configs(values, sheet.seeds_per_process))
            except UserError as reason:
                raise UserError(f"{section.name}: {reason} (in {_told(values)})") from None
            for config in configs:
                run = Run(out / folder_of(config), config)
                if runs.setdefault(run.path, run).config != config:
                    raise UserError(f"{section.name}: {_clash(runs[run.path], run)}")
    return list(runs.values())


def folder_of(config: RunConfig) -> Path:
    """The folder of a run within its sweep."""
    return Path(slug(config.task), _system_folder(config.system, config.options), _seeds_folder(config))


def _seeds_folder(config: RunConfig) -> str:
    return slug(_seeds(config).replace(",", " and "))  # 0,9 is not 0-9


def _system_folder(system: System, options: RunOptions) -> str:
    words = [system.algorithm, *([] if system.preset == "default" else [system.preset]), f"utd {system.utd}"]
    words += [f"{name} {value}" for name, value in system.changes]
    for name, value in unusual(options).items():
        if name not in (*NOT_NUMBERS, *AGENT_OPTIONS, "seeds"):
            words.append(f"{name} {value}")
    return slug(" ".join(words))


def command(run: Planned) -> tuple[str, ...]:
    """The arguments of crossq-wn that train a run from its beginning."""
    return (*arguments(run.config), "--out", str(run.path))


@cache
def slug(text: str) -> str:
    """A name for a folder; long ones are cut."""
    return _cut(re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-"), _LONG)


def flat_name(path: Path) -> str:
    """A run's path below its sweep as one name; file systems allow 255 bytes."""
    return _cut("--".join(path.parts[-3:]), 2 * _LONG)


def _cut(name: str, longest: int) -> str:
    """A name of about so many letters at most; what is cut is told apart by a checksum."""
    if len(name) <= longest:
        return name
    return f"{name[:longest]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _configs(values: Values, seeds_per_process: int | None) -> Iterator[RunConfig]:
    """Makes the configuration of each process that some options need."""
    choices: Values = _QUIET | values
    if "seed" in choices and "seeds" in choices:
        raise UserError("seed and seeds are both given: leave one out")
    if choices.get("real_time") is not None:
        raise UserError("real_time: a robot trains in one run at a time, by `crossq-wn train`; leave it out")
    seeds = seed_numbers(choices.pop("seeds", choices.pop("seed", 0)))
    count = seeds_per_process or len(seeds)
    config = api.configure(choices.pop("task"), seeds=seeds[:count], **choices)
    for first in range(0, len(seeds), count):
        group = tuple(seeds[first : first + count])
        yield replace(config, options=replace(config.options, seeds=group))


def _seeds(config: RunConfig) -> str:
    """The seeds of a run in words, such as `seeds 0-9`."""
    seeds = config.options.seeds
    return f"seed{'s' if len(seeds) > 1 else ''} {seed_range(seeds)}"


def seed_range(seeds: Sequence[int]) -> str:
    """Seeds as people write them: `3`, `0-9` or, with gaps, `0,3,7`."""
    whole = len(seeds) > 1 and tuple(seeds) == tuple(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))


def _told(values: Values) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _clash(one: Run, other: Run) -> str:
    """Why two different runs cannot have one folder, and what to do."""
    if one.name != other.name:  # as of a value and its negative
        return (
            f"{one.name} and {other.name} would have one folder, {one.path}: give one of them a sweep of its "
            "own, with another --out"
        )
    options = ", ".join(_differ(one.config, other.config))
    return f"{other.name} is described twice, with different {options}: leave one out"


def _differ(one: RunConfig, other: RunConfig) -> list[str]:
    return [name for name in OPTION_NAMES if getattr(one.options, name) != getattr(other.options, name)]
