"""A user's own modules: importing them, and what helps where a name, of a task too, leads nowhere."""

import importlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError, nearest, raised

_MOST = 5  # names that a message lists
_SLASH = re.compile(r"[/\\]")


def import_user_module(path: str, wanted: str) -> Any:
    """Imports a module of the user's, which may be in the current directory.

    Args:
        path: the module and a name in it, `module:name`.
        wanted: the purpose, in words for the error message.

    Raises:
        UserError: it cannot be imported.
    """
    name = path.partition(":")[0]
    # An installed command does not search the current directory, as `python` does.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        why = missing(path) if _is_missing(name, error) else raised(error)
    raise UserError(f"cannot import {name!r} for {wanted}: {why}")


def _is_missing(name: str, error: BaseException) -> bool:
    """Whether a module itself is not there, rather than one that it imports."""
    if _SLASH.search(name):
        return True
    lacking = error.name if isinstance(error, ModuleNotFoundError) else None
    return lacking is not None and f"{name}.".startswith(f"{lacking}.")


def missing(path: str) -> str:
    """What to do where there is no such module as that of `module:name`, in words that follow a colon."""
    module, _, name = path.partition(":")
    if module.endswith(".py") or _SLASH.search(module):
        return _file_named(Path(module), name)
    package, _, last = module.rpartition(".")
    hint = nearest(last, _modules_in(package) - {last})
    for folder in [] if hint or package else sorted(os.listdir()):
        if folder.isidentifier() and os.path.isfile(Path(folder, f"{last}.py")):
            return f"there is no such module here, but one in {folder}/: write {folder}.{last}:{name}"
    return (
        f"there is no such module here; {hint}run this in the folder of {last}.py, add that folder to "
        "PYTHONPATH, or install it"
    )


def _file_named(file: Path, name: str) -> str:
    """What to write instead of a file's path."""
    folder, stem = file.parent, file.name.removesuffix(".py")
    if not folder.is_absolute() and all(map(str.isidentifier, folder.parts)):  # below the current directory
        return f"write a module's name, not its file: {'.'.join((*folder.parts, stem))}:{name}"
    return f"write a module's name, not its file: {stem}:{name}, with {folder} in PYTHONPATH"


def _modules_in(package: str) -> set[str]:
    """The modules of a package, or of the current directory if it has no name."""
    parts = package.split(".") if package else []
    if not all(map(str.isidentifier, parts)):  # such as a file's name, with whatever it holds
        return set()
    there = Path(*parts).glob("*")
    return {each.stem for each in there if each.suffix == ".py" or (each / "__init__.py").exists()}


def lacks_name(module: str) -> str:
    """What a module or its file lacks where it is named alone, for a message; empty if it is not here."""
    file = Path(f"{module.removesuffix('.py')}.py")
    where = ".".join(file.with_suffix("").parts)
    return f"name the class or function in {file} too, as in {where}:Reach; " if os.path.isfile(file) else ""


def unknown_task(name: str, known: Iterable[str]) -> UserError:
    """The error for a task that no suite has, with a suggestion from the known names."""
    hint = lacks_name(name) or nearest(name, known) or "`crossq-wn list tasks` names them; "
    return UserError(
        f"unknown task {name!r}: {hint}a task is a short name such as dog-run or myo-key-turn-hard, "
        "a registered Gymnasium id, or module:factory"
    )


def found_in(module: Any, path: str, told: str) -> Any:
    """What a module has under a name, perhaps that of a class's attribute.

    Args:
        module: imported.
        path: `module:name`.
        told: what this is about, for the message.

    Raises:
        UserError: there is no such name; the message suggests others.
    """
    value, owner = module, path.partition(":")[0]
    for part in path.partition(":")[2].split("."):
        if not hasattr(value, part):
            instead = _names_instead(value, part, module.__name__)
            raise UserError(f"{told}: {owner!r} has no {part!r}; {instead}")
        value, owner = getattr(value, part), part
    return value


def _names_instead(owner: Any, wrong: str, module: str) -> str:
    """The name that is near, or those of the classes and functions that the module defines."""
    known = [name for name in dir(owner) if not name.startswith("_")]
    if hint := nearest(wrong, known):
        return hint.strip()
    own = [name for name in known if getattr(getattr(owner, name, None), "__module__", None) == module]
    return f"it has {', '.join(own[:_MOST])}" if own else "it defines no class or function"
