"""Groups of tasks: what figures, reports and verdicts aggregate over.

Groups are declared by suites. Tasks of no group stay alone: their scores may have another scale.
"""

from collections.abc import Iterable

from crossq_wn.environments.suites import PAPER_GROUPS, PAPER_TASKS, SUITES

Groups = dict[str, tuple[str, ...]]  # title -> tasks by their full names

ALL = "all"  # the title of the paper's tasks together


def declared() -> Groups:
    """The groups of all suites, complete."""
    found: Groups = {}
    for suite in SUITES.values():
        found |= suite.grouped()
    return found


def by_group(tasks: Iterable[str]) -> Groups:
    """The tasks in the groups that suites declare, and then each other task alone.

    Args:
        tasks: in the order in which the groups shall have them.
    """
    there = tuple(dict.fromkeys(tasks))
    found: Groups = {}
    grouped: set[str] = set()
    for title, members in declared().items():
        part = tuple(task for task in there if task in members)
        if part:
            found[title] = part
            grouped.update(part)
    for task in there:
        if task not in grouped:
            found[task] = (task,)
    return found


def by_suite(tasks: Iterable[str]) -> Groups:
    """As `by_group`, but all groups of a suite together (figure 6 of the paper)."""
    panels: dict[str, str] = {}  # title of a group -> its suite's
    for suite in SUITES.values():
        panels |= dict.fromkeys(suite.grouped(), suite.panel)
    found: Groups = {}
    for title, part in by_group(tasks).items():
        panel = panels.get(title, title)
        found[panel] = (*found.get(panel, ()), *part)
    return found


def paper_together(tasks: Iterable[str]) -> tuple[str, ...]:
    """Those of the tasks that are the paper's, in the order of their groups."""
    found: list[str] = []
    for part in by_group(tasks).values():
        found += [task for task in part if task in PAPER_TASKS]
    return tuple(found)


def groups_and_all(tasks: Iterable[str]) -> Groups:
    """As `by_group`; where several of the paper's groups are there, all their tasks together follow them."""
    tasks = tuple(tasks)
    groups = by_group(tasks)
    if sum(title in PAPER_GROUPS for title in groups) < 2:
        return groups
    titles = declared()
    named = {title: part for title, part in groups.items() if title in titles}
    return named | {ALL: paper_together(tasks)} | groups  # the last adds the tasks that are alone


def tasks_and_groups(tasks: Iterable[str]) -> Groups:
    """Each task alone, then every group that has some of them, then all of the paper's together."""
    there = tuple(dict.fromkeys(tasks))
    together = paper_together(there)
    return {task: (task,) for task in there} | by_group(there) | ({ALL: together} if together else {})


def size(title: str) -> int | None:
    """How many tasks a group or a suite has when it is complete; None for any other title."""
    if title == ALL:
        return len(PAPER_TASKS)
    for suite in SUITES.values():
        groups = suite.grouped()
        if title in groups:
            return len(groups[title])
        if title == suite.panel and groups:
            return sum(map(len, groups.values()))
    return None
