"""Parsers of the commands, with options made from the fields of dataclasses."""

import argparse
import ast
import contextlib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Never, get_args, get_origin, get_type_hints

from crossq_wn.algorithms import ALGORITHMS, recipe_of
from crossq_wn.errors import UserError, naming_options, nearest, shown
from crossq_wn.machine import expanded
from crossq_wn.runs.config import preset_settings
from crossq_wn.runs.familiar import meant
from crossq_wn.runs.options import MOST_SEEDS, OPTION_NAMES, RunOptions


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors and suggest the nearest valid option."""

    def __init__(self, verb: str, summary: str = "", **options: Any) -> None:
        super().__init__(prog=f"crossq-wn {verb}", description=summary, allow_abbrev=False, **options)
        self.register("type", Path, path)  # how every argument of type Path is read

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As argparse's; what is given without dashes is shown in capitals, such as RUN [RUN ...]."""
        if not names[0].startswith("-") and "choices" not in options:
            options.setdefault("metavar", names[0].removesuffix("s").upper())
        return super().add_argument(*names, **options)

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses all arguments. Raises UserError for unknown and for missing ones."""
        for each in args:  # before argparse misses an argument that was given under another name
            if each.startswith("--") and each.split("=")[0] not in (*self._option_string_actions, "--"):
                self._unrecognized(each.split("=")[0], [each])
        parsed, unknown = self.parse_known_args(args)
        if unknown:
            self._unrecognized(next((each for each in unknown if each.startswith("-")), ""), unknown)
        return parsed

    def _unrecognized(self, name: str, arguments: Sequence[str]) -> Never:
        known = [action.dest for action in self._actions]
        with naming_options():
            hint = meant(name, known)
        self.error(f"unrecognized arguments: {' '.join(arguments)}" + (f" ({hint})" if hint else ""))

    def error(self, message: str) -> Never:
        """Raises a UserError, which `dispatch` prints as one line."""
        for action in self._actions:
            name = str("/".join(action.option_strings) or action.metavar or action.dest)
            if action.choices and message.startswith("the following arguments are required: "):
                valid = f" ({', '.join(map(str, action.choices))})"
                message = re.sub(rf"(?<= ){re.escape(name)}(?=,|$)", name + valid, message)
        raise UserError(f"{message}; see `{self.prog} --help`")


def parse_run(
    parser: Parser,
    arguments: Sequence[str],
    options: Collection[str] = OPTION_NAMES,
    start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Parses the arguments of `training.api.configure`: TASK, run options and hyperparameters.

    Args:
        parser: of the command; it may have arguments of its own already.
        arguments: of the command.
        options: the names of the run options that the command has.
        start: what holds where nothing is given; its hyperparameters, only for its algorithm and preset.

    Returns:
        The task, algorithm and preset, the run options and hyperparameters that were given, and the values of
        the command's own arguments, all by name.

    Raises:
        UserError: an unknown option, or a value that is not of its type.
    """
    # The algorithm decides which hyperparameters exist, and the preset their defaults: both are read first.
    start = dict(start or {})
    chosen = _chosen_algorithm(parser, arguments, start)
    settings = preset_settings(chosen.algorithm, chosen.preset)
    presets = recipe_of(chosen.algorithm).presets
    parser.usage = f"{parser.prog} TASK [options]"
    parser.add_argument(
        "task",
        nargs="?" if start else None,
        default=argparse.SUPPRESS,
        help="the task, such as cheetah-run: see `crossq-wn list tasks`",
    )
    _add_choice_of_algorithm(parser, chosen, presets)
    group = parser.add_argument_group("run options")
    add_fields(group, RunOptions(), [field for field in fields(RunOptions) if field.name in options])
    group = parser.add_argument_group(
        f"hyperparameters of {chosen.algorithm}, preset {chosen.preset} ({presets[chosen.preset].source})"
    )
    add_fields(group, settings, fields(settings))
    values = vars(parser.parse_args(_with_commas(arguments, (RunOptions, type(settings)))))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    same = (chosen.algorithm, chosen.preset) == (start.get("algorithm"), start.get("preset"))
    kept = {name: value for name, value in start.items() if same or name in ("task", *options)}
    return kept | values


def _chosen_algorithm(
    parser: Parser, arguments: Sequence[str], start: Mapping[str, Any]
) -> argparse.Namespace:
    """Reads algorithm and preset alone; another algorithm than that at the start has its own default."""
    first = Parser(parser.prog.split()[-1], add_help=False)
    _add_choice_of_algorithm(first, argparse.Namespace(algorithm=None, preset=None))
    chosen, _ = first.parse_known_args(arguments)
    usual = start.get("algorithm", "crossq-wn")
    if chosen.preset is None:
        chosen.preset = start.get("preset", "default") if chosen.algorithm in (None, usual) else "default"
    chosen.algorithm = chosen.algorithm or usual
    return chosen


def _add_choice_of_algorithm(
    parser: Parser, default: argparse.Namespace, presets: Collection[str] = ()
) -> None:
    group = parser.add_argument_group("algorithm")
    group.add_argument(
        "--algorithm",
        metavar="NAME",
        default=default.algorithm,
        help=f"{', '.join(ALGORITHMS)}, or your own as module:name; it decides which hyperparameters there "
        "are (default: crossq-wn)",
    )
    group.add_argument(
        "--preset",
        metavar="NAME",
        default=default.preset,
        help=f"where the hyperparameters start from: {', '.join(presets)} (default: default)",
    )


def add_fields(group: Any, record: Any, chosen: Sequence[Field[Any]]) -> None:
    """Adds an option for each chosen field of a dataclass. Options that are not given stay unset.

    Args:
        group: of the parser, to which they are added.
        record: an instance of the dataclass, whose values the help shows as defaults.
        chosen: the fields.

    Raises:
        UserError: a hyperparameter of a user's algorithm has a type that no option can have.
    """
    kinds, texts = get_type_hints(type(record)), field_texts(type(record))
    for field in chosen:
        default, read = getattr(record, field.name), _parsing(kinds[field.name], **field.metadata)
        told = "" if default is None else f" (default: {shown(default)})"
        told += "; without a value: none" if read.get("nargs") == "?" else ""
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=(texts.get(field.name, "") + told).replace("%", "%%"),
            **read,
        )
        if alias := _ALIASES.get(field.name):
            group.add_argument(
                alias, dest=field.name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **read
            )


def _parsing(kind: Any, ranges: bool = False) -> dict[str, Any]:
    """Makes the arguments with which argparse reads values of a type.

    Args:
        kind: the type. If it may be None, the text `None` is read as that.
        ranges: whether whole numbers may be given as ranges too, such as 0-9.
    """
    optional = NoneType in get_args(kind)
    own = next(each for each in get_args(kind) if each is not NoneType) if optional else kind
    if own is bool:
        return {"action": argparse.BooleanOptionalAction}
    if ranges:
        return {"type": whole_numbers, "metavar": "N,N"}
    if get_origin(own) is tuple and get_args(own)[0] in (int, float):
        reader, metavar = _reader(get_args(own)[0])
        return {"type": _several(reader), "nargs": "?", "const": (), "metavar": f"{metavar},{metavar}"}
    if get_origin(own) is tuple:
        reader, metavar = _reader(get_args(own)[0])
        return {"type": reader, "nargs": "+", "metavar": metavar}
    reader, metavar = _reader(own)
    return {"type": _optional(reader) if optional else reader, "metavar": metavar}


def _several(reader: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(reader(part) for part in text.split(","))


def _with_commas(arguments: Sequence[str], records: Sequence[type]) -> list[str]:
    """Puts commas between the numbers that follow an option of several: `--resets 1 2` is `--resets 1,2`.

    Args:
        arguments: of a verb.
        records: the dataclasses whose fields are its options.
    """
    names = set()
    for record in records:
        for name, kind in get_type_hints(record).items():
            if get_origin(kind) is tuple and get_args(kind)[0] in (int, float):
                names.add(f"--{name.replace('_', '-')}")
    joined: list[str] = []
    several = False  # whether another number would belong to the option before
    for each in arguments:
        number_follows = several and re.fullmatch(r"\d[\d.,eE+_-]*", each) is not None
        if number_follows and joined[-1] not in names:
            joined[-1] += f",{each}"
            continue
        several = number_follows or each.split("=")[0] in names
        joined.append(each)
    return joined


def _reader(kind: Any) -> tuple[Callable[[str], Any], str]:
    """The function that reads one value of a type, and its placeholder in the help."""
    if get_origin(kind) is Literal:
        known = get_args(kind)
        return _one_of(known), f"{{{','.join(known)}}}"
    if kind not in _READERS:
        name = getattr(kind, "__name__", kind)
        raise UserError(
            f"no command line option can have the type {name}: give the hyperparameter the type bool, int, "
            "float, str, Path, a Literal of texts, or a tuple of one of them"
        )
    return _READERS[kind]


def _optional(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "None" else reader(text)


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            valid = ", ".join(map(repr, known))
            hint = nearest(text, known)
            raise argparse.ArgumentTypeError(f"{text!r} is unknown: {hint}choose from {valid}")
        return text

    return read


def add_trust(parser: Parser) -> None:
    """Adds the option that lets a run's own code be imported."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import the modules that the run names, though you have not trained with them here",
    )


# Readers raise ArgumentTypeError: argparse makes a message of it that names the option.
def whole_number(text: str) -> int:
    """Reads a whole number, which may be written as 1e6."""
    try:
        value = int(text)
    except ValueError:
        value = _whole(text)
    if not abs(value) < 2**63:
        raise argparse.ArgumentTypeError(f"{_short(text)} is too large: whole numbers must be below 2**63")
    return value


def _whole(text: str) -> int:
    with contextlib.suppress(ValueError, OverflowError):
        if (value := float(text)).is_integer():
            return int(value)
    raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number")


def positive(text: str, least: int = 1) -> int:
    """Reads a whole number of at least 1, or of another limit."""
    value = whole_number(text)
    if not least <= value < 2**31:
        wrong = f"{_short(text)} is not a whole number of at least {least} (below 2**31)"
        raise argparse.ArgumentTypeError(wrong)
    return value


def number(text: str) -> float:
    """Reads a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number") from None


def whole_numbers(text: str) -> tuple[int, ...]:
    """Reads whole numbers and ranges, separated by commas: 0,1,2 or 0-9."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            wrong = f"{_short(text)} is not a list of whole numbers, such as 0,1,2 or 0-9"
            raise argparse.ArgumentTypeError(wrong)
        if last - first >= MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"{_short(text)} is more than {MOST_SEEDS:,} numbers")
        found += range(first, last + 1)
    return tuple(found)


def path(text: str) -> Path:
    """Reads the name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no name of a file or folder: this folder is called .")
    return expanded(text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (whole_number, "N"),
    float: (number, "X"),
    str: (str, "TEXT"),
    Path: (path, "PATH"),
}
# By field: a second name, which the help leaves out.
_ALIASES = {"seeds": "--seed", "normalise_observations": "--normalize-observations"}


def _definition(kind: type) -> ast.stmt:
    """The definition of a class in its source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except SystemError:  # of Python 3.11, where another thread parses at the same time
        return ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]


def field_texts(kind: type) -> dict[str, str]:
    """The documentation of each field of a dataclass, inherited fields included: the string below it."""
    found = {}
    for each in reversed(kind.__mro__[:-1]):
        with contextlib.suppress(OSError):  # a class that was defined at a prompt has no source
            definition = _definition(each)
            for field, below in pairwise(getattr(definition, "body", [])):
                text = getattr(getattr(below, "value", None), "value", None)
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(text, str):
                    found[ast.unparse(field.target)] = " ".join(text.split())
    return found
