"""Which code a run may import.

A run may name modules: that of its task, `my_module:Reach`, those of its algorithm and of its networks.
Reading a run never imports them. Acting and training need them, and import only what this user has trained
with before or allows with `--trust`. What is remembered is the name and the file of its module, so a
stranger's module of the same name counts as another one.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.algorithms import own_networks
from crossq_wn.algorithms.settings import networks_of
from crossq_wn.algorithms.sources import without_checksum
from crossq_wn.errors import UserError, option
from crossq_wn.machine import data_folder
from crossq_wn.naming import name_of
from crossq_wn.own_modules import not_here
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.config import RunConfig


def remember(config: RunConfig) -> None:
    """Remembers that the user trains with the modules of a configuration, if there is a home directory."""
    networks = [without_checksum(name) for name in networks_of(config.settings).values()]
    for name in (config.task, config.system.algorithm, *networks):
        if ":" in name and (place := place_of(name)):
            with contextlib.suppress(OSError, UserError):  # UserError: of a user without a home
                entry = _entry(name, place)
                entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                files.write_atomically(entry, f"{name}\n{place}\n")


def require_algorithm(config: RunConfig, path: Path, *, trust: bool) -> None:
    """Checks that the modules of a run's algorithm and of its networks may be imported.

    Args:
        config: of the run.
        path: the run directory, for the message.
        trust: whether the user allows it.

    Raises:
        UserError: it may not.
    """
    name = config.system.algorithm
    if (
        name.rpartition(":")[0] not in sys.modules
    ):  # else its code has run already, and only that can be named
        _require("algorithm", name, path, trust)
    for setting, network in networks_of(config.settings).items():
        if not own_networks.is_given(network):
            _require(setting.replace("_", " "), without_checksum(network), path, trust)


def require_unchanged(config: RunConfig, path: Path) -> None:
    """Checks that the code of a run's networks is that of its training; imports their modules.

    Args:
        config: of the run.
        path: the run directory, for the message.

    Raises:
        UserError: it is not, or there is no such code.
    """
    for setting, network in networks_of(config.settings).items():
        now = own_networks.pinned(network, setting)
        if now != network:
            raise UserError(
                f"{path} was trained with the {setting.replace('_', ' ')} {network}, whose source has since "
                f"changed (it is {now}): put it back as it was, or train a new run"
            )


def require_task(config: RunConfig, path: Path, *, trust: bool, task: Callable[[], Any] | None) -> None:
    """Checks that the module of a run's task may be imported; raises like `require_algorithm`.

    Args:
        config: of the run.
        path: the run directory, for the message.
        trust: whether the user allows it.
        task: the environment's class or factory, if the user gave one.
    """
    # Of a task that is given, the module is imported only for the suites that it may register.
    if task is None or (name_of(task) != config.task and place_of(config.task) is not None):
        _require("task", config.task, path, trust)


def _require(what: str, name: str, path: Path, trust: bool) -> None:
    module = name.partition(":")[0]
    if trust or ":" not in name or module == "__main__":  # of a script, which is never imported
        return
    place = place_of(name)
    if place is None:
        raise UserError(f"cannot import {module!r} for the {what} {name!r} of {path}: {not_here(module)}")
    with contextlib.suppress(OSError, UserError):
        if _entry(name, place).is_file():
            return
    raise UserError(
        f"{path} names code for its {what}, {name!r} in {place}, with which you have not trained here: if "
        f"you trust whoever wrote it, add {option('trust', True)}"
    )


def place_of(name: str) -> str | None:
    """The file of the top module of `module:name`, without importing it; None if it is not found."""
    top = name.partition(":")[0].partition(".")[0]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if loaded is not None:
        return str(Path(loaded).resolve())
    importlib.invalidate_caches()
    try:
        spec = PathFinder.find_spec(top, [os.getcwd(), *sys.path]) or importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: no name of a module
        return None
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)  # of a folder of modules
    return None if place is None else str(Path(place).resolve())


def _entry(name: str, place: str) -> Path:
    return data_folder() / "trained-with" / checksum_of(f"{name}\n{place}".encode())[:32]
