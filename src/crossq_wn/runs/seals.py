"""The checksum that config.json and a run's manifest.json hold of themselves, as their last entry.

It is that of the text before it, so that whoever lists thousands of runs verifies them without writing each
one again. Earlier versions took the checksum of the values, sorted by name, which still counts.
"""

import json
from collections.abc import Mapping
from typing import Any

from crossq_wn.runs.checksums import checksum_of

_SORTED = json.JSONEncoder(sort_keys=True)


def sealed(values: Mapping[str, Any]) -> str:
    """The text of a file: the values, of which there is at least one, and the checksum."""
    text = json.dumps(_without(values), indent=2).removesuffix("\n}")
    return text + _end(checksum_of(text.encode()))


def is_sound(values: Mapping[str, Any], content: bytes) -> bool:
    """Whether a file is as it was written.

    Args:
        values: what it holds.
        content: all of it, from which they were read.
    """
    checksum = values.get("sha256")
    # Editors and version control may end lines in their own way.
    content = content.replace(b"\r\n", b"\n").rstrip() + b"\n"
    before = content.removesuffix(_end(checksum).encode(errors="replace"))
    return checksum_of(before) == checksum or values == signed(values)


def signed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their checksum, as earlier versions made it."""
    body = _without(values)
    return body | {"sha256": checksum_of(_SORTED.encode(body).encode())}


def _without(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "sha256"}


def _end(checksum: Any) -> str:
    return f',\n  "sha256": "{checksum}"\n}}\n'
