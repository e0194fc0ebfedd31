"""Findings: what the runs say about every claim of the paper."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.environments.groups import by_group
from crossq_wn.errors import UserError, one_line
from crossq_wn.reproduce.claims import CLAIMS, Claim
from crossq_wn.reproduce.measuring import Evidence, LackingError, Number
from crossq_wn.reproduce.studies import FigurePlan, PlannedRun, PlannedSystem, Scale
from crossq_wn.reproduce.values import Values
from crossq_wn.results import reading
from crossq_wn.results.records import RunRecord
from crossq_wn.results.verdicts import Verdict

CONFIDENCE = 0.9  # paper v2, section 5.1


class Finding(NamedTuple):
    """The verdict on a claim, on one group of tasks."""

    claim: Claim
    group: str
    tasks: tuple[str, ...]
    verdict: Verdict
    why: str  # why it is inconclusive; empty otherwise
    numbers: tuple[Number, ...]


def judge_all(scale: Scale, figures: Iterable[str], values: Values) -> list[Finding]:
    """Judges every claim about these figures, on each of the paper's groups of tasks that was run.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        values: measured in the runs that have finished.
    """
    figures = list(figures)
    findings = []
    for claim in CLAIMS:
        plans = [scale.figures[figure] for figure in figures if figure in claim.figures]
        if plans:
            findings += _on_groups(claim, _planned(plans), values)
    if scale.decides:
        return findings
    why = f"the scale {scale.name} only shows that the machinery works"
    return [finding._replace(verdict="inconclusive", why=why) for finding in findings]


def _on_groups(
    claim: Claim, planned: Mapping[PlannedSystem, tuple[str, ...]], values: Values
) -> list[Finding]:
    """Judges a claim on each group of tasks that it is about."""
    groups = by_group(chain.from_iterable(planned.values()))
    findings = []
    for group, part in groups.items():
        if group in (claim.only or groups):
            evidence = Evidence(values.scores, values.metric, part, planned, CONFIDENCE)
            findings.append(judge(claim, evidence, group))
    if findings:
        return findings
    why = f"none of {', '.join(claim.only)} is run at this scale"
    return [Finding(claim, "none", (), "inconclusive", why, ())]


def judge(claim: Claim, evidence: Evidence, group: str = "") -> Finding:
    """Judges a claim by the verdicts on its numbers.

    It holds if all of them lie on the expected side, does not hold if one lies on the other side, and is
    inconclusive otherwise.

    Args:
        claim: to judge.
        evidence: about one group of tasks.
        group: the title of that group.
    """
    found = partial(Finding, claim, group, evidence.tasks)
    try:
        numbers = tuple(claim.measure(evidence))
    except LackingError as reason:
        return found("inconclusive", str(reason), ())
    verdicts = {number.verdict for number in numbers}
    if "does not hold" in verdicts:
        return found("does not hold", "", numbers)
    if "inconclusive" in verdicts:
        return found("inconclusive", "an interval includes its threshold", numbers)
    return found("holds", "", numbers)


def _planned(plans: Iterable[FigurePlan]) -> dict[PlannedSystem, tuple[str, ...]]:
    """The tasks on which each system is planned."""
    found: dict[PlannedSystem, dict[str, None]] = {}
    for tasks, systems in plans:
        for system in systems:
            found.setdefault(system, {}).update(dict.fromkeys(tasks))  # the keys are an ordered set
    return {system: tuple(tasks) for system, tasks in found.items()}


def why_unreadable(path: Path) -> str | None:
    """The reason why a run directory cannot serve as evidence; None if it can."""
    try:
        reading.check(RunRecord(path))
    except UserError as reason:
        return one_line(reason)
    return None


def ended_early(finished: Sequence[PlannedRun], values: Values) -> list[str]:
    """Names the seeds that failed before the end, by system and task; claims are judged without them."""
    lines = []
    for run in finished:
        curves = values.scores[run.system][run.config.task]
        unfinished = np.isnan(curves.values[:, -1])  # where the longest of all seeds ends
        lost = [seed for seed, failed in zip(curves.seeds, unfinished, strict=True) if failed]
        if lost:
            lines.append(f"{run.name}: seed {', '.join(lost)} failed before the end")
    return list(dict.fromkeys(lines))  # a system may have a run for each of its seeds
