"""Snapshots of MuJoCo, from which it continues bit for bit.

They hold the integration state, the fields of the model that have changed, and the derived arrays. Only
adapters import this file, because importing MuJoCo fixes its OpenGL backend.
"""

from typing import Any

import mujoco
import numpy as np

from crossq_wn.environments.snapshot import Snapshot

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# Fields by the beginnings of their names. Assets never change.
_ASSETS = ("mesh_", "tex_", "skin_", "bvh_", "oct_", "flex", "names", "paths", "text_")
# MuJoCo recomputes these before each use; between uses their memory may serve something else.
_ARENA = ("efc_", "contact", "tendon_efc", "island_", "map_", "dof_island", "tree_island", "iefc_", "iacc",
          "ifrc", "iM", "iLD")  # fmt: skip


class Physics:
    """Captures and restores one MuJoCo model and its data, derived quantities included.

    Tasks that move targets or resize geoms at reset change the model. Of the model a snapshot holds only the
    fields that differ from their values at the time when this object was made.

    Args:
        model: a `mujoco.MjModel`.
        data: its `mujoco.MjData`.
        substeps: steps of MuJoCo per environment frame.
    """

    def __init__(self, model: Any, data: Any, substeps: int = 1) -> None:
        self.model, self.data, self._substeps = model, data, substeps
        self._compiled = {name: value.copy() for name, value in _arrays(model, _ASSETS)}

    def advance(self, frames: int, generator: np.random.Generator) -> None:
        """Steps MuJoCo alone, which bounds the speed of every adapter from above.

        Args:
            frames: environment frames.
            generator: draws the controls, which stay the same in all these frames.
        """
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = low + (high - low) * generator.random(low.size)
        for _ in range(frames):
            mujoco.mj_step(self.model, self.data, self._substeps)

    def capture(self) -> Snapshot:
        """Copies the present physics."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        changed = {
            name: value.copy()
            for name, value in _arrays(self.model, _ASSETS)
            if not np.array_equal(value, self._compiled[name], equal_nan=value.dtype.kind == "f")
        }
        derived = {name: value.copy() for name, value in _arrays(self.data, _ARENA)}
        return {"state": state, "model": changed, "derived": derived}

    def restore(self, saved: Snapshot) -> None:
        """Puts captured physics back."""
        for name, value in _arrays(self.model, _ASSETS):
            value[...] = saved["model"].get(name, self._compiled[name])
        mujoco.mj_setState(self.model, self.data, saved["state"], _STATE)
        # A semi-implicit step starts from the contacts and constraints in the arena, which this computes.
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, saved["state"], _STATE)
        # Environments read derived quantities that lag one step behind the state, and forward renewed them.
        for name, value in _arrays(self.data, _ARENA):
            if name in saved["derived"]:
                value[...] = saved["derived"][name]


def _arrays(owner: Any, without: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """The writeable arrays of a model or its data, by name, but for those whose names begin so."""
    found = []
    for name in dir(owner):
        if name.startswith(("_", *without)):
            continue
        value = getattr(owner, name, None)
        if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            found.append((name, value))
    return found
