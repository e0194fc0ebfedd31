"""Counts what the host asks of the device: the programs that it launches and the arrays that it sends."""

from __future__ import annotations  # JAX's types are loaded on first use

import re
import tempfile
from pathlib import Path
from typing import Any

from crossq_wn.lazy import jax

# Events of XLA's runtime, which all backends write.
_LAUNCH = re.compile(r"LoadedExecutable::ExecuteHelper")
_TRANSFER = re.compile(r"^DevicePut(WithSharding|WithDevice)?$")


class Trace:
    """A trace by JAX's profiler, which has begun.

    Args:
        decisions: agent decisions before it.
    """

    def __init__(self, decisions: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._first, self._last = decisions, decisions
        options: Any = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # which would slow everything down
        jax.profiler.start_trace(self._folder.name, profiler_options=options)

    def end(self, decisions: int) -> None:
        """Ends the trace, after so many decisions; a trace that has ended stays as it is."""
        if self._last > self._first:
            return
        jax.profiler.stop_trace()  # type: ignore[no-untyped-call]
        self._last = decisions
        self._launches = self._transfers = 0
        for path in Path(self._folder.name).rglob("*.xplane.pb"):
            self._count(jax.profiler.ProfileData.from_file(str(path)))
        self._folder.cleanup()

    def _count(self, data: Any) -> None:
        for plane in data.planes:
            for line in plane.lines:
                for event in line.events:
                    self._launches += bool(_LAUNCH.search(event.name))
                    self._transfers += bool(_TRANSFER.match(event.name))

    def figures(self) -> dict[str, float]:
        """Launches and transfers per decision; nothing if the trace has not ended."""
        decisions = self._last - self._first
        if not decisions:
            return {}
        return {
            "launches_per_decision": self._launches / decisions,
            "transfers_per_decision": self._transfers / decisions,
        }
