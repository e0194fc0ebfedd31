"""What a run in real time records about its timing."""

from collections.abc import Callable
from typing import Any

import numpy as np

from crossq_wn.errors import counted, option
from crossq_wn.real_time.records import Decision
from crossq_wn.real_time.schedule import Schedule

# Columns of metrics.csv, about the decisions since the row before; docs/your-robot.md explains them.
COLUMNS = (
    "deadline_misses", "environment_overruns", "jitter_p50_ms", "jitter_p99_ms", "jitter_max_ms",
    "achieved_utd", "staleness_mean", "staleness_max", "safe_actions", "interventions",
)  # fmt: skip
_ENOUGH = 10  # overruns before one speaks of them
_FIRST = 100  # steps whose usual time says how fast a robot's own clock ticks
_ENDLESS = 600.0  # seconds of decisions without an episode's end, before one speaks of that
_FAST = 0.9  # of a period: a clock whose ticks are closer together has another rate than the one stated


class Watch:
    """Counts what happens to deadlines.

    Args:
        schedule: the control rate.
        name: of the environment.
        tell: is told, once each, that the environment takes longer than its period, and that its own clock
            is faster.
        own_clock: whether the environment's steps wait for a clock of its own.
    """

    def __init__(
        self, schedule: Schedule, name: str, tell: Callable[[str], None], *, own_clock: bool = False
    ) -> None:
        self.schedule, self._name, self._tell = schedule, name, tell
        self._steps: list[float] | None = [] if own_clock else None  # seconds of the first ones
        self._overruns, self._seen, self._longest = 0, 0, 0.0
        self._endless = True  # whether no episode has ended, which nobody has been told
        self._decisions: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Takes a decision of the acting side."""
        self._decisions.append(decision)
        self._seen += 1
        self._endless = self._endless and decision.transition.episode is None
        if self._endless and self._seen * self.schedule.period >= _ENDLESS:
            self.tell_of_endless_episode()
        if decision.busy > self.schedule.longest_step:
            self._overruns, self._longest = self._overruns + 1, max(self._longest, decision.busy)
            if self._overruns == _ENOUGH:
                self._tell(self._warning())
        if self._steps is not None:
            # From when the action could have been given, which is the tick before, until the next tick.
            self._steps.append(decision.lateness + decision.busy)
            self._check_clock(self._steps)

    def tell_of_endless_episode(self) -> None:
        """Says that no episode has ended so far, unless it was said before."""
        if not self._endless:
            return
        self._endless = False
        self._tell(
            f"{self._name}: no episode has ended in {counted(self._seen, 'decision')}, so the robot is "
            "neither reset nor evaluated, and there are no returns: return truncated=True from its step at a "
            f"time limit, or train with {option('episode_frames')}"
        )

    def _check_clock(self, steps: list[float]) -> None:
        """Says, as soon as it is known, that the robot's own clock is faster than the stated rate."""
        if len(steps) < _FIRST:
            return
        self._steps, usual, period = None, float(np.median(steps)), self.schedule.period
        if usual < _FAST * period:
            # A clock of more than twice the rate gets an action half a period after the one before.
            self._tell(
                f"{self._name} is faster than {option('real_time')} says: half of its first {_FIRST} steps "
                f"took less than {1e3 * usual:.1f} ms, where the period is {1e3 * period:.1f} ms; its "
                f"decisions follow its own clock, up to {2 / period:g} Hz: give its true rate"
            )

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
