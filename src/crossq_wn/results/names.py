"""What figures, tables and reports call systems that stand side by side."""

from collections.abc import Iterable, Mapping

from crossq_wn.runs.system import System


def displayed(systems: Iterable[System], published: Iterable[System] = ()) -> dict[System, System]:
    """Each system as it is displayed beside the others: without the changes that all of ours have in common.

    `a UTD 1 (x=1, y=2)` and `b UTD 5 (x=1, y=3)` become `a UTD 1 (y=2)` and `b UTD 5 (y=3)`. Systems stay as
    they are if only one of them is ours, or if two would be called alike.

    Args:
        systems: those that stand side by side.
        published: those of them that are not ours, which stay as they are.
    """
    there, others = list(systems), set(published)
    ours = [system for system in there if system not in others]
    common = frozenset(ours[0].changes) if len(ours) > 1 else frozenset()
    for system in ours:
        common &= frozenset(system.changes)
    shown = {system: system if system in others else system.without(common) for system in there}
    distinct = {system.label for system in shown.values()}
    return shown if len(distinct) == len(shown) else {system: system for system in there}


def left_out(shown: Mapping[System, System]) -> str:
    """The changes that `displayed` left out of all of ours, such as `x=1, y=2`; to be told once."""
    for system, short in shown.items():
        lost = [f"{name}={value}" for name, value in system.changes if (name, value) not in short.changes]
        if lost:
            return ", ".join(lost)
    return ""
