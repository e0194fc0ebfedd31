"""Writes a run's replay out, for other programs and as a source for other runs."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from crossq_wn import files
from crossq_wn.complete import check_free, check_new, write_complete, write_new
from crossq_wn.data import minari, npz, replays
from crossq_wn.data.recording import UnusableError
from crossq_wn.errors import UserError, option
from crossq_wn.runs.config import read_config
from crossq_wn.runs.folders import run_in

KINDS = ("minari", "npz")


def write(
    run: Path,
    kind: str,
    out: Path,
    *,
    seed: int | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Path, int]:
    """Writes the transitions that a run's newest checkpoint keeps.

    Args:
        run: the run directory, or a folder that holds one run.
        kind: one of `KINDS`.
        out: a folder that is new or empty, or for npz the new file itself, with that ending.
        seed: one of its training seeds; None: all of them, one behind the other.
        warn: is told of damaged checkpoints that are passed over.

    Returns:
        The file or folder, and the number of transitions.

    Raises:
        UserError: the run has no such transitions, a package is missing, or the folder cannot be used.
    """
    if kind not in KINDS:
        raise UserError(f"{option('to', kind)} is unknown: choose from {', '.join(KINDS)}")
    path = run_in(run)
    if kind == "minari":
        minari.require_writer()
    to_file = kind == "npz" and out.suffix == ".npz"
    (check_new if to_file else check_free)(out)
    try:
        recording = replays.read(path, seed, warn)
    except UnusableError as error:
        raise UserError(f"{path}: {error}") from None
    if not len(recording.reward):
        raise UserError(f"{path} has no transitions yet: train it further")
    content = partial(npz.write, recording)
    if to_file:
        write_new(out, content)
        return out, len(recording.reward)
    if kind == "npz":
        write_complete(out, lambda folder: files.write_atomically(folder / npz.FILE, content))
        return out / npz.FILE, len(recording.reward)
    task = re.sub(r"[^\w]+", "-", recording.task or "").strip("-")
    about = {
        "dataset_id": f"crossq-wn/{task}-v0",
        "algorithm_name": read_config(path).system.label,
        "description": f"replay of a run of crossq-wn on {recording.task}",
    }
    write_complete(out, partial(minari.write, recording, about))
    return out, len(recording.reward)
