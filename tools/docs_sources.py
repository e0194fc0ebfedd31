"""Where in the source an algorithm's statements and numbers are: by file and line, as its page shows them."""

import ast
import inspect
import io
import re
import sys
import tokenize
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from docs_tables import ROOT

from crossq_wn.algorithms import Recipe
from crossq_wn.algorithms.actor_critic import Parts, soft_actor_critic

SOURCE = ROOT / "src" / "crossq_wn"
# A numbered statement of a paper, as docstrings cite it.
_CITED = re.compile(r"\b(?:[Ee]quations?|[Ss]ections?|[Aa]lgorithm|[Aa]ppendix|[Tt]heorem) [\dA-Z][\d.]*\b")


class Place(NamedTuple):
    """A line of the source."""

    file: str  # below src/crossq_wn
    line: int
    comment: str = ""  # behind the code

    def __str__(self) -> str:
        return f"`{self.file}:{self.line}`"


class Statement(NamedTuple):
    """A function that an algorithm is made of."""

    name: str
    place: Place
    about: str  # the first paragraph of its docstring
    cites: str  # the numbered statements of papers that the docstring names


def statements(recipe: Recipe) -> list[Statement]:
    """The functions of an algorithm's own files, and what it uses elsewhere that a paper numbers."""
    home = recipe.make.__module__
    found = []
    for function in _used(recipe):
        about, _, more = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
        stated = re.split(r"^(?:Args|Raises):", f"{about}\n{more}", flags=re.MULTILINE)[0]
        cites = dict.fromkeys(_CITED.findall(stated))
        own = f"{function.__module__}.".startswith(f"{home}.") and not function.__name__.startswith("_")
        if about and (cites or own):
            place = Place(_file_of(function), function.__code__.co_firstlineno)
            found.append(Statement(function.__name__, place, " ".join(about.split()), ", ".join(cites)))
    return sorted(found, key=lambda each: (not each.place.file.startswith(_home_of(home)), each.place))


def _home_of(module: str) -> str:
    return "/".join(module.split(".")[1:])


def _used(recipe: Recipe) -> Iterator[Callable[..., Any]]:
    """Every function of the package that building an algorithm and running it names."""
    waiting: list[Any] = [recipe.make]
    if _returns(recipe.make) == Parts.__name__:
        waiting.append(soft_actor_critic)
    seen = set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        if function not in seen:
            seen.add(function)
            yield function
            waiting += _named_in(function)


def _returns(function: Callable[..., Any]) -> str:
    returned = function.__annotations__.get("return")
    return returned if isinstance(returned, str) else str(getattr(returned, "__name__", ""))


def _named_in(function: Any) -> list[Any]:
    """The functions of the package that a function's code names, those of modules that it names included."""
    found = []
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and value.__name__.startswith("crossq_wn."):
            found += [vars(value).get(each) for each in _names(function.__code__)]
        found.append(value)
    return [each for each in found if _is_ours(each)]


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _is_ours(value: Any) -> bool:
    inner = inspect.unwrap(value) if callable(value) else value
    return isinstance(inner, types.FunctionType) and inner.__module__.startswith("crossq_wn.")


def _file_of(thing: Any) -> str:
    return str(Path(inspect.getfile(thing)).relative_to(SOURCE))


def place_of_setting(recipe: Recipe, name: str) -> Place:
    """Where a setting of the preset `default` gets its value: in the algorithm's file, or from its type."""
    settings = recipe.presets["default"].settings
    value = getattr(settings, name)
    module = sys.modules[recipe.make.__module__]
    for line, given in _given(module, name):
        if given == value:
            return _place(_file_of(module), line)
    for kind in type(settings).__mro__:
        if name in vars(kind).get("__annotations__", {}):
            lines, first = inspect.getsourcelines(kind)
            for line, text in enumerate(lines, first):
                if re.match(rf"\s+{name}:", text):
                    return _place(_file_of(kind), line)
    raise LookupError(f"no line says what {name} is")


def _given(module: types.ModuleType, name: str) -> Iterator[tuple[int, Any]]:
    """The lines of a file that give a setting a value, by keyword or in a dictionary, and the values."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        given: list[tuple[Any, Any]] = []
        if isinstance(node, ast.keyword):
            given = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            given = [
                (getattr(key, "value", None), value)
                for key, value in zip(node.keys, node.values, strict=True)
            ]
        for key, value in given:
            if key == name:
                try:
                    yield value.lineno, eval(ast.unparse(value), dict(vars(module)))
                except NameError:  # of a function's arguments
                    continue


def place_of_preset(recipe: Recipe, preset: str) -> Place:
    """Where a preset is declared."""
    module = sys.modules[recipe.make.__module__]
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        [target] = node.targets
        if isinstance(target, ast.Name) and getattr(module, target.id) is recipe.presets:
            for key in node.value.keys:
                if getattr(key, "value", None) == preset:
                    return _place(_file_of(module), key.lineno)
    raise LookupError(f"no line declares the preset {preset}")


def _place(file: str, line: int) -> Place:
    return Place(file, line, _comments(SOURCE / file).get(line, ""))


@cache
def _comments(file: Path) -> dict[int, str]:
    """The comments behind a file's code, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            found[token.start[0]] = token.string.lstrip("# ")
    return found


class Origin(NamedTuple):
    """What PAPER.md says of an algorithm; nothing if it is the paper's own."""

    source: str = ""  # its paper
    differs: str = ""  # in what ours differs
    more: tuple[str, ...] = ()  # the paragraphs that name it


def origin(name: str) -> Origin:
    """What PAPER.md says of an algorithm: its row among the others, and the paragraphs below them."""
    text = (ROOT / "PAPER.md").read_text().partition("## The other algorithms")[2]
    more = tuple(each for each in text.split("\n\n") if each[:1] != "|" and f"`{name}`" in each)
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if len(cells) == 3 and f"`{name}`" in cells[0].split(", "):
            return Origin(cells[1], cells[2], more)
    return Origin()


def with_lines(text: str) -> str:
    """Adds its line to each name that a page gives with its file, as in `runs/config.py: RunConfig`.

    Raises:
        LookupError: there is no such file, or nothing of that name in it.
    """

    def numbered(match: re.Match[str]) -> str:
        file, names = match[1], match[2]
        lines = _defined(SOURCE / file)
        for name in names.split(", "):
            if name not in lines:
                raise LookupError(f"{file} has no {name}, which a page names")
        shown = [f"{name} ({lines[name]})" for name in names.split(", ")]
        return f"`{file}: {', '.join(shown)}`"

    return re.sub(r"`([\w/]+\.py): ([\w., ]+)`", numbered, text)


def _defined(file: Path) -> dict[str, int]:
    """The line of each function, class and constant of a file, and of each field as CLASS.FIELD."""
    if not file.exists():
        raise LookupError(f"there is no {file.relative_to(SOURCE)}")
    found = {}
    for node in ast.parse(file.read_text()).body:
        for name in _names_of(node):
            found[name] = node.lineno
            for inner in getattr(node, "body", []):
                found |= {f"{name}.{each}": inner.lineno for each in _names_of(inner)}
    return found


def _names_of(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
