"""A stopwatch for the phases of a decision. It always runs, because a lap costs less than a microsecond."""

import time

# "update" is dispatching the gradient updates and waiting for them, without what ran beside other phases;
# "record" is logging, evaluation and checkpoints.
PHASES = ("act", "environment", "replay", "transfer", "update", "record")


class Stopwatch:
    """Adds up the wall-clock seconds of each phase of the training loop."""

    def __init__(self) -> None:
        self._restart()
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Charges the time since the last lap to a phase."""
        now = time.perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now

    def next_decision(self) -> None:
        """Counts a decision."""
        self._decisions += 1

    def per_decision(self) -> dict[str, float]:
        """Milliseconds per decision of each phase since the last call: `act_ms`, `environment_ms`, ..."""
        count = max(1, self._decisions)
        values = {f"{phase}_ms": round(1e3 * s / count, 4) for phase, s in self._seconds.items()}
        self._restart()
        return values

    def _restart(self) -> None:
        self._seconds, self._decisions = dict.fromkeys(PHASES, 0.0), 0
