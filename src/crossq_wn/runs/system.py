"""Systems: the units that tables and figures compare."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class System:
    """An algorithm with its preset and the settings that differ from the preset.

    It is stored as a record. Its label is only for people; no program reads a label back.
    """

    algorithm: str  # a name from the table of algorithms, `module:name` for a user's own, or a published name
    utd: int | None = None  # gradient updates per agent decision; None: unknown
    preset: str = "default"
    # Settings other than utd that differ from the preset's; versions list them in different orders.
    changes: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    note: str = ""  # distinguishes it from the systems beside it, such as "reference"; never stored
    _changed: frozenset[tuple[str, Any]] = field(init=False, repr=False)  # the changes, in no order

    def __post_init__(self) -> None:
        object.__setattr__(self, "_changed", frozenset(self.changes))

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "System":
        """The system that `to_json` wrote."""
        changes = tuple((name, _hashable(value)) for name, value in values["changes"].items())
        return System(values["algorithm"], values["utd"], values["preset"], changes)

    def to_json(self) -> dict[str, Any]:
        """The system as plain JSON values."""
        return {
            "algorithm": self.algorithm,
            "preset": self.preset,
            "utd": self.utd,
            "changes": dict(self.changes),
        }

    @property
    def label(self) -> str:
        """The system in words, such as `crossq-wn UTD 5 (weight_norm=none)`, without a user's module."""
        own = self.algorithm.rpartition(":")[2]  # `module:name` without the module
        name = own if self.preset == "default" else f"{own} {self.preset}"
        rate = "" if self.utd is None else f" UTD {self.utd}"
        changed = ", ".join(f"{name}={value}" for name, value in self.changes)
        asides = "".join(f" ({aside})" for aside in (changed, self.note) if aside)
        return f"{name}{rate}{asides}"

    def begins(self, words: str) -> bool:
        """Whether the label begins with some words.

        Args:
            words: all or the first words of it, separated by spaces.
        """
        return f"{self.label} ".startswith(f"{words} ")

    @property
    def family(self) -> "System":
        """The system at any UTD ratio."""
        return replace(self, utd=None)

    def without(self, shared: frozenset[tuple[str, Any]]) -> "System":
        """The system without some of its changes.

        Args:
            shared: those that all systems beside it have, too, as names with values.
        """
        return replace(self, changes=tuple(change for change in self.changes if change not in shared))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
