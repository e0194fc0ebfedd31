"""Checks of a user's own network before it is trained: a line says what is wrong with which one."""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.errors import UserError, raised
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.initialisers import ShapesOnly
from crossq_wn.nets.layer import Layer
from crossq_wn.types import Tree

_PAGE = "docs/your-own-network.md"


class NetworkError(UserError):
    """A user's own network raised an exception, the cause."""


def checked(layer: Layer, name: str, n_out: int, batch_size: int) -> Layer:
    """The same layer; its `init` raises UserError if the layer cannot be trained as it is.

    Args:
        layer: of the user.
        name: for messages.
        n_out: number of output features that it must have.
        batch_size: samples per minibatch.
    """

    passed: set[Any] = set()  # what has been traced: every member of an ensemble has the same shapes

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        params, stats, outputs = _begun(layer, name, generator, n_in)
        if outputs != n_out:
            raise UserError(f"{name} has {outputs} outputs and must have {n_out} ({_PAGE})")
        _check_leaves(name, "parameters", params, jnp.floating)
        _check_leaves(name, "statistics", stats, jnp.number)
        if not isinstance(generator, ShapesOnly):
            _check_finite(name, (params, stats))
        like = jax.eval_shape(lambda: (params, stats))
        structure, leaves = _structure(like)
        if (seen := (n_in, structure, tuple(leaves))) not in passed:
            _check_functions(layer, name, like, n_in, n_out, batch_size)
            passed.add(seen)
        return params, stats, outputs

    return layer._replace(init=init)


def _check_functions(
    layer: Layer, name: str, like: tuple[Tree, Tree], n_in: int, n_out: int, batch_size: int
) -> None:
    """Traces all that a layer consists of besides `init`.

    Args:
        layer: of the user.
        name: for messages.
        like: the shapes of its parameters and statistics.
        n_in: number of input features.
        n_out: number of output features.
        batch_size: samples per minibatch; the joint pass takes two minibatches, and acting a single sample.
    """
    params, stats = like
    for train, sizes in ((True, (batch_size, 2 * batch_size)), (False, (1, batch_size))):
        for size in sizes:
            apply = partial(layer.apply, train=train)
            _check_pass(apply, name, params, stats, _samples(size, n_in), n_out)
    _check_rules(layer, name, params)
    _check_hidden(layer, name, params, stats, _samples(batch_size, n_in))


def _samples(size: int, features: int) -> Any:
    """Inputs of which only the shape is known."""
    return jax.eval_shape(lambda: jnp.zeros((size, features), jnp.float32))


def _begun(layer: Layer, name: str, generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
    """The layer's first variables."""
    try:
        params, stats, outputs = layer.init(generator, n_in)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        if isinstance(generator, ShapesOnly) and isinstance(error, jax.errors.JAXTypeError):
            raise  # it computes with its kernels on the host, and is asked again with true ones
        raise _fault(name, "init", error) from error
    return params, stats, outputs


def _check_leaves(name: str, what: str, tree: Tree, kind: Any) -> None:
    """Raises UserError unless all leaves are arrays of this kind of numbers."""
    for leaf in jax.tree.leaves(tree):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, kind):
            shown = f"a {type(leaf).__name__}" if dtype is None else f"an array of {dtype}"
            raise UserError(f"{name} has {shown} among its {what}, which must be arrays of {kind.__name__}s")


def _check_finite(name: str, variables: Tree) -> None:
    for leaf in jax.tree.leaves(variables):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(leaf).all():
            raise UserError(f"{name} begins with numbers that are not finite: mend its init")


def _check_pass(apply: Any, name: str, params: Tree, stats: Tree, x: Any, n_out: int) -> None:
    """Traces a forward pass, which computes nothing, and checks the shapes that it returns."""
    found = _traced(name, "apply", apply, params, stats, x)
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(
            f"apply of {name} must return two things, the output and the new statistics ({_PAGE})"
        )
    output, new = found
    shape = getattr(output, "shape", None)
    if shape != (x.shape[0], n_out):
        raise UserError(f"apply of {name} returns {_told(output)} for {_told(x)}: it must be [B, {n_out}]")
    if _structure(new) != _structure(stats):
        raise UserError(
            f"apply of {name} returns statistics {_told(new)}, which must be like those of its init, "
            f"{_told(stats)}"
        )


def _check_rules(layer: Layer, name: str, params: Tree) -> None:
    """Traces what an optimiser asks of a layer."""
    projected = _traced(name, "project", layer.project, params)
    if _structure(projected) != _structure(params):
        raise UserError(
            f"project of {name} returns {_told(projected)}, unlike the parameters, {_told(params)}"
        )
    penalty = _traced(name, "penalty", layer.penalty, params)
    if getattr(penalty, "shape", None) != ():
        raise UserError(f"penalty of {name} returns {_told(penalty)}: it must be one number")
    _check_decay(layer, name, params)


def _check_decay(layer: Layer, name: str, params: Tree) -> None:
    try:
        decays = layer.decay(params)
    except Exception as error:
        raise _fault(name, "decay", error) from error
    structures: list[Any] = [jax.tree.structure(tree) for tree in (decays, params)]
    if not isinstance(decays, bool) and structures[0] != structures[1]:
        raise UserError(
            f"decay of {name} returns {decays!r}: it must be True, False, or one of them for each parameter"
        )


def _check_hidden(layer: Layer, name: str, params: Tree, stats: Tree, x: Any) -> None:
    """Traces what the diagnostics ask of a layer."""
    hidden = _traced(name, "hidden", layer.hidden, params, stats, x)
    if not isinstance(hidden, tuple | list):
        raise UserError(f"hidden of {name} returns a {type(hidden).__name__}: it must be a tuple of arrays")
    for units in jax.tree.leaves(hidden):
        if len(units.shape) != 2 or units.shape[0] != x.shape[0]:
            raise UserError(f"hidden of {name} returns {_told(units)} for {_told(x)}: it must be [B, units]")


def _traced(name: str, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise _fault(name, what, error) from error


def _structure(tree: Tree) -> tuple[Any, list[tuple[Any, Any]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _told(tree: Tree) -> str:
    """The shapes of a tree in words."""
    shapes = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)
    return str(shapes).replace("'", "")


def _fault(name: str, function: str, error: BaseException) -> NetworkError:
    return NetworkError(f"{function} of {name} raised {raised(error)}")
