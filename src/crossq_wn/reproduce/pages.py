"""How are findings written down? A page for a reader, JSON for a program, a table for a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossq_wn.errors import UserError
from crossq_wn.machine import write_atomically
from crossq_wn.reproduce.claims import THRESHOLDS
from crossq_wn.reproduce.judging import Number
from crossq_wn.reproduce.results import CONFIDENCE, Judged
from crossq_wn.reproduce.studies import Run, Scale

_HOW = (
    "A claim holds if the whole interval of each of its numbers lies where the claim wants it, does not hold "
    "if the whole interval of one lies on the other side, and cannot be told otherwise. Numbers are IQMs "
    f"over runs and tasks with {CONFIDENCE:.0%} stratified bootstrap intervals; differences and ratios are "
    "of IQMs, ratios by way of logarithms. Scores are return / 1000 or success rate."
)
_DEFAULT = "each algorithm's default preset (departures from Table 1: PAPER.md)"
_FILES = ("verdict.md", "verdict.json", "verdict.csv")


def check_out(out: Path, figures: Iterable[str] = ()) -> None:
    """Raises UserError if a file that `write`, or a figure, would replace is not its own."""
    from crossq_wn.results.figures.files import outputs

    try:
        ours = "claims" in json.loads((out / "verdict.json").read_text())
    except (OSError, ValueError, TypeError):
        ours = False
    for name in _FILES:
        if (out / name).exists() and not ours:
            raise UserError(f"--out {out} holds a {name} of another origin: choose another folder")
    for figure in figures:
        outputs(out / figure)


def write(
    judged: Sequence[Judged], scale: Scale, runs: Sequence[Run], notes: Sequence[str], command: str, out: Path
) -> list[Path]:
    """Writes verdict.md, verdict.json and verdict.csv; those of an earlier call are replaced.

    Args:
        judged: what was found.
        scale: at which it was found.
        runs: all runs that were planned.
        notes: what a reader must know besides, such as runs that failed.
        command: which made this.
        out: the folder.

    Raises:
        UserError: see `check_out`.
    """
    check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    page, data, table = (out / name for name in _FILES)
    write_atomically(page, _page(judged, scale, runs, notes, command))
    about: dict[str, object] = {
        "command": command,
        "scale": scale.name,
        "about": scale.about,
        "notes": list(notes),
    }
    about |= {"confidence": CONFIDENCE, "claims": [_entry(each) for each in judged]}
    write_atomically(data, json.dumps(about, indent=2) + "\n")
    write_atomically(table, _table(judged))
    return [page, data, table]


def _table(judged: Sequence[Judged]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["claim", "tasks", "number", "iqm", "low", "high", "wanted", "threshold", "verdict"])
    for claim, group, _, finding in judged:
        for n in finding.numbers:
            shown = [f"{x:.6g}" for x in (n.value, n.low, n.high)]
            wanted = ["above" if n.above else "below", f"{n.threshold:.6g}"]
            writer.writerow([claim.name, group, n.what, *shown, *wanted, n.verdict])
    return text.getvalue()


def _entry(judged: Judged) -> dict[str, object]:
    claim, group, tasks, finding = judged
    return {
        "claim": claim.name,
        "text": claim.text,
        "where": claim.where,
        "group": group,
        "tasks": list(tasks),
        "verdict": finding.verdict,
        "why": finding.why,
        "numbers": [{**number._asdict(), "verdict": number.verdict} for number in finding.numbers],
    }


def _page(
    judged: Sequence[Judged], scale: Scale, runs: Sequence[Run], notes: Sequence[str], command: str
) -> str:
    tasks = dict.fromkeys(run.config.task for run in runs)
    frames = sorted({run.config.options.frames for run in runs})
    changes = ", ".join(f"{name} {value}" for name, value in scale.changes.items())
    lines = [
        f"# The paper's claims at the scale `{scale.name}`",
        "",
        f"`{command}`: {scale.about}.",
        "",
        f"- tasks: {', '.join(tasks)}",
        f"- environment frames per seed: {', '.join(f'{n:,}' for n in frames)}",
        f"- seeds per task: {len(scale.seeds)}",
        f"- settings: {_DEFAULT}{f', but {changes}' if changes else ''}",
        *(f"- {note}" for note in notes),
        "",
        _HOW,
        "",
        THRESHOLDS,
        "",
        "| claim (paper v2) | where | tasks | verdict | measured [interval], wanted |",
        "|---|---|---|---|---|",
        *map(_row, judged),
    ]
    return "\n".join(lines) + "\n"


def _row(judged: Judged) -> str:
    claim, group, _, (verdict, why, numbers) = judged
    found = f"**{verdict}**" + (f": {why}" if why else "")
    measured = "<br>".join(map(_measured, numbers))
    return f"| {claim.text} | {claim.where} | {group} | {found} | {measured} |"


def _measured(n: Number) -> str:
    what = n.what.replace("|", "\\|")
    return f"{what}: {n.value:.3g} [{n.low:.3g}, {n.high:.3g}], {'>' if n.above else '<'} {n.threshold:.3g}"
