"""The random streams that a process shares, from which environments may draw.

They are `random`, `numpy.random`, and generators that are attributes of an environment's classes, or global
variables that the methods of its classes use. The latter are known by their places and looked up each time,
because an environment may put another generator there.
"""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments.holders import Holder, holders_of
from crossq_wn.environments.snapshot import capture_generator, restore_generator

_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


class Held(NamedTuple):
    """A generator, and where it was found."""

    owner: Any
    name: str
    generator: Any


_watched: dict[str, Holder] = {}  # by their places
_kept: list[list[tuple[Held, Any]]] = []  # generators that will be put back, with their states


def watch(environment: Any) -> None:
    """Counts generators of an environment's classes and modules among the shared streams.

    Args:
        environment: with its wrappers.
    """
    found = holders_of(environment)
    for holder in found:
        before = _watched.get(holder.place)
        if before is not None and before.names and holder.names:  # a module of several environments
            holder = holder._replace(names=before.names | holder.names)
        _watched[holder.place] = holder
    for kept in _kept:
        known = {(id(held.owner), held.name) for held, _ in kept}
        for held in _generators(found).values():
            if (id(held.owner), held.name) not in known:
                kept.append((held, _state_of(held.generator)))


def out_of_reach(holders: list[Holder]) -> list[str]:
    """The names of what holds generators that are neither seeded nor saved, as in lists, tuples and dicts."""
    found = []
    for holder in holders:
        for name, value in holder.values():
            items = [*value.values()] if isinstance(value, dict) else value
            inside = items[:1000] if isinstance(items, list | tuple) else [value]
            if any(isinstance(each, _GENERATORS) for each in inside) and not _is_generator(value):
                found.append(f"{holder.owner.__name__}.{name}")
    return found


def _is_generator(value: Any) -> bool:
    """Whether a value is a random generator that can be seeded again and whose state can be saved."""
    if isinstance(value, np.random.RandomState):
        return bool(capture_generator(value)["bit_generator"] == "MT19937")  # others cannot be seeded again
    # Subclasses of `random.Random`, such as `SystemRandom`, may have no state.
    return isinstance(value, np.random.Generator) or type(value) is random.Random


def _generators(holders: list[Holder]) -> dict[str, Held]:
    """The generators that are there now, by their places."""
    found = {}
    for holder in holders:
        for name, value in holder.values():
            if _is_generator(value):
                found[f"{holder.place}.{name}"] = Held(holder.owner, name, value)
    return found


def seed_shared(seed: int) -> None:
    """Restarts the shared streams from a seed, each with numbers of its own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    for place, held in _generators([*_watched.values()]).items():
        _seed(held.generator, np.random.SeedSequence([seed, zlib.crc32(place.encode())]))


def _seed(generator: Any, sequence: np.random.SeedSequence) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(sequence).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(sequence.generate_state(8))
    else:
        generator.seed(sequence.generate_state(8).tobytes())


def capture_shared() -> dict[str, Any]:
    """The states of the shared streams, as JSON values."""
    held = {place: _state_of(held.generator) for place, held in _generators([*_watched.values()]).items()}
    return {**_capture_process(), "held": held}


def _capture_process() -> dict[str, Any]:
    """The states of `random` and `numpy.random`."""
    state: Any = np.random.get_state(legacy=False)
    inner = {"key": state["state"]["key"].tolist(), "pos": int(state["state"]["pos"])}
    numpy = {"state": inner, "has_gauss": int(state["has_gauss"]), "gauss": float(state["gauss"])}
    return {"python": _listed(random.getstate()), "numpy": numpy}


def restore_shared(saved: dict[str, Any]) -> list[str]:
    """Restores the states that `capture_shared` returned.

    Returns:
        The places of generators of which it has no state, or that of another kind of generator.
    """
    _restore_process(saved)
    lost = []
    states = saved.get("held", {})  # which earlier versions lack
    for place, held in _generators([*_watched.values()]).items():
        if place in states and _kind(states[place]) == _kind(_state_of(held.generator)):
            _set_state(held.generator, states[place])
        else:
            lost.append(place)
    return lost


def _restore_process(saved: dict[str, Any]) -> None:
    _set_state(random, saved["python"])
    state = saved["numpy"]
    inner = {"key": np.array(state["state"]["key"], np.uint32), "pos": state["state"]["pos"]}
    np.random.set_state({"bit_generator": "MT19937", **state, "state": inner})


def _state_of(generator: Any) -> Any:
    """A generator's state as JSON values."""
    return _listed(generator.getstate() if type(generator) is random.Random else capture_generator(generator))


def _set_state(generator: Any, state: Any) -> None:
    """The inverse of `_state_of`; `generator` may also be the module `random`."""
    if isinstance(state, list):
        version, numbers, normal = state
        generator.setstate((version, tuple(numbers), normal))
    else:
        restore_generator(generator, _as_arrays(state, capture_generator(generator)))


def _kind(state: Any) -> tuple[Any, ...]:
    """What states of generators of one kind have in common."""
    if not isinstance(state, dict):
        return (type(state),)
    return (state.get("bit_generator"), *sorted(state))


def _listed(state: Any) -> Any:
    """A state with lists in place of arrays and tuples."""
    if isinstance(state, dict):
        return {name: _listed(value) for name, value in state.items()}
    if isinstance(state, tuple):
        return [_listed(value) for value in state]
    return state.tolist() if isinstance(state, np.ndarray) else state


def _as_arrays(saved: Any, like: Any) -> Any:
    """The inverse of `_listed`, with arrays of the types that another state of the generator has."""
    if isinstance(like, dict):
        return {name: _as_arrays(saved[name], value) for name, value in like.items()}
    return np.array(saved, like.dtype) if isinstance(like, np.ndarray) else saved


@contextmanager
def kept_shared() -> Iterator[None]:
    """Restores the shared streams afterwards, whatever has drawn from them or replaced them."""
    process, watched = _capture_process(), dict(_watched)
    held = [(each, _state_of(each.generator)) for each in _generators([*watched.values()]).values()]
    _kept.append(held)
    try:
        yield
    finally:
        _kept[:] = [each for each in _kept if each is not held]
        if not _kept:  # environments that were made meanwhile are no longer used
            _watched.clear()
            _watched.update(watched)
        _restore_process(process)
        for (owner, name, generator), state in held:
            if vars(owner).get(name) is not generator:
                setattr(owner, name, generator)
            _set_state(generator, state)
