"""A report as one HTML file that needs nothing else: no network, no scripts.

contents = gather([Path("runs")], reference=[Path("rivals.csv")])
write(contents, Path("report.html"))
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from crossq_wn import __version__
from crossq_wn.errors import UserError, not_made, option
from crossq_wn.files import read_start, write_atomically
from crossq_wn.results.figures.source import in_paper_order, silent
from crossq_wn.results.report import charts, comparisons, provenance, scores
from crossq_wn.results.report.contents import Contents, Report, Tell
from crossq_wn.results.report.html import Html, bullets, details, join, tag

_GENERATOR = "crossq-wn report"
_MARK = f'<meta name="generator" content="{_GENERATOR}">'


class Part(NamedTuple):
    """The part of a page on runs of one protocol."""

    opening: Html
    body: Html
    notes: list[str]  # on what is left out


def page(contents: Contents, tell: Tell = silent) -> str:
    """Writes the whole report as HTML.

    Args:
        contents: of the page.
        tell: called with a line on what is being done.
    """
    reports, lines = contents.reports, list(contents.skipped)
    tasks: list[str] = []
    parts: list[Part] = []
    for report in reports:
        tasks += report.tasks
        parts.append(_part(report, tell))
        lines += parts[-1].notes
    tasks = in_paper_order(tasks)
    title = f"Report: {', '.join(tasks) if len(tasks) < 4 else f'{len(tasks)} tasks'}"
    opening = parts[0].opening if len(parts) == 1 else tag("p", _apart(reports), class_="note")
    whole = parts[0].body if len(parts) == 1 else join(map(_framed, parts, reports))
    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        # Before the style, which is long: `check_out` looks for it near the top of the file.
        Html(_MARK),
        tag("title", title),
        tag("style", Html((files("crossq_wn.results.report") / "style.css").read_text())),
    ]
    end = tag("p", f"Written by crossq-wn {__version__}.", class_="note")
    main = tag("main", whole, provenance.left_out(lines), _glossary())
    body = tag("body", tag("header", tag("h1", title), opening), main, tag("footer", end))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', join(head)), body, lang='en')}\n"


def _apart(reports: Sequence[Report]) -> str:
    """Says why the page has several parts."""
    return (
        f"These runs follow {len(reports)} protocols, so their scores do not mean the same. Runs are "
        "compared within a protocol only, and each protocol has a part of this page."
    )


def _glossary() -> Html:
    """Explains the words of the page to readers who are new to them."""
    terms = [
        ("System", "an algorithm with its settings; settings that differ from its preset stand in brackets."),
        ("UTD", "update-to-data ratio: gradient updates per decision of the agent."),
        (
            "Environment frame",
            "one step of the simulator; an agent decides once every `action repeat` frames.",
        ),
        ("Seed", "one training; seeds of a system differ only in their random numbers."),
        (
            "Score",
            "the return divided by 1,000 (DeepMind Control), the success rate (MyoSuite), or the return.",
        ),
        ("IQM", "interquartile mean: the mean of the middle half of all runs, so that outliers count less."),
        ("Interval", "where the true value plausibly lies; the fewer seeds there are, the wider it is."),
        (
            "Better, inconclusive",
            "the verdict on two systems; inconclusive means that more seeds are needed.",
        ),
        ("Protocol", "how runs were trained and evaluated: scores can be compared only if it is the same."),
    ]
    lines = [tag("span", tag("b", term), f": {meaning}") for term, meaning in terms]
    return details("What the words on this page mean", bullets(lines))


def _part(report: Report, tell: Tell) -> Part:
    """Writes the part on runs of one protocol."""
    count = len(report.scores)
    tell(f"comparing {count} {'system' if count == 1 else 'systems'}")
    found, unpaired = comparisons.pairs(report)
    tables, apart = scores.summaries(report)
    sections = [
        comparisons.verdicts(report, found, unpaired),
        scores.scores(report, tables),
        charts.curves(report),
        charts.diagnostics(report, tell),
        provenance.videos(report),
        provenance.hyperparameters(report),
        provenance.protocol(report),
        provenance.runs(report),
    ]
    finding = comparisons.finding(found) or scores.finding(report, tables)
    opening = tag("p", finding, class_="finding"), tag("p", _about(report), class_="note")
    return Part(join(opening), join(sections), [*provenance.late(report, tables), *unpaired, *apart])


def _framed(part: Part, report: Report) -> Html:
    """Puts a part below a heading that names its protocol."""
    title = f"{report.place.replace('-', ' ').capitalize()}: {report.source.protocol}"
    heading = tag("h2", title)
    return tag("section", heading, part.opening, part.body, id=report.place, aria_label=title)


def _about(report: Report) -> str:
    """Says how many runs and systems there are."""
    shared = f", all with {report.source.shared}" if report.source.shared else ""
    others = len(report.scores) - len(report.ours)
    published = f" Published systems beside them: {others}." if others else ""
    return f"Runs: {len(report.runs)}. Systems: {len(report.ours)}{shared}.{published}"


def check_out(out: Path) -> None:
    """Raises UserError if `out` is not named as HTML, or something other than a report of ours is there."""
    if out.is_dir():
        where = option("out", str(out))
        raise UserError(f"{where} is a folder: name the file to write, such as {out / 'report.html'}")
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(
            f"{option('out', str(out))}: a report is one HTML file, which browsers know by its suffix: "
            f"name it {out.with_suffix('.html')}"
        )
    if out.exists() and _MARK.encode() not in read_start(out, 4096):
        raise UserError(
            f"{option('out', str(out))} exists and is not a report, so it is not overwritten; "
            "choose another file"
        )


def write(contents: Contents, out: Path, tell: Tell = silent) -> None:
    """Writes the report; creates missing folders, and replaces an earlier report.

    Args:
        contents: of the page.
        out: the file to write.
        tell: called with a line on what is being done.

    Raises:
        UserError: another file is there, or the file cannot be written.
    """
    check_out(out)
    text = page(contents, tell)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"cannot write {option('out', str(out))}: {not_made(error, out)}") from None
