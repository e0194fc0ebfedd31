"""The export to numpy: weights, a description, and a program of one file that needs numpy alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting import interface, operations, readings
from crossq_wn.acting import policy as standalone
from crossq_wn.acting.operations import Network
from crossq_wn.acting.policy import Policy
from crossq_wn.export.contents import described_network, write_description
from crossq_wn.runs.checksums import checksum_of

# What exports are run by is what `load` runs: these files, each of which imports only those before it.
_FILES = (operations, interface, readings, standalone)


def program() -> str:
    """policy.py: the package's own files for acting, one after the other, as one that needs numpy alone."""
    bodies, usage = [], ""
    for module in _FILES:
        # A module's text is its docstring, between the first two triple quotes, and what follows.
        _, usage, body = Path(module.__file__ or "").read_text(encoding="utf-8").split('"""', 2)
        lines = body.splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("from crossq_wn.", "from __future__"))]
        bodies.append("".join(kept).strip())
    parts = [
        f'"""{usage}"""',
        "from __future__ import annotations",
        *bodies,
    ]  # the last file says how to use it
    return "\n\n".join(parts) + "\n"


def write(folder: Path, network: Network, description: dict[str, Any]) -> dict[str, Any]:
    """Writes weights.npz, policy.py and policy.json.

    Args:
        folder: exists.
        network: is written.
        description: what policy.json says of it.

    Returns:
        All that policy.json says.
    """
    described, arrays = described_network(network)
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    (folder / "weights.npz").write_bytes(packed.getvalue())
    (folder / "policy.py").write_text(program(), encoding="utf-8")
    sums = {name: checksum_of((folder / name).read_bytes()) for name in ("weights.npz", "policy.py")}
    whole = description | {"network": described, "sha256": sums}
    write_description(folder, whole)
    return whole


def act(folder: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Acts by what was written: actions in [-1, 1], and in the environment's units.

    Args:
        folder: of the export.
        rows: flat observations; stacked ones are given to the policy one after the other.
    """
    policy = Policy(folder)
    for newest in np.split(rows, policy.stack.frames, axis=-1):
        actions = policy.act(newest)
    return policy.choose(rows), actions
