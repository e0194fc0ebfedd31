"""The last evaluation of a run, as a list of thousands shows it: only the end of eval.csv is parsed."""

import contextlib
import csv
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.suites import suite_of
from crossq_wn.files import MOST_TABLE, read
from crossq_wn.results import reading
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.tables import EVAL_COLUMNS

_BLOCK = 1024  # bytes that are looked at first; more where an evaluation has many seeds and metrics


class Last(NamedTuple):
    """The last evaluation of a run."""

    frames: int  # environment frames
    scored: int  # seeds that were evaluated there; those that failed before are not in the score
    score: float  # mean of these seeds' evaluations, as they were logged


def last_evaluation(run: RunRecord) -> Last:
    """Reads the last evaluation of a run; without one, frames and seeds are 0.

    One in real time may have none yet, and one that failed at once has none.

    Raises:
        UserError: `reading.check` refuses the run.
    """
    return _at_the_end(run) or _none_yet(run) or _of_all(run)


def _none_yet(run: RunRecord) -> Last | None:
    """What is said of a run in real time, whose robot is not moved at first, until it is evaluated.

    The same holds for one that failed before.
    """
    if run.protocols[0].get("real_time") is None and "logs" not in run.manifest:
        return None
    header, end = f"{','.join(EVAL_COLUMNS)}\n".encode(), run.ends.get("eval.csv")
    if end is not None and end["size"] > len(header):  # it has lost what training left
        return None
    with contextlib.suppress(OSError):
        if read(run.path / "eval.csv", MOST_TABLE) == header:
            return Last(0, 0, math.nan)
    return None


def _of_all(run: RunRecord) -> Last:
    curves = reading.check(run)
    last = np.array([values[-1] for values in curves.values])
    last = last[~np.isnan(last)] * suite_of(run.identity.task).scale  # a seed that failed ends earlier
    return Last(int(curves.env_steps[-1]), len(last), float(last.mean()))


def _at_the_end(run: RunRecord) -> Last | None:
    """The last evaluation of a run whose eval.csv is as training, or its newest checkpoint, left it.

    Its checksum says so, so the rows before need no look. None: all of the file has to be read.
    """
    _ = run.manifest  # is refused where it is damaged
    end = run.ends.get("eval.csv")
    if end is None:
        return None
    try:
        content = read(run.path / "eval.csv", MOST_TABLE)
    except OSError:
        return None
    if len(content) != end["size"] or checksum_of(content) != end["sha256"]:
        return None
    _ = run.protocols  # which are refused where they are unknown
    run.remember_suite()
    return _scores(run, _last_rows(content))


def _last_rows(content: bytes) -> list[list[str]]:
    """The rows of the last frame; none where there is no row of another frame before."""
    block = _BLOCK
    while True:
        rows: list[list[str]] = []
        # The first line of the block may be cut, or the header.
        lines = content[-block:].decode(errors="replace").splitlines()[1:]
        with contextlib.suppress(csv.Error):
            for row in csv.reader(reversed(lines)):
                if rows and row[4:5] != rows[0][4:5]:
                    return rows
                rows.append(row)
        if block >= len(content):
            return []
        block *= 4


def _scores(run: RunRecord, rows: Sequence[list[str]]) -> Last | None:
    """What some rows of one frame say; None unless all are as training writes them."""
    (system, task, _), metric = run.identity, suite_of(run.identity.task).metric
    if not _usual(rows, [system.label, task]):
        return None
    scores = [(row[2], row[5]) for row in rows if row[3] == metric]
    if not scores or len(dict(scores)) < len(scores):
        return None
    try:
        mean = sum(float(value) for _, value in scores) / len(scores)
        frames = int(rows[0][4])
    except ValueError:
        return None
    return Last(frames, len(scores), mean) if math.isfinite(mean) and frames >= 0 else None


def _usual(rows: Sequence[list[str]], names: list[str]) -> bool:
    """Whether rows are whole, and of seeds of this system and task."""
    return all(len(row) == len(EVAL_COLUMNS) and row[:2] == names and row[2].isdecimal() for row in rows)
