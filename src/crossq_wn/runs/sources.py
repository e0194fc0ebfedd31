"""Sources: data from elsewhere that a run learns from, as its configuration records them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file or folder of recorded transitions."""

    name: str  # the last part of its path, or the name of a Minari data set
    kind: str  # of `data.sources.KINDS`
    sha256: str  # of the contents
    rows: int  # of replay: one per transition, and one per end of an episode

    @property
    def label(self) -> str:
        """The source in words, which no other contents share."""
        return f"{self.name}@{self.sha256[:8]}"


def from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Source, ...]:
    """The sources that config.json names."""
    return tuple(Source(**each) for each in values)


def told(sources: Sequence[Source]) -> str:
    """Sources in words, for the label of a system."""
    return "+".join(source.label for source in sources)


def contents(sources: Sequence[Source]) -> str:
    """The contents of sources, as a protocol has them: by checksum, since names say nothing of them."""
    return " ".join(source.sha256[:16] for source in sources)  # config.json has the whole checksums


def in_protocol(sources: Sequence[Source], share: float | None) -> dict[str, Any]:
    """What sources add to a protocol: their contents, by checksum, and the share of minibatches.

    Args:
        sources: of a run.
        share: of each minibatch; None: they are the first rows of replay.
    """
    if not sources:  # protocols of earlier versions say nothing either
        return {}
    return {"prefill": contents(sources), "prefill_share": share}


NONE = {"prefill": "none", "prefill_share": None}  # of a protocol that says nothing of sources
