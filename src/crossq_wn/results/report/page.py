"""Which parts does a report have? One HTML file that needs nothing else: no network, no scripts.

study = gather([Path("runs")], reference=[Path("rivals.csv")])
write(study, Path("report.html"))
"""

from importlib.resources import files
from pathlib import Path

from crossq_wn import __version__
from crossq_wn.errors import UserError
from crossq_wn.machine import write_atomically
from crossq_wn.results import reading
from crossq_wn.results.report import charts, comparisons, provenance, scores
from crossq_wn.results.report.html import Html, join, tag
from crossq_wn.results.report.study import Study, Tell, silent

_GENERATOR = "crossq-wn report"
_MARK = f'<meta name="generator" content="{_GENERATOR}">'


def page(study: Study, tell: Tell = silent) -> str:
    """The whole report; `tell` is told what is being done."""
    tell(f"comparing {len(study.scores)} systems")
    found, unpaired = comparisons.pairs(study)
    tables, apart = scores.summaries(study)
    many = f"{len(study.tasks)} tasks"
    title = f"Report: {', '.join(study.tasks) if len(study.tasks) < 4 else many}"
    parts = [
        comparisons.verdicts(study, found),
        scores.scores(study, tables),
        charts.curves(study),
        charts.diagnostics(study, tell),
        provenance.videos(study),
        provenance.hyperparameters(study),
        provenance.protocol(study),
        provenance.runs(study),
        provenance.left_out(study, tables, [*unpaired, *apart]),
    ]
    shared = reading.dropped(study.names)
    about = (
        f"Runs: {len(study.runs)}. Systems: {len(study.ours)}{f', all with {shared}' if shared else ''}. "
        f"crossq-wn {__version__}"
    )
    header = tag(
        "header",
        tag("h1", title),
        tag("p", comparisons.finding(found) or scores.finding(study, tables), class_="finding"),
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


def write(study: Study, out: Path, tell: Tell = silent) -> None:
    """Writes the report; missing folders are made, and an earlier report is replaced.

    `tell` is told what is being done.

    Raises UserError if something else is there, or it cannot be written.
    """
    check_out(out)
    text = page(study, tell)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"cannot write --out {out}: {error.strerror}; choose another place") from None
