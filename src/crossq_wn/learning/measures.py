"""Measures of a critic in one gradient update.

Every function takes a `Probe` and returns the mean over the critics, a scalar unless it says otherwise. Norms
and rates are those of the dense layers alone (kernel and bias together, from layer 1 to the head). Weight
normalisation bounds these norms; without it their growth makes a batch-normalised network learn ever more
slowly (paper v2, sections 3 and 4).
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable
from typing import Literal, NamedTuple

from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import dense_layers
from crossq_wn.types import Array, CriticView, Tree

_RANK_ROWS = 256  # samples that `stable_rank` uses, because singular values cost more than all other measures
_RANK_SHARE = 0.99
_ALL, _HIDDEN, _HEAD = slice(None), slice(None, -1), slice(-1, None)


class Probe(NamedTuple):
    """A critic in one gradient update, with its layers and their gradients, which several measures need."""

    view: CriticView
    layers: list[list[Tree]]  # [critic][layer]: {kernel[, bias]}
    gradients: list[list[Tree]]  # the gradient of the loss, in the same form


def probe_of(view: CriticView) -> Probe:
    """Differentiates the critic's loss and finds its dense layers."""
    gradients = jax.grad(view.loss)(view.params)
    return Probe(view, [dense_layers(p) for p in view.params], [dense_layers(g) for g in gradients])


# What a measure is about. Every critic is one; the others it may lack, as a user's own network does.
Part = Literal["critic", "dense layers", "hidden dense layers", "non-linearities", "batch norm"]


def parts_of(probe: Probe) -> set[Part]:
    """The parts that a critic has."""
    parts: set[Part] = {"critic"}
    if len(probe.layers[0]) > 0:
        parts.add("dense layers")
    if len(probe.layers[0]) > 1:
        parts.add("hidden dense layers")
    if probe.view.hidden:
        parts.add("non-linearities")
    if _running_statistics(probe.view.stats):
        parts.add("batch norm")
    return parts


def weight_norm(probe: Probe) -> Array:
    """Sum over the dense layers of ||[W; b]||_F (paper v2, figure 3)."""
    return jnp.sum(_by_layer(probe.layers))


def weight_norm_root(probe: Probe) -> Array:
    """Root of the sum over the dense layers of ||[W; b]||_F^2, as in the authors' later code."""
    return _mean(_norm, probe.layers)


def hidden_weight_norms(probe: Probe) -> Array:
    """||[W; b]||_F of each hidden layer, [layers]."""
    return _by_layer(probe.layers)[_HIDDEN]


def head_weight_norm(probe: Probe) -> Array:
    """||[W; b]||_F of the last layer."""
    return _by_layer(probe.layers)[-1]


def gradient_norm(probe: Probe) -> Array:
    """||g||_2 of the loss's gradient over all dense layers (paper v2, figure 3)."""
    return _mean(_norm, probe.gradients)


def hidden_gradient_norms(probe: Probe) -> Array:
    """||g||_2 of the loss's gradient in each hidden layer, [layers]."""
    return _by_layer(probe.gradients)[_HIDDEN]


def head_gradient_norm(probe: Probe) -> Array:
    """||g||_2 of the loss's gradient in the last layer."""
    return _by_layer(probe.gradients)[-1]


def effective_learning_rate(probe: Probe) -> Array:
    """Mean of ||g|| / ||w|| over the parameter arrays, weighted by their sizes.

    It measures how far a gradient can turn the weights. If a layer that is followed by a normalisation grows
    by a factor c, its rate falls by c^-2. The weighting is that of the authors' later code and of paper v2,
    figure 3.
    """
    return _rate(probe, _ALL)


def hidden_learning_rate(probe: Probe) -> Array:
    """The effective learning rate of the hidden layers."""
    return _rate(probe, _HIDDEN)


def head_learning_rate(probe: Probe) -> Array:
    """The effective learning rate of the head."""
    return _rate(probe, _HEAD)


def step_size(probe: Probe) -> Array:
    """Learning rate / ||w||^2, averaged over the hidden layers (Van Laarhoven 2017)."""
    square = jnp.square(hidden_weight_norms(probe))
    return jnp.mean(probe.view.learning_rate / square)


def dead_neurons(probe: Probe) -> Array:
    """Fraction of hidden units whose outputs are zero or negative on the whole minibatch.

    The authors' code also counts the head as a layer, without dead units, which lowers the fraction.
    """
    dead = [jnp.all(h <= 0, axis=1) for h in probe.view.hidden]  # [critic, unit]
    return jnp.mean(jnp.concatenate(dead, axis=-1))


def feature_norm(probe: Probe) -> Array:
    """Mean over samples of ||h||_2, summed over the hidden layers."""
    norms = [jnp.mean(jnp.linalg.norm(h, axis=-1)) for h in probe.view.hidden]
    return jnp.sum(jnp.stack(norms))


def stable_rank(probe: Probe) -> Array:
    """How many singular values of the last hidden layer's outputs make up 99 % of their sum (srank).

    The outputs are [min(256, samples), units], so the rank is at most the smaller of the two.

    Source:
        Kumar et al. 2021.
    """
    h = probe.view.hidden[-1][:, :_RANK_ROWS]
    # One matrix at a time: jaxlib computes a batch of them in threads that wait for more threads of the same
    # pool, so two such programs at once can deadlock.
    singular = jnp.stack([jnp.linalg.svd(of_critic, compute_uv=False) for of_critic in h])
    share = jnp.cumsum(singular, -1)
    count = 1 + jnp.sum(share < _RANK_SHARE * share[:, -1:], -1)
    return jnp.mean(count.astype(jnp.float32))


def statistics_drift(probe: Probe) -> Array:
    """How far one update moves the running means, in running standard deviations (root mean square)."""
    squares = []
    old, new = _running_statistics(probe.view.stats), _running_statistics(probe.view.new_stats)
    for before, after in zip(old, new, strict=True):
        squares.append(jnp.square(after["mean"] - before["mean"]) / (before["variance"] + 1e-8))
    return jnp.sqrt(jnp.mean(jnp.concatenate(squares)))


def variance_drift(probe: Probe) -> Array:
    """How far one update moves the running variances, as a share of them (root mean square).

    Of each unit it is (1 - momentum) |r^2 - 1|, where r^2 is the minibatch's variance over the running one,
    as in batch renormalisation (Ioffe 2017, section 3): it tells how differently training and acting
    normalise.
    """
    squares = []
    old, new = _running_statistics(probe.view.stats), _running_statistics(probe.view.new_stats)
    for before, after in zip(old, new, strict=True):
        squares.append(jnp.square((after["variance"] - before["variance"]) / (before["variance"] + 1e-8)))
    return jnp.sqrt(jnp.mean(jnp.concatenate(squares)))


def smallest_target(probe: Probe) -> Array:
    """The smallest target of the minibatch."""
    return jnp.min(probe.view.target)


def largest_target(probe: Probe) -> Array:
    """The largest target of the minibatch."""
    return jnp.max(probe.view.target)


def _norm(tree: Tree) -> Array:
    return jnp.asarray(optax.tree.norm(tree))


def _by_layer(critics: list[list[Tree]]) -> Array:
    """The norm of each layer, averaged over the critics, [layer]."""
    norms = []
    for layers in critics:
        norms.append(jnp.stack([_norm(layer) for layer in layers]))
    return jnp.mean(jnp.stack(norms), 0)


def _mean(function: Callable[[list[Tree]], Array], critics: list[list[Tree]]) -> Array:
    return jnp.mean(jnp.stack([function(layers) for layers in critics]))


def _rate(probe: Probe, part: slice) -> Array:
    rates = []
    for gradients, layers in zip(probe.gradients, probe.layers, strict=True):
        rates.append(_turning(gradients[part], layers[part]))
    return jnp.mean(jnp.stack(rates))


def _turning(gradients: list[Tree], layers: list[Tree]) -> Array:
    """sum n ||g|| / ||w|| over sum n, for the arrays of n entries in these layers."""
    rates, entries = [], 0
    for gradient, weights in zip(gradients, layers, strict=True):
        for name, array in weights.items():
            rate = array.size * _norm(gradient[name]) / jnp.maximum(_norm(array), 1e-12)
            # A bias that is still zero has no direction that a gradient could turn.
            rates.append(jnp.where(_norm(array) > 0, rate, 0.0))
            entries += array.size
    return jnp.asarray(jnp.sum(jnp.stack(rates)) / entries)


def _running_statistics(stats: Tree) -> list[dict[str, Array]]:
    """The running mean and variance of every batch norm."""

    def is_norm(node: Tree) -> bool:
        return isinstance(node, dict) and "mean" in node and "variance" in node

    return [node for node in jax.tree.leaves(stats, is_leaf=is_norm) if is_norm(node)]
