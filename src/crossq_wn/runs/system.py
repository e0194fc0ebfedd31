"""What is being compared: an algorithm with its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class System:
    """An algorithm and what leaves its preset; the noun that runs, tables and figures compare.

    It is stored as a record and put in words as late as possible: nothing reads a label back.
    """

    algorithm: str  # its name in the table of algorithms, as `module:name` if it is a user's, or as published
    utd: int | None = None  # gradient updates per agent decision; None: not known
    preset: str = "default"
    changes: tuple[tuple[str, Any], ...] = ()  # settings other than utd that leave the preset's
    note: str = ""  # what sets it apart beside others, such as "reference"; never stored

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "System":
        """The inverse of `to_json`."""
        changes = tuple((name, _hashable(value)) for name, value in values["changes"].items())
        return System(values["algorithm"], values["utd"], values["preset"], changes)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "algorithm": self.algorithm,
            "preset": self.preset,
            "utd": self.utd,
            "changes": dict(self.changes),
        }

    @property
    def label(self) -> str:
        """In words, such as `crossq-wn UTD 5 (weight_norm=none)`."""
        own = self.algorithm.rpartition(":")[2]
        name = own if self.preset == "default" else f"{own} {self.preset}"
        rate = "" if self.utd is None else f" UTD {self.utd}"
        changed = ", ".join(f"{name}={value}" for name, value in self.changes)
        asides = "".join(f" ({aside})" for aside in (changed, self.note) if aside)
        return f"{name}{rate}{asides}"

    @property
    def family(self) -> "System":
        """The system at any UTD ratio."""
        return replace(self, utd=None)

    def without(self, shared: frozenset[tuple[str, Any]]) -> "System":
        """The system without the changes that all systems share."""
        return replace(self, changes=tuple(change for change in self.changes if change not in shared))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
