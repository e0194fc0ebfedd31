"""Checksums of a user's functions, which tell whether the code behind a name is still the same."""

import ast
import functools
import hashlib
import inspect
import re
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_DIGITS = 8  # enough to tell versions of one function apart
_VALUES = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict)

Statements = Callable[[str], Iterable[ast.stmt]]  # a name of a module's top level -> what binds it

# Modules' sources as they were when a function was first asked about, because files change under running
# code. The key has an object's id; the object is kept, so that no other one gets that id.
_read: dict[tuple[str, int], tuple[Any, str]] = {}


def checksum_of_source(function: Any, name: str | None = None) -> str | None:
    """A checksum of what a function is defined by in its own module.

    It covers the definition itself, what that uses from the top level of its module, and so on; likewise the
    functions that a `functools.partial` or a closure holds. Comments, docstrings and layout do not count;
    what is of other modules counts by its name, not by its contents. It is that of the source which the
    function was loaded from, even if the file has changed since its first checksum.

    Args:
        function: a function, a class, a `functools.partial` of one, or an object that can be called.
        name: as which a module has it, `module:name`, if one has it: what binds that name counts too.

    Returns:
        8 hexadecimal digits; None if there is no source, as for what was typed into Python's prompt.
    """
    module, _, attribute = (name or "").partition(":")
    parts = _parts(function)
    homes = {parts[0].__module__, module, "__main__"}
    texts = _texts(module, attribute, function) if module else set()
    unread = set()  # names of what has no source here
    for part in parts:
        found = _texts(part.__module__, part.__qualname__, part) if part.__module__ in homes else set()
        texts |= found
        if not found:
            unread.add(f"{part.__module__}:{part.__qualname__}")
    if not texts:
        return None
    return hashlib.sha256("\n".join(sorted(texts | unread)).encode()).hexdigest()[:_DIGITS]


def without_checksum(name: str) -> str:
    """A function's name without the checksum of its source, if it has one."""
    return re.sub(rf"@[0-9a-f]{{{_DIGITS}}}$", "", name)


def _parts(function: Any) -> list[Any]:
    """The functions and classes that a callable consists of, its own one first."""
    waiting, seen = [function], list[Any]()
    while waiting:
        each = waiting.pop(0)
        if any(each is known for known in seen):
            continue
        seen.append(each)
        if isinstance(each, functools.partial):
            waiting += [each.func, *_callables([*each.args, *each.keywords.values()])]
        elif _has_name(each):
            waiting += _callables(_closure(each))
        else:  # an object that can be called
            waiting.append(type(each))
    return list(filter(_has_name, seen))


def _has_name(value: Any) -> bool:
    names = ("__module__", "__qualname__")
    # Not `hasattr`, because a user's object may have a `__getattr__` of any kind.
    return all(inspect.getattr_static(value, name, None) is not None for name in names)


def _closure(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            continue


def _callables(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if callable(value):
            yield value
        elif isinstance(value, list | tuple):
            yield from _callables(value)
        elif isinstance(value, dict):
            yield from _callables(value.values())


def _texts(module: str, name: str, owner: Any) -> set[str]:
    """The statements, as texts, that a name depends on; none if there is no source.

    Args:
        module: whose top level has the name.
        name: what stands before its first dot counts.
        owner: the object that has the name.
    """
    name = name.partition(".")[0]
    try:
        source = _source(module, owner)
        statements: Statements = functools.partial(_bound_in, _by_name(ast.parse(source)))
    except (OSError, TypeError, KeyError, SyntaxError):  # TypeError: of what is no file
        statements = functools.partial(_bound_in_notebook, module, owner)
    return _used(name, statements)


def _source(module: str, owner: Any) -> str:
    """The source that a module's code came from, as it was when the owner of some of it was first seen."""
    loaded = sys.modules[module]
    spec = getattr(loaded, "__spec__", None) or loaded  # each reload makes another one
    if (module, id(spec)) not in _read:
        _read[module, id(spec)] = spec, inspect.getsource(loaded)
    return _read.setdefault((module, id(owner)), (owner, _read[module, id(spec)][1]))[1]


def _by_name(module: ast.Module) -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}
    for statement in module.body:
        for name, part in _bound(statement):
            found.setdefault(name, []).append(part)
    return found


def _bound_in(statements: dict[str, list[ast.stmt]], name: str) -> Iterable[ast.stmt]:
    return statements.get(name, ())


def _bound_in_notebook(module: str, owner: Any, name: str) -> Iterable[ast.stmt]:
    """What binds a name in a module without a file, as far as its present value tells."""
    namespace = getattr(owner, "__globals__", None) or getattr(sys.modules.get(module), "__dict__", {})
    value: Any = owner if name == getattr(owner, "__qualname__", None) else namespace.get(name)
    try:
        if isinstance(value, types.ModuleType):
            return ast.parse(f"import {value.__name__} as {name}").body
        if _has_name(value) and value.__module__ != module:
            return ast.parse(f"from {value.__module__} import {value.__qualname__} as {name}").body
        if _has_name(value):
            return ast.parse(textwrap.dedent(inspect.getsource(value))).body
        if name in namespace and isinstance(value, _VALUES):
            return ast.parse(f"{name} = {value!r}").body
    except (OSError, TypeError, SyntaxError):  # SyntaxError: of <something at 0x7f30>
        pass
    return ()


def _bound(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a statement binds, each with the part that binds it."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:  # one by one, because others may come and go
            alone = type(statement)(**dict(ast.iter_fields(statement)) | {"names": [alias]})
            yield alias.asname or alias.name.partition(".")[0], alone
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name, statement
    else:  # an assignment, or a block that holds some
        for symbol in _table(statement).get_symbols():
            if symbol.is_assigned() or symbol.is_imported():
                yield symbol.get_name(), statement


def _used(name: str, statements: Statements) -> set[str]:
    """The statements, as texts, that a name depends on."""
    waiting, seen, texts = [name], {name}, set()
    while waiting:
        for statement in statements(waiting.pop()):
            texts.add(_plain(statement))
            new = _globals_of(_table(statement)) - seen
            seen |= new
            waiting += new
    return texts


def _table(statement: ast.stmt) -> symtable.SymbolTable:
    return symtable.symtable(ast.unparse(statement), "source", "exec")


def _globals_of(table: symtable.SymbolTable) -> set[str]:
    """The names that code takes from its module's top level: not its parameters and local variables."""
    top = table.get_type() == "module"
    names = set()
    for symbol in table.get_symbols():
        if symbol.is_referenced() if top else symbol.is_global():
            names.add(symbol.get_name())
    return names.union(*map(_globals_of, table.get_children()))


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
