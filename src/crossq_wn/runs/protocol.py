"""Protocols: what must agree before runs may be compared, and where runs differ."""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from crossq_wn.environments.suites import remember, simulator_packages
from crossq_wn.errors import UserError
from crossq_wn.runs.config import DAMAGED, read_identity, read_json
from crossq_wn.runs.system import System


def read_protocols(path: Path) -> list[dict[str, Any]]:
    """What a run was trained and evaluated under: now, and before it was resumed under something else.

    Raises UserError if manifest.json does not say.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        found = [dict(each) for each in (manifest["protocol"], *manifest.get("earlier_protocols", []))]
    except DAMAGED:
        found = []
    if not all(found) or not found:
        raise UserError(f"{path} has no readable manifest.json, so its protocol is unknown")
    return found


def remember_suite(run: Path) -> None:
    """Makes a run's suite known from its manifest.json, in case the suite's module is not loaded."""
    with contextlib.suppress(*DAMAGED):
        description = json.loads((run / "manifest.json").read_text()).get("suite")
        if description is not None:
            remember(description)


def conflicts(paths: Iterable[Path], systems: Collection[str] | None = None) -> list[str]:
    """Why runs should not be compared, a line each: unlike protocols on a task, unlike settings of a system.

    Args:
        paths: run directories, folders of them, or their eval.csv; other files have no protocol.
        systems: those that are compared; by default all.
    """
    runs = dict.fromkeys(run for path in paths for run in _described(path))
    compared = [run for run in runs if systems is None or _system(run) in systems]
    if len(compared) < 2:
        return []  # nothing stands beside it; that it was resumed under another simulator is no matter then
    unknown = [run for run in compared if not _protocols(run)]
    return [
        *(f"the protocol of {run} is unknown: it has no readable manifest.json" for run in unknown),
        *(f"the protocols differ: {line}" for line in protocol_conflicts(compared)),
        *(f"runs of one name have different settings: {line}" for line in setting_conflicts(compared)),
    ]


def _described(path: Path) -> list[Path]:
    """The run directories below a folder, or the one that a file belongs to; damaged ones too."""
    tables = path.rglob("eval.csv") if path.is_dir() else [path]
    folders = {table.parent for table in tables if table.name == "eval.csv"}
    marks = ("config.json", "manifest.json")
    return sorted(folder for folder in folders if any((folder / name).exists() for name in marks))


def _system(run: Path) -> str | None:
    with contextlib.suppress(UserError):
        return read_identity(run).system.label
    return None


def _protocols(run: Path) -> list[dict[str, Any]]:
    """None if they cannot be read."""
    with contextlib.suppress(UserError):
        return read_protocols(run)
    return []


def protocol_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of one task differ in protocol, a line per task; with none, they may be compared.

    A run that was resumed under another simulator differs from itself.
    """
    return _differences((str(values.get("task")), where, values) for where, values in _histories(runs))


def simulator_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of any tasks differ in the versions of their simulators, a line for each other set of them."""
    known = simulator_packages()
    return _differences(
        ("simulators", where, {name: value for name, value in values.items() if name in known})
        for where, values in _histories(runs)
    )


def _histories(runs: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each run, in words, with each of its protocols."""
    for run in runs:
        for i, values in enumerate(_protocols(run)):
            yield f"{run} before it was resumed" if i else f"{run}", values


def setting_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of one system differ in hyperparameters, a line per system: versions with other presets.

    A system is named by what leaves its preset, so its runs are alike unless the preset has changed between
    them.
    """
    return _differences(_settings(runs))


def _settings(runs: Iterable[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """System, run and settings, of those whose configuration can be read."""
    for run in runs:
        with contextlib.suppress(UserError, *DAMAGED):
            values = read_json(run)
            options = values["options"]
            besides = {name: options[name] for name in ("overlap", "matmul_precision") if name in options}
            yield System.from_json(values["system"]).label, str(run), values["settings"] | besides


def _differences(entries: Iterable[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Where what should be alike is not, a line for each way in which it is not.

    Args:
        entries: (what each should be like all others of, where it is from, its values)
    """
    first: dict[tuple[str, str], tuple[str, Any]] = {}  # what only one version knows of is no difference
    lines: dict[str, str] = {}
    for group, where, values in entries:
        differs, told = {}, []
        for name, value in values.items():
            other, usual = first.setdefault((group, name), (where, value))
            if value != usual:
                differs[name] = value
                told.append(f"{name} is {usual} in {other} and {value} in {where}")
        if told:
            lines.setdefault(f"{group}{differs}", f"{group}: {', '.join(told)}")
    return list(lines.values())
