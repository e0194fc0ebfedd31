"""Initial kernels of dense layers, drawn on the host."""

from collections.abc import Callable

import numpy as np

Initialiser = Callable[[np.random.Generator, int, int], np.ndarray]  # (generator, n_in, n_out) -> kernel


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal initialisation: the longer side of the matrix is orthonormal up to `gain`."""

    def init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        # On the host, because several QR factorisations in one jitted CPU program can deadlock.
        tall = generator.standard_normal((max(n_in, n_out), min(n_in, n_out)))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Haar)
        return np.asarray(gain * (q if n_in >= n_out else q.T), np.float32)

    return init


def he_normal(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """Normal of variance 2 / n_in, cut off at two standard deviations (He et al. 2015, as in flax)."""
    kernel = generator.standard_normal((n_in, n_out))
    while (beyond := np.abs(kernel) > 2).any():
        kernel[beyond] = generator.standard_normal(int(beyond.sum()))
    after_cut = 0.87962566103423978  # standard deviation of a normal that is cut off at 2
    return np.asarray(kernel * np.sqrt(2 / n_in) / after_cut, np.float32)


def narrow_normal(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """Normal of standard deviation 0.02 (TD-MPC2, whose code also cuts it off, 100 deviations away)."""
    return generator.normal(0.0, 0.02, (n_in, n_out)).astype(np.float32)


def zero(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """Nothing but zeros; draws no random numbers."""
    return np.zeros((n_in, n_out), np.float32)
