"""The learning curves of docs/results.md and its tables, as the pages of the algorithms show them."""

import csv
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docs_tables import ROOT, table_of

from crossq_wn.environments import SUITES

# What algorithms are called in docs/results.md.
TITLES = {
    "crossq-wn": "CrossQ + WN", "crossq": "CrossQ", "sac": "SAC", "sr-sac": "SR-SAC", "redq": "REDQ",
    "droq": "DroQ", "bro": "BRO", "bro-fast": "BRO-fast", "simba": "SimBa", "simba-v2": "SimbaV2",
    "tdmpc2": "TD-MPC2", "xqc": "XQC", "flashsac": "FlashSAC", "drq": "DR.Q",
}  # fmt: skip
_FRAMES = re.compile(r"[\d.]+k")
TASKS = {task for suite in SUITES.values() for task in suite.tasks}


class Curve(NamedTuple):
    """A row of a table of learning curves."""

    table: str  # the heading above it
    label: str
    points: dict[str, str]  # thousands of environment frames, as `12.5k` -> score

    @property
    def published(self) -> bool:
        """Whether it is of its authors' runs, which are several seeds in one row."""
        return re.search(r"\d+ seeds$", self.label) is not None


def measured_curves(text: str) -> Iterator[Curve]:
    """The rows of all tables whose columns are environment frames, in a page's order."""
    heading, columns, task = "", [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading, task = line.removeprefix("## ").partition(":")[0], ""
        if not line.startswith("|"):
            columns = []
            continue
        label, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not label and all(_FRAMES.fullmatch(cell) for cell in cells):
            columns = cells
        elif columns and not label.startswith("---"):
            first = label.partition(", ")[0]
            task = first if first in TASKS else task
            full = label if not task or label.startswith(task) else f"{task}, {label}"
            yield Curve(heading, full, {c: v for c, v in zip(columns, cells, strict=True) if v})


def tabled_curves(name: str, shown: list[Curve]) -> Iterator[Curve]:
    """Curves of an algorithm in docs/results/curves whose tasks no table of the page shows."""
    told = " ".join(f"{curve.table} {curve.label}" for curve in shown)
    for file in sorted((ROOT / "docs" / "results" / "curves").glob("*.csv")):
        if file.name == "runs.csv" or file.stem in told:
            continue
        found: dict[tuple[str, str], dict[str, str]] = {}
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                algorithm, _, changes = row["algorithm"].partition(" (")
                if algorithm == name:
                    system = f"{TITLES[name]} ({changes}" if changes else TITLES[name]
                    label = f"{system}, UTD {row['utd']}, seed {row['seed']}"
                    points = found.setdefault((f"{row['task']} ({row['metric']})", label), {})
                    points[f"{int(row['env_step']) / 1000:g}k"] = row["value"]
        for (table, label), points in found.items():
            yield Curve(table, label, points)


def pictures_of(name: str) -> dict[str, tuple[str, list[Curve]]]:
    """The pictures of an algorithm: by file, a table's heading and its rows; none if all are published."""
    title = re.compile(rf"(^|, ){re.escape(TITLES[name])}(,| \(|$)")
    told = measured_curves((ROOT / "docs" / "results.md").read_text())
    shown = [curve for curve in told if title.search(curve.label)]
    found: dict[str, list[Curve]] = {}
    for curve in [*shown, *tabled_curves(name, shown)]:
        found.setdefault(curve.table, []).append(curve)
    ours = [(table, rows) for table, rows in found.items() if not all(row.published for row in rows)]
    return {f"{name}-{number}.svg": each for number, each in enumerate(ours, 1)}


def curves_of(name: str) -> str:
    """The measured curves of an algorithm: a picture and the numbers of docs/results.md."""
    pictures = pictures_of(name)
    if not pictures:
        return (
            "No learning curve of it has been measured here yet. [Results](../results.md) has those of "
            "others, and what is known of algorithms that take too long on two cores."
        )
    parts = []
    for picture, (table, rows) in pictures.items():
        columns = sorted({frames for row in rows for frames in row.points}, key=_thousands)
        lines = [[row.label, *(row.points.get(each, "") for each in columns)] for row in rows]
        shown = f"![{TITLES[name]} on {table}]({picture})"
        parts.append(f"**{table}**\n\n{shown}\n\n{table_of(['', *columns], lines)}")
    about = "Scores over environment frames, from [Results](../results.md), which says how each was measured."
    return "\n\n".join([about, *parts])


def _thousands(frames: str) -> float:
    return float(frames.removesuffix("k"))


def draw_curves(folder: Path) -> None:
    """Draws the measured curves, a picture per algorithm and table; published ones are grey."""
    for name in TITLES:
        for picture, (table, rows) in pictures_of(name).items():
            _draw(folder / picture, table, rows)


def _draw(file: Path, title: str, rows: list[Curve]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        x = [_thousands(each) for each in row.points]
        y = [float(re.split(r"[ ,]", each)[0]) for each in row.points.values()]
        look = {"color": "0.5", "linestyle": "--"} if row.published else {}
        axes.plot(x, y, marker="o", markersize=3, label=textwrap.fill(row.label, 60), **look)
    axes.set(title=title, xlabel="thousand environment frames")
    axes.legend(fontsize=7)
    figure.savefig(file, metadata={"Date": None})
