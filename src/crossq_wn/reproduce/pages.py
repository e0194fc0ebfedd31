"""Findings as a page for a reader, JSON for a program and a table for a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossq_wn.errors import UserError
from crossq_wn.machine import write_atomically
from crossq_wn.reproduce import values
from crossq_wn.reproduce.claims import THRESHOLDS
from crossq_wn.reproduce.findings import CONFIDENCE, Finding
from crossq_wn.reproduce.measuring import Number
from crossq_wn.reproduce.studies import PlannedRun, Scale
from crossq_wn.results.verdicts import EQUAL_CALLED_BETTER

_HOW = (
    "A claim holds if the whole interval of each of its numbers lies where the claim wants it, does not "
    "hold if the whole interval of one lies on the other side, and is inconclusive otherwise. Numbers are "
    f"means over tasks of the means over runs, with {CONFIDENCE:.0%} intervals that allow for few seeds; the "
    "interquartile mean must lie on the same side (docs/statistics.md). Ratios are of geometric means. "
    "Scores are return / 1000 or success rate."
)
_DEFAULT = "each algorithm's default preset (departures from Table 1: PAPER.md)"
_FILES = ("verdict.md", "verdict.json", "verdict.csv")


@dataclass(frozen=True)
class Context:
    """What a reader of findings must know."""

    scale: Scale
    runs: Sequence[PlannedRun]  # all that were planned
    notes: Sequence[str]  # such as runs that failed
    command: str  # which made this


def check_out(out: Path, figures: Iterable[str] = ()) -> None:
    """Checks that only files of our own would be replaced.

    Args:
        out: the folder that verdicts and their values are to be written to.
        figures: that are to be drawn there.

    Raises:
        UserError: a file there has another origin.
    """
    from crossq_wn.results.figures.files import outputs

    try:
        ours = "claims" in json.loads((out / "verdict.json").read_text())
    except (OSError, ValueError, TypeError):
        ours = False
    for name in (*_FILES, values.FILE):
        if (out / name).exists() and not ours:
            raise UserError(f"--out {out} holds a {name} of another origin: choose another folder")
    for figure in figures:
        outputs(out / figure)


def write(findings: Sequence[Finding], context: Context, out: Path) -> list[Path]:
    """Writes verdict.md, verdict.json and verdict.csv; those of an earlier call are replaced.

    Args:
        findings: what was found.
        context: what a reader must know besides.
        out: the folder.

    Returns:
        The files written.

    Raises:
        UserError: a file there has another origin.
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


def _table(findings: Sequence[Finding]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["claim", "tasks", "number", "mean", "low", "high", "wanted", "threshold", "verdict"])
    for finding in findings:
        for number in finding.numbers:
            shown = [f"{value:.6g}" for value in number.interval]
            wanted = ["above" if number.above else "below", f"{number.threshold:.6g}"]
            writer.writerow([finding.claim.name, finding.group, number.what, *shown, *wanted, number.verdict])
    return text.getvalue()


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
        _HOW,
        "",
        f"{EQUAL_CALLED_BETTER} A claim about several numbers holds only if each of them does, which errs "
        "less often, and fails as soon as one of them does, which errs more often.",
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
