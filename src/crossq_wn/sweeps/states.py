"""How far the runs of a sweep have come, which their directories alone say."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crossq_wn import files
from crossq_wn.algorithms.settings import Settings, values_of
from crossq_wn.errors import UserError, explained, shown
from crossq_wn.files import MOST_TABLE
from crossq_wn.runs import leases
from crossq_wn.runs.checks import check
from crossq_wn.runs.config import DAMAGED, RunConfig, load_json, read_config
from crossq_wn.runs.directory import only_scaffolding
from crossq_wn.runs.leases import Seen
from crossq_wn.runs.manifests import newest_common, trained_frames
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.runs.schema import FailureEntry, SeedNumber
from crossq_wn.sweeps.plans import NOT_NUMBERS, Planned

# "seeds stopped": the others are trained to the end, and those that stopped can be trained on.
Kind = Literal[
    "missing", "without a checkpoint", "damaged", "another run", "cut off", "seeds stopped", "finished"
]
ASIDE = "-aside-"  # in the name of a run that was moved out of the way
_NOBODY = Seen(0, None, 0)


class State(NamedTuple):
    """How far a run has come."""

    kind: Kind
    frames: int  # environment frames per seed at its newest checkpoint, of the seed furthest behind
    seen: Seen = _NOBODY  # who holds it; a holder may be gone
    why: str = ""  # it is damaged, or another run

    @property
    def resumable(self) -> bool:
        """Whether `resume` trains it on."""
        return self.kind in ("cut off", "seeds stopped")


def state_of(run: Planned) -> State:
    """Finds out how far a run has come, from one or two of its files."""
    try:
        return _state(run, run.path)
    except OSError as error:
        return State("damaged", 0, why=f"{run.path} cannot be read: {explained(error)}")


def _state(run: Planned, path: Path) -> State:
    names = files.names(path)  # none where there is no such folder
    if not names:
        return State("missing", 0)
    seen = leases.seen(path, names)
    if only_scaffolding(names):
        return State("missing", 0, seen)
    try:
        different = _differences(path, run.config)
    except UserError:  # the other runs can go on all the same
        why = f"{path} has no readable config.json: put it back, or move the folder away"
        return State("damaged", 0, seen, why)
    if different:
        return State("another run", 0, seen, f"{path} holds another run ({', '.join(different)})")
    return State(*_trained(path, run.config, seen), seen)


def _trained(path: Path, config: RunConfig, seen: Seen) -> tuple[Kind, int]:
    """How far the training of a run has come: its kind, and environment frames per seed."""
    frames = trained_frames(path / "checkpoints")
    if not frames and _results_alone(path, config):
        return "finished", config.trained_frames
    if not frames and not (path / "checkpoints").exists():
        return "without a checkpoint", 0
    if frames < config.trained_frames or not _evaluated(path, config, frames):
        return "cut off", frames
    behind = _stopped_at(path, seen) if len(config.options.seeds) > 1 else []
    return ("seeds stopped", min(behind)) if behind else ("finished", frames)


@cache  # as with `_stopped`
def _stopped_at(path: Path, seen: Seen) -> list[int]:
    """The environment frames at which seeds have stopped that can be trained on; of a run that is trained.

    Args:
        path: of the run.
        seen: its lease, of which there is another once somebody trains these seeds on.
    """
    found = []
    with contextlib.suppress(*DAMAGED):
        for entry in newest_common(path / "checkpoints").get("failed", {}).values():
            if entry.get("updates") is not None:
                found.append(int(entry["good"]))
    return found


def stopped_seeds(run: Planned, state: State) -> str:
    """Why seeds of a run stopped before its end; empty if all of them came through.

    Args:
        run: which one.
        state: how it has finished.
    """
    if len(run.config.options.seeds) == 1:  # with its only seed a run fails
        return ""
    with contextlib.suppress(*DAMAGED):
        return _stopped(run.path, state)
    return ""


@cache  # for tables that are shown anew all the time; whoever trains a run further leaves another lease
def _stopped(path: Path, state: State) -> str:
    common = newest_common(path / "checkpoints")
    failed = common.get("failed", {}) | common.get("unevaluated", {})
    check(failed, dict[SeedNumber, FailureEntry], "failed")
    return "; ".join(f"seed {seed} stopped: {entry['reason']}" for seed, entry in failed.items())


def refuse_overlap(runs: Sequence[Planned]) -> None:
    """Raises UserError if a folder that is not planned trains a seed of a planned run beside it.

    That happens where seeds were divided among processes differently before: they would be trained twice.
    """
    planned: dict[Path, dict[int, Path]] = {}  # folder of a system -> seed -> its run
    for run in runs:
        planned.setdefault(run.path.parent, {}).update(dict.fromkeys(run.config.options.seeds, run.path))
    for folder, owners in planned.items():
        for name in {*files.names(folder)} - {path.name for path in owners.values()}:
            if ASIDE in name:
                continue
            for seed in _seeds_in(folder / name):
                if seed in owners:
                    raise UserError(
                        f"{folder / name} already has seed {seed}, which {owners[seed]} would train again: "
                        "keep the seeds per process as they were, or move that folder away"
                    )


def _seeds_in(path: Path) -> Sequence[int]:
    """The seeds of a run; none if its configuration cannot be read."""
    try:
        return list(load_json(path)["options"]["seeds"])
    except (UserError, KeyError, TypeError):
        return []


def _results_alone(path: Path, config: RunConfig) -> bool:
    """Whether a run whose checkpoints are gone was trained to its end, as its results show."""
    with contextlib.suppress(UserError):  # of a manifest that is missing or damaged
        # Where training ends, it vouches for its logs.
        return bool(read_manifest(path).get("logs")) and _scored(path, config.trained_frames)
    return False


def _evaluated(path: Path, config: RunConfig, frames: int) -> bool:
    """Whether the last evaluation is there, which may have failed, or come after the last checkpoint."""
    if not config.options.eval_every or _scored(path, frames):
        return True
    if frames % config.options.eval_every >= config.action_repeat:
        return False
    common = newest_common(path / "checkpoints")
    alone = len(config.options.seeds) == 1 and common.get("failed")
    return "unevaluated" not in common and not alone


def _scored(path: Path, frames: int) -> bool:
    """Whether there is an evaluation at so many environment frames."""
    try:
        text = files.read(path / "eval.csv", MOST_TABLE).decode(errors="replace")
    except OSError:
        return False
    return re.search(rf",{frames},[^,\n]*\n", text) is not None


def _differences(path: Path, planned: RunConfig) -> list[str]:
    """The entries of a run's configuration that decide numbers and differ from the plan.

    Raises:
        UserError: it cannot be read.
    """
    try:
        there = load_json(path)
    except UserError:  # resuming restores it from a checkpoint that has it
        there = newest_common(path / "checkpoints").get("config") or {}
    if _same(there, planned):  # without making settings of it, since sweeps have many runs
        return []
    left, right = _flat(read_config(path)), _flat(planned)
    found = []
    for name in {**left, **right}:
        was, wanted = left.get(name), right.get(name)
        if name not in NOT_NUMBERS and was != wanted:
            found.append(f"{name} is {shown(was)}, not {shown(wanted)}")
    return found


def _same(there: Mapping[str, Any], planned: RunConfig) -> bool:
    """Whether a config.json is that of a configuration, apart from entries that change no number."""
    try:
        options, settings, system = there["options"], there["settings"], there["system"]
        resolved = [there[name] == getattr(planned, name) for name in _RESOLVED]
        if not all(resolved) or settings != _stored(planned.settings):
            return False
        if there.get("prefilled", []) != [asdict(source) for source in planned.prefilled]:
            return False
        for name in OPTION_NAMES:
            if name not in NOT_NUMBERS and options[name] != _plain(getattr(planned.options, name)):
                return False
        return (system["algorithm"], system["preset"]) == (planned.system.algorithm, planned.system.preset)
    except (KeyError, TypeError):
        return False


@lru_cache(maxsize=1024)
def _stored(settings: Settings) -> Any:
    """Settings as config.json has them; many runs share them."""
    return _plain(values_of(settings))


_RESOLVED = ("task", "metric", "action_repeat", "episode_frames", "discount")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _flat(config: RunConfig) -> dict[str, Any]:
    values = config.to_json()
    system, settings, options = map(values.pop, ("system", "settings", "options"))
    named = {"algorithm": system["algorithm"], "preset": system["preset"]}
    # The resolved time limit, discount and action repeat in `values` replace those of options and settings.
    return {**settings, **options, **values, **named}
