"""Checksums of a user's functions, which tell whether the code behind a name is still the same."""

import ast
import functools
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

_DIGITS = 8  # enough to tell versions of one function apart

Statements = Mapping[str, list[ast.stmt]]  # of a module's top level, by the names that they bind


def checksum_of_source(function: Any) -> str | None:
    """A checksum of what a function is defined by in its own module.

    It covers the definition itself, what that uses from the top level of its module, and so on. Comments,
    docstrings and layout do not count; what is imported counts by its name, not by its contents.

    Args:
        function: a function, a class, or a `functools.partial` of one.

    Returns:
        8 hexadecimal digits; None if there is no source, as for what was typed into Python's prompt.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):  # an object that can be called
        function = type(function)
    name = function.__qualname__.partition(".")[0]
    try:
        statements = _statements(ast.parse(_source(function)))
    except (OSError, TypeError, SyntaxError):  # TypeError: of what is no file
        return None
    used = "\n".join(sorted(_used(name, statements)))
    return hashlib.sha256(used.encode()).hexdigest()[:_DIGITS] if used else None


def _source(function: Any) -> str:
    """The source of a function's module or, in a notebook, of the function alone."""
    try:
        return inspect.getsource(sys.modules[function.__module__])
    except (OSError, TypeError, KeyError):
        return textwrap.dedent(inspect.getsource(function))


def _statements(module: ast.Module) -> Statements:
    found: dict[str, list[ast.stmt]] = {}
    for statement in module.body:
        for name, part in _bound(statement):
            found.setdefault(name, []).append(part)
    return found


def _bound(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a statement binds, each with the part that binds it."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:  # one by one, because others may come and go
            alone = type(statement)(**dict(ast.iter_fields(statement)) | {"names": [alias]})
            yield alias.asname or alias.name.partition(".")[0], alone
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name, statement
    else:  # an assignment, or a block that holds some
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, statement
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name, statement


def _used(name: str, statements: Statements) -> set[str]:
    """The statements, as texts, that a name depends on."""
    waiting, seen, texts = [name], {name}, set()
    while waiting:
        for statement in statements.get(waiting.pop(), ()):
            texts.add(_plain(statement))
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and node.id not in seen:
                    seen.add(node.id)
                    waiting.append(node.id)
    return texts


def _plain(node: Any) -> str:
    """A syntax tree as text, the same for every version of Python: what is empty is left out."""
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(node, ast.FunctionDef | ast.ClassDef) and _says(value[0]):
            value = value[1:]
        if value is not None and value != []:
            parts.append(f"{field}={_plain(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _says(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant and isinstance(statement.value.value, str)  # type: ignore[attr-defined]
