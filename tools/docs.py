"""Assembles the documentation in build/docs and builds the site: `make docs`.

    python tools/docs.py [--plain] [--no-site]

Pages are docs/*.md and the project's own files, whose links are rewritten. Tables of algorithms, presets,
settings and options are generated, so that each fact is declared once: in the code. The site is complete
without a network, and a dead link ends the build. `--plain` builds with MkDocs and its own theme, should
Zensical not be there.
"""

import argparse
import functools
import html.parser
import inspect
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.algorithms import ALGORITHMS, Recipe
from crossq_wn.algorithms.settings import values_of
from crossq_wn.cli.arguments import field_texts
from crossq_wn.cli.completion import whole_parser
from crossq_wn.environments import SUITES
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.runs.options import RunOptions
from crossq_wn.sweeps.cost import programs

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "docs"
SITE = ROOT / "site"
# The pages that lie outside docs/, by file.
OUTSIDE = {
    "README.md": "index.md",
    "PAPER.md": "paper.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\])\(([^)\s]+)\)")


class DeadLinkError(Exception):
    """A link that leads nowhere."""


def pages() -> dict[Path, str]:
    """Every written page: its file, and its place below `BUILD`."""
    found = {ROOT / name: place for name, place in OUTSIDE.items()}
    for file in sorted((ROOT / "docs").rglob("*.md")):
        found[file] = str(file.relative_to(ROOT / "docs"))
    return found


def assemble() -> None:
    """Writes all pages below `BUILD`."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", BUILD, ignore=shutil.ignore_patterns("*.md"))
    places = pages()
    for file, place in places.items():
        _write(place, with_links(file.read_text(), file, places))
    for place, text in generated().items():
        _write(place, text)
    draw_curves(BUILD / "algorithms")


def _write(place: str, text: str) -> None:
    target = BUILD / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def with_links(text: str, file: Path, places: dict[Path, str]) -> str:
    """Rewrites a page's links for where the page and its targets lie in the site.

    Raises:
        DeadLinkError: a target does not exist.
    """

    def rewritten(match: re.Match[str]) -> str:
        label, link = match[1], match[2]
        target, hash_, anchor = link.partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        there = (file.parent / target).resolve()
        place = places.get(there) or _place_of(there)
        if place is None and there.exists():
            return label.strip("[]")  # a file of the repository that is no page
        if place is None:
            raise DeadLinkError(f"{file.relative_to(ROOT)}: {link}")
        up = "../" * places[file].count("/")
        return f"{label}({up}{place}{hash_}{anchor})"

    return _LINK.sub(rewritten, text)


def _place_of(target: Path) -> str | None:
    """The place of a generated page, or of a picture or table beside the pages."""
    docs = ROOT / "docs"
    if not target.is_relative_to(docs):
        return None
    name = str(target.relative_to(docs))
    return name if name in generated() or target.is_file() else None


@functools.cache
def generated() -> dict[str, str]:
    """The generated pages, by place."""
    found = {"algorithms/index.md": _algorithms(), "reference/options.md": _options()}
    found["reference/commands.md"] = _commands()
    found["reference/tasks.md"] = _tasks()
    found["reference/diagnostics.md"] = _diagnostics()
    for name, recipe in ALGORITHMS.items():
        found[f"algorithms/{name}.md"] = _algorithm(name, recipe)
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    shown = []
    for line in lines:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in line]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


def _algorithms() -> str:
    rows = [
        [f"[`{name}`]({name}.md)", recipe.summary, ", ".join(recipe.presets)]
        for name, recipe in ALGORITHMS.items()
    ]
    table = _table(["name", "what it is", "presets"], rows)
    return (
        "# Algorithms\n\n`--algorithm NAME` chooses one. Each is a file that reads like its paper; the "
        f"pages here say what the file says, and list its settings.\n\n{table}\n\nThe curves that were "
        "measured here are in [Results](../results.md), what an update costs in [What training costs]"
        "(../scale.md), where an equation is in the code in [The paper](../paper.md), and how to add an "
        "algorithm in [Your own algorithm](../your-own-algorithm.md).\n"
    )


def _algorithm(name: str, recipe: Recipe) -> str:
    module = sys.modules[recipe.make.__module__]
    about = inspect.cleandoc(module.__doc__ or "")
    file = Path(inspect.getfile(module)).relative_to(ROOT / "src")
    usual = recipe.presets["default"].settings
    texts = field_texts(type(usual))
    settings = [
        [f"`--{field.name.replace('_', '-')}`", _value(getattr(usual, field.name)), texts.get(field.name, "")]
        for field in fields(usual)
    ]
    presets = []
    for title, preset in recipe.presets.items():
        presets.append([f"`{title}`", preset.source, _changes(preset.settings, usual)])
    departures = _table(["preset", "source of its numbers", "departs from the default in"], presets)
    values = _table(["option", "default", "meaning"], settings)
    return (
        f"# {name}\n\n{recipe.summary}\n\n```bash\ncrossq-wn train cheetah-run --algorithm {name}\n```\n\n"
        f"## What it does\n\n{_prose(about)}\n\n(From `{file}`, which is meant to be read.)\n\n"
        f"## What it has learned here\n\n{_curves(name)}\n\n"
        f"## What it costs\n\n{_cost(name, recipe)}\n\n"
        f"## Presets\n\n{departures}\n\n"
        f"## Settings\n\nWith the values of the preset `default`.\n\n{values}\n"
    )


# What algorithms are called in docs/results.md, the one place of measured curves.
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


def _curves(name: str) -> str:
    """The measured curves of an algorithm: a picture and the numbers of docs/results.md."""
    title = re.compile(rf"(^|, ){re.escape(TITLES[name])}(,| \(|$)")
    found: dict[str, list[Curve]] = {}
    for curve in measured_curves((ROOT / "docs" / "results.md").read_text()):
        if title.search(curve.label):
            found.setdefault(curve.table, []).append(curve)
    ours = {table: rows for table, rows in found.items() if not all(row.published for row in rows)}
    if not ours:
        return (
            "No learning curve of it has been measured here yet. [Results](../results.md) has those of "
            "others, and what is known of algorithms that take too long on two cores."
        )
    parts = []
    for number, (table, rows) in enumerate(ours.items(), 1):
        columns = sorted({frames for row in rows for frames in row.points}, key=_thousands)
        lines = [[row.label, *(row.points.get(each, "") for each in columns)] for row in rows]
        picture = f"{name}-{number}.svg"
        _PICTURES[picture] = table, rows
        shown = f"![{TITLES[name]} on {table}]({picture})"
        parts.append(f"**{table}**\n\n{shown}\n\n{_table(['', *columns], lines)}")
    about = "Scores over environment frames, from [Results](../results.md), which says how each was measured."
    return "\n\n".join([about, *parts])


# The curves that are to be drawn, by the picture's file: a table's heading and rows.
_PICTURES: dict[str, tuple[str, list[Curve]]] = {}


def _thousands(frames: str) -> float:
    return float(frames.removesuffix("k"))


def draw_curves(folder: Path) -> None:
    """Draws the measured curves, a picture per algorithm and table; published ones are grey."""
    from matplotlib.figure import Figure

    for picture, (table, rows) in _PICTURES.items():
        figure = Figure(figsize=(5.5, 3.2), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            x = [_thousands(each) for each in row.points]
            y = [float(re.split(r"[ ,]", each)[0]) for each in row.points.values()]
            look = {"color": "0.5", "linestyle": "--"} if row.published else {}
            axes.plot(x, y, marker="o", markersize=3, label=row.label, **look)
        axes.set(title=table, xlabel="thousand environment frames")
        axes.legend(fontsize=7)
        figure.savefig(folder / picture, metadata={"Date": None})


# The sizes of two tasks' observations and actions, between which most of the others lie.
SIZES = {"cheetah-run": (17, 6), "dog-run": (223, 38)}


def _cost(name: str, recipe: Recipe) -> str:
    """What a gradient update and a decision of one seed compute, counted in the programs."""
    settings = recipe.presets["default"].settings.for_run(500_000)
    rows = []
    for task, sizes in SIZES.items():
        counted = programs(name, settings, sizes)
        rows.append(
            [
                f"{task} {sizes}",
                _gflop(counted.update.multiply_adds),
                _gflop(settings.utd * counted.update.multiply_adds + counted.decision.multiply_adds),
                f"{counted.state / 1e6:.1f} MB",
            ]
        )
    table = _table(["observation, action", "an update", "an agent decision, with its updates", "state"], rows)
    return (
        f"Matrix products of one seed with the preset `default` (UTD {settings.utd}, minibatches of "
        f"{settings.batch_size}), counted in the programs; the state is all that the learner carries, its "
        "optimisers included. What that takes in time is under [What training costs](../scale.md), and how "
        f"well it learned under [Learning curves](../results.md).\n\n{table}"
    )


def _gflop(multiply_adds: float) -> str:
    return f"{2e-9 * multiply_adds:.3g} GFLOP"  # a multiplication and an addition each


def _prose(docstring: str) -> str:
    """A docstring as Markdown, in which a list begins after an empty line and angle brackets are text."""
    lines: list[str] = []
    for line in docstring.replace("<", "&lt;").splitlines():
        item = re.match(r"(\d+\.|[-*]) ", line)
        if item and lines and lines[-1] and not re.match(r"(\d+\.|[-*]|  ) ?", lines[-1]):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _changes(settings: Any, usual: Any) -> str:
    changed = []
    for name, value in values_of(settings).items():
        if value != getattr(usual, name):
            changed.append(f"`{name}` {_value(value)}")
    return ", ".join(changed)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "by the task or the run" if value is None else f"{value}".strip("()") or "none"


def _options() -> str:
    texts, rows = field_texts(RunOptions), []
    for field in fields(RunOptions):
        default = "" if field.default is MISSING else _value(field.default)
        rows.append([f"`--{field.name.replace('_', '-')}`", f"`{field.name}`", default, texts[field.name]])
    table = _table(["command line", "Python", "default", "meaning"], rows)
    return (
        "# Run options\n\nThe same on the command line, in Python and in config.json. Frames are environment "
        "frames. "
        f"Hyperparameters are on the pages of the [algorithms](../algorithms/index.md).\n\n{table}\n"
    )


def _commands() -> str:
    [commands] = [
        action for action in whole_parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    parts = ["# Commands", "`crossq-wn COMMAND --help` says the same at the terminal."]
    for choice in commands._choices_actions:
        rows = [
            [
                f"`{', '.join(action.option_strings) or action.dest}`",
                (action.help or "") % {"default": action.default},
            ]
            for action in commands.choices[choice.dest]._actions
            if action.help and action.help != argparse.SUPPRESS and action.dest != "help"
        ]
        if choice.dest in ("train", "bench"):  # run options and hyperparameters have pages of their own
            own = (
                "task",
                "--algorithm",
                "--preset",
                "--out",
                "--config",
                "--trust",
                "--against",
                "--json",
                "--csv",
                "--seconds",
            )
            rows = [row for row in rows if row[0].strip("`") in own]
        parts += [f"## {choice.dest}", choice.help or "", _table(["argument", "meaning"], rows)]
    return "\n\n".join(parts) + "\n"


def _tasks() -> str:
    parts = [
        "# Tasks",
        "Besides these, any Gymnasium id with `Box` spaces, and [your own](../your-own-environment.md).",
    ]
    for suite in SUITES.values():
        about = _table(
            ["frames per decision", "time limit", "discount", "score"],
            [[suite.action_repeat, suite.episode_frames or "its own", suite.discount, suite.unit]],
        )
        names = ", ".join(f"`{name}`" for name in suite.tasks)
        parts += [f"## {suite.title}", about, names]
    return "\n\n".join(parts) + "\n"


def _diagnostics() -> str:
    rows = []
    for each in DIAGNOSTICS.values():
        shown = "" if each.detail else "yes"
        rows.append([f"`{each.name}`", each.meaning, each.unit, f"`{each.file}`", shown])
    table = _table(["column", "what it is", "unit", "file", "in `diagnose` and reports"], rows)
    return (
        "# Diagnostics\n\nWhat training records besides scores; `--no-diagnostics` leaves it out. "
        f"[One of your own](../diagnostics-and-figures.md) is one function.\n\n{table}\n"
    )


class _Links(html.parser.HTMLParser):
    """The links, pictures, scripts and names of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.names |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        wanted = given.get("src") or (given.get("href") if tag == "link" else None)
        if wanted and given.get("rel") not in ("canonical", "alternate"):
            self.loads.append(wanted)


def faults(site: Path = SITE) -> Iterator[str]:
    """Every link of the built site that leads nowhere, and whatever it would load from a network."""
    found = {}
    for file in sorted(site.rglob("*.html")):
        found[file] = _Links()
        found[file].feed(file.read_text())
    for file, page in found.items():
        where = file.relative_to(site)
        for link in page.loads:
            if re.match(r"(https?:)?//", link):
                yield f"{where} loads {link}"
        for link in page.links + page.loads:
            target, _, anchor = urllib.parse.unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", target) or where.name == "404.html":
                continue
            there = (file.parent / target.partition("?")[0]).resolve() if target else file
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                yield f"{where}: {link} leads nowhere"
            elif anchor and there in found and anchor not in found[there].names | {"__top"}:
                yield f"{where}: {link}: there is no such heading"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plain", action="store_true", help="build with MkDocs")
    parser.add_argument("--no-site", action="store_true", help="only assemble the pages")
    parsed = parser.parse_args()
    assemble()
    if parsed.no_site:
        return 0
    shutil.rmtree(SITE, ignore_errors=True)
    folder = Path(sys.executable).parent
    command = (
        ["mkdocs", "build", "--strict", "-f", "mkdocs-plain.yml"]
        if parsed.plain
        else ["zensical", "build", "--strict"]
    )
    done = subprocess.run([folder / command[0], *command[1:]], cwd=ROOT, check=False)
    found = list(faults()) if done.returncode == 0 else []
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
