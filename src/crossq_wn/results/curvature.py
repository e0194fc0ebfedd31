"""The curvature of a trained critic's loss: the spectrum of its Hessian at a run's newest checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.hessian import Spectrum, spectrum
from crossq_wn.machine import use_jax
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import read_config, with_algorithm
from crossq_wn.runs.trust import require_algorithm, require_unchanged
from crossq_wn.training.algorithms import build_algorithm, saved_spec, saved_state
from crossq_wn.training.building import make_replay


def spectrum_of(run: Path, seed: int | None, warn: Callable[[str], None], *, trust: bool = False) -> Spectrum:
    """Computes the spectrum of a critic's Hessian at the newest checkpoint, on a minibatch from its replay.

    Args:
        run: a run directory.
        seed: the training seed; None takes the first.
        warn: called with a line for each damaged checkpoint.
        trust: whether to import a user's own algorithm even if nothing was trained with it here.

    Raises:
        UserError: there is no usable checkpoint, no such seed, no critic, or the replay is empty.
    """
    use_jax()
    config = read_config(run)
    require_algorithm(config, run, trust=trust)
    config = with_algorithm(config)
    require_unchanged(config, run)
    saved = checkpoints.newest(run / "checkpoints", warn)
    seed = saved.seeds[0] if seed is None else seed
    if seed not in saved.seeds:
        known = ", ".join(map(str, saved.seeds))
        raise UserError(f"{run} has no seed {seed} at {saved.frames:,} frames: it has {known}")
    spec = saved_spec(config, saved)
    algorithm = build_algorithm(config, spec)
    if (view := algorithm.view) is None:
        raise UserError(f"{config.system.algorithm} shows no critic: its Hessian cannot be computed")
    state = saved_state(algorithm, saved, seed)
    replay = make_replay(config, spec, algorithm.sampling.priorities)
    saved.fill(seed, replay)
    if not len(replay):
        raise UserError(f"{run} has no transitions yet: train it further")
    size = config.settings.batch_size
    drawn = replay.sample(np.random.default_rng(0), 1, size, algorithm.sampling)
    batch = jax.tree.map(lambda leaf: leaf[0], drawn)
    updates = jnp.asarray(saved.progress(seed)[1], np.int32)
    return spectrum(lambda: view(state, batch, updates), jax.random.key(0))
