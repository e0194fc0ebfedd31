"""How healthy is a critic? Each diagnostic is one function of the critic as one gradient update sees it.

All are means over the critics. Norms and rates are of the dense layers alone (kernel and bias jointly, from
layer 1 to the head): they are what weight normalisation bounds and what makes a batch-normalised network
learn ever more slowly as it grows (paper v2, sections 3 and 4).
"""

from collections.abc import Callable
from typing import NamedTuple

from crossq_wn.lazy import jax, jnp, optax
from crossq_wn.nets.layers import dense_layers
from crossq_wn.types import Array, CriticView, Metrics, Tree

_RANK_ROWS = 256  # samples whose singular values are taken; they cost most of all diagnostics
_RANK_SHARE = 0.99


class Probe(NamedTuple):
    """What the diagnostics share."""

    view: CriticView
    layers: list[list[Tree]]  # [critic][layer]: {kernel[, bias]}
    gradients: list[list[Tree]]  # likewise


def diagnose(view: CriticView) -> Metrics:
    """All diagnostics of a critic by name; scalars."""
    gradients = jax.grad(view.loss)(view.params)
    probe = Probe(view, [dense_layers(p) for p in view.params], [dense_layers(g) for g in gradients])
    return {name: value for diagnostic in DIAGNOSTICS for name, value in diagnostic(probe).items()}


def parameter_norm(probe: Probe) -> Metrics:
    """`critic_norm`: sum over dense layers of ||[W; b]||_F (paper v2, figure 3); and of each layer.

    `critic_norm_root` is the root of the sum of squares instead, as in the authors' later code.
    """
    by_layer = _by_layer(_norm, probe.layers)
    return {
        "critic_norm": jnp.sum(by_layer),
        "critic_norm_root": jnp.mean(jnp.stack([_norm(layers) for layers in probe.layers])),
        **_named("critic_norm", by_layer),
    }


def gradient_norm(probe: Probe) -> Metrics:
    """`critic_gradient_norm`: ||g||_2 of the loss over all dense layers (figure 3); and of each layer."""
    total = jnp.stack([_norm(layers) for layers in probe.gradients])
    by_layer = _by_layer(_norm, probe.gradients)
    return {"critic_gradient_norm": jnp.mean(total), **_named("critic_gradient_norm", by_layer)}


def effective_learning_rate(probe: Probe) -> Metrics:
    """How far gradients can turn weights; where a normalised layer grows by c, both fall by c^-2.

    `critic_elr`: mean of ||g|| / ||w|| over parameter arrays, weighted by their sizes, as in the authors'
    later code and in figure 3; `_hidden` without the head, `_head` of the head alone.
    `critic_step_size`: eta / ||w||^2, mean over hidden layers (Van Laarhoven 2017).
    """
    pairs = [list(zip(g, w, strict=True)) for g, w in zip(probe.gradients, probe.layers, strict=True)]
    square = jnp.square(_by_layer(_norm, probe.layers)[:-1])
    return {
        "critic_elr": _mean(_turning, pairs),
        "critic_elr_hidden": _mean(_turning, [layers[:-1] for layers in pairs]),
        "critic_elr_head": _mean(_turning, [layers[-1:] for layers in pairs]),
        "critic_step_size": jnp.mean(probe.view.learning_rate / square),
    }


def dead_neurons(probe: Probe) -> Metrics:
    """`dead_neurons`: the fraction of hidden units that are zero or below on the whole minibatch.

    Over hidden units alone; the authors' code counts the head as a layer without any, which dilutes it.
    """
    dead = [jnp.all(h <= 0, axis=1) for h in probe.view.hidden]  # [critic, unit]
    return {"dead_neurons": jnp.mean(jnp.concatenate(dead, axis=-1))}


def feature_norm(probe: Probe) -> Metrics:
    """`feature_norm`: mean over samples of ||h||_2, summed over hidden layers."""
    norms = [jnp.mean(jnp.linalg.norm(h, axis=-1)) for h in probe.view.hidden]
    return {"feature_norm": jnp.sum(jnp.stack(norms))}


def stable_rank(probe: Probe) -> Metrics:
    """`stable_rank`: singular values of the last hidden layer's outputs that make 99 % of their sum (srank).

    Of [min(256, samples), units] outputs (Kumar et al. 2021); at most the smaller of the two.
    """
    h = probe.view.hidden[-1][:, :_RANK_ROWS]
    # One matrix at a time: batches wait in jaxlib's thread pool, and two that fill it wait for ever.
    singular = jnp.stack([jnp.linalg.svd(of_critic, compute_uv=False) for of_critic in h])
    share = jnp.cumsum(singular, -1)
    count = 1 + jnp.sum(share < _RANK_SHARE * share[:, -1:], -1)
    return {"stable_rank": jnp.mean(count.astype(jnp.float32))}


def statistics_drift(probe: Probe) -> Metrics:
    """`bn_drift`: by how much one update moves the running means, in running standard deviations (rms).

    0 without batch norm.
    """
    old, new = (_moments(stats) for stats in (probe.view.stats, probe.view.new_stats))
    squares = [
        jnp.square(n["mean"] - o["mean"]) / (o["variance"] + 1e-8) for o, n in zip(old, new, strict=True)
    ]
    return {"bn_drift": jnp.sqrt(jnp.mean(jnp.concatenate(squares))) if squares else jnp.zeros(())}


def target_range(probe: Probe) -> Metrics:
    """The smallest and the largest target of the minibatch."""
    return {"target_q_min": jnp.min(probe.view.target), "target_q_max": jnp.max(probe.view.target)}


DIAGNOSTICS: tuple[Callable[[Probe], Metrics], ...] = (
    parameter_norm,
    gradient_norm,
    effective_learning_rate,
    dead_neurons,
    feature_norm,
    stable_rank,
    statistics_drift,
    target_range,
)


def _norm(tree: Tree) -> Array:
    return jnp.asarray(optax.tree.norm(tree))


def _by_layer(function: Callable[[Tree], Array], critics: list[list[Tree]]) -> Array:
    """Means over the critics, [layer]."""
    return jnp.mean(jnp.stack([jnp.stack([function(layer) for layer in layers]) for layers in critics]), 0)


def _mean(function: Callable[[list[Tree]], Array], critics: list[list[Tree]]) -> Array:
    return jnp.mean(jnp.stack([function(layers) for layers in critics]))


def _turning(pairs: list[tuple[Tree, Tree]]) -> Array:
    """sum n ||g|| / ||w|| over sum n, of (gradient, weights) layers with arrays of n entries."""
    arrays = [(g[name], w[name]) for g, w in pairs for name in w]
    rates = [w.size * _norm(g) / jnp.maximum(_norm(w), 1e-12) for g, w in arrays]
    # A bias that is still zero has no direction yet.
    known = [jnp.where(_norm(w) > 0, rate, 0.0) for rate, (_, w) in zip(rates, arrays, strict=True)]
    return jnp.asarray(jnp.sum(jnp.stack(known)) / sum(w.size for _, w in arrays))


def _named(stem: str, values: Array) -> Metrics:
    names = [*(f"{stem}_{i + 1}" for i in range(len(values) - 1)), f"{stem}_head"]
    return dict(zip(names, values, strict=True))


def _moments(stats: Tree) -> list[dict[str, Array]]:
    """The running moments of all batch norms."""

    def found(node: Tree) -> bool:
        return isinstance(node, dict) and "mean" in node and "variance" in node

    return [node for node in jax.tree.leaves(stats, is_leaf=found) if found(node)]
