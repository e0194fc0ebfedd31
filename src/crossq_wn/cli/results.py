"""The commands that read runs: `plot`, `figure`, `compare`, `report` and `diagnose`."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from crossq_wn.cli.arguments import Parser, number, positive, whole_number
from crossq_wn.cli.console import say, warn
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.environments import suite_of
from crossq_wn.errors import UserError
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.results import reading, tables
from crossq_wn.results.curvature import spectrum_of
from crossq_wn.results.figures import FIGURES, Source, save
from crossq_wn.results.figures.curves import learning_curve
from crossq_wn.results.health import change, courses, critic_of, findings
from crossq_wn.results.records import Input
from crossq_wn.results.report.contents import gather
from crossq_wn.results.report.page import check_out, write
from crossq_wn.runs.config import read_config
from crossq_wn.runs.protocol import conflicts
from crossq_wn.runs.system import System


def plot(parser: Parser, arguments: list[str]) -> int:
    """Draws learning curves and prints where they are."""
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    parser.add_argument(
        "--out", type=Path, help="without suffix; by default plots/learning_curve in the first run"
    )
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    for path in draw(parsed.runs, parsed.out, force=parsed.force):
        say(path)
    return 0


def draw(runs: Sequence[Path], out: Path | None = None, *, force: bool = False) -> list[Path]:
    """Draws each seed of one task, or a grid of several tasks, and returns the files written."""
    source = Source.of(runs, warn=warn)
    _check_alike(source.ours, force)
    if out is None:
        of_one_run = (runs[0] / "config.json").exists()
        out = runs[0] / "plots" / "learning_curve" if of_one_run else Path("learning_curves")
    if len(source.tasks) == 1:
        return learning_curve(source, out)
    return save(*FIGURES["fig7"](source), out)


def figure(parser: Parser, arguments: list[str]) -> int:
    """Draws a figure of the paper and prints where it is."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = []
    for name, maker in FIGURES.items():
        lines.append(f"  {name:8} {(maker.__doc__ or '').splitlines()[0]}")
    parser.epilog = "\n".join(lines)
    parser.add_argument("name", choices=FIGURES, metavar="NAME", help="which figure; see below")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    _add_reference(parser)
    parser.add_argument(
        "--systems", nargs="+", default=[], metavar="NAME", help="which, in order, by their first words"
    )
    parser.add_argument("--out", type=Path, help="without suffix; by default NAME in this folder")
    _add_confidence(parser)
    parser.add_argument(
        "--frames",
        type=positive,
        help="environment frame of the end; by default the last that most seeds of each system reached",
    )
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    source = Source.of(
        parsed.runs, parsed.reference, parsed.systems, parsed.frames, parsed.confidence, warn=warn
    )
    inputs = [*source.ours, *source.theirs]
    _check_alike(inputs, parsed.force, source.scores if parsed.systems else None)
    for path in save(*FIGURES[parsed.name](source), parsed.out or Path(parsed.name)):
        say(path)
    return 0


def compare(parser: Parser, arguments: list[str]) -> int:
    """Prints a table per task: systems beside each other at the frames that both evaluated."""
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE", help="runs or CSV files of others"
    )
    _add_force(parser)
    add_forms(parser)
    parsed = parser.parse_args(arguments)
    ours, theirs = reading.usable(parsed.runs, warn), reading.usable(parsed.against, warn)
    _check_alike([*ours, *theirs], parsed.force)
    found = tables.compare(reading.scores(ours), reading.scores(theirs) if theirs else {})
    show([_beside(each) for each in found], parsed.form)
    return 0


def _beside(table: tables.Table) -> Table:
    """Lays out one task for people with a column per frame, for programs with a record per number."""
    rows, records = [], []
    for system, seeds, medians in table.rows:
        rows.append([system, seeds, *medians])
        about = {"task": table.task, "system": system, "seeds": seeds}
        for frames, median in zip(table.env_steps, medians, strict=True):
            if median is not None:
                records.append(
                    about | {"frames": frames, "median": median.value, "seeds_there": median.reached}
                )
    columns = [Column(f"{frames:,}", _median) for frames in table.env_steps]
    title = f"{table.task}: median score of the seeds ({suite_of(table.task).unit}) at environment frames"
    return Table(title, ["system", "seeds", *columns], rows, records)


def _median(value: tables.Median | None) -> str:
    return "" if value is None else f"{value:.3f}"


def report(parser: Parser, arguments: list[str]) -> int:
    """Writes the report and prints where it is."""
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the file to write")
    _add_reference(parser)
    parser.add_argument("--systems", nargs="+", default=[], metavar="SYSTEM", help="which; by default all")
    _add_confidence(parser)
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    check_out(parsed.out)
    contents = gather(parsed.runs, parsed.reference, parsed.systems, parsed.confidence, warn)
    for line in contents.skipped:
        warn(line)
    inputs = [*(run.record for run in contents.runs), *contents.source.theirs]
    _check_alike(inputs, parsed.force, contents.scores if parsed.systems else None)
    write(contents, parsed.out, warn)
    say(parsed.out)
    return 0


def diagnose(parser: Parser, arguments: list[str]) -> int:
    """Prints a run's diagnostics and what follows from them."""
    parser.add_argument("run", type=Path)
    parser.add_argument("--hessian", action="store_true", help="the spectrum of the critic's Hessian as well")
    parser.add_argument(
        "--seed", type=whole_number, help="training seed of the Hessian; by default the first"
    )
    add_forms(parser)
    parsed = parser.parse_args(arguments)
    found = courses(parsed.run)
    rows = []
    for name, course in found.items():
        rows.append([name, *course, change(name, course), DIAGNOSTICS[name].description])
    ends = Column("first", "{:.4g}".format), Column("last", "{:.4g}".format)
    table = Table(str(parsed.run), ["diagnostic", *ends, "change", "what it is"], rows)
    said = findings(found, critic_of(read_config(parsed.run)))
    if parsed.hessian:
        said += spectrum_of(parsed.run, parsed.seed, warn).describe()
    show(table, parsed.form, [f"* {sentence}" for sentence in said])
    return 0


def _add_reference(parser: Parser) -> None:
    parser.add_argument(
        "--reference", type=Path, nargs="+", default=[], metavar="FILE", help="CSV files of others' curves"
    )


def _add_confidence(parser: Parser) -> None:
    parser.add_argument("--confidence", type=number, default=0.9, help="of the intervals (default: 0.9)")


def _add_force(parser: Parser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="compare runs of different protocols or versions too"
    )


def _check_alike(inputs: Sequence[Input], force: bool, systems: Collection[System] | None = None) -> None:
    """Refuses, or if forced warns, where runs of one task or of one system are not alike."""
    found = conflicts(reading.terms(inputs), systems)
    refusal = found.pop() if found and not force else None
    for conflict in found:
        warn(conflict)
    if refusal:
        raise UserError(f"{refusal}; --force compares the runs all the same")
