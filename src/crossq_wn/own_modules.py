"""A user's own modules: importing them, and what helps where a name, of a task too, leads nowhere."""

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError, nearest, raised

_MOST = 5  # names that a message lists
_SLASH = re.compile(r"[/\\]")
_SCRIPTS = ("__main__", "__mp_main__")  # the program that runs, the latter in a process of multiprocessing
_importing: list[str] = []  # modules of the user's that are just being imported


def import_user_module(path: str, wanted: str) -> Any:
    """Imports a module of the user's, which may be in the current directory.

    Args:
        path: the module and a name in it, `module:name`.
        wanted: the purpose, in words for the error message.

    Raises:
        UserError: it cannot be imported.
    """
    name = path.partition(":")[0]
    if name == _name_of_program():
        return sys.modules["__main__"]  # to import it would run it again
    # An installed command does not search the current directory, as `python` does.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    _importing.append(name)
    try:
        return importlib.import_module(name)
    except UserError as error:
        why = str(error)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        why = missing(path) if _is_missing(name, error) else raised(error)
    finally:
        _importing.pop()
    raise UserError(f"cannot import {name!r} for {wanted}: {why}")


def refuse_while_importing(call: str) -> None:
    """Raises UserError if the module of a task is being imported, which must not train again.

    Args:
        call: what would, as the user wrote it.
    """
    if _importing:
        raise UserError(
            f"to import it calls {call}, which would train again: put whatever {_importing[-1]} does, except "
            'for its definitions, under `if __name__ == "__main__":`'
        )


def home_of(value: Any) -> str:
    """The name of a class's or function's module; of a script, the one under which it can be imported."""
    module, place = str(value.__module__), str(getattr(value, "__qualname__", type(value).__qualname__))
    # Profilers and the like run scripts in a module that is not the one of this name.
    if module not in _SCRIPTS or not hasattr(sys.modules.get("__main__"), place.partition(".")[0]):
        return module
    return _name_of_program() or module


def _name_of_program() -> str | None:
    """The module's name of the program that runs; None if it cannot be imported, as what is typed in."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # of `python -m`
        return str(spec.name)
    return None if file is None else _name_of_script(file)


@functools.cache  # because a program may go to another folder
def _name_of_script(file: str) -> str | None:
    stem = Path(file).stem
    loaded = sys.modules.get(stem)
    spec = PathFinder.find_spec(stem, [os.getcwd(), *sys.path]) if loaded is None else loaded.__spec__
    origin = None if spec is None or stem in _SCRIPTS else spec.origin
    return stem if origin is not None and Path(origin).resolve() == Path(file).resolve() else None


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
    return f"there is no such module here; {hint}{_elsewhere(last)}"


def not_here(module: str) -> str:
    """What to do where the module that a run names is not there, in words that follow a colon."""
    return f"there is no such module here; {_elsewhere(module.rpartition('.')[2])}"


def _elsewhere(last: str) -> str:
    return f"run this in the folder of {last}.py, add that folder to PYTHONPATH, or install it"


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
