"""Run directories and tables of evaluations.

Each file is read once, when it is first needed; an error in it is remembered as well.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from crossq_wn.environments.suites import remember, suite_of
from crossq_wn.errors import UserError, one_line
from crossq_wn.results.sheets import Series, Sheet, attempt, lenient_sheet, strict_sheet, value_of
from crossq_wn.results.timing import Speed, hours_of, speed_of
from crossq_wn.runs.config import DAMAGED, Identity, RunConfig, config_of, identity_of, read_json
from crossq_wn.runs.manifests import logged_until, newest_common
from crossq_wn.runs.protocol import Terms, protocols_of, read_manifest, terms_of
from crossq_wn.runs.schema import FailureEntry, Position
from crossq_wn.runs.system import System


@dataclass(frozen=True)
class CurveTable:
    """A CSV file of evaluations: a run's eval.csv, or published results (see `reading` for the columns)."""

    path: Path
    run: "RunRecord | None" = None  # the run directory whose eval.csv this is

    @cached_property
    def _sheet(self) -> Sheet | UserError:
        if self.run is None:
            return attempt(partial(_evaluation_sheet, end=None, named=True), self.path)
        return attempt(partial(_evaluation_sheet, end=self.run.ends.get("eval.csv"), named=False), self.path)

    @cached_property
    def _rows(self) -> dict[tuple[System, str, str], list[int]]:
        """The numbers of the rows of each system, task and metric."""
        sheet = value_of(self._sheet)
        return _published_rows(sheet) if "algorithm" in sheet.columns else self._own_rows(sheet)

    def _own_rows(self, sheet: Sheet) -> dict[tuple[System, str, str], list[int]]:
        # A run's table belongs to the run's system, whatever label an older version wrote into it.
        known = self.run.system if self.run and len({*sheet.column("exp_name")}) == 1 else None
        found = {}
        for (name, task, metric), rows in sheet.grouped(("exp_name", "env_name", "metric")).items():
            found[known or System(name), task, metric] = rows
        return found

    @property
    def contents(self) -> list[tuple[System, str, str]]:
        """The systems, tasks and metrics in the table. Raises UserError if it cannot be read."""
        return list(self._rows)

    def series(self, system: System, task: str, metric: str) -> list[Series]:
        """Returns one metric's evaluations as they were logged.

        Args:
            system: one of those in `contents`.
            task: likewise.
            metric: likewise, such as `return`.

        Returns:
            A series per seed, over environment frames.

        Raises:
            UserError: a cell is not a number.
        """
        found = value_of(self._sheet).series(self._rows[system, task, metric], "env_step", "value")
        return found if self.run is None else self.run.counted(found)

    def told(self, system: System, task: str, column: str) -> list[str]:
        """Returns the values of another column for a system on a task, each once.

        Without that column, a `sources.csv` beside the table is asked, if the table has a `source_repo`.

        Args:
            system: one of those in `contents`.
            task: likewise.
            column: its name.

        Raises:
            UserError: one of the two files cannot be read.
        """
        sheet = value_of(self._sheet)
        rows: list[int] = []
        for (owner, where, _), some in self._rows.items():
            if (owner, where) == (system, task):
                rows += some
        if column in sheet.columns:
            return list(dict.fromkeys(sheet.columns[column][row] for row in rows))
        if "source_repo" not in sheet.columns or self._sources is None:
            return []
        suites = sheet.columns.get("benchmark", [])
        keys = dict.fromkeys(
            (system.algorithm, sheet.columns["source_repo"][row], suites[row] if suites else "")
            for row in rows
        )
        return _of_sources(value_of(self._sources), keys, column)

    @cached_property
    def _sources(self) -> Sheet | UserError | None:
        file = self.path.parent / "sources.csv"
        return attempt(partial(strict_sheet, named=True), file) if file.is_file() else None


@dataclass(frozen=True)
class RunRecord:
    """A run directory, or a part of it."""

    path: Path
    without: frozenset[str] = frozenset()  # seeds that do not count, since another run holds them too

    @cached_property
    def _json(self) -> dict[str, Any] | UserError:
        return attempt(read_json, self.path)

    @cached_property
    def identity(self) -> Identity:
        """System, task and metric. Raises UserError if config.json does not say."""
        return identity_of(value_of(self._json))

    @property
    def system(self) -> System | None:
        """The system, or None if config.json does not say."""
        try:
            return self.identity.system
        except UserError:
            return None

    @cached_property
    def config(self) -> RunConfig:
        """The configuration. Raises UserError if config.json is damaged or names unknown settings."""
        return config_of(value_of(self._json), self.path)

    @property
    def planned(self) -> tuple[tuple[int, ...], int]:
        """Training seeds and environment frames per seed, even if settings are unknown here.

        Raises UserError if config.json does not say.
        """
        options = value_of(self._json)["options"]
        seeds, frames = options.get("seeds"), options.get("frames")
        if type(frames) is int and isinstance(seeds, list) and {*map(type, seeds)} == {int}:
            return tuple(seeds), frames
        return self.config.options.seeds, self.config.options.frames  # says what is wrong

    @property
    def action_repeat(self) -> int:
        """Environment frames per agent decision. Raises UserError if config.json does not say."""
        frames: int = value_of(self._json)["action_repeat"]
        return frames

    @cached_property
    def _manifest(self) -> dict[str, Any] | UserError:
        return attempt(read_manifest, self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, device, commands and protocol. Raises UserError if manifest.json is damaged."""
        return value_of(self._manifest)

    @cached_property
    def protocols(self) -> list[dict[str, Any]]:
        """The protocols that the run was trained under, the present one first.

        Raises UserError if manifest.json does not say.
        """
        return protocols_of(self.manifest, self.path)

    def remember_suite(self) -> None:
        """Registers the run's suite as manifest.json describes it, in case its module is not loaded.

        Raises:
            UserError: the description is malformed, or differs from what another run says about that suite;
                or the run does not describe the suite of its task, and only another run does.
        """
        described = None if isinstance(self._manifest, UserError) else self._manifest.get("suite")
        if described is not None:
            try:
                remember(described)
            except UserError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"manifest.json describes no suite: {one_line(error)}") from None
        if self.system is None:  # so it is unknown which task the run has
            return
        suite = suite_of(self.identity.task)
        if suite.foreign and (described is None or described["name"] != suite.name):
            raise UserError(
                f"its manifest.json does not name the suite {suite.name!r}, to which its task belongs"
            )

    @cached_property
    def terms(self) -> Terms:
        """What must agree with other runs before this one may be compared with them."""
        config = None if isinstance(self._json, UserError) else self._json
        manifest = None if isinstance(self._manifest, UserError) else self._manifest
        return terms_of(self.path, config, manifest)

    @cached_property
    def ends(self) -> dict[str, Position]:
        """Up to where training vouches for each log, by file name: all of it, or up to a checkpoint."""
        with contextlib.suppress(*DAMAGED):  # UserError is among these
            if "logs" in self.manifest:
                found: dict[str, Position] = self.manifest["logs"]
                return found
        with contextlib.suppress(*DAMAGED):
            return logged_until(self.common)
        return {}

    @cached_property
    def common(self) -> dict[str, Any]:
        """What all seeds share in the newest checkpoint. Raises UserError if a newer version wrote it."""
        return newest_common(self.path / "checkpoints")

    @property
    def failed(self) -> dict[str, FailureEntry]:
        """The seeds that failed, by number, as training or its newest checkpoint left them."""
        with contextlib.suppress(*DAMAGED):
            if "failed" in self.manifest:
                found: dict[str, FailureEntry] = self.manifest["failed"]
                return found
        with contextlib.suppress(*DAMAGED):
            return {**self.common.get("failed", {}), **self.common.get("unevaluated", {})}
        return {}

    @property
    def failed_early(self) -> bool:
        """Whether training ended before the run's first evaluation, as only a fault ends it."""
        with contextlib.suppress(*DAMAGED):
            return "logs" in self.manifest and not self.evaluations.contents
        return False

    @cached_property
    def evaluations(self) -> CurveTable:
        """The run's eval.csv."""
        return CurveTable(self.path / "eval.csv", self)

    @cached_property
    def _metrics(self) -> Sheet | UserError | None:
        file = self.path / "metrics.csv"
        return attempt(partial(strict_sheet, end=self.ends.get(file.name)), file) if file.exists() else None

    def logged(self, column: str) -> list[Series]:
        """Returns a column of metrics.csv seed by seed; an empty list if there is no such column.

        Args:
            column: its name.

        Raises:
            UserError: the file is damaged, or a cell of the column is not a number.
        """
        if self._metrics is None:
            return []
        sheet = value_of(self._metrics)
        rows = [row for row, cell in enumerate(sheet.columns.get(column, [])) if cell]
        return self.counted(sheet.series(rows, "frames", column)) if rows else []

    def counted(self, series: Iterable[Series]) -> list[Series]:
        """Keeps the series of the seeds that count.

        Args:
            series: one per seed and metric.
        """
        return [each for each in series if each.seed not in self.without]

    @cached_property
    def _timing(self) -> Sheet | UserError | None:
        file = self.path / "timing.csv"
        return attempt(partial(lenient_sheet, end=self.ends.get(file.name)), file) if file.exists() else None

    @cached_property
    def speed(self) -> Speed | None:
        """How fast the run trained, or None if no row of timing.csv has gradient updates.

        Raises UserError if timing.csv cannot be read.
        """
        return None if self._timing is None else speed_of(value_of(self._timing))

    @cached_property
    def hours(self) -> Series | None:
        """Hours that the run had trained at each environment frame; None without timing.csv.

        Time counts twice where training was repeated after a crash. Raises UserError if timing.csv cannot be
        read.
        """
        return None if self._timing is None else hours_of(value_of(self._timing), str(self.path))


Input = RunRecord | CurveTable


def _evaluation_sheet(path: Path, *, end: Position | None, named: bool) -> Sheet:
    if not path.exists():
        raise UserError(f"{path} is not a run directory or a CSV file: it does not exist")
    sheet = strict_sheet(path, end, named=named)
    name, place = ("algorithm", "task") if "algorithm" in sheet.columns else ("exp_name", "env_name")
    lacking = {name, place, "seed", "metric", "env_step", "value"} - sheet.columns.keys()
    if lacking:
        missing = ", ".join(sorted(lacking))
        raise UserError(
            f"{path} lacks the columns {missing}: see Published curves in docs/reference/files.md"
        )
    return sheet


def _published_rows(sheet: Sheet) -> dict[tuple[System, str, str], list[int]]:
    optional = [name for name in ("utd", "primary") if name in sheet.columns]
    names = ("algorithm", "task", "metric", *optional)  # rows that agree in these columns make a curve
    found: dict[tuple[System, str, str], list[int]] = {}
    for cells, rows in sheet.grouped(names).items():
        row = dict(zip(names, cells, strict=True))
        if row.get("primary", "1") != "1":
            continue  # it repeats a system from another source
        system = System(row["algorithm"], _whole(sheet, rows[0], row.get("utd", "")))
        found.setdefault((system, row["task"], row["metric"]), []).extend(rows)
    return found


def _of_sources(sheet: Sheet, keys: Iterable[tuple[str, str, str]], column: str) -> list[str]:
    """What a table of sources says, of all suites or of one: `action_repeat`, or `action_repeat_dmc`.

    Args:
        sheet: with the columns `algorithm` and `source_repo`.
        keys: algorithm, source and suite.
        column: without the suite.
    """
    owners = list(zip(sheet.column("algorithm"), sheet.column("source_repo"), strict=True))
    found: dict[str, None] = {}  # the keys are an ordered set
    for algorithm, source, suite in keys:
        name = column if column in sheet.columns else f"{column}_{suite}"
        if name in sheet.columns and (algorithm, source) in owners:
            found[sheet.columns[name][owners.index((algorithm, source))]] = None
    return list(found)


def _whole(sheet: Sheet, row: int, cell: str) -> int | None:
    """Reads a UTD ratio; None if the cell is empty."""
    if not cell:
        return None
    try:
        if float(cell) == int(float(cell)):
            return int(float(cell))
    except (ValueError, OverflowError):
        pass
    raise UserError(
        f"{sheet.path}, line {sheet.lines[row]}: utd is {cell!r}: it must be a whole number, or empty"
    )
