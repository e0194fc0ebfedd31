"""Names for systems that stand side by side in figures, tables and reports."""

from collections.abc import Iterable, Mapping

from crossq_wn.runs.system import System


def displayed(systems: Iterable[System], published: Iterable[System] = ()) -> dict[System, System]:
    """Returns each system as it is displayed beside the others: without the settings that all of ours change.

    `a UTD 1 (x=1, y=2)` and `b UTD 5 (x=1, y=3)` become `a UTD 1 (y=2)` and `b UTD 5 (y=3)`. Systems stay as
    they are if only one of them is ours, or if two would get the same name.

    Args:
        systems: those that stand side by side.
        published: those of them that are not ours, which stay as they are.
    """
    whole = {system: system for system in systems}
    ours = [system for system in whole if system not in set(published)]
    if len(ours) < 2:
        return whole
    common = frozenset.intersection(*(frozenset(system.changes) for system in ours))
    shown = dict(whole)
    for system in ours:
        shown[system] = system.without(common)
    distinct = {system.label for system in shown.values()}
    return shown if len(distinct) == len(shown) else whole


def left_out(shown: Mapping[System, System]) -> str:
    """Returns what `displayed` left out of the names, such as `x=1, y=2`, so that it can be said once."""
    for system, short in shown.items():
        lost = [f"{name}={value}" for name, value in system.changes if (name, value) not in short.changes]
        if lost:
            return ", ".join(lost)
    return ""
