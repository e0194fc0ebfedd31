"""A rough forecast of how long training takes, shown until its own pace is known."""

from __future__ import annotations  # JAX's types are loaded on first use

import time
from functools import cache

import numpy as np

from crossq_wn.lazy import jax
from crossq_wn.training.session import Session

# A state holds parameters, two moments and a copy of the critics: four numbers per parameter. Each sample
# takes six multiply-adds per parameter, forwards and backwards, through online and target networks.
_PER_NUMBER = 6 / 4
# Half as much again as was measured on a quiet machine, since a forecast should not be too short.
_BESIDES = 2.0  # the time of an update over that of its matrix products
_PER_ARRAY = 1.5e-5  # seconds that starting a program takes per array of the state


def forecast(session: Session, updates: int, frames_rate: float) -> float | None:
    """Estimates the seconds until training ends by the sizes of the networks and the speed of this machine.

    Compiling and evaluations are left out. It errs to the long side, unless something else keeps the machine
    busy.

    Args:
        session: whose learners have been made, or nothing is known.
        updates: gradient updates per seed that are still to be made.
        frames_rate: environment frames per second and seed without updates; 0 if unknown.

    Returns:
        Seconds; None where the rate is unknown, updates do not run on this machine's processors, or every
        action is planned.
    """
    left, hertz = session.config.decisions - session.decisions, session.config.options.real_time
    if hertz is not None:
        return left / hertz
    if not frames_rate or session.states is None or session.algorithm.prior is not None:
        return None
    if jax.default_backend() != "cpu":
        return None
    arrays = jax.tree.leaves(session.states)
    products = _PER_NUMBER * session.config.settings.batch_size * sum(array.size for array in arrays)
    update: float = _BESIDES * products / multiply_adds_per_second() + _PER_ARRAY * len(arrays)
    return updates * update + left * session.config.action_repeat / frames_rate


@cache
def multiply_adds_per_second() -> float:
    """How fast this machine multiplies matrices of the size of usual minibatches and layers."""
    batch, kernel = np.ones((256, 512), np.float32), np.ones((512, 512), np.float32)
    seconds = []
    for _ in range(20):  # the first also starts the threads of BLAS
        start = time.perf_counter()
        np.matmul(batch, kernel)
        seconds.append(time.perf_counter() - start)
    return float(batch.size * kernel.shape[1] / min(seconds))
