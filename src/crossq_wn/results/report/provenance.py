"""How did the results come about? Settings, protocol, versions, commands, speed, videos; what is left out."""

import base64
import shlex
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from crossq_wn.results.report.html import Html, bullets, details, join, section, table, tag
from crossq_wn.results.report.scores import Summary
from crossq_wn.results.report.study import Run, Study, speed
from crossq_wn.runs.protocol import protocol_conflicts

_VIDEO, _VIDEOS = 4 * 2**20, 20 * 2**20  # bytes: of one, and of all together

Key = TypeVar("Key", bound=Hashable)


def hyperparameters(study: Study) -> Html:
    """The settings that differ, by system, and those that do not."""
    of = _group(study.runs, lambda run: run.system)
    by_system = {system: of[system] for system in study.ours}
    columns = {system: _values(_settings(run) for run in runs) for system, runs in by_system.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    cells = {name: [column.get(name, "–") for column in columns.values()] for name in names}
    differ = {name: row for name, row in cells.items() if len(set(row)) > 1 or " / " in row[0]}
    mixed = [
        f"The runs of {study.names[system]} differ in {', '.join(uneven)}, and yet count as one system."
        for system, column in columns.items()
        if (uneven := [name for name, value in column.items() if " / " in value])
    ]
    same = [(name, row[0]) for name, row in cells.items() if name not in differ]
    rows = [(name, *row) for name, row in differ.items()]
    return section(
        "Hyperparameters",
        join(tag("p", line, class_="warning") for line in mixed),
        table("Settings that differ", ["setting", *map(study.name, columns)], rows)
        if rows
        else tag("p", "No setting differs." if len(columns) > 1 else "There is one system."),
        details(f"The {len(same)} settings that all runs share", table("Shared", ["setting", "value"], same)),
    )


def protocol(study: Study) -> Html:
    """How the runs were trained and evaluated, where, and by which commands."""
    conflicts = [
        tag("p", f"The protocols differ: {line}.", class_="warning")
        for line in protocol_conflicts([run.path for run in study.runs])
    ]
    by_task = {
        task: _values({k: v for k, v in run.manifest["protocol"].items() if k != "task"} for run in runs)
        for task, runs in _group(study.runs, lambda run: run.config.task).items()
    }
    alike = _group(by_task, lambda task: tuple(by_task[task].items()))
    columns = {", ".join(tasks): dict(values) for values, tasks in alike.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [(name, *(column.get(name, "–") for column in columns.values())) for name in names]
    published = (
        "Published curves carry no protocol: action repeat, evaluation episodes and what counts as success "
        "may differ."
    )
    machine = _values(
        run.manifest["versions"]
        | {f"device {name}": value for name, value in run.manifest["device"].items()}
        | {name: run.manifest[name] for name in ("python", "system") if name in run.manifest}
        for run in study.runs
    )
    commands = [shlex.join(command) for run in study.runs for command in run.manifest["commands"]]
    return section(
        "Protocol",
        join(conflicts),
        table("Protocol by task", ["", *columns], rows),
        tag("p", published, class_="note") if study.source.published else "",
        details("Versions and device", table("Versions and device", ["", ""], machine.items())),
        details("Commands", tag("pre", "\n".join(commands), tabindex="0")),
    )


def runs(study: Study) -> Html:
    """How fast the systems trained, and how far each run directory is."""
    pace = {run.path: speed(run) for run in study.runs}
    by_system = []
    for system in study.ours:
        known = [fast for run in study.runs if run.system == system if (fast := pace[run.path])]
        middle = [f"{median(values):.0f}" for values in zip(*(fast[:2] for fast in known), strict=True)]
        hours = f"{sum(fast.hours for fast in known):.1f}"
        count = sum(run.system == system for run in study.runs)
        by_system.append((study.name(system), *(middle or "––"), hours, count))
    rows = [
        (
            run.path,
            run.config.task,
            ", ".join(run.curves.seeds),
            f"{run.frames:,} of {run.config.options.frames:,}",
            *(
                ("–",) * 3
                if fast is None
                else (f"{fast.frames:.0f}", f"{fast.updates:.0f}", f"{fast.hours:.1f}")
            ),
            run.system,
        )
        for run in study.runs
        for fast in [pace[run.path]]
    ]
    speeds, each = ["frames/s", "updates/s", "hours"], ["run", "task", "seeds", "frames evaluated"]
    explained = (
        "Environment frames and gradient updates per second, of all seeds of a run together: medians since "
        "gradient updates began, then over runs; hours: of all runs. Other work on the machine slows them."
    )
    return section(
        "Runs and speed",
        table("Speed", ["system", *speeds, "runs"], by_system),
        tag("p", explained, class_="note"),
        details("Each run directory", table("Run directories", [*each, *speeds, "system"], rows)),
    )


def videos(study: Study) -> Html:
    """The newest video of each run, inside the page."""
    shown, notes, size = [], [], 0
    for run in study.runs:
        newest = max((run.path / "videos").glob("*.mp4"), key=_age, default=None)
        if newest is None:
            continue
        data = newest.read_bytes()
        if len(data) > _VIDEO or size + len(data) > _VIDEOS:
            notes.append(f"{newest} is left out: {len(data) / 2**20:.1f} MiB; open it yourself.")
            continue
        size += len(data)
        what = f"{study.names[run.system]} on {run.config.task}: {newest.name}"
        source = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
        film = tag("video", controls=True, preload="metadata", playsinline=True, src=source, aria_label=what)
        shown.append(tag("figure", tag("figcaption", what), film))
    if not shown and not notes:
        return Html("")
    left = tag("p", " ".join(notes), class_="note") if notes else ""
    return section("Videos", tag("div", join(shown), class_="gallery"), left)


def left_out(study: Study, tables: Iterable[Summary], notes: Iterable[str]) -> Html:
    """What was skipped or does not count, with the reasons."""
    late = [
        f"{run.path}: seed {seed} ended at {_last(run, i):,} frames; it counts in the curves, but not in the "
        f"scores on {run.config.task} at {each.frames:,} frames"
        for each in tables
        for run in study.runs
        if each.tasks == (run.config.task,)
        for i, seed in enumerate(run.curves.seeds)
        if not _reached(run, i, each.frames)
    ]
    lines = [*study.skipped, *late, *notes]
    return section("Left out", bullets(lines) if lines else tag("p", "Nothing."))


def _settings(run: Run) -> dict[str, object]:
    system, options = run.config.system, run.config.options
    about = {"algorithm": system.algorithm, "preset": system.preset}
    about |= {name: getattr(options, name) for name in ("overlap", "matmul_precision")}
    return about | asdict(run.config.settings)


def _values(dictionaries: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Each key's values, as text; several with strokes between them."""
    found: dict[str, dict[str, None]] = {}
    for values in dictionaries:
        for name, value in values.items():
            found.setdefault(name, {})["–" if value is None else str(value)] = None
    return {name: " / ".join(values) for name, values in found.items()}


Item = TypeVar("Item")


def _group(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _age(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name


def _reached(run: Run, seed: int, frames: int) -> bool:
    return not np.isnan(run.curves.values[seed, run.curves.env_steps == frames]).all()


def _last(run: Run, seed: int) -> int:
    return int(run.curves.env_steps[~np.isnan(run.curves.values[seed])][-1])
