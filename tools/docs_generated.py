"""The generated pages of the documentation: what the code declares, as tables."""

import argparse
import functools
import inspect
import re
import sys
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from docs_curves import curves_of
from docs_sources import origin, place_of_preset, place_of_setting, statements
from docs_tables import ROOT, table_of

from crossq_wn.algorithms import ALGORITHMS, Recipe
from crossq_wn.algorithms.settings import setting_names, values_of
from crossq_wn.cli.arguments import field_texts
from crossq_wn.cli.completion import declared
from crossq_wn.cli.dispatch import VERBS
from crossq_wn.environments import SUITES
from crossq_wn.learning.diagnostics import DIAGNOSTICS
from crossq_wn.runs.options import OPTION_NAMES, RunOptions
from crossq_wn.sweeps.cost import programs


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


def _algorithms() -> str:
    rows = [
        [f"[`{name}`]({name}.md)", recipe.summary, ", ".join(recipe.presets)]
        for name, recipe in ALGORITHMS.items()
    ]
    table = table_of(["name", "what it is", "presets"], rows)
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
    return (
        f"# {name}\n\n{recipe.summary}\n\n```bash\ncrossq-wn train cheetah-run --algorithm {name}\n```\n\n"
        f"## What it does\n\n{_prose(about)}\n\n(From `{file}`, which is meant to be read.)\n\n"
        f"## Where it is from\n\n{_origin(name)}\n\n"
        f"## What it has learned here\n\n{curves_of(name)}\n\n"
        f"## What it costs\n\n{_cost(name, recipe)}\n\n"
        f"## Presets\n\n{_presets(recipe)}\n\n"
        f"## Settings\n\n{_settings(recipe)}\n\n"
        f"## From the paper to the code\n\n{_statements(recipe)}\n"
    )


def _origin(name: str) -> str:
    """Whose algorithm it is, and in what ours differs."""
    found = origin(name)
    if not found.source:
        return (
            "It is the paper's own: [The paper, line by line](../paper.md) says where each of its statements "
            "is in the code, and where we depart from it."
        )
    about = "[The paper, line by line](../paper.md#the-other-algorithms)"
    return "\n\n".join([f"{found.source}", f"Ours differs in: {found.differs} ({about}).", *found.more])


def _presets(recipe: Recipe) -> str:
    usual, rows = recipe.presets["default"].settings, []
    for title, preset in recipe.presets.items():
        changes, place = _changes(preset.settings, usual), place_of_preset(recipe, title)
        rows.append([f"`{title}`", preset.source, changes, place])
    return table_of(["preset", "source of its numbers", "departs from the default in", "where"], rows)


def _settings(recipe: Recipe) -> str:
    usual, rows = recipe.presets["default"].settings, []
    texts = field_texts(type(usual))
    for field in fields(usual):
        value, place = _value(field.name, getattr(usual, field.name)), place_of_setting(recipe, field.name)
        option = f"`--{field.name.replace('_', '-')}`"
        source = f"{place.comment}: {place}" if place.comment else place
        rows.append([option, value, texts.get(field.name, ""), source])
    table = table_of(["option", "default", "meaning", "source of the number, and where it is"], rows)
    return (
        "With the values of the preset `default`, and what the file says of where they are from: tables are "
        "the paper's, columns those of its Table 1. Files are below "
        f"`src/crossq_wn/`.\n\n{table}"
    )


def _statements(recipe: Recipe) -> str:
    rows = []
    for each in statements(recipe):
        rows.append([f"`{each.name}`", each.about, each.cites, each.place])
    table = table_of(["function", "what it is", "numbered statement", "where"], rows)
    return (
        "The functions of its own files, and what it uses of others that states something numbered. Numbers "
        f"are those of the paper (v2), unless the text names another.\n\n{table}"
    )


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
    table = table_of(
        ["observation, action", "an update", "an agent decision, with its updates", "state"], rows
    )
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
            changed.append(f"`{name}` {_value(name, value)}")
    return ", ".join(changed)


# What it means that a setting is None; elsewhere there is none of it.
_UNSET = {
    "episode_frames": "the suite's", "action_repeat": "the suite's", "discount": "the suite's",
    "learning_rate_updates": "by the run", "reset_updates": "never",
}  # fmt: skip


def _value(name: str, value: Any) -> str:
    if value is None:
        return _UNSET.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(_value(name, each) for each in value) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value}"


def _options() -> str:
    texts, rows = field_texts(RunOptions), []
    for field in fields(RunOptions):
        default = "" if field.default is MISSING else _value(field.name, field.default)
        rows.append([f"`--{field.name.replace('_', '-')}`", default, texts[field.name]])
    table = table_of(["option", "default", "meaning"], rows)
    return (
        "# Run options\n\nIn Python and config.json, `--eval-every` is `eval_every`, and so on. Frames are "
        "environment frames. "
        f"Hyperparameters are on the pages of the [algorithms](../algorithms/index.md).\n\n{table}\n"
    )


def _commands() -> str:
    about = (
        "`crossq-wn COMMAND --help` says the same at the terminal. What `train`, `bench` and `sweep` take "
        "besides is under [run options](options.md) and on the pages of the "
        "[algorithms](../algorithms/index.md)."
    )
    parts = ["# Commands", about]
    elsewhere = {*OPTION_NAMES}.union(*(setting_names(recipe.settings) for recipe in ALGORITHMS.values()))
    for verb, (_, summary) in VERBS.items():
        parser, rows = declared(verb), []
        form, left_out = parser._get_formatter(), elsewhere if verb in ("train", "bench") else set()
        for action in sorted(parser._actions, key=lambda each: bool(each.option_strings)):
            if action.help not in (None, argparse.SUPPRESS) and action.dest not in {"help", *left_out}:
                rows.append([f"`{form._format_action_invocation(action)}`", form._expand_help(action)])
        parts += [f"## {verb}", summary]
        if parser.usage:
            parts.append(f"`{parser.usage}`")
        parts.append(table_of(["argument", "meaning"], rows))
        if parser.epilog:
            text = textwrap.dedent(parser.epilog)
            parts.append(f"```text\n{text}\n```" if "\n" in text else text)
    return "\n\n".join(parts) + "\n"


def _tasks() -> str:
    parts = [
        "# Tasks",
        "Besides these, any Gymnasium id with `Box` spaces, and [your own](../your-own-environment.md).",
    ]
    for suite in SUITES.values():
        about = table_of(
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
    table = table_of(["column", "what it is", "unit", "file", "in `diagnose` and reports"], rows)
    return (
        "# Diagnostics\n\nWhat training records besides scores; `--no-diagnostics` leaves it out. "
        f"[One of your own](../diagnostics-and-figures.md) is one function.\n\n{table}\n"
    )
