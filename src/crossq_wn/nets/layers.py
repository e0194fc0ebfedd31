"""Networks as values: a `Layer` is a record of pure functions, and `serial` or `ensemble` compose layers.

This package studies what batch-norm statistics and weight norms do, so both are plain arguments here. Running
statistics travel beside the parameters. Each layer says how it is projected after a gradient step and which
of its parameters decay, so nothing has to find parameters by their names. `nets/normalisation.py` holds the
normalisation layers.
"""

from collections.abc import Callable

import numpy as np

from crossq_wn.acting.operations import Op
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.initialisers import Initialiser, ShapesOnly, orthogonal
from crossq_wn.nets.layer import Apply, Hidden, LayerInit, described, operation, operations
from crossq_wn.nets.layer import Layer as Layer
from crossq_wn.nets.layer import create as create
from crossq_wn.nets.layer import predict as predict
from crossq_wn.types import Array, Tree

# Layers with parameters

_HIDDEN = orthogonal(2**0.5)  # the gain for rectifiers


def dense(n_out: int, kernel_init: Initialiser = _HIDDEN) -> Layer:
    """Affine map x W + b; the bias starts at zero.

    Args:
        n_out: number of output features.
        kernel_init: draws W [n_in, n_out]; by default orthogonal with gain sqrt(2).
    """

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        params = {"kernel": _kernel(kernel_init, generator, n_in, n_out), "bias": np.zeros(n_out, np.float32)}
        return params, (), n_out

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return x @ params["kernel"] + params["bias"], stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return operation("dense", kernel=params["kernel"], bias=params["bias"])

    return described(Layer(init, apply), describe)


def _kernel(kernel_init: Initialiser, generator: np.random.Generator, n_in: int, n_out: int) -> Array:
    if isinstance(generator, ShapesOnly):
        return jnp.zeros((n_in, n_out), jnp.float32)
    return kernel_init(generator, n_in, n_out)  # type: ignore[return-value]


def linear(n_out: int, kernel_init: Initialiser = _HIDDEN) -> Layer:
    """Linear map x W, without a bias; takes what `dense` does."""

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        return {"kernel": _kernel(kernel_init, generator, n_in, n_out)}, (), n_out

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return x @ params["kernel"], stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return operation("dense", kernel=params["kernel"], bias=np.zeros(n_out))

    return described(Layer(init, apply), describe)


def dense_layers(params: Tree) -> list[Tree]:
    """Finds the dense and linear layers of a network.

    Args:
        params: the network's parameters.

    Returns:
        Each layer's parameters, {kernel[, bias]}, from the input to the output.
    """

    def dense(node: Tree) -> bool:
        if not isinstance(node, dict) or "kernel" not in node:
            return False
        return all(hasattr(each, "shape") for each in node.values())  # no trees inside

    return [node for node in jax.tree.leaves(params, is_leaf=dense) if dense(node)]


# Layers without parameters


def elementwise(
    function: Callable[[Array], Array], more: int = 0, in_numpy: tuple[Op, ...] | None = None
) -> Layer:
    """A map without parameters.

    Args:
        function: [..., n] -> [..., n + more].
        more: how many features the map adds to its input's.
        in_numpy: the same as operations in numpy; without them, acting through the map takes JAX.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return (), (), n + more

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return function(x), stats

    layer = Layer(init, apply)
    return layer if in_numpy is None else described(layer, lambda params, stats: in_numpy)


def activation(function: Callable[[Array], Array], in_numpy: tuple[Op, ...] | None = None) -> Layer:
    """A non-linearity whose outputs the diagnostics can see (dead neurons); takes what `elementwise` does."""
    return elementwise(function, in_numpy=in_numpy)._replace(hidden=lambda params, stats, x: (function(x),))


def relu() -> Layer:
    """Rectifier."""
    return activation(lambda x: jax.nn.relu(x), operation("relu"))


def elu() -> Layer:
    """x where it is positive, else exp(x) - 1 (Clevert et al. 2016)."""
    return activation(lambda x: jax.nn.elu(x), operation("elu"))


def dropout(rate: float) -> Layer:
    """In training, zeroes features at random and scales up the rest (Srivastava et al. 2014).

    Its statistics hold a random key, which every training pass replaces.

    Args:
        rate: probability that a feature is zeroed; the others are divided by 1 - `rate`.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        # Raw numbers and not a key of JAX's own type, so that the state can be drawn in NumPy and saved.
        return (), {"key": generator.integers(0, 2**32, 2, np.uint32)}, n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        if not train:
            return x, stats
        key, following = jax.random.split(jax.random.wrap_key_data(stats["key"]))
        kept = jax.random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0.0), {"key": jax.random.key_data(following)}

    return described(Layer(init, apply), lambda params, stats: ())


def always_training(layer: Layer) -> Layer:
    """Makes evaluations of a layer behave like training passes, but leave its statistics unchanged."""

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        y, new_stats = layer.apply(params, stats, x, train=True)
        return y, new_stats if train else stats

    return layer._replace(apply=apply)


# Compositions of layers; their parameters and statistics are tuples with one entry per layer.


def serial(*layers: Layer) -> Layer:
    """Feeds each layer's output to the next."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        all_params, all_stats = [], []
        for layer, child in zip(layers, generator.spawn(len(layers)), strict=True):
            params, stats, n = layer.init(child, n)
            all_params.append(params)
            all_stats.append(stats)
        return tuple(all_params), tuple(all_stats), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        new_stats = []
        for layer, p, s in zip(layers, params, stats, strict=True):
            x, s = layer.apply(p, s, x, train=train)
            new_stats.append(s)
        return x, tuple(new_stats)

    def hidden(params: Tree, stats: Tree, x: Array) -> tuple[Array, ...]:
        seen: list[Array] = []
        for layer, p, s in zip(layers, params, stats, strict=True):
            seen += layer.hidden(p, s, x)
            x, _ = layer.apply(p, s, x, train=True)
        return tuple(seen)

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        found: list[Op] = []
        for each in _of_each(layers, params, stats):
            found += each
        return tuple(found)

    return described(_of_layers(layers, init, apply, hidden), describe)


def mlp(width: int, head: Layer) -> Layer:
    """Two hidden layers with rectifiers, then the output layer.

    Args:
        width: units per hidden layer.
        head: the output layer.
    """
    return serial(dense(width), relu(), dense(width), relu(), head)


def side_by_side(*layers: Layer) -> Layer:
    """Feeds the same input to each layer and concatenates their outputs along the features."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        streams = generator.spawn(len(layers))
        made = [layer.init(child, n) for layer, child in zip(layers, streams, strict=True)]
        params, stats, sizes = zip(*made, strict=True)
        return params, stats, sum(sizes)

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        each = zip(layers, params, stats, strict=True)
        done = [layer.apply(p, s, x, train=train) for layer, p, s in each]
        outputs, new_stats = zip(*done, strict=True)
        return jnp.concatenate(outputs, -1), new_stats

    def hidden(params: Tree, stats: Tree, x: Array) -> tuple[Array, ...]:
        seen: list[Array] = []
        for layer, p, s in zip(layers, params, stats, strict=True):
            seen += layer.hidden(p, s, x)
        return tuple(seen)

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return (Op("side_by_side", inner=_of_each(layers, params, stats)),)

    return described(_of_layers(layers, init, apply, hidden), describe)


def residual(*layers: Layer) -> Layer:
    """x + f(x), where f applies the layers one after the other."""
    inner = serial(*layers)

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        y, stats = inner.apply(params, stats, x, train=train)
        return x + y, stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return (Op("residual", inner=(operations(inner, params, stats),)),)

    return described(inner._replace(apply=apply), describe)


def ensemble(layer: Layer, members: int) -> Layer:
    """Independent copies of a layer that see the same input.

    Outputs and hidden activations have a leading axis: [member, B, n]. Parameters are a tuple over members
    and not an array with an axis, because batched matrix products run at half the speed of plain ones on a
    CPU; an accelerator gets its batches from the seed axis.

    Args:
        layer: the layer to copy.
        members: number of copies, each with its own initial parameters.
    """

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        made = [layer.init(child, n_in) for child in generator.spawn(members)]
        params, stats, sizes = zip(*made, strict=True)
        return params, stats, sizes[0]

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        done = [layer.apply(p, s, x, train=train) for p, s in zip(params, stats, strict=True)]
        outputs, new_stats = zip(*done, strict=True)
        return jnp.stack(outputs), new_stats

    def hidden(params: Tree, stats: Tree, x: Array) -> tuple[Array, ...]:
        each = [layer.hidden(p, s, x) for p, s in zip(params, stats, strict=True)]
        return tuple(map(jnp.stack, zip(*each, strict=True)))

    return _of_layers((layer,) * members, init, apply, hidden)


def _of_each(layers: tuple[Layer, ...], params: Tree, stats: Tree) -> tuple[tuple[Op, ...], ...]:
    """The operations of each of several layers."""
    return tuple(operations(layer, params[i], stats[i]) for i, layer in enumerate(layers))


def _of_layers(layers: tuple[Layer, ...], init: LayerInit, apply: Apply, hidden: Hidden) -> Layer:
    """A composition in which every layer keeps its own rules for projection, decay and penalty."""

    def project(params: Tree) -> Tree:
        return tuple(layer.project(p) for layer, p in zip(layers, params, strict=True))

    def decay(params: Tree) -> Tree:
        return tuple(layer.decay(p) for layer, p in zip(layers, params, strict=True))

    def penalty(params: Tree) -> Array | float:
        return sum(layer.penalty(p) for layer, p in zip(layers, params, strict=True))

    return Layer(init, apply, project, decay, penalty, hidden)
