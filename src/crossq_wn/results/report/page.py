"""A report as one HTML file that needs nothing else: no network, no scripts.

report = gather([Path("runs")], reference=[Path("rivals.csv")])
write(report, Path("report.html"))
"""

from importlib.resources import files
from pathlib import Path

from crossq_wn import __version__
from crossq_wn.errors import UserError
from crossq_wn.machine import write_atomically
from crossq_wn.results.figures.source import silent
from crossq_wn.results.report import charts, comparisons, provenance, scores
from crossq_wn.results.report.contents import Report, Tell
from crossq_wn.results.report.html import Html, join, tag

_GENERATOR = "crossq-wn report"
_MARK = f'<meta name="generator" content="{_GENERATOR}">'


def page(report: Report, tell: Tell = silent) -> str:
    """Writes the whole report as HTML; `tell` is told what is being done."""
    tell(f"comparing {len(report.scores)} systems")
    found, unpaired = comparisons.pairs(report)
    tables, apart = scores.summaries(report)
    many = f"{len(report.tasks)} tasks"
    title = f"Report: {', '.join(report.tasks) if len(report.tasks) < 4 else many}"
    parts = [
        comparisons.verdicts(report, found),
        scores.scores(report, tables),
        charts.curves(report),
        charts.diagnostics(report, tell),
        provenance.videos(report),
        provenance.hyperparameters(report),
        provenance.protocol(report),
        provenance.runs(report),
        provenance.left_out(report, tables, [*unpaired, *apart]),
    ]
    shared = f", all with {report.source.shared}" if report.source.shared else ""
    about = f"Runs: {len(report.runs)}. Systems: {len(report.ours)}{shared}. crossq-wn {__version__}"
    header = tag(
        "header",
        tag("h1", title),
        tag("p", comparisons.finding(found) or scores.finding(report, tables), class_="finding"),
        tag("p", about, class_="note"),
    )
    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html(_MARK),
        tag("title", title),
        tag("style", Html((files("crossq_wn.results.report") / "style.css").read_text())),
    ]
    body = tag("body", header, tag("main", join(parts)))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', join(head)), body, lang='en')}\n"


def check_out(out: Path) -> None:
    """Raises UserError if there is something at `out` that is no report of ours."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name the file to write, such as {out / 'report.html'}")
    if out.exists():
        with open(out, errors="replace") as file:
            if _MARK not in file.read(4096):
                raise UserError(
                    f"--out {out} exists and is no report: nothing is overwritten; choose another file"
                )


def write(report: Report, out: Path, tell: Tell = silent) -> None:
    """Writes the report; missing folders are made, and an earlier report is replaced.

    `tell` is told what is being done.

    Raises UserError if something else is there, or it cannot be written.
    """
    check_out(out)
    text = page(report, tell)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"cannot write --out {out}: {error.strerror}; choose another place") from None
