"""The random streams that a process shares, `random` and `numpy.random`: environments may draw from them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def seed_shared(seed: int) -> None:
    """Restarts the shared streams from a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def capture_shared() -> dict[str, Any]:
    """The states of the shared streams, as JSON values."""
    version, numbers, normal = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    inner = {"key": state["state"]["key"].tolist(), "pos": int(state["state"]["pos"])}
    numpy = {"state": inner, "has_gauss": int(state["has_gauss"]), "gauss": float(state["gauss"])}
    return {"python": [version, list(numbers), normal], "numpy": numpy}


def restore_shared(saved: dict[str, Any]) -> None:
    """Restores the states that `capture_shared` returned."""
    version, numbers, normal = saved["python"]
    random.setstate((version, tuple(numbers), normal))
    state = saved["numpy"]
    inner = {"key": np.array(state["state"]["key"], np.uint32), "pos": state["state"]["pos"]}
    np.random.set_state({"bit_generator": "MT19937", **state, "state": inner})


@contextmanager
def kept_shared() -> Iterator[None]:
    """Restores the shared streams afterwards, whatever has drawn from them."""
    before = capture_shared()
    try:
        yield
    finally:
        restore_shared(before)
