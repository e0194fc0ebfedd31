"""Whether a run has nothing left to do."""

from collections.abc import Mapping
from pathlib import Path

from crossq_wn import files
from crossq_wn.errors import UserError
from crossq_wn.files import MOST_TABLE
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.checksums import DamagedError, checksum_of
from crossq_wn.runs.config import DAMAGED, RunConfig, read_config
from crossq_wn.runs.manifests import available, trained_frames
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.runs.schema import Position
from crossq_wn.runs.tables import EVAL_COLUMNS, Table
from crossq_wn.training.progress import Outcome


def outcome_if_finished(path: Path, config: RunConfig) -> Outcome | None:
    """How a run ended, if it is trained to its end and all of its files are sound.

    Args:
        path: of the run directory.
        config: with the environment frames that are wanted now.

    Returns:
        Its outcome; None if there is something left to train, to evaluate or to mend.
    """
    there = available(path / "checkpoints")
    if not there or trained_frames(path / "checkpoints") < config.trained_frames:
        return None
    try:
        saved = Checkpoint(there[-1])
        ends = read_manifest(path).get("logs", {})  # earlier versions noted none
        sound = read_config(path) == config and _logs_fit(path, saved) and _end(path, ends)
    except (DamagedError, UserError, *DAMAGED):
        return None
    if not sound or _left(saved) or not _evaluated(path, config, saved):
        return None
    failed = {int(seed): entry["reason"] for seed, entry in saved.training["failed"].items()}
    return Outcome(path, saved.frames, finished=True, signal=None, failed=failed, untouched=True)


def _left(saved: Checkpoint) -> bool:
    """Whether an evaluation is to be made again, or a seed that stopped can be trained on."""
    stopped = [entry.get("updates") is not None for entry in saved.training["failed"].values()]
    return "unevaluated" in saved.training or any(stopped)


def _logs_fit(path: Path, saved: Checkpoint) -> bool:
    metrics, evaluations = saved.training["logs"]
    rows = Table(path / "metrics.csv", (), lines=True)  # its columns do not matter here
    scores = Table(path / "eval.csv", EVAL_COLUMNS)  # an evaluation may have come after the checkpoint
    return rows.fits(metrics, exactly=True) and scores.fits(evaluations, exactly=False)


def _end(path: Path, ends: Mapping[str, Position]) -> bool:
    """Whether the logs that resuming could mend end as they did when training ended, if that was noted."""
    for name, end in ends.items():
        if name != "timing.csv" and checksum_of(files.read(path / name, MOST_TABLE)) != end["sha256"]:
            return False
    return True


def evaluated_last(config: RunConfig, last: int) -> bool:
    """Whether a run is evaluated once more at its end, which is at so many environment frames.

    Args:
        config: of the run.
        last: environment frames per seed at the end.
    """
    every = config.options.eval_every
    if config.options.real_time is not None:
        return every > 0
    return last % every >= config.action_repeat  # else that came before


def evaluated_at(config: RunConfig, frames: int) -> bool:
    """Whether a run is evaluated at so many environment frames; a shorter one may have been elsewhere."""
    if config.options.real_time is not None:
        return True
    return not evaluated_last(config, frames) or frames >= config.trained_frames


def _evaluated(path: Path, config: RunConfig, saved: Checkpoint) -> bool:
    """Whether the last evaluation, which may come after the last checkpoint, is there as a whole."""
    last = saved.frames
    if not evaluated_last(config, last):
        return True
    text = files.read(path / "eval.csv", MOST_TABLE).decode(errors="replace")
    found: dict[str, set[tuple[str, str]]] = {}  # environment frame -> the seeds and metrics evaluated there
    for row in text.splitlines():
        cells = row.rsplit(",", 4)  # the first columns may hold commas
        if len(cells) == 5:
            found.setdefault(cells[3], set()).add((cells[1], cells[2]))
    seeds = {str(seed) for seed in saved.seeds}
    # A process that died while it wrote may have left some of the rows, or half of one.
    wanted = {(seed, metric) for seed, metric in found.get("0", ()) if seed in seeds}
    whole = text.endswith("\n") and wanted <= found.get(str(last), set())
    return whole and seeds <= {seed for seed, _ in found.get(str(last), ())}
