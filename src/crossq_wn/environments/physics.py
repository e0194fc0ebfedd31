"""Snapshots of MuJoCo, from which a simulation continues bit for bit.

They hold the integration state, the changed fields of the model, and the derived arrays. Only adapters import
this file, because importing MuJoCo fixes its OpenGL backend.
"""

import re
from typing import Any

import mujoco
import numpy as np

from crossq_wn.environments.snapshot import Snapshot

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# Prefixes of field names. Assets never change.
_ASSETS = ("mesh_", "tex_", "skin_", "bvh_", "oct_", "flex", "names", "paths", "text_")
# MuJoCo recomputes these before each use, and uses their memory for other things in between.
_ARENA = ("efc_", "contact", "tendon_efc", "island_", "map_", "dof_island", "tree_island", "iefc_", "iacc",
          "ifrc", "iM", "iLD")  # fmt: skip
# Integer fields of the model that a task may change; the others tell MuJoCo where things are in memory.
_HARMLESS = re.compile(r"(group|contype|conaffinity|limited|priority|active|castshadow|gravcomp)$")

# Values that lead nowhere in other integer fields: shapes without assets, dimensions of contacts.
_VALUES = {"geom_type": (2, 3, 4, 5, 6), "geom_condim": (1, 3, 4, 6)}


class Physics:
    """Captures and restores one MuJoCo model and its data, derived quantities included.

    Tasks that move targets or resize geoms on reset change the model. A snapshot holds those fields of the
    model that differ from their values when this object was made.

    Args:
        model: a `mujoco.MjModel`.
        data: its `mujoco.MjData`.
        substeps: steps of MuJoCo per environment frame.
        constant: whether the model never changes, so that environments may share it.
    """

    def __init__(self, model: Any, data: Any, substeps: int = 1, *, constant: bool = False) -> None:
        self.model, self.data, self._substeps, self._constant = model, data, substeps, constant
        self._compiled = {name: value.copy() for name, value in _arrays(model, _ASSETS)}

    @property
    def seconds(self) -> float:
        """Simulated seconds per environment frame."""
        return float(self.model.opt.timestep) * self._substeps

    def advance(self, frames: int, generator: np.random.Generator) -> None:
        """Steps MuJoCo alone, which is an upper bound on the speed of any adapter.

        Args:
            frames: environment frames.
            generator: draws the controls, which stay the same for all these frames.
        """
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = low + (high - low) * generator.random(low.size)
        for _ in range(frames):
            mujoco.mj_step(self.model, self.data, self._substeps)

    def capture(self) -> Snapshot:
        """Copies the current physics."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        changed = {
            name: value.copy()
            for name, value in _arrays(self.model, _ASSETS)
            # `equal_nan` is only defined for floats.
            if not np.array_equal(value, self._compiled[name], equal_nan=value.dtype.kind == "f")
        }
        derived = {name: value.copy() for name, value in _arrays(self.data, _ARENA)}
        return {"state": state, "model": changed, "derived": derived}

    def restore(self, saved: Snapshot) -> None:
        """Restores captured physics; raises ValueError if it cannot be that of this model."""
        if self._constant and saved["model"]:
            raise ValueError(f"its model never changes, and {', '.join(saved['model'])} did")
        for name, value in _arrays(self.model, _ASSETS) if not self._constant else ():
            before = self._compiled[name]
            value[...] = _in_bounds(name, before, saved["model"].get(name, before))
        mujoco.mj_setState(self.model, self.data, saved["state"], _STATE)
        # A semi-implicit step starts from the contacts and constraints in the arena, which this recomputes.
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, saved["state"], _STATE)
        # Environments read derived quantities, which lag one step behind the state; `mj_forward` has just
        # brought them up to date, so the captured ones are put back.
        for name, value in _arrays(self.data, _ARENA):
            if name in saved["derived"]:
                value[...] = saved["derived"][name]


def _in_bounds(name: str, compiled: np.ndarray, saved: np.ndarray) -> np.ndarray:
    """A saved field of a model; raises ValueError if it could lead MuJoCo outside its memory."""
    if compiled.dtype.kind == "f" or _HARMLESS.search(name):
        return saved
    if (
        np.shape(saved) != compiled.shape
        or not np.isin(saved[saved != compiled], _VALUES.get(name, ())).all()
    ):
        raise ValueError(f"the model's {name} is not as it was compiled")
    return saved


def _arrays(owner: Any, without: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """The writeable arrays of a model or its data by name, except for those with the given prefixes."""
    found = []
    for name in dir(owner):
        if name.startswith(("_", *without)):
            continue
        value = getattr(owner, name, None)
        if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            found.append((name, value))
    return found
