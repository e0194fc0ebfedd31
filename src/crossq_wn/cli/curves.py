"""The command `curves`: learning curves of runs as tables and pictures to publish."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from crossq_wn.cli.arguments import Parser, positive
from crossq_wn.cli.choices import add_reference, add_systems
from crossq_wn.cli.console import each, say, telling_of_folders, warn
from crossq_wn.errors import UserError
from crossq_wn.files import names, write_atomically
from crossq_wn.results import duplicates, gathering, reading
from crossq_wn.results.figures import FIGURES, Source, save
from crossq_wn.results.figures.source import called
from crossq_wn.results.gathering import ABOUT, CURVES, RUNS, Gathered, Row
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.system import System
from crossq_wn.runs.tables import records_as_csv


def curves(parser: Parser, arguments: list[str]) -> int:
    """Writes a table and a picture per task, and prints the files' names."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="*",
        help="run directories, or folders of them; without any, all pictures in DIR are drawn anew",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder to write; what it holds is kept"
    )
    add_reference(parser)
    add_systems(parser, "draw of those of the reference")
    parser.add_argument(
        "--frames", type=positive, help="environment frame at which pictures end; by default our last"
    )
    parsed = parser.parse_args(arguments)
    found = _gathered(parsed.runs, parsed.out)
    with telling_of_folders(parsed.out):
        parsed.out.mkdir(parents=True, exist_ok=True)
        about = gathering.merged(gathering.read(parsed.out / RUNS, ABOUT), found.about)
        write_atomically(parsed.out / RUNS, records_as_csv(about, ABOUT))
        say(parsed.out / RUNS)
        drawn = each(found.curves.items(), partial(_task, parsed))
    return 0 if len(drawn) == len(found.curves) else 2


def _task(parsed: argparse.Namespace, found: tuple[str, Sequence[Row]]) -> None:
    """Writes the files of one task and prints their names; raises UserError if they cannot be made."""
    task, new = found
    stem = parsed.out / gathering.file_name(task)
    rows = gathering.merged(gathering.read(Path(f"{stem}.csv"), CURVES), new)
    for path in draw(rows, stem, parsed.reference, parsed.systems, parsed.frames):
        say(path)


def _gathered(runs: Sequence[Path], out: Path) -> Gathered:
    """What runs say; without any, the tasks of the tables that are there, to which nothing is added."""
    if runs:
        reading.require_folders(runs)
        found = duplicates.usable(runs, warn)
        return gathering.gather([run for run in found if isinstance(run, RunRecord)], warn)
    csvs = [name for name in names(out) if name.endswith(".csv") and name != RUNS]
    tables = [name.removesuffix(".csv") for name in csvs]
    if not tables:
        raise UserError(f"{out} holds no curves to draw anew: name run directories")
    return Gathered({name: [] for name in tables}, [])


def draw(
    rows: Sequence[Row], stem: Path, reference: Sequence[Path], systems: Sequence[str], frames: int | None
) -> list[Path]:
    """Draws the curves of one task beside published ones, of which nothing but the picture is written.

    Args:
        rows: of `gathering.CURVES`.
        stem: where to write, without suffix.
        reference: CSV files with curves that others published.
        systems: the labels, or their first words, of the systems in these to draw; empty: all.
        frames: environment frame at which the picture ends; None: where our curves do.

    Returns:
        The files written: the picture as PNG and SVG, and our rows as CSV.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "curves.csv"
        write_atomically(table, records_as_csv(rows, CURVES))
        source = Source.of([table], reference, frames=frames, warn=warn)
        shown = source.own_systems + _published(source, systems, stem.name)
        picture = FIGURES["fig7"](replace(source, wanted=tuple(system.label for system in shown)))
        return save(picture.figure, gathering.in_columns(rows, CURVES), stem)


def _published(source: Source, systems: Sequence[str], task: str) -> list[System]:
    """The published systems to draw; warns of what `systems` names and this task has no curves of."""
    there = [system for system in source.scores if system in source.published]
    if source.theirs and not there:
        warn(f"{task}: no published curves of this task")
    if not systems or not there:
        return there
    found = []
    for words in systems:
        try:
            found += called(words, there)
        except UserError as error:
            warn(f"{task}: {error}")
    return found
