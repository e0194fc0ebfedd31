"""The export to numpy: weights, a description, and a program of one file that needs numpy alone."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn.acting import policy as standalone
from crossq_wn.acting.policy import Network, Policy
from crossq_wn.export.contents import described_network
from crossq_wn.export.folder import write_description
from crossq_wn.runs.checksums import checksum_of

PROGRAM = Path(standalone.__file__)  # what exports are run by is what `load` runs


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
    shutil.copyfile(PROGRAM, folder / "policy.py")
    sums = {name: checksum_of((folder / name).read_bytes()) for name in ("weights.npz", "policy.py")}
    whole = description | {"network": described, "sha256": sums}
    write_description(folder, whole)
    return whole


def act(folder: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Acts by what was written: actions in [-1, 1], and in the environment's units."""
    policy = Policy(folder)
    return policy.choose(rows), policy.act(rows)
