"""The file that describes a sweep: which options vary, and how.

seeds_per_process = 5
[defaults]                       # what all runs have in common: options of `crossq-wn train`
frames = 1_000_000
seeds = "0:10"
[grid]                           # every combination of these
task = ["dog-run", "humanoid-run"]
utd = [1, 2, 5]
[[list]]                         # one by one; each is combined with the grid
algorithm = "crossq-wn"
[[list]]
algorithm = "simba"
[group.easy.defaults]            # further runs, with a grid, a list and defaults of their own
frames = 200_000
[group.easy.grid]
task = ["walker-run"]

Instead of a grid there may be a search: see `spaces`.
"""

import contextlib
import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossq_wn.errors import UserError, nearest, one_line
from crossq_wn.sweeps.spaces import Space, read_space, toml

MOST_RUNS = 100_000
_PARTS = ("defaults", "grid", "list")  # of a section
_KEYS = ("sweep", "seeds_per_process", *_PARTS, "group", "search")  # of a file
_VERSION = 1

Values = dict[str, Any]  # options of `train` by name in Python, with `task`, `algorithm` and `preset`


@dataclass(frozen=True)
class Section:
    """Runs that are described together: every entry with every combination of the grid."""

    name: str  # how messages call it
    defaults: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]]
    entries: Sequence[Mapping[str, Any]]

    @property
    def size(self) -> int:
        """The number of assignments that `assignments` yields."""
        return len(self.entries) * math.prod(map(len, self.grid.values()))

    def assignments(self) -> Iterator[Values]:
        """Yields the options of each run."""
        for entry in self.entries:
            for combination in itertools.product(*self.grid.values()):
                yield {**self.defaults, **entry, **dict(zip(self.grid, combination, strict=True))}


@dataclass(frozen=True)
class Sheet:
    """What a sweep's file says."""

    sections: Sequence[Section]
    seeds_per_process: int | None = None  # None: all seeds of a run in one process
    search: Space | None = None  # what is searched instead of a grid


def parse(text: str, name: str) -> Sheet:
    """Reads the text of a sweep's file.

    Args:
        text: TOML.
        name: of the file, for messages.

    Raises:
        UserError: it is not TOML, a key is unknown, two parts clash, or nothing is described, or too much.
    """
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{name} is not TOML: {one_line(error)}") from None
    _check_keys(values, _KEYS, name)
    _check_version(values.get("sweep", _VERSION), name)
    common = _table(values, "defaults", name)
    groups = _table(values, "group", name)
    sections = []
    if "grid" in values or "list" in values or not groups:
        sections.append(_section({**values, "defaults": common}, {}, name))
    for group, parts in groups.items():
        where = f"{name}: group.{group}"
        if not isinstance(parts, dict):
            raise UserError(f"{where} is {toml(parts)}: it takes tables named {', '.join(_PARTS)}")
        _check_keys(parts, _PARTS, where)
        sections.append(_section(parts, common, where))
    space = read_space(values["search"], name) if "search" in values else None
    return _checked(Sheet(sections, _seeds_per_process(values, name), space), name)


def written(options: Mapping[str, Sequence[Any]], seeds_per_process: int | None, note: str) -> str:
    """Writes a sweep's file for options with several values each.

    Args:
        options: values by option; those with one value are defaults, the others make the grid.
        seeds_per_process: see `Sheet`.
        note: a comment, without line breaks.
    """
    lines = [f"# {note}"]
    if seeds_per_process is not None:
        lines.append(f"seeds_per_process = {seeds_per_process}")
    lines.append("[defaults]")
    for name, values in options.items():
        if len(values) == 1:
            lines.append(f"{name} = {toml(values[0])}")
    lines.append("[grid]")
    for name, values in options.items():
        if len(values) > 1:
            lines.append(f"{name} = [{', '.join(map(toml, values))}]")
    return "\n".join([*lines, ""])


def seed_numbers(value: Any) -> list[int]:
    """Reads training seeds: 3, [0, 1], "0-9" or "0:10", which is without 10.

    Raises:
        UserError: it is something else.
    """
    found: list[int] = []
    for part in [value] if isinstance(value, int) else _parts(value):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:([-:])\s*(\d{1,9})\s*)?", str(part))
        if match is None:
            raise UserError(
                f'seeds is {toml(value)}: give numbers or a range, such as [0, 1], "0-9" or "0:10"'
            )
        first, between, last = match.groups()
        end = int(first) + 1 if last is None else int(last) + (between == "-")
        if not int(first) < end <= int(first) + MOST_RUNS:
            raise UserError(
                f"seeds is {toml(value)}: a range goes upwards, over at most {MOST_RUNS:,} numbers"
            )
        found += range(int(first), end)
    if not found or len(set(found)) < len(found):
        raise UserError(f"seeds is {toml(value)}: give at least one seed, and none twice")
    return found


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return value.split(",")
    if isinstance(value, list | tuple) and not any(isinstance(each, bool | list) for each in value):
        return value
    return [value]


def _section(parts: Mapping[str, Any], common: Mapping[str, Any], name: str) -> Section:
    """Reads a section, whose own defaults come before those that all sections share."""
    defaults, grid, entries = _table(parts, "defaults", name), _grid(parts, name), _entries(parts, name)
    for key in grid:
        if key in defaults or any(key in entry for entry in entries):
            raise UserError(f"{name}: {key} is in the grid and is given a single value too: leave one out")
    return Section(name, {**common, **defaults}, grid, entries)


def _grid(parts: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    grid = {}
    for key, values in _table(parts, "grid", name).items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{name}: grid.{key} is {toml(values)}: it takes a list of at least one value")
        if key in ("seeds", "seed"):
            raise UserError(f"{name}: grid.{key}: seeds belong to [defaults] or [[list]]: seeds = '0:10'")
        grid[key] = [_frozen(value) for value in values]
    return grid


def _entries(parts: Mapping[str, Any], name: str) -> list[Values]:
    entries = parts.get("list", [{}])
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise UserError(f"{name}: list is not a list of tables: write [[list]] above each")
    return [_named(entry, f"{name}: list") for entry in entries]


def _table(values: Mapping[str, Any], key: str, name: str) -> Values:
    table = values.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{name}: {key} is {toml(table)}: write it as a table, [{key}]")
    return _named(table, f"{name}: {key}") if key != "group" else table


def _named(table: Mapping[str, Any], where: str) -> Values:
    """The same values by their names in Python; `batch-size` and `batch_size` are one option."""
    found: Values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise UserError(f"{where}.{key} is a table, where an option of `crossq-wn train` belongs")
        if name in found:
            raise UserError(f"{where}: {name} is there twice, as {key} too")
        found[name] = value if where.endswith("grid") else _frozen(value)
    return found


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _check_keys(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            hint = nearest(key, known)
            raise UserError(f"{where}: unknown key {key!r}: {hint}options belong in [defaults], other keys "
                            f"are {', '.join(known)}")  # fmt: skip


def _check_version(version: Any, name: str) -> None:
    if type(version) is not int or version < 1:
        raise UserError(f"{name}: sweep is {version!r}: it is the format of the file, which is {_VERSION}")
    if version > _VERSION:
        raise UserError(f"{name}: sweep is {version}, and this version reads {_VERSION}: upgrade crossq-wn")


def _seeds_per_process(values: Mapping[str, Any], name: str) -> int | None:
    count = values.get("seeds_per_process")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise UserError(f"{name}: seeds_per_process is {toml(count)}: give a whole number of at least 1")
    return count


def _checked(sheet: Sheet, name: str) -> Sheet:
    """Raises UserError if a sweep has no runs, or too many."""
    count = sum(_runs(section, sheet.seeds_per_process) for section in sheet.sections)
    _check_search(sheet, name)
    if count > MOST_RUNS:
        raise UserError(f"{name} describes {count:,} runs, and at most {MOST_RUNS:,} are possible: split it")
    for section in sheet.sections:
        for entry in section.entries:
            if "task" not in {**section.defaults, **section.grid, **entry}:
                raise UserError(
                    f"{section.name} names no task: put one into the defaults, the grid or the list"
                )
    return sheet


def _check_search(sheet: Sheet, name: str) -> None:
    """Raises UserError if a search is described together with a grid, or with an option given otherwise."""
    if sheet.search is None:
        return
    if sum(section.size for section in sheet.sections) != 1:
        raise UserError(f"{name}: a search varies its space alone: leave out the grid, list and groups")
    for option in sheet.search.options:
        if option in sheet.sections[0].defaults:
            raise UserError(f"{name}: {option} is searched and has a default: leave one out")


def _runs(section: Section, seeds_per_process: int | None) -> int:
    """The number of processes that a section describes."""
    found = 0
    for entry in section.entries:
        values = {**section.defaults, **entry}
        seeds = 1
        with contextlib.suppress(UserError):  # which is told when the runs are planned
            seeds = len(seed_numbers(values.get("seeds", 0)))
        found += math.ceil(seeds / (seeds_per_process or seeds))
    return found * section.size // len(section.entries)
