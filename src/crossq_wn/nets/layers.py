"""How are networks built? As values: a `Layer` is a record of pure functions, `serial` composes layers.

The subject of this package is what batch-norm statistics and weight norms do, so both are plain arguments
here: running moments travel beside the parameters, and a layer says itself how it is projected after a
gradient step and which of its parameters decay.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Array, Tree, Vars

Initialiser = Callable[[np.random.Generator, int, int], np.ndarray]


def _keep(params: Tree) -> Tree:
    return params


def _decay_all(params: Tree) -> Tree:
    return jax.tree.map(lambda _: True, params)


def _no_penalty(params: Tree) -> Array | float:
    return 0.0


def _nothing_hidden(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, ...]:
    return ()


class Layer(NamedTuple):
    """A differentiable map and everything an optimiser must know about it.

    init:    (generator, n_in) -> (params, stats, n_out); runs on the host
    apply:   (params, stats, x[B, n_in], train) -> (y[B, n_out], stats)
    project: params -> params, applied at initialisation and after every gradient step
    decay:   params -> the same tree of booleans, True where AdamW's weight decay applies
    penalty: params -> what they add to the loss
    hidden:  as apply -> the outputs of the non-linearities inside, each [B, units]; for diagnostics
    """

    init: Callable[[np.random.Generator, int], tuple[Tree, Tree, int]]
    apply: Callable[[Tree, Tree, Array, bool], tuple[Array, Tree]]
    project: Callable[[Tree], Tree] = _keep
    decay: Callable[[Tree], Tree] = _decay_all
    penalty: Callable[[Tree], Array | float] = _no_penalty
    hidden: Callable[[Tree, Tree, Array, bool], tuple[Array, ...]] = _nothing_hidden


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal initialisation; the longer side of the matrix is orthonormal up to `gain`."""

    def init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        # On the host: several QR factorisations in one jitted CPU program can deadlock.
        tall = generator.standard_normal((max(n_in, n_out), min(n_in, n_out)))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Haar)
        return np.asarray(gain * (q if n_in >= n_out else q.T), np.float32)

    return init


def he_normal(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """Normal with variance 2 / n_in, cut off at two standard deviations (He et al. 2015, as in flax)."""
    kernel = generator.standard_normal((n_in, n_out))
    while (beyond := np.abs(kernel) > 2).any():
        kernel[beyond] = generator.standard_normal(int(beyond.sum()))
    of_cut_off = 0.87962566103423978  # the standard deviation of a normal cut off at 2
    return np.asarray(kernel * np.sqrt(2 / n_in) / of_cut_off, np.float32)


_HIDDEN = orthogonal(2**0.5)


def dense(n_out: int, kernel_init: Initialiser = _HIDDEN) -> Layer:
    """Affine map `x W + b`, zero initial bias."""

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        params = {"kernel": kernel_init(generator, n_in, n_out), "bias": np.zeros(n_out, np.float32)}
        return params, (), n_out

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        return x @ params["kernel"] + params["bias"], stats

    return Layer(init, apply)


def per_neuron(params: Tree, radius: float) -> Tree:
    """Projects each output neuron's `[w; b]` onto the sphere of `radius`; kernel and bias, if any, jointly.

    Batch norm normalises each feature separately, so every neuron is scale-invariant on its own, but only
    when its weights and bias are scaled together (paper v2, theorem 1).
    """
    square = sum(jnp.sum(jnp.square(jnp.atleast_2d(leaf)), 0) for leaf in params.values())
    scale = radius * jax.lax.rsqrt(square)
    return {name: leaf * scale for name, leaf in params.items()}


def per_neuron_kernel(params: Tree, radius: float) -> Tree:
    """Like `per_neuron`, but the bias neither counts nor moves (changes the function; an ablation)."""
    square = jnp.sum(jnp.square(params["kernel"]), 0)
    return params | {"kernel": params["kernel"] * (radius * jax.lax.rsqrt(square))}


def per_layer(params: Tree, radius: float) -> Tree:
    """Projects the whole layer's `[W; b]` onto the sphere of `radius`: equation 2 read literally."""
    square = jnp.sum(jnp.square(params["kernel"])) + jnp.sum(jnp.square(params["bias"]))
    return jax.tree.map(lambda p: p * (radius * jax.lax.rsqrt(square)), params)


def weight_norm(
    layer: Layer, projection: Callable[[Tree, float], Tree] = per_neuron, radius: float = 1.0
) -> Layer:
    """Keeps a dense layer's weights at norm `radius`: w <- c w / ||w||_2 (paper v2, equation 2).

    The layer is projected at initialisation and after every gradient step, and being bounded it does not
    decay (paper v2, section 4, implementation details).
    """

    def project(params: Tree) -> Tree:
        return projection(params, radius)

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        params, stats, n_out = layer.init(generator, n_in)
        return project(params), stats, n_out

    return without_decay(layer)._replace(init=init, project=project)


def without_decay(layer: Layer) -> Layer:
    """Keeps AdamW's weight decay off a layer."""
    return layer._replace(decay=lambda params: jax.tree.map(lambda _: False, params))


def l2_penalty(layer: Layer, scale: float) -> Layer:
    """Adds scale * ||[W; b]||^2 to the loss: the soft alternative to `weight_norm` (paper v2, section 5.4).

    What is penalised does not decay as well.
    """

    def penalty(params: Tree) -> Array | float:
        return scale * sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))

    return without_decay(layer)._replace(penalty=penalty)


def _norm_params(n: int) -> Tree:
    return {"scale": np.ones(n, np.float32), "bias": np.zeros(n, np.float32)}


def _running(n: int) -> Tree:
    return {"mean": np.zeros(n, np.float32), "variance": np.ones(n, np.float32)}


def _moments(x: Array) -> tuple[Array, Array]:
    mean = jnp.mean(x, 0)
    return mean, jnp.mean(jnp.square(x - mean), 0)


def _affine(params: Tree, x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    scale = params["scale"] * jax.lax.rsqrt(variance + epsilon)
    y: Array = (x - mean) * scale + params["bias"]
    return y


def batch_norm(momentum: float = 0.99, epsilon: float = 1e-3) -> Layer:
    """Batch normalisation: batch moments in training, running moments otherwise.

    running <- momentum * running + (1 - momentum) * batch, with the biased variance in both places.
    Gradients flow through the batch moments: only so is every neuron's gradient orthogonal to its weights.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return _norm_params(n), _running(n), n

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        if not train:
            return _affine(params, x, stats["mean"], stats["variance"], epsilon), stats
        mean, variance = _moments(x)
        batch = {"mean": mean, "variance": variance}
        running = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, stats, batch)
        return _affine(params, x, mean, variance, epsilon), running

    return Layer(init, apply)


def batch_renorm(
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    r_max: float = 3.0,
    d_max: float = 5.0,
    warmup_calls: int = 100_000,
) -> Layer:
    """Batch renormalisation (Ioffe 2017): plain batch norm for the layer's first `warmup_calls`.

    Afterwards y = r x_hat + d with r = clip(sigma_B / sigma, 1/r_max, r_max) and
    d = clip((mu_B - mu) / sigma, -d_max, d_max), both without gradient.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return _norm_params(n), {**_running(n), "calls": np.zeros((), np.int32)}, n

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        if not train:
            return _affine(params, x, stats["mean"], stats["variance"], epsilon), stats
        mean, variance = _moments(x)
        sigma_batch, sigma = jnp.sqrt(variance + epsilon), jnp.sqrt(stats["variance"] + epsilon)
        warm = stats["calls"] >= warmup_calls
        r = jnp.where(warm, jnp.clip(sigma_batch / sigma, 1 / r_max, r_max), 1.0)
        d = jnp.where(warm, jnp.clip((mean - stats["mean"]) / sigma, -d_max, d_max), 0.0)
        r, d = jax.lax.stop_gradient((r, d))
        y = ((x - mean) / sigma_batch * r + d) * params["scale"] + params["bias"]
        running = {
            "mean": momentum * stats["mean"] + (1 - momentum) * mean,
            "variance": momentum * stats["variance"] + (1 - momentum) * variance,
            "calls": stats["calls"] + 1,
        }
        return y, running

    return Layer(init, apply)


def layer_norm(epsilon: float = 1e-6) -> Layer:
    """Layer normalisation over the features of each sample, with scale and bias (Ba et al. 2016)."""

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return _affine(params, x, mean, variance, epsilon), stats

    return Layer(lambda generator, n: (_norm_params(n), (), n), apply)


def linear(n_out: int, kernel_init: Initialiser = _HIDDEN) -> Layer:
    """`x W`, without a bias."""

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        return {"kernel": kernel_init(generator, n_in, n_out)}, (), n_out

    return Layer(init, lambda params, stats, x, train: (x @ params["kernel"], stats))


def elementwise(function: Callable[[Array], Array], more: int = 0) -> Layer:
    """A map without parameters, which returns `more` features than it gets."""
    return Layer(
        lambda generator, n: ((), (), n + more), lambda params, stats, x, train: (function(x), stats)
    )


def activation(function: Callable[[Array], Array]) -> Layer:
    """A non-linearity, whose outputs are what diagnostics look at."""
    return elementwise(function)._replace(hidden=lambda params, stats, x, train: (function(x),))


def relu() -> Layer:
    """Rectifier."""
    return activation(jax.nn.relu)


def side_by_side(*layers: Layer) -> Layer:
    """The same input through each layer, their outputs concatenated."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        made = [
            layer.init(child, n) for layer, child in zip(layers, generator.spawn(len(layers)), strict=True)
        ]
        return tuple(m[0] for m in made), tuple(m[1] for m in made), sum(m[2] for m in made)

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        done = [layer.apply(p, s, x, train) for layer, p, s in zip(layers, params, stats, strict=True)]
        return jnp.concatenate([y for y, _ in done], -1), tuple(s for _, s in done)

    def hidden(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, ...]:
        each = zip(layers, params, stats, strict=True)
        return tuple(h for layer, p, s in each for h in layer.hidden(p, s, x, train))

    return serial(*layers)._replace(init=init, apply=apply, hidden=hidden)


def residual(*layers: Layer) -> Layer:
    """x + f(x)."""
    inner = serial(*layers)

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        y, stats = inner.apply(params, stats, x, train)
        return x + y, stats

    return inner._replace(apply=apply)


def dropout(rate: float) -> Layer:
    """In training, zeroes features at random and scales the others up (Srivastava et al. 2014).

    Its statistics are a random key, which every training pass replaces.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return (), {"key": generator.integers(0, 2**32, 2, np.uint32)}, n

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        if not train:
            return x, stats
        key, following = jax.random.split(jax.random.wrap_key_data(stats["key"]))
        kept = jax.random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0.0), {"key": jax.random.key_data(following)}

    return Layer(init, apply)


def always_training(layer: Layer) -> Layer:
    """Outside training the layer does what it does in training, but its statistics stay."""

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        y, new_stats = layer.apply(params, stats, x, True)
        return y, new_stats if train else stats

    return layer._replace(apply=apply)


def serial(*layers: Layer) -> Layer:
    """Feeds each layer's output to the next."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        all_params, all_stats = [], []
        for layer, child in zip(layers, generator.spawn(len(layers)), strict=True):
            params, stats, n = layer.init(child, n)
            all_params.append(params)
            all_stats.append(stats)
        return tuple(all_params), tuple(all_stats), n

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        new_stats = []
        for layer, p, s in zip(layers, params, stats, strict=True):
            x, s = layer.apply(p, s, x, train)
            new_stats.append(s)
        return x, tuple(new_stats)

    def hidden(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, ...]:
        seen: list[Array] = []
        for layer, p, s in zip(layers, params, stats, strict=True):
            seen += layer.hidden(p, s, x, train)
            x, _ = layer.apply(p, s, x, train)
        return tuple(seen)

    return Layer(
        init,
        apply,
        lambda params: tuple(layer.project(p) for layer, p in zip(layers, params, strict=True)),
        lambda params: tuple(layer.decay(p) for layer, p in zip(layers, params, strict=True)),
        lambda params: sum(layer.penalty(p) for layer, p in zip(layers, params, strict=True)),
        hidden,
    )


def ensemble(layer: Layer, members: int) -> Layer:
    """`members` independent copies of a layer on the same input; output and hidden are [member, B, n].

    Members are a tuple and not an array axis: batched matrix products run at half the speed of plain ones
    on CPU, and an accelerator gets its batch from the seed axis.
    """

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        made = [layer.init(child, n_in) for child in generator.spawn(members)]
        return tuple(m[0] for m in made), tuple(m[1] for m in made), made[0][2]

    def apply(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        done = [layer.apply(p, s, x, train) for p, s in zip(params, stats, strict=True)]
        return jnp.stack([y for y, _ in done]), tuple(s for _, s in done)

    def hidden(params: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, ...]:
        each = [layer.hidden(p, s, x, train) for p, s in zip(params, stats, strict=True)]
        return tuple(map(jnp.stack, zip(*each, strict=True)))

    return Layer(
        init,
        apply,
        lambda params: tuple(map(layer.project, params)),
        lambda params: tuple(map(layer.decay, params)),
        lambda params: sum(map(layer.penalty, params)),
        hidden,
    )


def dense_layers(params: Tree) -> list[Tree]:
    """The parameters of a network's dense layers, each {kernel[, bias]}, from its input to its output."""

    def dense(node: Tree) -> bool:
        return isinstance(node, dict) and "kernel" in node

    return [node for node in jax.tree.leaves(params, is_leaf=dense) if dense(node)]


def create(layer: Layer, generator: np.random.Generator, n_in: int) -> Vars:
    """Fresh variables of a layer whose input has `n_in` features."""
    params, stats, _ = layer.init(generator, n_in)
    return Vars(params, stats)


def predict(layer: Layer, variables: Vars, x: Array) -> Array:
    """Evaluation mode: running statistics are used and none changes."""
    return layer.apply(variables.params, variables.stats, x, False)[0]
