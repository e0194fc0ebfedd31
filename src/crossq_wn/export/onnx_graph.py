"""A graph of ONNX, as it is built."""

import importlib
from typing import Any

import numpy as np


class Graph:
    """A graph that grows node by node; values are known by their names."""

    def __init__(self) -> None:
        self._onnx: Any = importlib.import_module("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds a node and returns the name of its output.

        Args:
            kind: ONNX's name of the operator.
            inputs: names of values.
            name: of its output; None: a new one.
            attributes: of the operator.
        """
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Adds an array and returns its name.

        Args:
            value: anything that NumPy makes an array of; its shape stays.
            dtype: of the array.
        """
        name = f"constant_{len(self.constants)}"
        # `ascontiguousarray` makes a scalar an array [1], and `reshape` makes it a scalar again.
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name
