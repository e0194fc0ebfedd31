"""Tables as data, printed for a person at a terminal, for a pipe, or for a program as JSON or CSV."""

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from crossq_wn.cli.console import say
from crossq_wn.errors import visible
from crossq_wn.runs.tables import as_csv

Form = Literal["text", "json", "csv"]  # text: for people, laid out for a terminal or for a pipe
_GAP = 2  # blanks between columns


def readable(value: Any) -> str:
    """Writes a value for people: 1,000,000, 0.123, yes; nothing for None and for False."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:z.3g}"  # z: no -0
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    form: Callable[[Any], str] = readable  # how its values are written for people
    whole: bool = False  # whether a value stays on one line, so that it can be copied: paths

    @property
    def key(self) -> str:
        """Its name for programs: `frames per episode` is `frames_per_episode`."""
        return re.sub(r"\W+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: stands above it.
        columns: their names, or more about them.
        rows: the values, as they are rather than as text; None where there is none.
        records: what programs get instead of a record per row, where that is not what they want.
        note: a line below it, for people.
    """

    title: str
    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Any]]
    records: Sequence[Mapping[str, Any]] | None = None
    note: str = ""

    @property
    def described(self) -> list[Column]:
        """The columns, those that were given by their names too."""
        return [Column(each) if isinstance(each, str) else each for each in self.columns]

    @property
    def for_programs(self) -> list[Mapping[str, Any]]:
        """A record per row, unless the table has records of its own."""
        if self.records is not None:
            return list(self.records)
        keys = [column.key for column in self.described]
        return [dict(zip(keys, row, strict=True)) for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only, so that they are set flush right [columns]."""
        found = []
        for values in zip(*self.rows, strict=True):
            found.append(all(isinstance(value, int | float | None) for value in values))
        return found or [False] * len(self.columns)

    @property
    def for_people(self) -> list[list[str]]:
        """The rows as text [rows, columns]."""
        columns = self.described
        found = []
        for row in self.rows:
            found.append([visible(column.form(value)) for column, value in zip(columns, row, strict=True)])
        return found


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Adds --json and --csv, which choose the `form` that `show` takes."""
    forms = parser.add_mutually_exclusive_group()
    forms.set_defaults(form="text")
    for name, what in (("json", "one JSON array of records"), ("csv", "CSV")):
        forms.add_argument(
            f"--{name}",
            dest="form",
            action="store_const",
            const=name,
            help=f"print {what}, for programs; everything else goes to stderr",
        )


def show(tables: Table | Sequence[Table], form: Form = "text", notes: Sequence[str] = ()) -> None:
    """Prints tables and what there is to say about them.

    People get each table with its title. Programs get one list of records, whatever the number of tables.

    Args:
        tables: one, or several of one kind.
        form: `text` is laid out for a terminal if there is one, or for the width in COLUMNS, else plain:
            without boxes, colour or cuts.
        notes: lines below the tables; programs find them on stderr.
    """
    tables = [tables] if isinstance(tables, Table) else tables
    if form == "text":
        _to_people(tables)
    else:
        records: list[Mapping[str, Any]] = []
        for table in tables:
            records += table.for_programs
        _to_json(records) if form == "json" else _to_csv(records)
    for note in notes:
        print(visible(note), file=sys.stdout if form == "text" else sys.stderr)


def _to_people(tables: Sequence[Table]) -> None:
    # A pipe has no width, unless the user gives it one.
    has_width = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    terminal = Console() if has_width else None
    for number, table in enumerate(tables):
        if number and terminal is not None:  # in a pipe, each table ends with a blank line
            print()
        if table.note and not table.rows:  # a header alone says nothing
            say(table.note)
        elif terminal is not None:
            _to_terminal(table, terminal)
        else:
            _to_pipe(table)


def _to_json(records: Iterable[Mapping[str, Any]]) -> None:
    plain = []
    for record in records:
        plain.append({key: _plain(value) for key, value in record.items()})
    print(json.dumps(plain, indent=2))


def _to_csv(records: Sequence[Mapping[str, Any]]) -> None:
    names: dict[str, None] = {}  # of all records; the keys are an ordered set
    for record in records:
        names |= dict.fromkeys(record)
    rows: list[Iterable[Any]] = [names]
    for record in records:
        rows.append([_cell(record.get(name)) for name in names])
    sys.stdout.write(as_csv(rows))


def _cell(value: Any) -> Any:
    """Turns a value into a cell of a CSV file, which a terminal may show."""
    plain = _plain(value)
    if isinstance(plain, list):
        return ",".join(map(str, plain))
    return visible(plain) if isinstance(plain, str) else plain


def _plain(value: Any) -> Any:
    """Turns a value into one that JSON has; what is not finite is missing."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _to_pipe(table: Table) -> None:
    """Prints aligned text, each row on one line however long it is."""
    rows = [[column.name for column in table.described], *table.for_people]
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    numeric = table.numeric
    say(table.title)
    for row in rows:
        cells = []
        for width, right, cell in zip(widths, numeric, row, strict=True):
            blanks = " " * (width - cell_len(cell))
            cells.append(blanks + cell if right else cell + blanks)
        print((" " * _GAP).join(cells).rstrip())
    if table.note:
        say(table.note)
    print()


def _to_terminal(table: Table, console: Console) -> None:
    """Prints a grid as wide as the terminal or, if it cannot hold one, each row as a few lines."""
    rows = table.for_people
    least, most = [], []  # letters that each column needs if its cells are broken, and if they are not
    for i, column in enumerate(table.described):
        cells = [column.name, *(row[i] for row in rows)]
        most.append(max(map(cell_len, cells)))
        # What may be broken over lines is broken between words only.
        words = cells if column.whole else " ".join(cells).split()
        least.append(max(map(cell_len, words), default=0))
    # What is left for cells, once there are blanks between columns.
    room = console.width - _GAP * len(least)
    if sum(least) > room:
        _as_lines(table, console)
    else:
        _as_grid(table, console, _spread(least, most, room))
    if table.note:
        console.print(Text(visible(table.note), style="dim"), soft_wrap=True)


def _spread(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Gives each column what it needs, and shares out the rest in proportion to what more it could use."""
    more = [high - low for low, high in zip(least, most, strict=True)]
    share = min(1.0, (room - sum(least)) / max(1, sum(more)))
    return [low + int(share * extra) for low, extra in zip(least, more, strict=True)]


def _as_grid(table: Table, console: Console, widths: Sequence[int]) -> None:
    """Prints a grid with columns of these widths."""
    grid = Grid(
        title=Text(visible(table.title)),
        title_justify="left",
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
    )
    for column, right, width in zip(table.described, table.numeric, widths, strict=True):
        justify: Literal["right", "left"] = "right" if right else "left"
        grid.add_column(
            Text(column.name), no_wrap=column.whole, overflow="fold", justify=justify, width=width
        )
    for row in table.for_people:
        grid.add_row(*map(Text, row))  # text, not markup: brackets stay
    console.print(grid)


def _as_lines(table: Table, console: Console) -> None:
    """Prints each row's first value on a line of its own, whole, and below it the others: `name: value`."""
    names = [column.name for column in table.described[1:]]
    console.print(Text(visible(table.title), style="italic"))
    for first, *rest in table.for_people:
        console.print(Text(first, style="bold"), soft_wrap=True)
        line = Text(" " * _GAP)
        for name, value in zip(names, rest, strict=True):
            pair = Text.assemble((f"{name}: ", "dim"), value)
            if line.cell_len > _GAP and line.cell_len + pair.cell_len > console.width:
                console.print(line, soft_wrap=True)
                line = Text(" " * _GAP)
            if value:
                line.append(pair).append(" " * _GAP)
        console.print(line, soft_wrap=True)
