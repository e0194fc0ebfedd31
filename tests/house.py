"""Measures the source: lines, functions, comprehensions, comments and branches.

python tests/house.py [FOLDER ...]
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "crossq_wn"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.Assert,
    ast.match_case,
)


class Measures(NamedTuple):
    """What one file measures."""

    lines: int
    functions: list[tuple[str, int, int]]  # name, lines, cyclomatic complexity
    comprehensions: int
    nested: int  # comprehensions inside another one
    comments: int
    documented: int  # public functions and classes with an Args section
    public: int


@cache
def sources(folder: Path = PACKAGE) -> list[Path]:
    """Every Python file of a folder."""
    return sorted(folder.rglob("*.py"))


@cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text())


@cache
def measure(file: Path) -> Measures:
    """Measures one file."""
    text, tree = file.read_text(), parsed(file)
    functions, comprehensions, nested, documented, public = [], 0, 0, 0, 0
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            functions.append((f"{file.stem}.{node.name}", _length(node), complexity(node)))
            if not node.name.startswith("_"):
                public += 1
                documented += "Args:" in (ast.get_docstring(node) or "")
        if isinstance(node, COMPREHENSIONS):
            comprehensions += 1
            nested += any(isinstance(inner, COMPREHENSIONS) for inner in _inside(node))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = sum(token.type == tokenize.COMMENT for token in tokens)
    return Measures(len(text.splitlines()), functions, comprehensions, nested, comments, documented, public)


def complexity(function: ast.AST) -> int:
    """McCabe's cyclomatic complexity, without that of functions defined inside."""
    total = 1
    for node in _own(function):
        total += isinstance(node, BRANCHES)
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return total


def _own(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield child
            yield from _own(child)


def _inside(node: ast.AST) -> Iterable[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield from ast.walk(child)


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def report(folder: Path) -> str:
    """The measures of a folder as text."""
    found = {file: measure(file) for file in sources(folder)}
    functions = sorted((f for each in found.values() for f in each.functions), key=lambda f: f[1])
    lengths = [length for _, length, _ in functions]
    count, long = len(lengths), sum(length > 45 for length in lengths)
    hard = sorted((f for f in functions if f[2] > 10), key=lambda f: -f[2])
    largest = sorted(found, key=lambda file: -found[file].lines)[:5]

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in found.values())

    lines = total("lines")
    return f"""{folder}: {len(found)} files, {lines:,} lines
functions: {count}, median {lengths[count // 2]} lines, p99 {lengths[count * 99 // 100]}, \
longest {lengths[-1]}, above 45 lines {long} ({long / count:.1%})
comprehensions per 1,000 lines: {1000 * total("comprehensions") / lines:.1f}, \
nested {1000 * total("nested") / lines:.1f}
comments per 100 lines: {100 * total("comments") / lines:.1f}
public functions with Args: {total("documented")} of {total("public")}
complexity above 10: {len(hard)}: {", ".join(f"{name} {value}" for name, _, value in hard)}
largest files: {", ".join(f"{file.name} {found[file].lines}" for file in largest)}"""


if __name__ == "__main__":
    for name in sys.argv[1:] or [PACKAGE]:
        print(report(Path(name)))
