"""Seeds that several runs hold: each counts once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.results import reading
from crossq_wn.results.reading import Warn
from crossq_wn.results.records import Input, RunRecord


class _Key(NamedTuple):
    label: str  # of the system
    task: str
    seed: str


class _Owner(NamedTuple):
    """A run that holds a seed."""

    run: RunRecord
    frames: int  # environment frames at which the seed was evaluated last


def usable(paths: Iterable[Path], warn: Warn) -> list[Input]:
    """Returns the complete runs and the CSV tables, in input order, with each seed once.

    Args:
        paths: run directories, folders of them, or CSV files.
        warn: called with a line for each run or seed that is left out.

    Raises:
        UserError: there are paths, but nothing usable in them.
    """
    return once_each(reading.complete(paths, warn), warn)


def once_each(inputs: Iterable[Input], warn: Warn) -> list[Input]:
    """Leaves out seeds that another run holds as well and has trained further; equal ones count where first.

    Args:
        inputs: complete runs, and tables, which are taken as they are.
        warn: called with a line on what is left out of each run.
    """
    owners: dict[_Key, _Owner] = {}
    reached: dict[Path, dict[_Key, int]] = {}  # by run directory

    def claim(run: RunRecord) -> None:
        reached[run.path] = _reached(run)
        for key, frames in reached[run.path].items():
            if key not in owners or frames > owners[key].frames:
                owners[key] = _Owner(run, frames)

    found: list[Input] = []
    for each in reading.kept(inputs, claim, warn):
        left = _own(each, owners, reached[each.path], warn) if isinstance(each, RunRecord) else each
        if left is not None:
            found.append(left)
    return found


def _reached(run: RunRecord) -> dict[_Key, int]:
    """How far each seed of a run was evaluated; raises UserError if `reading.check` refuses the run."""
    curves, (system, task, _) = reading.check(run), run.identity
    found = {}
    for seed, values in zip(curves.seeds, curves.values, strict=True):
        found[_Key(system.label, task, seed)] = int(curves.env_steps[~np.isnan(values)][-1])
    return found


def _own(
    run: RunRecord, owners: Mapping[_Key, _Owner], reached: Mapping[_Key, int], warn: Warn
) -> RunRecord | None:
    """Returns the run without the seeds that count elsewhere; None if it has no others."""
    lost = [key for key in reached if owners[key].run != run]
    if not lost:
        return run
    seeds = [key.seed for key in lost]
    whole = len(lost) == len(reached)
    head = (
        f"{run.path} is skipped"
        if whole
        else f"{_named(seeds)} of {run.path} {'is' if len(seeds) == 1 else 'are'} left out"
    )
    warn(f"{head}: {'; '.join(_reasons(lost, owners, reached))}")
    return None if whole else replace(run, without=frozenset(seeds))


def _reasons(
    lost: Sequence[_Key], owners: Mapping[_Key, _Owner], reached: Mapping[_Key, int]
) -> Iterable[str]:
    """Says which run holds each of these seeds, and up to which frame if it is further."""
    held: dict[tuple[Path, str], list[_Key]] = {}
    for key in lost:
        owner = owners[key]
        further = f", up to {owner.frames:,} frames" if owner.frames > reached[key] else ""
        held.setdefault((owner.run.path, further), []).append(key)
    for (path, further), keys in held.items():
        yield f"{path} holds {_named([key.seed for key in keys])} of {keys[0].label} already{further}"


def _named(seeds: Sequence[str]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(seeds)}"
