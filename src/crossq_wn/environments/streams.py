"""The random streams that a process shares, from which environments may draw.

They are `random`, `numpy.random`, and generators that an environment's code may use (`reach`): attributes of
its classes, global variables, and what functions hold in closures and default values. The latter are known by
their places and looked up each time, because an environment may put another generator there.
"""

import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from crossq_wn.environments.holders import ABSENT, Holder, holders_of
from crossq_wn.environments.reach import generator_of, is_of_process, reach_of
from crossq_wn.environments.snapshot import (
    capture_generator,
    generator_like,
    has_spawned,
    restore_generator,
)

Made = TypeVar("Made")


class Held(NamedTuple):
    """A generator, and where it was found."""

    holder: Holder
    name: str
    value: Any  # the generator itself, or a method of it
    generator: Any


class _Kept:
    """What stands where generators are, and their states, to be put back."""

    def __init__(self) -> None:
        self.values: list[tuple[Holder, dict[str, Any]]] = []
        self.states: list[tuple[Held, Any]] = []

    def add(self, holders: list[Holder]) -> None:
        """Keeps what holders hold now, unless that is known."""
        known = {(id(held.holder.owner), held.name) for held, _ in self.states}
        for held in _generators(holders).values():
            if (id(held.holder.owner), held.name) not in known:
                self.states.append((held, _state_of(held.generator)))
        there = [holder for holder, _ in self.values]
        self.values += [(holder, dict(holder.values())) for holder in holders if holder not in there]

    def put_back(self) -> None:
        """Puts back what has been replaced since, or was made on first use."""
        for holder, before in reversed(self.values):  # what was kept first comes last
            now = dict(holder.values())
            for name in before.keys() | now.keys():
                old, new = before.get(name, ABSENT), now.get(name, ABSENT)
                if old is not new and (_can_be_kept(old) or _can_be_kept(new)):
                    holder.put(name, old)


_FRESH = 624  # numbers of a Mersenne twister's state that are used up; those of a new one count as used

_watched: dict[str, Holder] = {}  # by their places
_kept: list[_Kept] = []
_sown: list[int] = []  # the seeds of environments that are being made


def watch(root: Any) -> None:
    """Counts generators that an environment's code may use among the shared streams.

    Args:
        root: an environment with its wrappers, or a class or function that makes one.
    """
    new = []
    for holder in holders_of(root):
        before = _watched.get(holder.place)
        # Several environments may use different names of a module.
        _watched[holder.place] = holder if before is None else holder.with_names_of(before)
        if before is None or before != _watched[holder.place]:
            new.append(holder)
    for kept in _kept:
        kept.add(new)
    if _sown:
        _seed_all(_generators(new), _sown[-1])


def out_of_reach(environment: Any) -> list[str]:
    """The names of generators that an environment's code may use and that are neither seeded nor saved."""
    reached = {id(held.generator) for held in _generators([*_watched.values()]).values()}
    found = []
    for generator, name in reach_of(environment).generators:
        if id(generator) not in reached and not is_of_process(generator):
            found.append(name)
    return list(dict.fromkeys(found))


def _can_be_kept(value: Any) -> bool:
    """Whether a value is a generator that can be seeded again and saved, or a method of one."""
    generator = generator_of(value)
    if is_of_process(generator):
        return False  # its state is kept in any case
    if isinstance(generator, np.random.RandomState):
        kind = capture_generator(generator)["bit_generator"]
        return bool(kind == "MT19937")  # others cannot be seeded again
    if has_spawned(generator):
        return False
    # Subclasses of `random.Random`, such as `SystemRandom`, may have no state.
    return isinstance(generator, np.random.Generator) or type(generator) is random.Random


def _generators(holders: list[Holder]) -> dict[str, Held]:
    """The generators that are there now, by their places."""
    found = {}
    for holder in holders:
        for name, value in holder.values():
            if _can_be_kept(value):
                found[f"{holder.place}.{name}"] = Held(holder, name, value, generator_of(value))
    return found


def places() -> set[str]:
    """The places of the generators that are there now."""
    return set(_generators([*_watched.values()]))


def seed_shared(seed: int) -> None:
    """Restarts the shared streams from a seed, each with numbers of its own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    _seed_all(_generators([*_watched.values()]), seed)


def _seed_all(found: dict[str, Held], seed: int) -> None:
    for place, held in found.items():
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


def drawn_since(before: dict[str, Any]) -> bool:
    """Whether anything has drawn from the shared streams, which to seed them is not.

    Args:
        before: what `capture_shared` returned.
    """
    now = capture_shared()
    number, normal = now["python"][1][-1], now["python"][2]
    python = now["python"] != before["python"] and (number, normal) != (_FRESH, None)
    state = now["numpy"]
    numpy = state != before["numpy"] and (state["state"]["pos"], state["has_gauss"]) != (_FRESH, 0)
    return python or numpy or bool(now["held"] != before["held"])


def restore_shared(saved: dict[str, Any]) -> list[str]:
    """Restores the states that `capture_shared` returned.

    Returns:
        The places of generators of which it has no state, or that of another kind of generator.
    """
    _restore_process(saved)
    states = saved.get("held", {})  # which earlier versions lack
    lost = [place for place in sorted(states.keys() - places()) if not _made_again(place, states[place])]
    for place, held in _generators([*_watched.values()]).items():
        if place in states and _kind(states[place]) == _kind(_state_of(held.generator)):
            _set_state(held.generator, states[place])
        else:
            lost.append(place)
    return lost


def _made_again(place: str, state: Any) -> bool:
    """Makes a generator where an environment will make one on first use; whether that is possible."""
    before, _, name = place.rpartition(".")
    holder = _watched.get(before)
    generator = random.Random() if isinstance(state, list) else generator_like(state)
    if holder is None or generator is None or dict(holder.values()).get(name) is not None:
        return False
    holder.put(name, generator)
    return True


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
    watched = dict(_watched)
    with _restored() as kept:
        try:
            yield
        finally:
            kept.put_back()
            _watched.clear()  # environments that were made meanwhile are no longer used
            _watched.update(watched)


def made_from(seed: int, make: Callable[[], Made]) -> Made:
    """What a function makes with the shared streams seeded, which go on as before afterwards.

    Args:
        seed: of the streams.
        make: makes an environment.
    """
    with _restored():
        seed_shared(seed)
        _sown.append(seed)
        try:
            return make()
        finally:
            _sown.pop()


@contextmanager
def _restored() -> Iterator[_Kept]:
    """Restores the states of the shared streams afterwards."""
    process, kept = _capture_process(), _Kept()
    kept.add([*_watched.values()])
    _kept.append(kept)
    try:
        yield kept
    finally:
        _kept[:] = [each for each in _kept if each is not kept]
        _restore_process(process)
        for held, state in kept.states:
            _set_state(held.generator, state)
