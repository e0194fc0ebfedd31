"""When a learner is reset: schedules over agent decisions. Replay is always kept."""

from collections.abc import Callable

Schedule = Callable[[int], bool]  # decision, counted from 1 -> whether to reset before its updates


def at(decisions: tuple[int, ...]) -> Schedule:
    """At these decisions."""
    return frozenset(decisions).__contains__


def every_updates(updates: int, utd: int, warmup: int) -> Schedule:
    """After every `updates` gradient updates, rounded up to whole decisions."""
    period = -(-updates // utd)
    return lambda decision: decision > warmup + 1 and (decision - warmup - 1) % period == 0


def on_grid(updates: int, utd: int, warmup: int, grid: int) -> Schedule:
    """Every `updates` gradient updates, at the next decision divisible by `grid`, as SR-SAC's code.

    With its 2.56M updates, UTD 32, warm-up 10k and grid 5k: decisions 90k, 175k, 260k, 345k, ...
    """
    decisions = updates // utd
    period = decisions // grid * grid + grid
    first = (warmup - 1 + decisions) // grid * grid + grid
    return lambda decision: decision >= first and (decision - first) % period == 0
