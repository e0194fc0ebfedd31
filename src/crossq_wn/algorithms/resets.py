"""Schedules of resets, over agent decisions; a reset never touches the replay."""

from collections.abc import Callable

Schedule = Callable[[int], bool]  # decision, counted from 1 -> whether to reset before its updates


def at(decisions: tuple[int, ...]) -> Schedule:
    """Resets at the given decisions."""
    return frozenset(decisions).__contains__


def every_updates(updates: int, utd: int, warmup: int) -> Schedule:
    """Resets after every `updates` gradient updates, rounded up to whole decisions.

    Args:
        updates: gradient updates between resets.
        utd: gradient updates per agent decision.
        warmup: agent decisions before the first gradient update.
    """
    period = -(-updates // utd)
    return lambda decision: decision > warmup + 1 and (decision - warmup - 1) % period == 0


def on_grid(updates: int, utd: int, warmup: int, grid: int, *, after: bool = True) -> Schedule:
    """Resets every `updates` gradient updates, but on a grid of decisions, as SR-SAC's code does.

    With its 2.56M updates, UTD 32, warm-up 10k and grid 5k: after decisions 90k, 175k, 260k, 345k, ...

    Args:
        updates: gradient updates that must lie between resets.
        utd: gradient updates per agent decision.
        warmup: agent decisions before the first gradient update.
        grid: agent decisions; a reset belongs to a multiple of it.
        after: whether the reset comes after the updates of that decision, that is before those of the next.
    """
    decisions = updates // utd
    period = decisions // grid * grid + grid
    first = (warmup - 1 + decisions) // grid * grid + grid + after
    return lambda decision: decision >= first and (decision - first) % period == 0
