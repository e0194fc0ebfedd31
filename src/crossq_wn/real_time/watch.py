"""What a run in real time records about its timing."""

from collections.abc import Callable
from typing import Any

import numpy as np

from crossq_wn.real_time.records import Decision
from crossq_wn.real_time.schedule import Schedule

# Columns of metrics.csv, about the decisions since the row before; docs/your-robot.md explains them.
COLUMNS = (
    "deadline_misses", "environment_overruns", "jitter_p50_ms", "jitter_p99_ms", "jitter_max_ms",
    "achieved_utd", "staleness_mean", "staleness_max", "safe_actions", "interventions",
)  # fmt: skip
_ENOUGH = 10  # overruns before one speaks of them


class Watch:
    """Counts what happens to deadlines.

    Args:
        schedule: the control rate.
        name: of the environment.
        tell: is told, once, that the environment takes longer than its period.
    """

    def __init__(self, schedule: Schedule, name: str, tell: Callable[[str], None]) -> None:
        self.schedule, self._name, self._tell = schedule, name, tell
        self._overruns, self._seen, self._longest = 0, 0, 0.0
        self._decisions: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Takes a decision of the acting side."""
        self._decisions.append(decision)
        self._seen += 1
        if decision.busy > self.schedule.longest_step:
            self._overruns, self._longest = self._overruns + 1, max(self._longest, decision.busy)
            if self._overruns == _ENOUGH:
                self._tell(self._warning())

    def figures(self, decisions: int, updates: int) -> dict[str, Any]:
        """The columns for the decisions since the last call.

        Args:
            decisions: of training after the warm-up.
            updates: gradient updates.
        """
        seen, self._decisions = self._decisions, []
        if not seen:
            return {}
        late = np.array([each.lateness for each in seen])
        stale = np.array([each.staleness for each in seen])
        p50, p99 = np.percentile(late, [50, 99])
        return {
            "deadline_misses": int((late > self.schedule.tolerance).sum()),
            "environment_overruns": sum(each.busy > self.schedule.longest_step for each in seen),
            "jitter_p50_ms": round(1e3 * float(p50), 3),
            "jitter_p99_ms": round(1e3 * float(p99), 3),
            "jitter_max_ms": round(1e3 * float(late.max()), 3),
            "achieved_utd": round(updates / max(1, decisions), 3),
            "staleness_mean": round(float(stale.mean()), 2),
            "staleness_max": int(stale.max()),
            "safe_actions": sum(each.safe for each in seen),
            "interventions": sum(each.intervened for each in seen),
        }

    def _warning(self) -> str:
        period = 1e3 * self.schedule.period
        return (
            f"{self._name} misses its clock: {self._overruns} of its first {self._seen:,} steps took longer "
            f"than the period of {period:.1f} ms, up to {1e3 * self._longest:.1f} ms; its own rate then "
            f"holds instead of {1 / self.schedule.period:g} Hz"
        )
