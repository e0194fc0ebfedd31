"""The command `list`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.cli.arguments import Parser
from crossq_wn.cli.console import table, warn
from crossq_wn.environments import PAPER_TASKS, SUITES
from crossq_wn.errors import UserError


class Listing(NamedTuple):
    """A table to print."""

    title: str
    columns: list[str]
    rows: list[list[Any]]


def show(parser: Parser, arguments: list[str]) -> int:
    """Prints one of the lists."""
    parser.add_argument("what", choices=LISTS)
    parser.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="where runs lie")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="order by a column: names from a, numbers from the top"
    )
    parsed = parser.parse_args(arguments)
    title, columns, rows = LISTS[parsed.what](parsed.root)
    if parsed.sort is not None:
        if parsed.sort not in columns:
            raise UserError(f"--sort is {parsed.sort!r}: the columns of {title} are {', '.join(columns)}")
        at = columns.index(parsed.sort)
        rows.sort(key=lambda row: row[at] if isinstance(row[at], str) else -row[at])
    shown = []
    for row in rows:
        shown.append([_readable(value) for value in row])
    table(title, columns, shown)
    return 0


def _readable(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else value


def tasks(root: Path) -> Listing:
    """Every task, the paper's first."""
    rows: list[list[Any]] = []
    for suite in SUITES.values():
        for short, own_name in suite.tasks.items():
            name = suite.full_name(short)
            rows.append([name, suite.title, own_name, "yes" if name in PAPER_TASKS else ""])
    rows.sort(key=lambda row: (not row[3], row[1], row[0]))
    rows.append(["any Gymnasium id", "Gymnasium", "Box observations, bounded Box actions", ""])
    rows.append(["module:factory", "your own", "a class or function that makes a gymnasium.Env", ""])
    rows.append(["module:task", "your own", "a task of a suite that the module registers", ""])
    return Listing("tasks", ["name", "suite", "suite's name", "in the paper"], rows)


def algorithms(root: Path) -> Listing:
    """Every algorithm and its presets."""
    rows = [[name, recipe.summary, ", ".join(recipe.presets)] for name, recipe in ALGORITHMS.items()]
    return Listing("algorithms", ["name", "what it is", "presets"], rows)


def presets(root: Path) -> Listing:
    """Every preset: all settings of a default one, and where the others leave it."""
    rows = []
    for algorithm, recipe in ALGORITHMS.items():
        usual = asdict(recipe.presets["default"].settings)
        for name, entry in recipe.presets.items():
            values = asdict(entry.settings)
            differs = {setting: value for setting, value in values.items() if value != usual[setting]}
            shown = ", ".join(f"{setting}={value}" for setting, value in (differs or values).items())
            rows.append([algorithm, name, entry.source, shown])
    columns = ["algorithm", "preset", "source", "settings"]
    return Listing("presets (settings that differ from the default)", columns, rows)


def runs(root: Path) -> Listing:
    """Every run in a folder that can be read."""
    from crossq_wn.results.tables import runs_table

    if not root.is_dir():
        raise UserError(f"{root} is not a directory: name the folder that holds runs, or train one")
    rows = [[str(row.run), *row[1:]] for row in runs_table(root, warn)]
    return Listing("runs", ["run", "task", "system", "seeds", "evaluated", "frames", "score"], rows)


LISTS: dict[str, Callable[[Path], Listing]] = {
    "tasks": tasks,
    "algorithms": algorithms,
    "presets": presets,
    "runs": runs,
}
