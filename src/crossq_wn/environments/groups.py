"""Groups of tasks, which figures, reports and verdicts aggregate over.

Suites declare them. A task of no group stays alone, because its scores may have another scale.
"""

from collections.abc import Iterable

from crossq_wn.environments.suites import PAPER_GROUPS, PAPER_TASKS, SUITES

Groups = dict[str, tuple[str, ...]]  # title -> tasks by their full names

ALL = "all"  # the title of the paper's tasks together


def declared() -> Groups:
    """Returns the complete groups of all suites."""
    found: Groups = {}
    for suite in SUITES.values():
        found |= suite.grouped()
    return found


def by_group(tasks: Iterable[str]) -> Groups:
    """Sorts tasks into the groups that suites declare, with each other task alone behind them.

    Args:
        tasks: the tasks, in the order that they keep inside their groups.

    Returns:
        Title -> tasks; a task that is alone is its own title.
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
    """Does as `by_group`, but joins all groups of a suite, as figure 6 of the paper does."""
    panels: dict[str, str] = {}  # title of a group -> its suite's
    for suite in SUITES.values():
        panels |= dict.fromkeys(suite.grouped(), suite.panel)
    found: Groups = {}
    for title, part in by_group(tasks).items():
        panel = panels.get(title, title)
        found[panel] = (*found.get(panel, ()), *part)
    return found


def paper_together(tasks: Iterable[str]) -> tuple[str, ...]:
    """Returns those of the tasks that are among the paper's 25, group by group."""
    found: list[str] = []
    for part in by_group(tasks).values():
        found += [task for task in part if task in PAPER_TASKS]
    return tuple(found)


def groups_and_all(tasks: Iterable[str]) -> Groups:
    """Does as `by_group`, and adds `ALL` behind the groups if several of them are the paper's."""
    tasks = tuple(tasks)
    groups = by_group(tasks)
    if sum(title in PAPER_GROUPS for title in groups) < 2:
        return groups
    titles = declared()
    named = {title: part for title, part in groups.items() if title in titles}
    return named | {ALL: paper_together(tasks)} | groups  # the last adds the tasks that are alone


def tasks_and_groups(tasks: Iterable[str]) -> Groups:
    """Returns each task alone, then the groups that have some of them, then `ALL` if any is the paper's."""
    there = tuple(dict.fromkeys(tasks))
    together = paper_together(there)
    return {task: (task,) for task in there} | by_group(there) | ({ALL: together} if together else {})


def size(title: str) -> int | None:
    """Returns how many tasks a group, a suite or `ALL` has when it is complete; None for any other title."""
    if title == ALL:
        return len(PAPER_TASKS)
    for suite in SUITES.values():
        groups = suite.grouped()
        if title in groups:
            return len(groups[title])
        if title == suite.panel and groups:
            return sum(map(len, groups.values()))
    return None
