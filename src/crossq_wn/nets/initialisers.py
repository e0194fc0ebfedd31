"""Initial kernels of dense layers, drawn with NumPy."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Initialiser = Callable[
    [np.random.Generator, int, int], np.ndarray
]  # (generator, n_in, n_out) -> [n_in, n_out]


class ShapesOnly(np.random.Generator):
    """Draws a state of which only shapes and types matter: kernels of layers are zeros.

    Inside `jax.eval_shape` these take no memory, however wide they are.
    """

    def __init__(self, bits: np.random.BitGenerator | None = None) -> None:
        super().__init__(bits or np.random.PCG64(0))


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal initialisation (Saxe et al. 2014), with orthonormal rows or columns times `gain`.

    Args:
        gain: the singular values, all equal; sqrt(2) suits rectifiers.

    Returns:
        An initialiser of kernels [n_in, n_out].
    """

    def init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        # NumPy and not JAX, because several QR factorisations in one jitted CPU program can deadlock.
        tall = generator.standard_normal((max(n_in, n_out), min(n_in, n_out)))
        with _one_blas_thread():
            q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Haar)
        return np.asarray(gain * (q if n_in >= n_out else q.T), np.float32)

    return init


def xavier_uniform(gain: float) -> Initialiser:
    """Uniform in +-gain sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010)."""

    def init(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        bound = gain * np.sqrt(6 / (n_in + n_out))
        return generator.uniform(-bound, bound, (n_in, n_out)).astype(np.float32)

    return init


def he_normal(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """A normal of variance 2 / n_in, truncated at two standard deviations (He et al. 2015, as in flax)."""
    kernel = generator.standard_normal((n_in, n_out))
    while (beyond := np.abs(kernel) > 2).any():
        kernel[beyond] = generator.standard_normal(int(beyond.sum()))
    truncated_std = 0.87962566103423978  # of a standard normal truncated at 2; the division undoes its effect
    return np.asarray(kernel * np.sqrt(2 / n_in) / truncated_std, np.float32)


def narrow_normal(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """A normal of standard deviation 0.02, as in TD-MPC2.

    Its code also truncates at +-2, a hundred standard deviations away, which makes no difference.
    """
    return generator.normal(0.0, 0.02, (n_in, n_out)).astype(np.float32)


def zero(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
    """A kernel of zeros; draws no random numbers."""
    return np.zeros((n_in, n_out), np.float32)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Has NumPy's BLAS compute in one thread meanwhile, where it is an OpenBLAS, as in NumPy's wheels.

    Threads of OpenBLAS wait for each other in busy loops. Where other processes want the processors too, a
    factorisation took two threads up to 3 s, and one thread 0.03 to 0.1 s, with the same result.
    """
    found = _openblas()
    if found is None:
        yield
        return
    count, limit = found
    threads = count()
    limit(1)
    try:
        yield
    finally:
        limit(threads)


def _openblas() -> tuple[Any, Any] | None:
    """OpenBLAS's functions that return and set its number of threads; None if NumPy uses another BLAS."""
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (AttributeError, OSError):
        return None
    for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
        count, limit = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
        if count is not None and limit is not None:
            return count, limit
    return None
