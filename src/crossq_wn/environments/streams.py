"""The random streams that a process shares, from which environments may draw.

They are `random`, `numpy.random`, and the generators that an environment's classes and modules hold.
"""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.environments.snapshot import capture_generator, restore_generator

_held: dict[str, Any] = {}  # generators of classes and modules, by their places
_kept: list[dict[str, Any]] = []  # states that will be restored


def watch(environment: Any) -> None:
    """Counts the generators in the classes and modules of an environment among the shared streams.

    Args:
        environment: with its wrappers.
    """
    for owner in owners_of(environment):
        place = owner.__name__ if not isinstance(owner, type) else f"{owner.__module__}:{owner.__qualname__}"
        for name, value in list(vars(owner).items()):
            if isinstance(value, np.random.Generator | np.random.RandomState):
                _held[f"{place}.{name}"] = value
                for before in _kept:
                    before["held"].setdefault(f"{place}.{name}", _listed(capture_generator(value)))


def owners_of(environment: Any) -> list[Any]:
    """The classes and modules of an environment and its wrappers, apart from those of Gymnasium."""
    found: list[Any] = []
    inner = environment
    while inner is not None:
        for owner in type(inner).__mro__:
            module = sys.modules.get(owner.__module__)
            if owner is not object and not owner.__module__.startswith(("gymnasium.", "typing", "builtins")):
                found += [each for each in (owner, module) if each is not None and each not in found]
        inner = getattr(inner, "__dict__", {}).get("env")
    return found


def changes(environment: Any) -> Callable[[], list[str]]:
    """Remembers the numbers and arrays that an environment's classes and modules hold.

    Args:
        environment: with its wrappers.

    Returns:
        What lists those that have changed since, by their places.
    """
    owners = owners_of(environment)
    return partial(_changed, owners, _numbers(owners))


def _changed(owners: list[Any], before: dict[str, bytes]) -> list[str]:
    now = _numbers(owners)
    return [place for place, value in before.items() if now.get(place, value) != value]


def _numbers(owners: list[Any]) -> dict[str, bytes]:
    found = {}
    for owner in owners:
        for name, value in list(vars(owner).items()):
            if isinstance(value, int | float | np.number | np.ndarray):
                found[f"{owner.__name__}.{name}"] = np.asarray(value).tobytes()
    return found


def seed_shared(seed: int) -> None:
    """Restarts the shared streams from a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    for generator in _held.values():
        if isinstance(generator, np.random.RandomState):
            generator.seed(seed % 2**32)
        else:
            generator.bit_generator.state = type(generator.bit_generator)(seed).state


def capture_shared() -> dict[str, Any]:
    """The states of the shared streams, as JSON values."""
    version, numbers, normal = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    inner = {"key": state["state"]["key"].tolist(), "pos": int(state["state"]["pos"])}
    numpy = {"state": inner, "has_gauss": int(state["has_gauss"]), "gauss": float(state["gauss"])}
    held = {place: _listed(capture_generator(generator)) for place, generator in _held.items()}
    return {"python": [version, list(numbers), normal], "numpy": numpy, "held": held}


def restore_shared(saved: dict[str, Any]) -> None:
    """Restores the states that `capture_shared` returned."""
    version, numbers, normal = saved["python"]
    random.setstate((version, tuple(numbers), normal))
    state = saved["numpy"]
    inner = {"key": np.array(state["state"]["key"], np.uint32), "pos": state["state"]["pos"]}
    np.random.set_state({"bit_generator": "MT19937", **state, "state": inner})
    for place, own in saved.get("held", {}).items():  # which earlier versions lack
        if place in _held:
            restore_generator(_held[place], _as_arrays(own, capture_generator(_held[place])))


def _listed(state: Any) -> Any:
    """A generator's state as JSON values."""
    if isinstance(state, dict):
        return {name: _listed(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _as_arrays(saved: Any, like: Any) -> Any:
    """The inverse of `_listed`, with arrays of the types that another state of the generator has."""
    if isinstance(like, dict):
        return {name: _as_arrays(saved[name], value) for name, value in like.items()}
    return np.array(saved, like.dtype) if isinstance(like, np.ndarray) else saved


@contextmanager
def kept_shared() -> Iterator[None]:
    """Restores the shared streams afterwards, whatever has drawn from them."""
    before = capture_shared()
    _kept.append(before)
    try:
        yield
    finally:
        _kept[:] = [each for each in _kept if each is not before]
        restore_shared(before)
