"""How fast training is on this machine, and how close to what the machine can do.

Speeds drift with heat and with other processes, so no figure is kept from run to run. An update is compared
with its own matrix products, environments with their bare physics, and a peer with this package, in
alternating rounds; every figure is the median of the rounds. Measuring is left to a process of its own
(`measure`), which is ended when the time is over; what it has found by then counts.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from crossq_wn.bench import SECONDS, peers
from crossq_wn.bench.figures import Figures, missing
from crossq_wn.bench.measure import REFUSED, Job
from crossq_wn.errors import UserError
from crossq_wn.runs.config import RunConfig

# Seconds for everything, if each measurement takes `SECONDS`; building a peer's environment comes before.
_BUDGET = 90.0
_AGAINST = 60.0  # seconds more with a peer


def bench(
    config: RunConfig,
    say: Callable[[str], None],
    show: Callable[[Figures], None],
    against: str | None = None,
    seconds: float = SECONDS,
    budget: float | None = None,
) -> Figures:
    """Measures how fast a configuration trains.

    Args:
        config: what to measure; its frames, evaluations and checkpoints do not matter.
        say: is told what is being measured.
        show: is given figures as soon as they are known.
        against: a peer to compare with, such as "sbx", or None.
        seconds: to spend on each measurement in each round.
        budget: seconds for everything; what is not measured by then is left out. By default as many as 90,
            or more in proportion to `seconds`.

    Returns:
        Figures by name (see `figures.MEANINGS`): times in ms or s, rates per second. A ratio that cannot be
        true is None. `disturbed` holds sentences on what shows that something else kept the machine busy,
        and `not_measured` the names of the figures for which there was no time.

    Raises:
        UserError: the configuration cannot be measured here; the message says why.
    """
    if budget is None:
        budget = _BUDGET * max(1.0, seconds / SECONDS)
    if against is not None:
        peers.prepare(against, say)
        budget += _AGAINST
    found: Figures = {}
    job = Job(config.to_json(), against, seconds, budget)
    with tempfile.TemporaryDirectory(prefix="crossq-wn-bench-") as folder:
        described = Path(folder) / "job.json"
        described.write_text(json.dumps(job._asdict()))
        command = [sys.executable, "-m", "crossq_wn.bench.measure", str(described)]
        for kind, content in told(command, Path(folder), budget):
            if kind == "say":
                say(content)
            else:
                found |= content
                show(content)
    return {"disturbed": [], "split": {}} | found | {"not_measured": missing(found, against=against)}


def told(command: list[str], folder: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """Yields what a measuring process tells, until it ends or the time is over.

    Args:
        command: starts the process, which writes JSON objects to standard output, one a line.
        folder: a temporary one, for its cache of compiled programs and all else that it writes.
        seconds: after which it is ended, with all processes that it has started.

    Yields:
        The entries of the objects as (key, value).

    Raises:
        UserError: the process failed.
    """
    deadline = time.monotonic() + seconds
    lines: queue.Queue[str | None] = queue.Queue()
    with _measuring(command, folder) as process:
        assert process.stdout is not None
        # A pipe cannot be read with a time limit; a queue can.
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if line is None:
                break
            yield from json.loads(line).items()
        if code := process.wait():
            words = (folder / "errors").read_text().strip().splitlines() or [f"exit code {code}"]
            raise UserError(words[-1] if code == REFUSED else f"the measuring process failed: {words[-1]}")


@contextmanager
def _measuring(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that measures, with its own cache of compiled programs; it ends with this context."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TMPDIR": str(folder / "tmp"),
    }
    with (
        open(folder / "errors", "w") as errors,
        # A session of its own, so that what it has started ends with it.
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
