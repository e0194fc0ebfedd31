"""The spectrum of the critic loss's Hessian, by stochastic Lanczos quadrature.

Weight and batch normalisation are said to keep the loss well-conditioned (paper v2, section 4). The spectrum
shows whether they do: its largest eigenvalue bounds the learning rates that are stable, its spread is the
condition.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.types import Array, CriticView


class Spectrum(NamedTuple):
    """An estimate of the density of a Hessian's eigenvalues."""

    values: np.ndarray  # [probes, iterations], ascending within a probe
    weights: np.ndarray  # [probes, iterations], the share of eigenvalues near each value; a probe's sum is 1
    size: int  # parameters, that is eigenvalues

    @property
    def largest(self) -> float:
        """The largest eigenvalue found, which converges first."""
        return float(self.values[self.weights > 0].max())

    @property
    def smallest(self) -> float:
        """The smallest (most negative) eigenvalue found."""
        return float(self.values[self.weights > 0].min())

    def describe(self) -> list[str]:
        """Puts the spectrum into sentences."""
        top = self.largest
        little = 1e-3 * max(abs(self.smallest), abs(top))
        flat = self.share(-little, little)
        return [
            f"Hessian of the critic's loss ({self.size:,} parameters): eigenvalues from {self.smallest:.3g} "
            f"to {top:.3g}",
            f"{flat:.1%} of them are in magnitude below a thousandth of the largest: flat directions",
        ]

    def share(self, low: float, high: float) -> float:
        """The estimated share of eigenvalues in [low, high)."""
        inside = (self.values >= low) & (self.values < high)
        return float((self.weights * inside).sum() / len(self.values))


def spectrum(view: Callable[[], CriticView], key: Array, iterations: int = 64, probes: int = 4) -> Spectrum:
    """Runs Lanczos with full re-orthogonalisation from random directions; each step is one Hessian product.

    Args:
        view: returns the critic on the minibatch whose loss counts; is traced.
        key: draws the directions.
        iterations: Lanczos steps; the ends of the spectrum converge first.
        probes: random directions, whose mean estimates the density.
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
    """The tridiagonal matrix of the Hessian from one random direction; is traced."""
    from jax.flatten_util import ravel_pytree

    critic = view()
    flat, unravel = ravel_pytree(critic.params)
    gradient = jax.grad(lambda x: critic.loss(unravel(x)))

    def product(v: Array) -> Array:
        return jnp.asarray(jax.jvp(gradient, (flat,), (v,))[1])

    return lanczos(product, jax.random.normal(key, flat.shape), min(iterations, flat.size))


def lanczos(product: Callable[[Array], Array], start: Array, iterations: int) -> tuple[Array, Array]:
    """Reduces a symmetric map to a tridiagonal matrix in the Krylov space of `start`.

    Args:
        product: multiplies a vector [n] with the map.
        start: [n], where the Krylov space begins.
        iterations: the size of the matrix.

    Returns:
        The diagonal [iterations] and the entries beside it [iterations - 1].
    """
    basis = jnp.zeros((iterations, start.size)).at[0].set(start / jnp.linalg.norm(start))

    def step(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, diagonal, sides = carry
        w = product(basis[i])
        diagonal = diagonal.at[i].set(w @ basis[i])
        for _ in range(2):  # re-orthogonalising twice is enough (Kahan and Parlett)
            w = w - basis.T @ (basis @ w)
        length = jnp.linalg.norm(w)
        basis = basis.at[i + 1].set(jnp.where(length > 0, w / jnp.maximum(length, 1e-30), 0.0), mode="drop")
        return basis, diagonal, sides.at[i].set(length, mode="drop")

    carry = basis, jnp.zeros(iterations), jnp.zeros(max(iterations - 1, 0))
    _, diagonal, sides = jax.lax.fori_loop(0, iterations, step, carry)
    return diagonal, sides


def _ritz(diagonal: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the tridiagonal matrix and the squared first entries of its eigenvectors."""
    matrix = np.diag(diagonal.astype(float)) + np.diag(sides, 1) + np.diag(sides, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values, np.square(vectors[0])
