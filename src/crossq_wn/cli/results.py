"""The commands that read runs: `plot`, `figure`, `compare` and `report`."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.cli.choices import (
    add_aggregation,
    add_along,
    add_force,
    add_reference,
    add_systems,
    aggregation,
)
from crossq_wn.cli.console import each, say, telling_of_folders, warn
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.environments import suite_of
from crossq_wn.errors import UserError
from crossq_wn.files import require_folder
from crossq_wn.results import reading, tables
from crossq_wn.results.alike import Group, groups
from crossq_wn.results.along import LABELS, PER_UNIT, Along, at_equal, clocks, unknown
from crossq_wn.results.curves import Results
from crossq_wn.results.figures import CURVES, FIGURES, Source, save
from crossq_wn.results.figures.curves import learning_curve
from crossq_wn.results.figures.files import numbered, outputs
from crossq_wn.results.figures.source import silent
from crossq_wn.results.figures.training import training_curve
from crossq_wn.results.practice import (
    FIELDS,
    Practice,
    differing,
    over,
    practices,
    shared,
    without_evaluations,
    written,
)
from crossq_wn.results.records import Input
from crossq_wn.results.report.contents import gather
from crossq_wn.results.report.page import check_out, write
from crossq_wn.results.standing import failures


def plot(parser: Parser, arguments: list[str]) -> int:
    """Draws learning curves, and prints the files' names."""
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    parser.add_argument(
        "--out",
        type=Path,
        help="the files to write, without suffix; by default plots/learning_curve in the run, or "
        "learning_curves in this folder if there are several",
    )
    add_along(parser)
    add_force(parser)
    parsed = parser.parse_args(arguments)
    with telling_of_folders(parsed.out):
        drawn = draw(parsed.runs, parsed.out, force=parsed.force, along=parsed.x, tell=warn)
    for path in drawn:
        say(path)
    return 0


def draw(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    force: bool = False,
    along: Along = "frames",
    tell: Callable[[str], None] = silent,
) -> list[Path]:
    """Draws each seed of one task, or a grid of several tasks.

    Runs of different protocols are drawn in pictures of their own. Of runs that were all trained without
    evaluations, training episodes are drawn.

    Args:
        runs: run directories, folders of them, or CSV files.
        out: where to write, without suffix; by default in the run's plots/ if there is one run directory,
            else `learning_curves` in the current folder.
        force: draws runs of different protocols in one picture.
        along: what the curves run over.
        tell: called with a line on each seed that failed, and each earlier picture that is replaced.

    Returns:
        The files written.

    Raises:
        UserError: there is nothing that can be drawn.
    """
    if out is None:
        of_one_run = len(runs) == 1 and (runs[0] / "config.json").exists()
        out = runs[0] / "plots" / "learning_curve" if of_one_run else Path("learning_curves")
        if of_one_run:
            # In a run that a stranger made, plots/ may be a link to anywhere.
            require_folder(out.parent)
    given = reading.inputs(runs)
    if given and all(map(without_evaluations, given)):
        if along != "frames":
            raise UserError(f"--x is {along}: training episodes are drawn over frames alone; leave it out")
        _tell_failed(given, tell)
        return _replacing(out, lambda: training_curve(given, out, warn), tell)
    sources = Source((), (), warn=warn, along=along).each_protocol(runs, force=force)
    _tell_failed(_runs_of(sources), tell)
    return _drawn(sources, _curves, out, tell)


def _runs_of(sources: Iterable[Source]) -> Iterator[Input]:
    for source in sources:
        yield from source.ours


def _tell_failed(runs: Iterable[Input], tell: Callable[[str], None]) -> None:
    """Tells of the seeds that failed, whose curves end early."""
    for line in failures(runs):
        tell(line)


def _curves(source: Source, out: Path) -> list[Path]:
    """Draws each seed if there is one task, else a grid of tasks."""
    if len(source.tasks) == 1:
        return learning_curve(source, out)
    return save(*FIGURES["fig7"](source), out)


def _drawn(
    sources: Sequence[Source],
    work: Callable[[Source, Path], list[Path]],
    out: Path,
    tell: Callable[[str], None],
) -> list[Path]:
    """Draws a picture per protocol, and returns the files written."""

    def picture(it: tuple[int, Source]) -> list[Path]:
        stem = numbered(out, it[0], len(sources))
        return _replacing(stem, lambda: work(it[1], stem), tell)

    return [path for files in each(enumerate(sources, 1), picture) for path in files]


def _replacing(stem: Path, work: Callable[[], list[Path]], tell: Callable[[str], None]) -> list[Path]:
    """Draws a picture, and tells if it takes the place of an earlier one; returns the files written."""
    earlier = outputs(stem)[0].exists()
    files = work()
    if earlier:
        tell(f"replaced an earlier picture: {files[0]}")
    return files


def figure(parser: Parser, arguments: list[str]) -> int:
    """Draws a figure of the paper, and prints the files' names."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = []
    for name, maker in FIGURES.items():
        lines.append(f"  {name:8} {(maker.__doc__ or '').splitlines()[0]}")
    parser.epilog = "\n".join(lines)
    parser.add_argument("name", choices=FIGURES, metavar="NAME", help="the figure to draw; see below")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    add_reference(parser)
    add_systems(parser, "draw, in this order")
    parser.add_argument(
        "--out", type=Path, help="the files to write, without suffix; by default NAME in this folder"
    )
    add_aggregation(parser)
    parser.add_argument(
        "--frames",
        type=positive,
        help="environment frame at which to compare systems and end curves; by default the last that most "
        "seeds of each system reached",
    )
    add_along(parser)
    add_force(parser)
    parsed = parser.parse_args(arguments)
    if parsed.x != "frames" and parsed.name not in CURVES:
        raise UserError(f"--x is for curves, and {parsed.name} has none: it may go with {', '.join(CURVES)}")
    how = aggregation(parsed)
    source = Source((), (), tuple(parsed.systems), parsed.frames, how, warn, parsed.x)
    sources = source.each_protocol(parsed.runs, parsed.reference, force=parsed.force)
    _tell_failed(_runs_of(sources), warn)
    maker, out = FIGURES[parsed.name], parsed.out or Path(parsed.name)
    with telling_of_folders(out):
        drawn = _drawn(sources, lambda one, stem: save(*maker(one), stem), out, warn)
    for path in drawn:
        say(path)
    return 0


def compare(parser: Parser, arguments: list[str]) -> int:
    """Prints a table per task: systems beside each other at the frames at which they were evaluated.

    With --x they stand beside each other at equal gradient updates, or equal hours of training.
    """
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="runs or CSV files to compare with",
    )
    add_along(parser)
    add_force(parser)
    add_forms(parser)
    parsed = parser.parse_args(arguments)
    ours, theirs = reading.complete(parsed.runs, warn), reading.complete(parsed.against, warn)
    _tell_failed([*ours, *theirs], warn)
    shown: list[Table] = []
    for found in each(groups(ours, theirs, warn, force=parsed.force), partial(_tables, parsed.x)):
        shown += found
    show(shown, parsed.form)
    _tell_if_alone(shown)
    return 0


def _tell_if_alone(shown: Sequence[Table]) -> None:
    """Warns if there are several tasks, and a single system on each of them."""
    systems: dict[str, set[str]] = {}
    for table in shown:
        for record in table.for_programs:
            systems.setdefault(record["task"], set()).add(record["system"])
    if len(systems) > 1 and all(len(names) == 1 for names in systems.values()):
        warn(f"nothing is compared: {', '.join(systems)} have a single system each")


def _tables(along: Along, group: Group) -> list[Table]:
    """Makes the tables for runs of one protocol."""
    ours, theirs = reading.scores(group.ours), reading.scores(group.theirs) if group.theirs else {}
    if along != "frames":
        known = clocks(group.ours, along, warn), clocks(group.theirs, along, warn)
        placed = at_equal(along, ours, theirs, known)
        if not placed[0]:
            raise unknown(along, group.ours)
        for there, left in zip((ours, theirs), placed, strict=True):
            _tell_unplaced(along, there, left)
        ours, theirs = placed
    mine, others = _by_label(group.ours), _by_label(group.theirs)
    shown = []
    for table in tables.compare(ours, theirs):
        own = sum(table.task in tasks for tasks in ours.values())  # rows; ours stand first
        practised = []
        for place, row in enumerate(table.rows):
            whose = mine if place < own else others
            practised.append(over(whose.get(row.system, {}), [table.task]))
        shown.append(_beside(table, practised, group.protocol, along))
    return shown


def _tell_unplaced(along: Along, there: Results, placed: Results) -> None:
    """Warns of the systems that have no place over updates or hours, on all tasks or on some."""
    left_out = []
    for system, tasks in there.items():
        lost = [task for task in tasks if task not in placed.get(system, {})]
        if lost:
            where = "" if len(lost) == len(tasks) else f" on {', '.join(lost)}"
            left_out.append(system.label + where)
    if left_out:
        warn(f"left out, since their {LABELS[along]} are not known: {', '.join(left_out)}")


def _by_label(inputs: Sequence[Input]) -> dict[str, dict[str, Practice]]:
    """Returns how each system was trained and evaluated: label -> task -> what is known."""
    return {system.label: known for system, known in practices(inputs).items()}


def _beside(table: tables.Table, known: Sequence[Practice], protocol: str, along: Along) -> Table:
    """Lays out one task: for people with a column per frame, for programs with a record per number.

    Args:
        table: the task's.
        known: how each row's system was trained and evaluated; differences get columns.
        protocol: what sets these runs apart from others; empty if nothing does.
        along: what its columns run over.
    """
    differ, per_unit = differing(known), PER_UNIT[along]
    marks = [step if per_unit == 1 else step / per_unit for step in table.env_steps]
    rows, records = [], []
    for (system, seeds, medians), practice in zip(table.rows, known, strict=True):
        rows.append([system, *(written(practice[name]) for name in differ), seeds, *medians])
        about = {"task": table.task, "protocol": protocol, "system": system, "seeds": seeds}
        records += _records(about, practice, along, dict(zip(marks, medians, strict=True)))
    columns = [Column(f"{mark:,}" if per_unit == 1 else f"{mark:.3g}", _median) for mark in marks]
    title = f"{table.task}: {_measure(table)} ({suite_of(table.task).unit}) at {LABELS[along]}"
    if protocol:
        title += f", with {protocol}"
    head: list[str | Column] = ["system", *(FIELDS[name] for name in differ), "seeds", *columns]
    return Table(title, head, rows, records, shared(known))


def _measure(table: tables.Table) -> str:
    several = any(seeds > 1 for _, seeds, _ in table.rows)
    return "median score of the seeds" if several else "score of a single seed"


def _records(
    about: dict[str, Any], practice: Practice, along: Along, medians: Mapping[float, tables.Median | None]
) -> list[dict[str, Any]]:
    """One system's medians, by environment frames or what there is in their place, with all that is known."""
    known = dict(about)
    for name, values in practice.items():
        known[name] = values[0] if len(values) == 1 else values or None
    found = []
    for mark, median in medians.items():
        if median is not None:
            found.append(known | {along: mark, "median": median.value, "seeds_there": median.reached})
    return found


def _median(value: tables.Median | None) -> str:
    """Writes a median with three decimals, unless these would hide it or say nothing."""
    if value is None:
        return ""
    size = abs(value.value)
    if size >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.3g}" if 0 < size < 5e-5 else f"{value:z.3f}"  # z: no -0.000


def report(parser: Parser, arguments: list[str]) -> int:
    """Writes the report, and prints its file name."""
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the file to write")
    add_reference(parser)
    add_systems(parser, "report")
    add_aggregation(parser)
    add_along(parser)
    add_force(parser)
    parsed = parser.parse_args(arguments)
    check_out(parsed.out)
    how = aggregation(parsed)
    contents = gather(
        parsed.runs, parsed.reference, parsed.systems, how, warn, force=parsed.force, along=parsed.x
    )
    for line in contents.skipped:
        warn(line)
    earlier = parsed.out.exists()
    with telling_of_folders(parsed.out):
        write(contents, parsed.out, warn)
    if earlier:
        warn(f"replaced an earlier report: {parsed.out}")
    say(parsed.out)
    return 0
