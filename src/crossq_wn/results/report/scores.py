"""How good are the systems? A table per task and group of tasks, at one environment frame each."""

from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import tasks_and_groups
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.comparison import last_scores
from crossq_wn.results.figures.style import bounded, unit
from crossq_wn.results.reading import Curves, Steps
from crossq_wn.results.report.html import Html, details, join, section, table, tag
from crossq_wn.results.report.study import Study
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
from crossq_wn.results.wording import number, seeds_of, span

_MANY = 8  # tasks that are read at once


class Summary(NamedTuple):
    """Systems on tasks, at one environment frame."""

    name: str
    tasks: tuple[str, ...]
    frames: int
    scores: dict[str, list[Array]]  # system -> per task [runs]
    absent: list[str]  # systems that have some of the tasks, but not all of them at that frame


def summaries(study: Study) -> tuple[list[Summary], list[str]]:
    """The scores of every task and of the paper's groups of tasks, and which have none in common."""
    found, notes, seen = [], [], set()
    for name, members in tasks_and_groups(study.tasks).items():
        # On what the system with most tasks has; a group is not worth more than its tasks if it has one.
        tasks = max(
            (tuple(t for t in members if t in study.scores[system]) for system in study.ours), key=len
        )
        if tasks in seen or not tasks:
            continue
        seen.add(tasks)
        try:
            found.append(_summary(study, name, tasks))
        except UserError as error:
            notes.append(f"{name} has no table: {one_line(error)}")
    return found, notes


def _summary(study: Study, name: str, tasks: tuple[str, ...]) -> Summary:
    whole = [system for system, there in study.scores.items() if all(task in there for task in tasks)]
    own = [study.scores[s][task] for s in whole if s not in study.source.published for task in tasks]
    rivals = [[study.scores[s][task] for task in tasks] for s in whole if s in study.source.published]
    frames = last_scores(own, _shared(rivals))[0]
    scores = {}
    for system in whole:
        there = [
            curve.values[:, curve.env_steps == frames]
            for curve in (study.scores[system][task] for task in tasks)
        ]
        values = [runs[~np.isnan(runs)] for runs in there]
        if all(len(runs) for runs in values):
            scores[system] = values
    # Ours in their order, then the best of others.
    ranked = sorted(scores, key=lambda s: -_value(iqm, scores[s]) if s in study.source.published else -np.inf)
    scores = {system: scores[system] for system in ranked}
    partly = [s for s, there in study.scores.items() if s not in scores and any(t in there for t in tasks)]
    return Summary(title_of(name, tasks), tasks, frames, scores, partly)


def _shared(rivals: list[list[Curves]]) -> Steps | None:
    """Environment frames at which a rival was evaluated on all tasks, or None if there is none."""
    frames = [set.intersection(*(set(curve.env_steps.tolist()) for curve in of)) for of in rivals]
    union = sorted(set().union(*frames))
    return np.array(union, np.int64) if union else None


def title_of(group: str, tasks: tuple[str, ...]) -> str:
    """What a group of tasks, or one task, is called on the page."""
    if len(tasks) == 1:
        return tasks[0]
    return f"all {len(tasks)} tasks" if group == "all" else f"{group} ({len(tasks)} tasks)"


def finding(study: Study, tables: list[Summary]) -> str:
    """What to remember of one system: its score on most tasks."""
    if not tables:
        return "Nothing has been evaluated after the start yet."
    widest = max(tables, key=lambda each: len(each.tasks))
    system, tasks = next(iter(widest.scores.items()))
    return (
        f"{study.names[system]} has an IQM of {number(_value(iqm, tasks))} on {widest.name} at "
        f"{widest.frames:,} frames with {seeds_of(tuple(map(len, tasks)))}; "
        "there is nothing to compare it with."
    )


def scores(study: Study, tables: list[Summary]) -> Html:
    """A table per group and task."""
    groups = [_scores_table(study, each) for each in tables if len(each.tasks) > 1]
    tasks = [_scores_table(study, each) for each in tables if len(each.tasks) == 1]
    explained = tag(
        "p",
        "IQM: mean of the middle half of all runs of all tasks. Median: of the seeds on one task, of the "
        "tasks' means on several. Optimality gap: by how much scores fall short of 1. Runs that had not "
        "got that far do not count.",
        class_="note",
    )
    each = join(tasks) if len(tasks) <= _MANY else details(f"Each of {len(tasks)} tasks", join(tasks))
    return section("Scores", join(groups), each, explained)


def _scores_table(study: Study, summary: Summary) -> Html:
    rows = [_scores_row(study, system, summary) for system in summary.scores]
    caption = f"{summary.name} at {summary.frames:,} environment frames: {unit(summary.tasks)}"
    interval = f"{study.source.confidence:.0%} interval"
    whole = table(caption, ["system", "IQM", interval, "seeds", "mean", "median", "optimality gap"], rows)
    if not summary.absent:
        return whole
    names = ", ".join(study.names[system] for system in summary.absent)
    absent = f"Not evaluated at this frame on {_all_of(summary.tasks)}: {names}."
    return join([whole, tag("p", absent, class_="note")])


def _scores_row(study: Study, system: str, summary: Summary) -> tuple[object, ...]:
    tasks = summary.scores[system]
    middle = estimate(iqm, tasks, confidence=study.source.confidence)
    centre = _value(median, tasks) if len(tasks) > 1 else float(np.median(tasks[0]))
    return (
        study.name(system),
        number(middle.value),
        span(middle) if max(map(len, tasks)) > 1 else "one seed",
        seeds_of(tuple(map(len, tasks)), unit=""),
        number(_value(mean, tasks)),
        number(centre),
        number(_value(optimality_gap, tasks)) if bounded(summary.tasks) else "–",
    )


def _value(statistic: Statistic, tasks: list[Array]) -> float:
    return float(point_estimate(statistic, tasks))


def _all_of(tasks: tuple[str, ...]) -> str:
    return tasks[0] if len(tasks) == 1 else f"all {len(tasks)} tasks"
