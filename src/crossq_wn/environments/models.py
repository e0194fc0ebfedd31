"""Compiled models of MuJoCo: each is compiled once, and environments that never change theirs share it.

A dog's model takes 70 MiB, nearly all of it meshes, their bounding volumes and textures, and half a second to
compile. Only adapters import this file, because importing MuJoCo fixes its OpenGL backend.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
from dm_control.mujoco import wrapper

_newest: dict[str, Any] = {}  # the XML of the newest model -> the model as compiled
_lock = threading.Lock()


@contextmanager
def compiled_once(*, shared: bool) -> Iterator[None]:
    """Loads tasks of dm_control, whose models are not compiled again if the last one is the same.

    Args:
        shared: whether tasks that are loaded here share one model, because they never change it. MuJoCo's
            steps only read it, but dm_control's resets switch its actuators off and on again: only one of
            these environments may reset at a time, and none may step meanwhile.
    """

    def load(xml_string: str, assets: Any = None) -> Any:
        if xml_string not in _newest:
            made = mujoco.MjModel.from_xml_string(xml_string, assets or {})
            _newest.clear()
            _newest[xml_string] = made
        model = _newest[xml_string]
        return wrapper.MjModel(model if shared else copy.copy(model))

    with _lock:
        own = vars(wrapper.MjModel)["from_xml_string"]
        wrapper.MjModel.from_xml_string = staticmethod(load)
        try:
            yield
        finally:
            wrapper.MjModel.from_xml_string = own


def forget() -> None:
    """Frees what only the making of further environments needs."""
    _newest.clear()
