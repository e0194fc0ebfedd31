"""Groups of tasks, over which figures, reports and verdicts aggregate.

Suites declare the groups. A task without a group is never aggregated with others, because its scores may be
on another scale.
"""

from collections.abc import Iterable

from crossq_wn.environments.suites import PAPER_GROUPS, PAPER_TASKS, SUITES

Groups = dict[str, tuple[str, ...]]  # title -> tasks by their full names

ALL = "all"  # the title of the paper's 25 tasks taken together


def declared() -> Groups:
    """The groups that all suites declare, with all of their tasks."""
    found: Groups = {}
    for suite in SUITES.values():
        found |= suite.grouped()
    return found


def by_group(tasks: Iterable[str]) -> Groups:
    """Sorts tasks into the groups that suites declare; the other tasks follow, each by itself.

    Args:
        tasks: full names, in the order that they keep within their groups.

    Returns:
        Tasks by title; the title of a task by itself is its name.
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
    """Like `by_group`, but joins all groups of a suite, as figure 6 of the paper does."""
    panels: dict[str, str] = {}  # title of a group -> its suite's
    for suite in SUITES.values():
        panels |= dict.fromkeys(suite.grouped(), suite.panel)
    found: Groups = {}
    for title, part in by_group(tasks).items():
        panel = panels.get(title, title)
        found[panel] = (*found.get(panel, ()), *part)
    return found


def paper_together(tasks: Iterable[str]) -> tuple[str, ...]:
    """Those of the tasks that are among the paper's 25, group by group."""
    found: list[str] = []
    for part in by_group(tasks).values():
        found += [task for task in part if task in PAPER_TASKS]
    return tuple(found)


def groups_and_all(tasks: Iterable[str]) -> Groups:
    """Like `by_group`, but adds `ALL` after the groups if at least two of them are the paper's."""
    tasks = tuple(tasks)
    groups = by_group(tasks)
    if sum(title in PAPER_GROUPS for title in groups) < 2:
        return groups
    titles = declared()
    named = {title: part for title, part in groups.items() if title in titles}
    return named | {ALL: paper_together(tasks)} | groups  # the last operand adds the tasks without a group


def tasks_and_groups(tasks: Iterable[str]) -> Groups:
    """Each task by itself, then the groups that have some of them, then `ALL` if any is the paper's."""
    there = tuple(dict.fromkeys(tasks))
    together = paper_together(there)
    return {task: (task,) for task in there} | by_group(there) | ({ALL: together} if together else {})


def size(title: str) -> int | None:
    """The number of tasks in a complete group, suite or `ALL`; None for any other title."""
    if title == ALL:
        return len(PAPER_TASKS)
    for suite in SUITES.values():
        groups = suite.grouped()
        if title in groups:
            return len(groups[title])
        if title == suite.panel and groups:
            return sum(map(len, groups.values()))
    return None
