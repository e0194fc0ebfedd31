"""The spectrum of the Hessian of the critic's loss, by stochastic Lanczos quadrature.

Weight and batch normalisation are meant to keep the loss well conditioned (paper v2, section 4). The spectrum
shows whether they do: its largest eigenvalue limits the stable learning rates, and its spread is the
conditioning.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Array, CriticView


class Spectrum(NamedTuple):
    """An estimate of how a Hessian's eigenvalues are distributed."""

    values: np.ndarray  # [probes, iterations], ascending within a probe
    weights: np.ndarray  # [probes, iterations], the share of eigenvalues near each value; sums to 1 per probe
    size: int  # number of parameters, which is the number of eigenvalues

    @property
    def largest(self) -> float:
        """The largest eigenvalue found; the ends of the spectrum converge first."""
        return float(self.values[self.weights > 0].max())

    @property
    def smallest(self) -> float:
        """The smallest (most negative) eigenvalue found."""
        return float(self.values[self.weights > 0].min())

    def describe(self) -> list[str]:
        """Sentences that summarise the spectrum."""
        top = self.largest
        threshold = 1e-3 * max(abs(self.smallest), abs(top))
        flat = self.share(-threshold, threshold)
        return [
            f"Hessian of the critic's loss ({self.size:,} parameters): eigenvalues from {self.smallest:.3g} "
            f"to {top:.3g}",
            f"{flat:.1%} of them are smaller in magnitude than a thousandth of the largest: flat directions",
        ]

    def share(self, low: float, high: float) -> float:
        """The estimated share of eigenvalues in the interval [low, high)."""
        inside = (self.values >= low) & (self.values < high)
        return float((self.weights * inside).sum() / len(self.values))


def spectrum(view: Callable[[], CriticView], key: Array, iterations: int = 64, probes: int = 4) -> Spectrum:
    """Estimates the spectrum by Lanczos iterations with full re-orthogonalisation from random directions.

    Each iteration costs one product of the Hessian with a vector.

    Args:
        view: returns the critic on the minibatch whose loss is meant; is traced by JAX.
        key: random key of the directions.
        iterations: Lanczos iterations per direction; the ends of the spectrum converge first.
        probes: random directions, over which the estimate is averaged.

    Source:
        Ghorbani et al. 2019.
    """
    probe = jax.jit(partial(_probe, view, iterations))
    values, weights = [], []
    for each in jax.random.split(key, probes):
        diagonal, sides = probe(each)
        found, shares = _ritz(np.asarray(diagonal), np.asarray(sides))
        values.append(found)
        weights.append(shares)
    params = jax.eval_shape(lambda: view().params)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Spectrum(np.stack(values), np.stack(weights), size)


def _probe(view: Callable[[], CriticView], iterations: int, key: Array) -> tuple[Array, Array]:
    """The tridiagonal matrix of the Hessian from one random direction; is traced by JAX."""
    from jax.flatten_util import ravel_pytree

    critic = view()
    flat, unravel = ravel_pytree(critic.params)
    gradient = jax.grad(lambda x: critic.loss(unravel(x)))

    def product(v: Array) -> Array:
        return jnp.asarray(jax.jvp(gradient, (flat,), (v,))[1])

    return lanczos(product, jax.random.normal(key, flat.shape), min(iterations, flat.size))


def lanczos(product: Callable[[Array], Array], start: Array, iterations: int) -> tuple[Array, Array]:
    """Reduces a symmetric linear map to a tridiagonal matrix on the Krylov space of `start`.

    Args:
        product: multiplies the map with a vector [n].
        start: [n].
        iterations: size of the matrix.

    Returns:
        The diagonal [iterations], and the entries next to it [iterations - 1].
    """
    basis = jnp.zeros((iterations, start.size)).at[0].set(start / jnp.linalg.norm(start))

    def step(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, diagonal, sides = carry
        w = product(basis[i])
        diagonal = diagonal.at[i].set(w @ basis[i])
        for _ in range(2):  # "twice is enough" (Kahan and Parlett)
            w = w - basis.T @ (basis @ w)
        length = jnp.linalg.norm(w)
        basis = basis.at[i + 1].set(jnp.where(length > 0, w / jnp.maximum(length, 1e-30), 0.0), mode="drop")
        return basis, diagonal, sides.at[i].set(length, mode="drop")

    carry = basis, jnp.zeros(iterations), jnp.zeros(max(iterations - 1, 0))
    _, diagonal, sides = jax.lax.fori_loop(0, iterations, step, carry)
    return diagonal, sides


def _ritz(diagonal: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of the tridiagonal matrix, and the squared first entries of its eigenvectors."""
    # In float64 on the host: the weights are squares of small numbers.
    matrix = np.diag(diagonal.astype(float)) + np.diag(sides, 1) + np.diag(sides, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values, np.square(vectors[0])
