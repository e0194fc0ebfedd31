"""Trees of arrays as named tensors and JSON, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.types import Tree


def named_leaves(tree: Tree) -> list[tuple[str, np.ndarray]]:
    """The leaves of a pytree in order, under names such as `critic.params.0.1.kernel`."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        # A field of a record has a name, an entry of a dictionary a key, one of a tuple an index.
        parts = [str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path]
        found.append((".".join(parts), np.asarray(leaf, order="C")))  # safetensors takes contiguous arrays
    return found


class NamedTree:
    """A tree of arrays as `named_leaves` named them, without the types that it was made of.

    `tree.a`, `tree["a"]` and `tree[0]` are an array, or the part of the tree below. What is missing is an
    empty part.

    Args:
        arrays: by name.
        name: of the part of the tree.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        self._arrays, self._name = arrays, name

    def __getitem__(self, entry: str | int) -> Any:
        name = f"{self._name}.{entry}"
        return self._arrays[name] if name in self._arrays else NamedTree(self._arrays, name)

    def __getattr__(self, field: str) -> Any:
        if field.startswith("__"):  # numpy asks for these
            raise AttributeError(field)
        return self[field]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise KeyError(self._name)


def take_arrays(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """Moves the arrays out of nested dictionaries and lists.

    Args:
        value: nested JSON values and NumPy arrays.
        where: the prefix of the arrays' names.
        arrays: receives a copy of each array by name.

    Returns:
        The value as JSON, with a reference in place of each array.
    """
    if isinstance(value, np.ndarray):
        arrays[where] = np.array(value, copy=True, order="C")
        return {"$array": where, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {key: take_arrays(item, f"{where}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [take_arrays(item, f"{where}/{i}", arrays) for i, item in enumerate(value)]
    return value


def give_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `take_arrays`.

    Args:
        value: what `take_arrays` returned, also by way of JSON.
        arrays: those that it took, by name.
    """
    if isinstance(value, dict) and "$array" in value:
        return arrays[value["$array"]].reshape(value["shape"])
    if isinstance(value, dict):
        return {key: give_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [give_arrays(item, arrays) for item in value]
    return value
