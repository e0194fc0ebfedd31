"""Where the results come from: settings, protocol, versions, commands, speed, videos, what is left out."""

import base64
import shlex
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from crossq_wn import files
from crossq_wn.algorithms.settings import values_of
from crossq_wn.errors import shown
from crossq_wn.files import MOST_VIDEO
from crossq_wn.results.report.contents import Report, ReportedRun
from crossq_wn.results.report.html import Html, bullets, details, join, section, table, tag
from crossq_wn.results.report.scores import Summary
from crossq_wn.runs.protocol import DECISIVE_OPTIONS, protocol_conflicts
from crossq_wn.runs.system import System

_VIDEO, _VIDEOS = 4 * 2**20, MOST_VIDEO  # bytes at most: of one video, and of all together

_SEVERAL = " / "  # between values that differ

Key = TypeVar("Key", bound=Hashable)


def hyperparameters(report: Report) -> Html:
    """Lists the settings that differ between systems, and those that all share."""
    of = _group(report.runs, lambda run: run.system)
    columns = {system: _values(map(_settings, of[system])) for system in report.ours}
    differ: list[tuple[object, ...]] = []
    same: list[tuple[str, str]] = []
    for name, cells in _side_by_side(columns.values()).items():
        if len(set(cells)) > 1 or _SEVERAL in cells[0]:
            differ.append((name, *cells))
        else:
            same.append((name, cells[0]))
    if differ:
        shown = table("Settings that differ", ["setting", *map(report.name, columns)], differ)
    else:
        shown = tag("p", "No setting differs." if len(columns) > 1 else "All runs have the same settings.")
    shared = table("Shared", ["setting", "value"], same)
    return report.section(
        "Hyperparameters",
        join(_uneven(report, columns)),
        shown,
        details(f"The {len(same)} settings that all runs share", shared),
    )


def _uneven(report: Report, columns: Mapping[System, Mapping[str, str]]) -> list[Html]:
    """Warns of systems whose runs differ in their settings."""
    found = []
    for system, column in columns.items():
        names = [name for name, value in column.items() if _SEVERAL in value]
        if names:
            who, what = report.names[system], ", ".join(names)
            found.append(_warning(f"The runs of {who} differ in {what}, and yet count as one system."))
    return found


def _warning(text: str) -> Html:
    return tag("p", text, class_="warning")


def _side_by_side(columns: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Returns each name's value in every column, with a dash where it has none."""
    columns = list(columns)
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(chain.from_iterable(columns)):
        found[name] = [column.get(name, "–") for column in columns]
    return found


def protocol(report: Report) -> Html:
    """Says how the runs were trained and evaluated, on which machine, and by which commands."""
    conflicts = protocol_conflicts([run.record.terms for run in report.runs])
    published = (
        "Published curves come without a protocol: action repeat, evaluation episodes and the meaning of "
        "success may differ from those of the runs."
    )
    machine = _values(map(_machine, report.runs))
    commands: list[str] = []
    for run in report.runs:
        commands += map(shlex.join, run.manifest["commands"])
    return report.section(
        "Protocol",
        join(_warning(f"The protocols differ: {line}.") for line in conflicts),
        _protocols(report),
        tag("p", published, class_="note") if report.source.published else "",
        details("Versions and device", table("Versions and device", ["", ""], machine.items())),
        # With a tabindex a keyboard can scroll the lines, which are long.
        details("Commands", tag("pre", "\n".join(commands), tabindex="0")),
    )


def _protocols(report: Report) -> Html:
    """Makes a table with a column for each set of tasks that share a protocol."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}  # protocol -> tasks
    for task, runs in _group(report.runs, lambda run: run.task).items():
        values = _values(run.manifest["protocol"] for run in runs)
        values.pop("task", None)  # or no two tasks would share a protocol
        alike.setdefault(tuple(values.items()), []).append(task)
    rows = [(name, *cells) for name, cells in _side_by_side(map(dict, alike)).items()]
    return table("Protocol by task", ["", *map(", ".join, alike.values())], rows)


def _machine(run: ReportedRun) -> dict[str, object]:
    """Returns versions and device, on which a run's numbers depend."""
    values = dict(run.manifest["versions"])
    for name, value in run.manifest["device"].items():
        values[f"device {name}"] = value
    for name in ("python", "system"):
        if name in run.manifest:
            values[name] = run.manifest[name]
    return values


def runs(report: Report) -> Html:
    """Says how fast the systems trained, and how far each run got."""
    of = _group(report.runs, lambda run: run.system)
    by_system = [(report.name(system), *_pace(of[system]), len(of[system])) for system in report.ours]
    rows = []
    for run in report.runs:
        frames = f"{run.frames:,} of {run.config.options.frames:,}"
        about = (run.path, run.task, ", ".join(run.curves.seeds), frames)
        rows.append((*about, *_pace([run]), run.system.label))
    speeds, each = ["frames/s", "updates/s", "hours"], ["run", "task", "seeds", "frames evaluated"]
    explained = (
        "Environment frames and gradient updates per second of all seeds of a run together: the median since "
        "gradient updates began, and then the median of the runs. Hours: the sum over runs. Other work on "
        "the machine slows runs down."
    )
    return report.section(
        "Runs and speed",
        table("Speed", ["system", *speeds, "runs"], by_system),
        tag("p", explained, class_="note"),
        details("Each run directory", table("Run directories", [*each, *speeds, "system"], rows)),
    )


def _pace(runs: Iterable[ReportedRun]) -> tuple[str, str, str]:
    """Writes median frames and updates per second, and the hours of all runs; dashes where unknown."""
    known = [run.speed for run in runs if run.speed is not None]
    if not known:
        return "–", "–", "–"
    frames, updates, _ = np.median(known, axis=0)
    hours = np.sum(known, axis=0)[2]
    return _short(frames), _short(updates), _short(hours)


def _short(value: float) -> str:
    """Writes a rate or a time in two digits, or in as many as it has before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def videos(report: Report) -> Html:
    """Shows the newest video of each run."""
    shown, notes, size = [], [], 0
    for run in report.runs:
        try:
            newest = _newest(run.path)
            if newest is None:
                continue
            data = files.read(newest, MOST_VIDEO, within=run.path)
        except OSError as error:
            notes.append(f"{error.filename} is left out: it {error.strerror}.")
            continue
        if len(data) > _VIDEO or size + len(data) > _VIDEOS:
            notes.append(f"{newest} is left out: {len(data) / 2**20:.1f} MiB; open it yourself.")
            continue
        size += len(data)
        what = f"{report.names[run.system]} on {run.task}: {newest.name}"
        source = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
        film = tag("video", controls=True, preload="metadata", playsinline=True, src=source, aria_label=what)
        shown.append(tag("figure", tag("figcaption", what), film))
    if not shown and not notes:
        return Html("")
    left = tag("p", " ".join(notes), class_="note") if notes else ""
    return report.section("Videos", tag("div", join(shown), class_="gallery"), left)


def late(report: Report, tables: Iterable[Summary]) -> list[str]:
    """Returns a line on each seed that ended before the frame of its task's table of scores."""
    lines: list[str] = []
    for each in tables:
        for run in report.runs:
            if each.tasks == (run.task,):
                lines += _late(run, each.frames)
    return lines


def left_out(lines: Sequence[str]) -> Html:
    """Lists what was skipped or does not count, with the reasons."""
    return section("Left out", bullets(lines) if lines else tag("p", "Nothing."))


def _late(run: ReportedRun, frames: int) -> list[str]:
    """Returns a line on each seed that did not get as far as that frame."""
    lines = []
    for number in run.config.options.seeds:
        if str(number) not in {*run.curves.seeds, *run.record.without}:
            lines.append(f"{run.path}: seed {number} was never evaluated")
    for seed, values in zip(run.curves.seeds, run.curves.values, strict=True):
        reached = run.curves.env_steps[~np.isnan(values)]
        if frames not in reached:
            lines.append(
                f"{run.path}: seed {seed} ended at {reached[-1]:,} frames; it counts in the curves, but "
                f"not in the scores on {run.task} at {frames:,} frames"
            )
    return lines


def _settings(run: ReportedRun) -> dict[str, object]:
    system, options = run.config.system, run.config.options
    about: dict[str, object] = {"algorithm": system.algorithm, "preset": system.preset}
    about |= {name: getattr(options, name) for name in DECISIVE_OPTIONS}
    return about | values_of(run.config.settings)


def _values(dictionaries: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Returns each key's values as text, with strokes between several."""
    found: dict[str, dict[str, None]] = {}
    for values in dictionaries:
        for name, value in values.items():
            text = "–" if value is None else shown(value)
            found.setdefault(name, {})[text] = None  # the keys are an ordered set
    return {name: _SEVERAL.join(values) for name, values in found.items()}


def _group(runs: Iterable[ReportedRun], key: Callable[[ReportedRun], Key]) -> dict[Key, list[ReportedRun]]:
    found: dict[Key, list[ReportedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def _newest(run: Path) -> Path | None:
    """The newest video of a run."""
    folder = run / "videos"
    found = [folder / name for name in files.names(folder, within=run) if name.endswith(".mp4")]
    return max(found, key=_age, default=None)


def _age(path: Path) -> tuple[float, str]:
    return path.lstat().st_mtime, path.name
