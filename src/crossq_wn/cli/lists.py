"""The command `list`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import starmap
from pathlib import Path
from typing import Any

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.console import warn
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.environments import PAPER_TASKS, SUITES
from crossq_wn.errors import UserError, option


def show_list(parser: Parser, arguments: list[str]) -> int:
    """Runs `list`: prints one of the lists."""
    parser.add_argument("what", choices=LISTS, help="which list to print")
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        default=Path("runs"),
        help="for `list runs`: the folder to look in (default: runs)",
    )
    parser.add_argument(
        "--sort", metavar="COLUMN", help="sort by a column: names from A to Z, numbers from the largest down"
    )
    add_forms(parser)
    if arguments and arguments[0] not in LISTS and Path(arguments[0]).is_dir():
        raise UserError(f"{arguments[0]!r} is a folder: `crossq-wn list runs {arguments[0]}` lists its runs")
    parsed = parser.parse_args(arguments)
    table = LISTS[parsed.what](parsed.root)
    if parsed.sort is not None:
        names = [column.name for column in table.described]
        if parsed.sort not in names:
            raise UserError(f"--sort is {parsed.sort!r}: the columns of {table.title} are {', '.join(names)}")
        table = _sorted(table, names.index(parsed.sort))
    show(table, parsed.form)
    return 0


def _sorted(table: Table, column: int) -> Table:
    order = sorted(range(len(table.rows)), key=lambda i: _rank(table.rows[i][column]))
    records = None if table.records is None else [table.records[i] for i in order]
    return replace(table, rows=[table.rows[i] for i in order], records=records)


def _rank(value: Any) -> Any:
    """Returns the key that puts numbers from the largest down, and everything else in its own order."""
    return -value if isinstance(value, int | float) else value


def tasks(root: Path) -> Table:
    """Lists every task, those of the paper first."""
    rows: list[list[Any]] = []
    for suite in SUITES.values():
        for short, own_name in suite.tasks.items():
            name = suite.full_name(short)
            rows.append([name, suite.title, own_name, name in PAPER_TASKS])
    rows.sort(key=lambda row: (not row[3], row[1], row[0]))
    rows.append(["any Gymnasium id", "Gymnasium", "Box observations, bounded Box actions", False])
    rows.append(["module:factory", "your own", "a class or function that makes a gymnasium.Env", False])
    rows.append(["module:task", "your own", "a task of a suite that the module registers", False])
    return Table("tasks", ["name", "suite", "suite's name", "in the paper"], rows)


def algorithms(root: Path) -> Table:
    """Lists every algorithm with its presets."""
    rows = [[name, recipe.summary, tuple(recipe.presets)] for name, recipe in ALGORITHMS.items()]
    return Table("algorithms", ["name", "what it is", Column("presets", ", ".join)], rows)


def presets(root: Path) -> Table:
    """Lists every preset and what it changes; programs get all settings of the default ones too."""
    columns = ["algorithm", "preset", "source", "settings"]
    rows: list[list[str]] = []
    records: list[dict[str, str]] = []
    for algorithm, recipe in ALGORITHMS.items():
        usual = asdict(recipe.presets["default"].settings)
        for name, entry in recipe.presets.items():
            values = asdict(entry.settings)
            differs = {setting: value for setting, value in values.items() if value != usual[setting]}
            rows.append([algorithm, name, entry.source, ", ".join(starmap(option, differs.items()))])
            records.append(dict(zip(columns, [*rows[-1][:3], _written(differs or values)], strict=True)))
    note = "`crossq-wn train --help --algorithm NAME --preset PRESET` shows all settings of one"
    return Table("presets (settings that differ from the default)", columns, rows, records, note)


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def runs(root: Path) -> Table:
    """Lists every run below a folder, and warns of those that cannot be read.

    Raises:
        UserError: there is no such folder.
    """
    from crossq_wn.results.tables import runs_table

    if not root.is_dir():
        raise UserError(f"{root} is not a directory: name the folder that holds runs, or train one")
    run = Column("run", whole=True)
    columns = (run, "task", "system", "state", "seeds", "evaluated", "frames", "scored", "score")
    rows = list(runs_table(root, warn))
    note = "" if rows else f"no run below {root} has been evaluated yet"
    return Table("runs", columns, rows, note=note)


LISTS: dict[str, Callable[[Path], Table]] = {
    "tasks": tasks,
    "algorithms": algorithms,
    "presets": presets,
    "runs": runs,
}
