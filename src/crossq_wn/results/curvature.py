"""The curvature of a trained critic's loss: the spectrum of its Hessian at a run's newest checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from crossq_wn.errors import UserError
from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.hessian import Spectrum, spectrum
from crossq_wn.learning.replay import Replay
from crossq_wn.runs import checkpoints
from crossq_wn.runs.checkpoints import Checkpoint
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.training.building import build_algorithm, replay_capacity
from crossq_wn.types import Batch


def spectrum_of(run: Path, seed: int | None, warn: Callable[[str], None]) -> Spectrum:
    """The spectrum of a critic's Hessian at the newest checkpoint, on a minibatch from its replay.

    Args:
        run: a run directory.
        seed: the training seed; by default the first.
        warn: is told of damaged checkpoints.

    Raises:
        UserError: there is no usable checkpoint, no such seed, no critic, or nothing in replay.
    """
    config = read_config(run)
    saved = checkpoints.newest(run / "checkpoints", warn)
    seed = saved.seeds[0] if seed is None else seed
    if seed not in saved.seeds:
        raise UserError(f"{run} has no seed {seed} at {saved.frames:,} frames: it has {saved.seeds}")
    interface = saved.common["interface"]
    sizes = interface["observation_size"], len(interface["action_low"])
    algorithm = build_algorithm(config, *sizes)
    if (view := algorithm.view) is None:
        raise UserError(f"{config.system.algorithm} shows no critic: its Hessian cannot be computed")
    like = {"state": algorithm.init(np.random.default_rng(0)), "memory": algorithm.memory}
    state = saved.state(seed, like).learner["state"]
    batch = _minibatch(config, saved, Replay(replay_capacity(config), *sizes), seed, algorithm.horizon)
    updates = jnp.asarray(saved.common["updates"], np.int32)
    return spectrum(lambda: view(state, batch, updates), jax.random.key(0))


def _minibatch(config: RunConfig, saved: Checkpoint, replay: Replay, seed: int, horizon: int) -> Batch:
    """A minibatch of the replay that a checkpoint keeps, always the same one."""
    saved.fill(seed, replay)
    if not len(replay):
        raise UserError(f"{saved.path} has no transitions yet: train the run further")
    size = config.settings.batch_size
    drawn = replay.sample(np.random.default_rng(0), 1, size, horizon=horizon)
    return Batch(*(leaf[0] for leaf in drawn))
