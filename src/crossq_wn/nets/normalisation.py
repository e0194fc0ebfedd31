"""Normalisation of activations (batch norm and its alternatives) and of weights (weight norm).

This is the subject of the paper (v2, section 4). Batch norm makes a layer's output independent of the scale
of its weights (theorem 1), and its gradient inversely proportional to that scale (theorem 2). As a
consequence the weights grow and the effective learning rate falls, unless weight norm fixes the scale
(equation 2). Batch renorm, layer norm and an L2 penalty are the alternatives that the ablations compare.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from crossq_wn.acting.operations import Op
from crossq_wn.lazy import jax, jnp
from crossq_wn.nets.layer import described, operation
from crossq_wn.nets.layers import Layer
from crossq_wn.types import Array, Tree

# Normalising activations


def batch_norm(momentum: float = 0.99, epsilon: float = 1e-3, ddof: int = 0) -> Layer:
    """Batch normalisation (Ioffe and Szegedy 2015), the function f of theorem 1.

    A training pass normalises with the batch's own mean and biased variance, an evaluation with running ones:
    running <- momentum * running + (1 - momentum) * batch. Gradients flow through the batch's mean and
    variance; without that, a neuron's gradient would not be orthogonal to its weights.

    Args:
        momentum: share of the running statistics that a training pass keeps.
        epsilon: added to the variance.
        ddof: the running variance divides sums of squares by B - ddof: 0 as in flax, 1 as in PyTorch.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return _scale_and_bias(n), _running(n), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        if not train:
            return _normalise(params, x, stats["mean"], stats["variance"], epsilon), stats
        mean, variance = _mean_and_variance(x)
        batch = {"mean": mean, "variance": variance * (len(x) / (len(x) - ddof))}
        running = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, stats, batch)
        return _normalise(params, x, mean, variance, epsilon), running

    return described(Layer(init, apply), partial(_running_norm, epsilon))


def batch_renorm(
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    r_max: float = 3.0,
    d_max: float = 5.0,
    warmup_calls: int = 100_000,
) -> Layer:
    """Batch renormalisation (Ioffe 2017), which corrects a batch's statistics towards the running ones.

    y = r x_hat + d, with r = clip(sigma_B / sigma, 1/r_max, r_max) and d = clip((mu_B - mu) / sigma, -d_max,
    d_max), both without gradient.

    Args:
        momentum: share of the running statistics that a training pass keeps.
        epsilon: added to variances.
        r_max: limit of the correction of the scale.
        d_max: limit of the correction of the mean, in running standard deviations.
        warmup_calls: training passes of this layer before the correction begins; until then it is batch norm.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return _scale_and_bias(n), {**_running(n), "calls": np.zeros((), np.int32)}, n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        if not train:
            return _normalise(params, x, stats["mean"], stats["variance"], epsilon), stats
        mean, variance = _mean_and_variance(x)
        sigma_batch, sigma = jnp.sqrt(variance + epsilon), jnp.sqrt(stats["variance"] + epsilon)
        warm = stats["calls"] >= warmup_calls
        r = jnp.where(warm, jnp.clip(sigma_batch / sigma, 1 / r_max, r_max), 1.0)
        d = jnp.where(warm, jnp.clip((mean - stats["mean"]) / sigma, -d_max, d_max), 0.0)
        r, d = jax.lax.stop_gradient((r, d))  # else gradients would see through the correction
        y = ((x - mean) / sigma_batch * r + d) * params["scale"] + params["bias"]
        running = {
            "mean": momentum * stats["mean"] + (1 - momentum) * mean,
            "variance": momentum * stats["variance"] + (1 - momentum) * variance,
            "calls": stats["calls"] + 1,
        }
        return y, running

    return described(Layer(init, apply), partial(_running_norm, epsilon))


def layer_norm(epsilon: float = 1e-6) -> Layer:
    """Layer normalisation over the features of each sample, with learned scale and bias (Ba et al. 2016)."""

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return _scale_and_bias(n), (), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return _normalise(params, x, mean, variance, epsilon), stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        return operation("layer_norm", {"epsilon": epsilon}, scale=params["scale"], bias=params["bias"])

    return described(Layer(init, apply), describe)


def plain_layer_norm(width: int, epsilon: float = 1e-5) -> Layer:
    """Layer normalisation without learned scale and bias.

    Args:
        width: number of features.
        epsilon: added to the variance.
    """
    plain = {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}
    learned = layer_norm(epsilon)

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return (), (), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        return learned.apply(plain, stats, x, train=train)

    return described(
        Layer(init, apply), lambda params, stats: operation("layer_norm", {"epsilon": epsilon}, **plain)
    )


def rms_norm(epsilon: float = 1e-6) -> Layer:
    """x / sqrt(mean of x^2 over the features), with a learned scale (Zhang and Sennrich 2019).

    Args:
        epsilon: added to the mean square.
    """

    def init(generator: np.random.Generator, n: int) -> tuple[Tree, Tree, int]:
        return {"scale": np.ones(n, np.float32)}, (), n

    def apply(params: Tree, stats: Tree, x: Array, *, train: bool) -> tuple[Array, Tree]:
        square = jnp.mean(jnp.square(x), -1, keepdims=True)
        return x * jax.lax.rsqrt(square + epsilon) * params["scale"], stats

    def describe(params: Tree, stats: Tree) -> tuple[Op, ...]:
        n = len(params["scale"])  # a mean square of 1 is a length of sqrt(n)
        length = operation("unit_length", {"epsilon": n * epsilon})  # n, since it sums where this averages
        return length + operation("affine", scale=np.sqrt(np.float32(n)) * params["scale"])

    return described(Layer(init, apply), describe)


def _scale_and_bias(n: int) -> Tree:
    return {"scale": np.ones(n, np.float32), "bias": np.zeros(n, np.float32)}


def _running(n: int) -> Tree:
    return {"mean": np.zeros(n, np.float32), "variance": np.ones(n, np.float32)}


def _mean_and_variance(x: Array) -> tuple[Array, Array]:
    """The mean and the biased variance of each feature over the batch."""
    mean = jnp.mean(x, 0)
    return mean, jnp.mean(jnp.square(x - mean), 0)


def _normalise(params: Tree, x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    scale = params["scale"] * jax.lax.rsqrt(variance + epsilon)
    y: Array = (x - mean) * scale + params["bias"]
    return y


def _running_norm(epsilon: float, params: Tree, stats: Tree) -> tuple[Op, ...]:
    """Batch norm in evaluation, as an affine map."""
    # In float64, so that the exported scale is rounded once.
    scale = np.asarray(params["scale"], np.float64) / np.sqrt(np.asarray(stats["variance"]) + epsilon)
    return operation("affine", shift=stats["mean"], scale=scale, bias=params["bias"])


# Normalising weights

Projection = Callable[[Tree, float], Tree]  # (a dense layer's params, radius) -> projected params


def _numpy_for(params: Tree) -> Any:
    """NumPy for first parameters, which come in it and shall take no program to compile; else JAX's."""
    return np if isinstance(next(iter(params.values())), np.ndarray) else jnp


def _rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1 / np.sqrt(x) if isinstance(x, np.ndarray | np.generic) else jax.lax.rsqrt(x)


def per_neuron(params: Tree, radius: float) -> Tree:
    """Projects each output neuron's [w; b] onto the sphere of `radius`.

    Batch norm normalises every feature separately, so every neuron is scale-invariant on its own, but only if
    its weights and its bias are scaled together (theorem 1).

    Args:
        params: kernel [n_in, n_out] and, where the layer has one, bias [n_out].
        radius: c in equation 2.
    """
    xp = _numpy_for(params)
    # A bias [n_out] counts as a further row of the kernel; the sum over rows is [n_out].
    square = sum(xp.sum(xp.square(xp.atleast_2d(leaf)), 0) for leaf in params.values())
    scale = radius * _rsqrt(square)
    return {name: leaf * scale for name, leaf in params.items()}


def per_neuron_kernel(params: Tree, radius: float) -> Tree:
    """Projects each output neuron's weights alone; the bias neither counts nor changes.

    With a bias this changes the function that the layer computes, so it is an ablation; takes what
    `per_neuron` does.
    """
    xp = _numpy_for(params)
    square = xp.sum(xp.square(params["kernel"]), 0)
    return params | {"kernel": params["kernel"] * (radius * _rsqrt(square))}


def per_layer(params: Tree, radius: float) -> Tree:
    """Projects the whole layer's [W; b] onto the sphere of `radius`: equation 2 read literally.

    Args:
        params: kernel [n_in, n_out] and bias [n_out].
        radius: c in equation 2.
    """
    xp = _numpy_for(params)
    square = xp.sum(xp.square(params["kernel"])) + xp.sum(xp.square(params["bias"]))
    return jax.tree.map(lambda p: p * (radius * _rsqrt(square)), params)


def affine_norm(norm: Layer) -> Layer:
    """Holds the scale and bias of a normalisation over n features at a joint norm of sqrt(n) (FlashSAC).

    This is the norm of the ones and zeros that they start with. Like everything that is held, they do not
    decay.

    Args:
        norm: `batch_norm`, `layer_norm` or `rms_norm`.
    """

    def project(params: Tree) -> Tree:
        xp = _numpy_for(params)
        square = sum(xp.sum(xp.square(leaf)) for leaf in params.values())
        factor = xp.sqrt(len(params["scale"]) / (square + 1e-8))
        return {name: leaf * factor for name, leaf in params.items()}

    return without_decay(norm)._replace(project=project)


def weight_norm(layer: Layer, projection: Projection = per_neuron, radius: float = 1.0) -> Layer:
    """Holds a dense layer's weights at a fixed norm: w <- c w / ||w||_2 (equation 2).

    The projection happens at initialisation and after every gradient step. Weights of fixed norm need no
    weight decay, so they get none (section 4, implementation details).

    Args:
        layer: `dense` or `linear`.
        projection: which weights share a norm: `per_neuron`, `per_neuron_kernel` or `per_layer`.
        radius: c, the norm.
    """

    def project(params: Tree) -> Tree:
        return projection(params, radius)  # the optimiser applies it to what a step has made

    def init(generator: np.random.Generator, n_in: int) -> tuple[Tree, Tree, int]:
        params, stats, n_out = layer.init(generator, n_in)
        return project(params), stats, n_out

    return without_decay(layer)._replace(init=init, project=project)


def without_decay(layer: Layer) -> Layer:
    """Exempts a layer from AdamW's weight decay."""
    return layer._replace(decay=lambda params: jax.tree.map(lambda _: False, params))


def l2_penalty(layer: Layer, scale: float) -> Layer:
    """Adds scale * ||[W; b]||^2 to the loss: the soft alternative to `weight_norm` (section 5.4).

    The penalty takes the place of AdamW's weight decay on this layer.

    Args:
        layer: `dense` or `linear`.
        scale: factor of the squared norm.
    """

    def penalty(params: Tree) -> Array | float:
        return scale * sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))

    return without_decay(layer)._replace(penalty=penalty)
