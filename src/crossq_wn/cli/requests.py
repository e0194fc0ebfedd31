"""What a command line asks `sweep` for: a file, a folder, or options of `train` with several values each."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli.arguments import Parser
from crossq_wn.errors import UserError, nearest
from crossq_wn.runs.familiar import meant
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.sweeps import history
from crossq_wn.sweeps.sheets import Sheet, parse, written

# Options that a folder with its plan does without.
_ONCE = ("help", "out", "seeds_per_process", "yes", "dry_run", "since", "status", "all", "watch", "form")


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for."""

    sheet: Sheet
    text: str  # of its file
    out: Path


def request(parsed: Any, options: Mapping[str, Sequence[Any]], arguments: Sequence[str]) -> Request:
    """Reads the sweep that a command line asks for."""
    if parsed.plan is None:
        if not options:
            raise UserError("name the sweep's file, or give options such as --task dog-run --seeds 0:10")
        if parsed.out is None:
            raise UserError("--out is missing: name the folder for the runs")
        text = written(options, parsed.seeds_per_process, shlex.join(["crossq-wn", "sweep", *arguments]))
        return Request(parse(text, "the command line"), text, parsed.out)
    path = Path(parsed.plan)
    _check_file(path, options)
    if path.is_dir():
        path, out = history.newest_plan(path), path
    else:
        out = Path("runs") / path.stem
    sheet, text = history.read_sheet(path)
    if parsed.seeds_per_process is not None:
        raise UserError(
            "--seeds-per-process is for sweeps without a file: put seeds_per_process into the file"
        )
    return Request(sheet, text, parsed.out or out)


def _check_file(path: Path, options: Mapping[str, Sequence[Any]]) -> None:
    """Raises UserError if a sweep's file or folder is not there, or is given together with options."""
    if options and not path.exists() and path.suffix != ".toml":
        raise UserError(
            f"{path} belongs to no option: values are separated by commas, as --task dog-run,humanoid-run"
        )
    if options:
        raise UserError(f"--{next(iter(options))} and {path} are both given: put it into the file")
    if not path.exists():
        hint = nearest(path.name, files.names(path.parent))
        raise UserError(f"{path}: no such file or folder: {hint}name a sweep's file, or its folder")


def again(parser: Parser, parsed: Any, out: Path) -> str:
    """The command that goes on with a sweep in its folder, as it was told to go about it.

    Args:
        parser: of the command.
        parsed: what was given.
        out: the folder.
    """
    words = ["crossq-wn", "sweep", str(out)]
    for action in parser._actions:
        value = getattr(parsed, action.dest, None)
        if not action.option_strings or action.dest in _ONCE or value == action.default:
            continue
        for each in value if isinstance(value, list) else [value]:
            words.append(action.option_strings[0])
            if action.nargs != 0:
                words.append("=".join(each) if isinstance(each, tuple) else str(each))
    return shlex.join(words)


def divided(parser: Parser, arguments: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Divides arguments into those of `sweep`, and the values of options of `train` by their Python names."""
    own: list[str] = []
    options: dict[str, list[Any]] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, between, text = word.partition("=")
        if not flag.startswith("--") or len(flag) < 3 or flag in parser._option_string_actions:
            own.append(word)
            continue
        if not between and waiting and not waiting[0].startswith("--"):
            between, text = "=", waiting.pop(0)
        name, values = _option(flag[2:].replace("-", "_"), text if between else None)
        if name in options:
            raise UserError(f"{flag} is given twice: separate its values by commas")
        options[name] = values
    return own, options


def check_names(parser: Parser, options: Mapping[str, Sequence[Any]], arguments: Sequence[str]) -> None:
    """Raises UserError for an option that no run of the package's own algorithms has."""
    if any(":" in str(algorithm) for algorithm in options.get("algorithm", ())):
        return  # a user's own has hyperparameters of its own
    known = {"task", "algorithm", "preset", "seed", *OPTION_NAMES}
    for recipe in ALGORITHMS.values():
        known |= {*setting_names(recipe.settings)}
    for name in options:
        if name not in known:
            hint, flag = meant(name, known), name.replace("_", "-")
            negated = f"--no-{flag}" in (each.partition("=")[0] for each in arguments)  # as it was written
            flag = f"no-{flag}" if negated else flag
            parser.error(f"unrecognized arguments: --{flag}" + (f" ({hint})" if hint else ""))


def _option(name: str, text: str | None) -> tuple[str, list[Any]]:
    """Reads the values of an option; without a text it is one to turn on or off, as --no-diagnostics."""
    if text is None:
        return name.removeprefix("no_"), [not name.startswith("no_")]
    if name in ("seeds", "seed"):
        return name, [text]
    return name, [_value(part) for part in text.split(",")]


def _value(text: str) -> Any:
    """Reads a value: a whole number, which may be written 1e6, another number, yes or no, or a text."""
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        whole = isinstance(value, float) and value.is_integer() and "." not in text
        return int(value) if whole else value
    return {"true": True, "false": False}.get(text, text)
