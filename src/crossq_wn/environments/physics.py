"""How does MuJoCo continue bit for bit? From its integration state, changed model fields and derived arrays.

Apart from `snapshot`, because importing MuJoCo fixes its OpenGL backend: only adapters import this.
"""

from typing import Any

import mujoco
import numpy as np

from crossq_wn.environments.snapshot import Snapshot

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_ASSETS = ("mesh_", "tex_", "skin_", "bvh_", "oct_", "flex", "names", "paths", "text_")  # never change
# Recomputed before each use; between uses it may be anybody's memory.
_ARENA = ("efc_", "contact", "tendon_efc", "island_", "map_", "dof_island", "tree_island", "iefc_", "iacc",
          "ifrc", "iM", "iLD")  # fmt: skip


class Physics:
    """Captures and restores one MuJoCo model and its data, derived quantities included.

    Tasks that move targets or resize geoms at reset change the model: it is stored as what differs from the
    values it had when this object was made.
    """

    def __init__(self, model: Any, data: Any, substeps: int = 1) -> None:
        self.model, self.data, self._substeps = model, data, substeps
        self._compiled = {name: value.copy() for name, value in _arrays(model, _ASSETS)}

    def advance(self, frames: int, generator: np.random.Generator) -> None:
        """MuJoCo alone for so many frames under controls drawn once: what no adapter can be faster than."""
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = low + (high - low) * generator.random(low.size)
        for _ in range(frames):
            mujoco.mj_step(self.model, self.data, self._substeps)

    def capture(self) -> Snapshot:
        """The physics now."""
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
        # Fills what lives in the arena (contacts, constraints), which a semi-implicit step starts from.
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, saved["state"], _STATE)
        # Environments read quantities that lag a step behind the state; forward has just renewed them.
        for name, value in _arrays(self.data, _ARENA):
            if name in saved["derived"]:
                value[...] = saved["derived"][name]


def _arrays(owner: Any, without: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    found = []
    for name in dir(owner):
        if name.startswith(("_", *without)):
            continue
        value = getattr(owner, name, None)
        if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            found.append((name, value))
    return found
