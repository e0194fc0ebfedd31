"""The tables of scores: one per task and group of tasks, each at one environment frame."""

from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import tasks_and_groups
from crossq_wn.errors import UserError, one_line
from crossq_wn.results import practice
from crossq_wn.results.comparison import last_scores
from crossq_wn.results.curves import Curves, shared_steps
from crossq_wn.results.figures.captions import weighed
from crossq_wn.results.figures.points import systems_with
from crossq_wn.results.figures.style import bounded, unit
from crossq_wn.results.report.contents import Report
from crossq_wn.results.report.html import Html, details, join, table, tag
from crossq_wn.results.statistics import (
    Array,
    Statistic,
    estimate,
    iqm,
    mean,
    median,
    optimality_gap,
    point_estimate,
)
from crossq_wn.results.wording import number, seeds_of, span, worth
from crossq_wn.runs.system import System

_MANY = 8  # up to this many tasks are shown unfolded


class Summary(NamedTuple):
    """The scores of systems on some tasks, at one environment frame."""

    name: str
    tasks: tuple[str, ...]
    frames: int
    scores: dict[System, list[Array]]  # per task [runs]
    absent: list[System]  # systems that have some of the tasks, but not all of them at that frame


def summaries(report: Report) -> tuple[list[Summary], list[str]]:
    """Sums up the scores on every task and on the paper's groups of tasks.

    Returns:
        The summaries, and a line for each task or group that has none, for lack of a common frame.
    """
    found: list[Summary] = []
    notes: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for name, members in tasks_and_groups(report.tasks).items():
        tasks = _most(report, members)
        if tasks in seen or not tasks:
            continue  # a group of a single task adds nothing to the task itself
        seen.add(tasks)
        try:
            found.append(_summary(report, name, tasks))
        except UserError as error:
            notes.append(f"{name} has no table: {one_line(error)}")
    return found, notes


def _most(report: Report, members: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the largest set of these tasks that one of our systems has."""
    most: tuple[str, ...] = ()
    for system in report.ours:
        there = report.scores[system]
        tasks = tuple(task for task in members if task in there)
        most = max(most, tasks, key=len)  # of equally large sets the first
    return most


def _summary(report: Report, name: str, tasks: tuple[str, ...]) -> Summary:
    """Sums up the systems that have all of these tasks. Raises UserError without a common frame."""
    there = systems_with(report.scores, tasks)
    whole = {system: curves for system, curves in there.items() if len(curves) == len(tasks)}
    frames = _frame(report, whole)
    scores = {}
    for system, curves in whole.items():
        values = [_at(curve, frames) for curve in curves]
        if all(map(len, values)):
            scores[system] = values
    absent = [system for system in there if system not in scores]
    return Summary(title_of(name, tasks), tasks, frames, _ranked(report, scores), absent)


def _frame(report: Report, whole: dict[System, list[Curves]]) -> int:
    """Finds the last frame that most of our runs reached, if possible one that a published system has."""
    own: list[Curves] = []
    shared = np.array([], np.int64)  # frames at which a rival was evaluated on all tasks
    for system, curves in whole.items():
        if system in report.source.published:
            shared = np.union1d(shared, shared_steps(curves))
        else:
            own += curves
    return last_scores(own, shared)[0]


def _at(curves: Curves, frames: int) -> Array:
    """Returns the scores of the runs that have one at that frame [runs]."""
    values = curves.values[:, curves.env_steps == frames]
    return values[~np.isnan(values)]


def _ranked(report: Report, scores: dict[System, list[Array]]) -> dict[System, list[Array]]:
    """Sorts systems: ours in their order, then the best of others."""

    def rank(entry: tuple[System, list[Array]]) -> float:
        system, tasks = entry
        return -_value(report, iqm, tasks) if system in report.source.published else -np.inf

    return dict(sorted(scores.items(), key=rank))  # a stable sort


def title_of(group: str, tasks: tuple[str, ...]) -> str:
    """Returns the page's name for a group of tasks or a single task."""
    if len(tasks) == 1:
        return tasks[0]
    return f"all {len(tasks)} tasks" if group == "all" else f"{group} ({len(tasks)} tasks)"


def finding(report: Report, tables: list[Summary]) -> str:
    """Sums up where nothing can be compared: a system's score on as many tasks as possible."""
    if not tables:
        return "No system was evaluated after frame 0 by most of its runs."
    widest = max(tables, key=lambda each: len(each.tasks))
    system, tasks = next(iter(widest.scores.items()))
    others = len(report.scores) - 1
    beside = {0: "there is no other system", 1: "the other system cannot be compared with it"}.get(
        others, f"none of the {others} other systems can be compared with it"
    )
    seeds = tuple(map(len, tasks))
    return (
        f"{report.names[system]} has {worth(number(_value(report, iqm, tasks)), seeds)} on {widest.name} at "
        f"{widest.frames:,} frames with {seeds_of(seeds)}; {beside}."
    )


def scores(report: Report, tables: list[Summary]) -> Html:
    """Writes a table for each group and task."""
    groups: list[Html] = []
    tasks: list[Html] = []
    for summary in tables:
        place = groups if len(summary.tasks) > 1 else tasks
        place.append(_scores_table(report, summary))
    explained = tag(
        "p",
        "IQM: the mean of the middle half of all runs on all tasks. Median: of the seeds on one task, or of "
        "the means of several tasks. Optimality gap: by how much scores fall short of 1 on average. Runs "
        "that did not get that far do not count.",
        class_="note",
    )
    each = join(tasks) if len(tasks) <= _MANY else details(f"Each of {len(tasks)} tasks", join(tasks))
    return report.section("Scores", join(groups), each, explained)


def _scores_table(report: Report, summary: Summary) -> Html:
    known = {system: report.source.practice(system, summary.tasks) for system in summary.scores}
    differ = practice.differing(list(known.values()))
    rows = []
    for system in summary.scores:
        effort = [practice.written(known[system][name]) for name in differ]
        rows.append((*_scores_row(report, system, summary), *effort))
    caption = f"{summary.name} at {summary.frames:,} environment frames: {unit(summary.tasks)}"
    interval = f"{report.source.how.confidence:.0%} interval"
    head = ["system", "IQM", interval, "seeds", "mean", "median", "optimality gap"]
    head += [practice.FIELDS[name] for name in differ]
    notes = []
    if _unequal(summary):
        notes.append(weighed(report.source.how.weighting))
    if same := practice.shared(list(known.values())):
        notes.append(same)
    if summary.absent:
        names = ", ".join(report.names[system] for system in summary.absent)
        notes.append(f"not evaluated at this frame on {_all_of(summary.tasks)}: {names}")
    whole = table(caption, head, rows)
    return join([whole, *(tag("p", f"{note[0].upper()}{note[1:]}.", class_="note") for note in notes)])


def _unequal(summary: Summary) -> bool:
    """Whether a system has unequally many seeds of its tasks."""
    return any(min(map(len, tasks)) < max(map(len, tasks)) for tasks in summary.scores.values())


def _scores_row(report: Report, system: System, summary: Summary) -> tuple[object, ...]:
    tasks = summary.scores[system]
    middle = estimate(iqm, tasks, **report.source.how._asdict())
    # The median of one task's seeds; `median` is that of the tasks' means.
    centre = _value(report, median, tasks) if len(tasks) > 1 else float(np.median(tasks[0]))
    return (
        report.name(system),
        number(middle.value),
        span(middle) if max(map(len, tasks)) > 1 else "one seed",
        seeds_of(tuple(map(len, tasks)), unit=""),
        *(("–", "–") if sum(map(len, tasks)) == 1 else (number(_value(report, mean, tasks)), number(centre))),
        number(_value(report, optimality_gap, tasks)) if bounded(summary.tasks) else "–",
    )


def _value(report: Report, statistic: Statistic, tasks: list[Array]) -> float:
    return float(point_estimate(statistic, tasks, weighting=report.source.how.weighting))


def _all_of(tasks: tuple[str, ...]) -> str:
    return tasks[0] if len(tasks) == 1 else f"all {len(tasks)} tasks"
