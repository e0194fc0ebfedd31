"""What a layer is: a record of pure functions over plain trees of parameters and statistics."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.operations import Op
from crossq_wn.lazy import jax
from crossq_wn.types import Array, InNumpy, Tree, Vars


class LayerInit(Protocol):
    """Creates a layer's variables."""

    def __call__(self, generator: np.random.Generator, n_in: int, /) -> tuple[Tree, Tree, int]:
        """Draws initial variables, in NumPy.

        Args:
            generator: the source of all randomness.
            n_in: number of input features.

        Returns:
            Parameters, statistics and the number of output features.
        """


class Apply(Protocol):
    """The forward pass of a layer."""

    def __call__(self, params: Tree, stats: Tree, x: Array, /, *, train: bool) -> tuple[Array, Tree]:
        """Maps a batch.

        Args:
            params: the layer's parameters.
            stats: the layer's statistics.
            x: [B, n_in].
            train: True for a training pass, which normalises with the batch's own statistics, drops units,
                and updates the statistics; False for an evaluation, which changes nothing.

        Returns:
            The output [B, n_out], and the new statistics.
        """


class Hidden(Protocol):
    """Exposes the activations inside a layer to the diagnostics."""

    def __call__(self, params: Tree, stats: Tree, x: Array, /) -> tuple[Array, ...]:
        """The outputs [B, units] of each non-linearity inside the layer, in a training pass."""


class Describe(Protocol):
    """Says what a layer computes in evaluation."""

    def __call__(self, params: Tree, stats: Tree, /) -> tuple[Op, ...]:
        """Operations in numpy, from the input [..., n_in] to the output [..., n_out]."""


def _keep(params: Tree) -> Tree:
    return params


def _decay_all(params: Tree) -> Tree:
    return jax.tree.map(lambda _: True, params)


def _no_penalty(params: Tree) -> Array | float:
    return 0.0


def _nothing_hidden(params: Tree, stats: Tree, x: Array) -> tuple[Array, ...]:
    return ()


class Layer(NamedTuple):
    """A differentiable map, with all that an optimiser must know about its parameters."""

    init: LayerInit
    apply: Apply
    project: Callable[[Tree], Tree] = _keep  # params -> params; after init and after every gradient step
    decay: Callable[[Tree], Tree] = _decay_all  # params -> a tree of booleans: where weight decay applies
    penalty: Callable[[Tree], Array | float] = _no_penalty  # params -> what they add to the loss
    hidden: Hidden = _nothing_hidden
    in_numpy: InNumpy | None = None  # of `apply`, by a `Describe`; None: acting through the layer takes JAX


def described(layer: Layer, describe: Describe) -> Layer:
    """The layer, which now says what it computes in evaluation."""
    return layer._replace(in_numpy=InNumpy(layer.apply, describe))


def operations(layer: Layer, params: Tree, stats: Tree) -> tuple[Op, ...]:
    """Describes a layer with these variables as operations in numpy.

    Args:
        layer: the network, or a part of one.
        params: its parameters.
        stats: its statistics; the running ones become constants.

    Raises:
        UndescribedError: it, or a layer inside, does not say what it computes.
    """
    found: tuple[Op, ...] = InNumpy.of(layer.apply, layer.in_numpy)(params, stats)
    return found


def operation(kind: str, numbers: dict[str, float] | None = None, **arrays: Any) -> tuple[Op, ...]:
    """One operation in numpy, as the tuple that `Describe` returns.

    Args:
        kind: a key of `acting.operations.KINDS`.
        numbers: its scalars by name, such as an epsilon.
        arrays: its arrays by name; they are copied as float32.
    """
    return (Op(kind, {name: np.array(array, np.float32) for name, array in arrays.items()}, numbers or {}),)


def create(layer: Layer, generator: np.random.Generator, n_in: int) -> Vars:
    """Draws the initial variables of a network.

    Args:
        layer: the network.
        generator: the source of all randomness.
        n_in: number of input features.
    """
    params, stats, _ = layer.init(generator, n_in)
    return Vars(params, stats)


def predict(layer: Layer, variables: Vars, x: Array) -> Array:
    """Evaluates a network with its running statistics, which stay as they are.

    Args:
        layer: the network.
        variables: its parameters and running statistics.
        x: [..., n_in].

    Returns:
        [..., n_out].
    """
    return layer.apply(variables.params, variables.stats, x, train=False)[0]
