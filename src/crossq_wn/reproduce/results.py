"""What do the runs say? A finding for every claim of the paper, and its figures."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import by_group
from crossq_wn.errors import UserError, one_line
from crossq_wn.reproduce.claims import CLAIMS, Claim
from crossq_wn.reproduce.judging import Evidence, Finding, Labelled, judge
from crossq_wn.reproduce.studies import Run, Scale, Study
from crossq_wn.results import reading
from crossq_wn.results.reading import Results
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.config import read_config

Say = Callable[[str], None]
CONFIDENCE = 0.9  # paper v2, section 5.1


class Judged(NamedTuple):
    """A claim on one group of tasks."""

    claim: Claim
    group: str
    tasks: tuple[str, ...]
    finding: Finding


def damaged(finished: Iterable[Run]) -> dict[Path, str]:
    """Why runs cannot be read, by their directories: they are no evidence, and do no harm to others."""
    found = {}
    for run in finished:
        try:
            reading.check(RunRecord(run.path))
        except UserError as reason:
            found[run.path] = one_line(reason)
    return found


def judge_all(scale: Scale, figures: Iterable[str], finished: Sequence[Run], warn: Say) -> list[Judged]:
    """Every claim about these figures, on each of the paper's groups of tasks that was run.

    Args:
        scale: whose studies the figures are.
        figures: such as fig3.
        finished: runs that have finished and can be read; others are no evidence.
        warn: told of diagnostics that cannot be read.
    """
    figures = list(figures)
    scores, metric = _labelled(finished, warn)
    judged = []
    for claim in CLAIMS:
        studies = [scale.studies[figure] for figure in figures if figure in claim.figures]
        parts = by_group(task for study in studies for task in study.tasks)
        planned = _planned(studies)
        spoken_of = {group: part for group, part in parts.items() if group in (claim.only or parts)}
        for group, tasks in spoken_of.items():
            finding = judge(claim.measure, Evidence(scores, metric, tasks, planned, CONFIDENCE))
            if not scale.decides:
                finding = Finding(
                    "cannot be told", f"{scale.name} proves the machinery only", finding.numbers
                )
            judged.append(Judged(claim, group, tasks, finding))
        if studies and not spoken_of:
            why = f"none of {', '.join(claim.only)} is run at this scale"
            judged.append(Judged(claim, "none", (), Finding("cannot be told", why, ())))
    return judged


def _planned(studies: Iterable[Study]) -> dict[str, tuple[str, ...]]:
    """System -> the tasks that it is to be run on."""
    planned: dict[str, tuple[str, ...]] = {}
    for tasks, systems in studies:
        for system in systems:
            planned[system.label] = tuple(dict.fromkeys((*planned.get(system.label, ()), *tasks)))
    return planned


def ended_early(finished: Sequence[Run]) -> list[str]:
    """Seeds that failed before their run's end, a line per run; the claims do without them."""
    lines: list[str] = []
    scores, _ = _labelled(finished, lines.append)
    for run in finished:
        curves = scores[run.label][run.config.task]
        lost = [
            seed for seed, value in zip(curves.seeds, curves.values[:, -1], strict=True) if np.isnan(value)
        ]
        if lost:
            lines.append(f"{run.config.task}, {run.label}: seed {', '.join(lost)} failed before the end")
    return lines


def _labelled(finished: Sequence[Run], warn: Say) -> tuple[Labelled, Callable[[str], Labelled]]:
    """Scores, and columns of metrics.csv, of systems by their labels."""
    records, once = [RunRecord(run.path) for run in finished], cache(warn)  # a file has several columns
    labels = {record.identity.system: run.label for record, run in zip(records, finished, strict=True)}

    def relabel(results: Results) -> Labelled:
        return {labels[system]: curves for system, curves in results.items()}

    @cache
    def metric(column: str) -> Labelled:
        return relabel(reading.logged(records, column, once))

    return relabel(reading.scores(records)) if records else {}, metric


def draw(scale: Scale, figures: Iterable[str], finished: Sequence[Run], out: Path, warn: Say) -> list[Path]:
    """Each figure from its own runs: pictures and the numbers behind them.

    Args:
        scale: whose studies the figures are.
        figures: such as fig3.
        finished: runs that have finished; others are not drawn.
        out: the folder.
        warn: told of what is left out, such as a figure none of whose runs has finished.
    """
    from crossq_wn.results.figures import FIGURES, Source, save

    written = []
    for figure in figures:
        tasks, systems = scale.studies[figure]
        labels = [system.label for system in systems]
        shown = [run for run in finished if run.label in labels and run.config.task in tasks]
        if not shown:
            warn(f"{figure} is not drawn: none of its runs has finished")
            continue
        shown.sort(key=lambda run: labels.index(run.label))
        names = list(dict.fromkeys(read_config(run.path).system.label for run in shown))
        source = Source.of([run.path for run in shown], systems=names, confidence=CONFIDENCE, warn=warn)
        try:
            picture = FIGURES[figure](source)
        except UserError as reason:
            warn(f"{figure} is not drawn: {reason}")
            continue
        written += save(picture.figure, picture.rows, out / figure)
    return written
