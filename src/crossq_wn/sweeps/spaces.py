"""The table [search] of a sweep's file: what a search may choose from, and how long it looks.

[search]
trials = 40                      # proposals in all
keep = 3                         # of as many trials, one is trained further at each stage; 1: all to the end
seed = 0                         # of the proposer
[search.space]
learning_rate = {low = 1e-5, high = 1e-2, log = true}
batch_size = {low = 64, high = 512, step = 64}
utd = [1, 2, 5]
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossq_wn.errors import UserError, nearest
from crossq_wn.runs.config import RunConfig

_KEYS = ("trials", "keep", "seed", "space")
_RANGE = ("low", "high", "log", "step")
_LIMITS = {"trials": (1, 10_000), "keep": (1, 100), "seed": (0, 2**32 - 1)}  # least and most


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole if both are."""

    low: float
    high: float
    log: bool = False  # whether factors count and not differences
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether all that may be proposed is whole."""
        return all(isinstance(each, int) for each in (self.low, self.high, self.step or 1))

    @property
    def between(self) -> float:
        """A number that may be proposed between the ends."""
        return self.low + (0.618 * (self.high - self.low) if self.step is None else self.step)


@dataclass(frozen=True)
class Space:
    """What a search may choose from."""

    options: Mapping[str, Range | tuple[Any, ...]]  # by name; a range, or values one by one
    trials: int
    keep: int = 3
    seed: int = 0


def toml(value: Any) -> str:
    """A value as a sweep's file writes it."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(each)}' for key, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def read_space(values: Any, name: str) -> Space:
    """Reads the table [search].

    Args:
        values: the table, as TOML has it.
        name: of the sweep's file, for messages.

    Raises:
        UserError: it is not as it should be.
    """
    where = f"{name}: search"
    space = values.get("space") if isinstance(values, dict) else None
    if not isinstance(space, dict) or not space:
        raise UserError(f"{where} lacks [search.space]: give each option a list or {{low = ..., high = ...}}")
    _check(values, _KEYS, where)
    options: dict[str, Range | tuple[Any, ...]] = {}
    for key, choice in space.items():
        option = key.replace("-", "_")
        if option in options or option in ("seed", "seeds", "task", "frames"):
            raise UserError(f"{where}.space: {key} cannot be searched, or is there twice")
        options[option] = _choice(choice, f"{where}.space.{key}")
    return Space(options, **_counts(values, where))


def require_comparison(first: RunConfig) -> None:
    """Raises UserError if trials would be compared before they have learned anything.

    Args:
        first: a trial, to the end of its first stage.
    """
    if not first.learns:
        raise UserError(
            f"a search first compares trials at {first.options.frames:,} frames, where the warm-up of "
            f"{first.settings.warmup:,} agent decisions is not over: raise frames, shorten warmup, or set "
            "search.keep to 1"
        )


def _counts(values: Mapping[str, Any], where: str) -> dict[str, int]:
    """The whole numbers of the table."""
    found: dict[str, int] = {}
    for key, (least, most) in _LIMITS.items():
        if key not in values and key != "trials":
            continue
        value = values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UserError(f"{where}.{key} is {toml(value)}: give a whole number from {least} to {most:,}")
        found[key] = value
    return found


def _choice(value: Any, where: str) -> Range | tuple[Any, ...]:
    if isinstance(value, list) and value and not any(isinstance(each, list | dict) for each in value):
        return tuple(value)
    if not isinstance(value, dict):
        raise UserError(f"{where} is {toml(value)}: give a list of values, or {{low = 1e-5, high = 1e-2}}")
    return _range(value, where)


def _range(value: Mapping[str, Any], where: str) -> Range:
    _check(value, _RANGE, where)
    numbers = [value.get(key) for key in ("low", "high")] + [value.get("step", 1)]
    if not all(map(_is_number, numbers)) or not isinstance(value.get("log", False), bool):
        raise UserError(f"{where} is {toml(value)}: low, high and step are numbers, and log is true or false")
    found = Range(**value)
    if not found.low < found.high or (found.step is not None and found.step <= 0):
        raise UserError(f"{where}: low is {found.low}, high is {found.high}: low is less, and step positive")
    if found.log and (found.low <= 0 or found.step is not None):
        raise UserError(f"{where}: with log, low is above 0 and there is no step")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}: {nearest(key, known)}keys are {', '.join(known)}")
