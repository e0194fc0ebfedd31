"""Findings as a page to read, as JSON for programs and as a table for spreadsheets."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossq_wn.environments.suites import suite_of
from crossq_wn.errors import UserError
from crossq_wn.files import MOST_JSON, read_json, write_atomically
from crossq_wn.reproduce import values
from crossq_wn.reproduce.claims import THRESHOLDS
from crossq_wn.reproduce.findings import CONFIDENCE, Finding
from crossq_wn.reproduce.measuring import Number
from crossq_wn.reproduce.studies import PlannedRun, Scale
from crossq_wn.results.verdicts import EQUAL_CALLED_BETTER
from crossq_wn.runs.tables import as_csv

_HOW = (
    "A claim holds if the interval of each of its numbers lies entirely on the claimed side of the "
    "threshold; it does not hold if the interval of one lies entirely on the other side; otherwise it is "
    "inconclusive. A number is the mean over tasks of the means over runs, with a "
    f"{CONFIDENCE:.0%} interval that allows for few seeds; its interquartile mean must be on the same side "
    "(docs/statistics.md). Ratios compare geometric means."
)
_DEFAULT = "each algorithm's default preset (departures from Table 1: PAPER.md)"
_FILES = ("verdict.md", "verdict.json", "verdict.csv")


@dataclass(frozen=True)
class Context:
    """What a reader of findings needs to know."""

    scale: Scale
    runs: Sequence[PlannedRun]  # all planned runs
    notes: Sequence[str]  # such as runs that failed
    command: str  # the command that made the page


def check_out(out: Path, figures: Iterable[str] = ()) -> None:
    """Checks that writing would replace only files of our own.

    Args:
        out: the folder for verdicts and their values.
        figures: the figures to be drawn there.

    Raises:
        UserError: a file there is not ours.
    """
    from crossq_wn.results.figures.files import outputs

    try:
        ours = "claims" in read_json(out / "verdict.json", MOST_JSON)
    except (OSError, ValueError, TypeError):
        ours = False
    for name in (*_FILES, values.FILE):
        if (out / name).exists() and not ours:
            raise UserError(f"--out {out} holds a {name} that reproduce did not write: choose another folder")
    for figure in figures:
        outputs(out / figure)


def write(findings: Sequence[Finding], context: Context, out: Path) -> list[Path]:
    """Writes verdict.md, verdict.json and verdict.csv; replaces those of an earlier call.

    Args:
        findings: to write.
        context: what else a reader needs to know.
        out: the folder.

    Returns:
        The files written.

    Raises:
        UserError: a file there is not ours.
    """
    check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    page, data, table = (out / name for name in _FILES)
    write_atomically(page, _page(findings, context))
    about = {
        "command": context.command,
        "scale": context.scale.name,
        "about": context.scale.about,
        "notes": list(context.notes),
        "confidence": CONFIDENCE,
        "claims": list(map(_entry, findings)),
    }
    write_atomically(data, json.dumps(about, indent=2) + "\n")
    write_atomically(table, _table(findings))
    return [page, data, table]


def _units(runs: Sequence[PlannedRun]) -> str:
    """Says what scores are, per suite: `return / 1000 (DeepMind Control)`."""
    found: dict[str, None] = {}  # the keys are an ordered set
    for run in runs:
        suite = suite_of(run.config.task)
        found[f"{suite.unit} ({suite.title})"] = None
    return ", ".join(found)


def _table(findings: Sequence[Finding]) -> str:
    rows = [["claim", "tasks", "number", "mean", "low", "high", "wanted", "threshold", "verdict"]]
    for finding in findings:
        for number in finding.numbers:
            shown = [f"{value:.6g}" for value in number.interval]
            wanted = ["above" if number.above else "below", f"{number.threshold:.6g}"]
            rows.append([finding.claim.name, finding.group, number.what, *shown, *wanted, number.verdict])
    return as_csv(rows)


def _entry(finding: Finding) -> dict[str, object]:
    return {
        "claim": finding.claim.name,
        "text": finding.claim.text,
        "where": finding.claim.where,
        "group": finding.group,
        "tasks": list(finding.tasks),
        "verdict": finding.verdict,
        "why": finding.why,
        "numbers": list(map(_number, finding.numbers)),
    }


def _number(number: Number) -> dict[str, object]:
    value, low, high = number.interval
    return {
        "what": number.what,
        "value": value,
        "low": low,
        "high": high,
        "above": number.above,
        "threshold": number.threshold,
        "verdict": number.verdict,
    }


def _page(findings: Sequence[Finding], context: Context) -> str:
    scale, runs = context.scale, context.runs
    tasks: dict[str, None] = {}  # the keys are an ordered set
    frames: set[int] = set()
    for run in runs:
        tasks[run.config.task] = None
        frames.add(run.config.options.frames)
    changes = ", ".join(f"{name} {value}" for name, value in scale.changes.items())
    lines = [
        f"# The paper's claims at the scale `{scale.name}`",
        "",
        f"`{context.command}`: {scale.about}.",
        "",
        f"- tasks: {', '.join(tasks)}",
        f"- environment frames per seed: {', '.join(map('{:,}'.format, sorted(frames)))}",
        f"- seeds per task: {len(scale.seeds)}",
        f"- settings: {_DEFAULT}{f', but {changes}' if changes else ''}",
        *(f"- {note}" for note in context.notes),
        "",
        f"{_HOW} Scores: {_units(context.runs)}.",
        "",
        f"{EQUAL_CALLED_BETTER} A claim about several numbers is wrongly found to hold less often, because "
        "all of them must hold, and wrongly found to fail more often, because one failure is enough.",
        "",
        THRESHOLDS,
        "",
        "| claim (paper v2) | where | tasks | verdict | measured [interval], wanted |",
        "|---|---|---|---|---|",
        *map(_row, findings),
    ]
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    claim = finding.claim
    found = f"**{finding.verdict}**" + (f": {finding.why}" if finding.why else "")
    measured = "<br>".join(map(_measured, finding.numbers))
    return f"| {claim.text} | {claim.where} | {finding.group} | {found} | {measured} |"


def _measured(number: Number) -> str:
    what, side = number.what.replace("|", "\\|"), ">" if number.above else "<"
    value, low, high = (f"{each:.3g}" for each in number.interval)
    return f"{what}: {value} [{low}, {high}], {side} {number.threshold:.3g}"
