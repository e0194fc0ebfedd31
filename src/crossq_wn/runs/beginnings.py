"""Whether training has left anything in a run directory."""

import contextlib
import csv
import io
from pathlib import Path

from crossq_wn import files
from crossq_wn.files import MOST_TABLE
from crossq_wn.runs.manifests import available


def begun(path: Path) -> bool:
    """Whether a run can be resumed, or has results that would be lost if it started again."""
    if available(path / "checkpoints"):
        return True
    # The first line of metrics.csv is its header.
    return _lines(path / "metrics.csv") > 1 or _lines(path / "metrics.jsonl") > 0 or _evaluated(path)


def _lines(path: Path) -> int:
    with contextlib.suppress(OSError):
        return len(files.read(path, MOST_TABLE).splitlines())
    return 0


def _evaluated(path: Path) -> bool:
    """Whether eval.csv has more than the evaluation at frame 0, which precedes the first checkpoint."""
    try:
        text = files.read(path / "eval.csv", MOST_TABLE).decode(errors="replace")
        return any(row.get("env_step") != "0" for row in csv.DictReader(io.StringIO(text, newline="")))
    except OSError:
        return False
    except csv.Error:  # whatever it was, it is not written over
        return True
