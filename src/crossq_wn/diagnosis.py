"""What do a run's diagnostics mean, in words? First and last values, how they changed, and what follows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from crossq_wn import checkpoints, tidy
from crossq_wn.errors import UserError
from crossq_wn.hessian import Spectrum, spectrum
from crossq_wn.replay import Replay
from crossq_wn.runs import read_config
from crossq_wn.training import build_algorithm

# Column of metrics.csv -> what it is.
MEANINGS = {
    "critic_norm": "weight norm of the critics' dense layers, summed",
    "critic_gradient_norm": "norm of the critic loss's gradient",
    "critic_elr": "effective learning rate: gradient over weight norm",
    "critic_step_size": "learning rate over squared weight norm, hidden layers",
    "dead_neurons": "share of hidden units silent on a whole minibatch",
    "feature_norm": "length of the hidden features, summed over layers",
    "stable_rank": "directions that hold 99 % of the last features",
    "bn_drift": "batch-norm drift per update, in standard deviations",
    "q_mean": "mean value of replayed actions",
    "target_q_max": "largest target in a minibatch",
    "entropy": "entropy of the policy (nats)",
    "temperature": "temperature",
}
_FEW = 3  # rows whose median stands for an end of a curve
_ENOUGH = 2 * _FEW  # rows below which nothing is said


class Course(NamedTuple):
    """How one diagnostic went: medians of a few rows at either end; the mean over seeds that have both."""

    first: float
    last: float

    @property
    def growth(self) -> float:
        """last / first; NaN if it began at 0."""
        return self.last / self.first if self.first else float("nan")

    @property
    def fall(self) -> float:
        """first / last; infinite if it ended at 0."""
        return self.first / self.last if self.last else float("inf")


def courses(run: Path) -> dict[str, Course]:
    """The diagnostics of a run by name.

    Raises UserError if it has none, or too few rows of them.
    """
    read_config(run)
    found = {}
    for name in MEANINGS:
        for tasks in tidy.read_metric([run], name).values():
            for curves in tasks.values():
                if curves.values.shape[1] >= _ENOUGH:
                    ends = curves.values[:, :_FEW], curves.values[:, -_FEW:]
                    whole = np.all([np.isfinite(end).any(axis=1) for end in ends], axis=0)
                    if whole.any():
                        found[name] = Course(*(_middle(end[whole]) for end in ends))
    if "critic_norm" not in found:
        raise UserError(
            f"{run} has fewer than {_ENOUGH} rows of diagnostics: train on, or with a smaller --log-every; "
            "runs with --no-diagnostics or of older versions have none"
        )
    return found


def findings(found: dict[str, Course]) -> list[str]:
    """What the courses mean, the most telling first; at least one sentence."""
    said = [sentence for rule in _RULES for sentence in rule(found)]
    return said or ["nothing remarkable: norms, effective learning rate and features stay where they began"]


def spectrum_of(run: Path, seed: int | None, warn: Callable[[str], None]) -> Spectrum:
    """The spectrum of the critic's Hessian at the newest checkpoint, on a minibatch from its replay.

    Raises UserError if there is no usable checkpoint, no such seed, or nothing to look at.
    """
    config = read_config(run)
    saved = checkpoints.newest(run / "checkpoints", warn)
    seed = saved.seeds[0] if seed is None else seed
    if seed not in saved.seeds:
        raise UserError(f"{run} has no seed {seed} at {saved.frames:,} frames: it has {saved.seeds}")
    interface, settings = saved.common["interface"], config.settings
    sizes = interface["observation_size"], len(interface["action_low"])
    algorithm = build_algorithm(config, *sizes)
    if (view := algorithm.view) is None:
        raise UserError(f"{config.algorithm} shows no critic: its Hessian cannot be had")
    like = {"state": algorithm.init(np.random.default_rng(0)), "memory": algorithm.memory}
    state = saved.state(seed, like).learner["state"]
    replay = Replay(min(settings.replay_size, 2 * config.decisions), *sizes)
    saved.fill(seed, replay)
    if not len(replay):
        raise UserError(f"{run} has no transitions yet: train it further")
    drawn = replay.sample(np.random.default_rng(0), 1, settings.batch_size, horizon=algorithm.horizon)
    batch = jax.tree.map(lambda leaf: leaf[0], drawn)
    updates = jax.numpy.asarray(saved.common["updates"], np.int32)
    return spectrum(lambda: view(state, batch, updates), jax.random.key(0))


def _middle(ends: np.ndarray) -> float:
    return float(np.nanmean(np.nanmedian(ends, axis=1)))


def _norms(found: dict[str, Course]) -> list[str]:
    weights, rates = found["critic_norm"], found["critic_elr"]
    norm, rate = weights.growth, rates.growth
    if norm > 1.5:
        text = f"critic weight norm grew {norm:.2g}x"
        if rates.fall > 1.5:
            text += f", effective learning rate fell {rates.fall:.2g}x"
        return [f"{text}: what weight normalisation removes (--algorithm crossq-wn)"]
    if norm < 0.67:
        return [f"critic weight norm fell {weights.fall:.2g}x: weight decay outweighs the gradients"]
    kept = f"critic weight norm held ({norm:.2f}x)"
    if rates.fall > 1.5:
        fell = f"the effective learning rate fell {rates.fall:.2g}x"
        return [f"{kept}, yet {fell}: gradients shrank as the critic fits"]
    if rate > 1.5:
        return [f"{kept}, and the effective learning rate grew {rate:.2g}x: gradients grew"]
    return [f"{kept} and so did the effective learning rate ({rate:.2f}x): updates stay effective"]


def _capacity(found: dict[str, Course]) -> list[str]:
    said = []
    dead, rank = found.get("dead_neurons"), found.get("stable_rank")
    if dead and dead.last > 0.1:
        said.append(
            f"{dead.last:.0%} of the hidden units are dead: capacity is lost; try resets or weight norm"
        )
    if rank and rank.growth < 0.5:
        said.append(f"stable rank fell from {rank.first:.0f} to {rank.last:.0f}: features collapse")
    features = found.get("feature_norm")
    if features and features.growth > 5:
        said.append(f"features grew {features.growth:.2g}x: activations are not held by a normalisation")
    return said


def _values(found: dict[str, Course]) -> list[str]:
    said = []
    q, drift = found.get("q_mean"), found.get("bn_drift")
    if q and abs(q.last) > 1e4:
        said.append(
            f"values reach {q.last:.3g}: divergence is near; lower the learning rates or the UTD ratio"
        )
    if drift and drift.last > 0.05:
        said.append(
            f"batch-norm statistics move by {drift.last:.2g} standard deviations per update: acting and "
            "training see different networks; a larger minibatch or a higher --norm-momentum calms them"
        )
    return said


def _exploration(found: dict[str, Course]) -> list[str]:
    temperature = found.get("temperature")
    if temperature and temperature.growth < 1e-2:
        return [f"temperature fell {temperature.fall:.2g}x: the policy hardly explores any more"]
    if temperature and temperature.growth > 1e2:
        return [f"temperature grew {temperature.growth:.2g}x: the policy cannot keep the target entropy"]
    return []


_RULES = (_norms, _capacity, _values, _exploration)
