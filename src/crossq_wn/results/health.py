"""What do a run's diagnostics mean, in words? First and last values, how they changed, and what follows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms import ALGORITHMS, CriticTraits, registered
from crossq_wn.errors import UserError
from crossq_wn.lazy import jax
from crossq_wn.learning.diagnostics import DIAGNOSTICS, shown
from crossq_wn.learning.hessian import Spectrum, spectrum
from crossq_wn.learning.replay import Replay
from crossq_wn.results import reading
from crossq_wn.results.records import RunRecord
from crossq_wn.runs import checkpoints
from crossq_wn.runs.config import RunConfig, read_config
from crossq_wn.training.building import build_algorithm, replay_capacity

_FEW = 3  # rows whose median stands for an end of a curve
_ENOUGH = 2 * _FEW  # rows of metrics.csv below which nothing is said
_GREW, _FELL = 1.5, 0.67  # last over first, beyond which a norm or a rate is said to have moved
_ENOUGH_EVALUATED = 2  # each is a mean over many state-action pairs


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


def critic_of(config: RunConfig) -> CriticTraits:
    """What is known of the critic of a run's algorithm."""
    return ALGORITHMS[registered(config.system.algorithm)].critic(config.settings)


def courses(run: Path) -> dict[str, Course]:
    """The diagnostics of a run by name, and its Q-bias if that was evaluated.

    Raises UserError if it has none, or too few rows of them.
    """
    record = RunRecord(run)
    _ = record.config
    found = {}
    for diagnostic in shown():
        name, evaluated = diagnostic.name, diagnostic.file == "eval.csv"
        read = reading.evaluations([record], name) if evaluated else reading.logged([record], name)
        fewest = _ENOUGH_EVALUATED if evaluated else _ENOUGH
        for tasks in read.values():
            for curves in tasks.values():
                if (course := _course(curves.values, fewest)) is not None:
                    found[name] = course
    if "critic_norm" not in found:
        raise UserError(
            f"{run} has fewer than {_ENOUGH} rows of diagnostics: train on, or with a smaller --log-every; "
            "runs with --no-diagnostics or of older versions have none"
        )
    return found


def change(name: str, course: Course) -> str:
    """How a diagnostic moved: `7x`; as a difference, `+4.85`, where it has a sign or began at 0."""
    if DIAGNOSTICS[name].signed or not course.first:
        return f"{course.last - course.first:+.3g}"
    return f"{course.growth:.3g}x"


def findings(found: dict[str, Course], critic: CriticTraits) -> list[str]:
    """What the courses mean for an algorithm with such a critic; at least one sentence."""
    return [
        *_norms(found, critic),
        *_capacity(found, critic),
        *_values(found),
        *_bias(found),
        *_exploration(found),
    ]


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
        raise UserError(f"{config.system.algorithm} shows no critic: its Hessian cannot be had")
    like = {"state": algorithm.init(np.random.default_rng(0)), "memory": algorithm.memory}
    state = saved.state(seed, like).learner["state"]
    replay = Replay(replay_capacity(config), *sizes)
    saved.fill(seed, replay)
    if not len(replay):
        raise UserError(f"{run} has no transitions yet: train it further")
    drawn = replay.sample(np.random.default_rng(0), 1, settings.batch_size, horizon=algorithm.horizon)
    batch = jax.tree.map(lambda leaf: leaf[0], drawn)
    updates = jax.numpy.asarray(saved.common["updates"], np.int32)
    return spectrum(lambda: view(state, batch, updates), jax.random.key(0))


def _course(values: np.ndarray, fewest: int) -> Course | None:
    """Of curves [seeds, rows]; None if they are too short, or no seed has finite values at both ends."""
    few = min(_FEW, values.shape[1] // 2)
    finite = np.where(np.isfinite(values), values, np.nan)
    ends = finite[:, :few], finite[:, -few:]
    whole = np.all([np.isfinite(end).any(axis=1) for end in ends], axis=0)
    if values.shape[1] < fewest or not whole.any():
        return None
    return Course(*(float(np.nanmean(np.nanmedian(end[whole], axis=1))) for end in ends))


def _norms(found: dict[str, Course], critic: CriticTraits) -> list[str]:
    weights, rates = found["critic_norm"], found.get("critic_elr")
    moved = [_moved("critic weight norm", weights)]
    if rates and critic.scale_free:  # elsewhere a layer's scale matters by itself
        moved.append(_moved("effective learning rate", rates))
    said = [": ".join([", ".join(moved), *_meaning(found, critic)])]
    if rates is None:
        said.append("the effective learning rate is not finite: gradients overflow; lower the learning rates")
    return said


def _moved(what: str, course: Course) -> str:
    if course.growth > _GREW:
        return f"{what} grew {course.growth:.2g}x"
    if course.growth < _FELL:
        return f"{what} fell {course.fall:.2g}x"
    return f"{what} held ({course.growth:.2f}x)"


def _meaning(found: dict[str, Course], critic: CriticTraits) -> list[str]:
    """Why the norm and the effective learning rate moved as they did, and what to do; in one part, if any."""
    weights, rates = found["critic_norm"], found.get("critic_elr")
    if weights.growth > _GREW:
        return [_growth(found, critic)]
    if weights.growth < _FELL:
        return ["weight decay outweighs the gradients, or a reset began anew"]
    if rates is None or not critic.scale_free:
        return []
    if rates.growth < _FELL:
        return ["gradients shrank as the critic fits"]
    return ["gradients grew" if rates.growth > _GREW else "updates stay effective"]


def _growth(found: dict[str, Course], critic: CriticTraits) -> str:
    if not critic.scale_free:
        return "outputs grow with it unless a normalisation follows each layer; weight decay bounds weights"
    if not critic.bounded:
        return f"what weight normalisation removes ({critic.remedy})"
    whole, head = found["critic_norm"], found.get("critic_norm_head", Course(0, 0))
    if head.last - head.first < (whole.last - whole.first) / 2:
        return "weight normalisation leaves some biases free (--weight-norm neuron holds them too)"
    text = f"the head grew ({head.first:.3g} to {head.last:.3g}), with the values; hidden layers are held"
    return f"{text} ({critic.remedy} holds the head too)" if critic.remedy else text


def _capacity(found: dict[str, Course], critic: CriticTraits) -> list[str]:
    said = []
    dead, rank = found.get("dead_neurons"), found.get("stable_rank")
    if dead and dead.last > 0.1:
        remedy = "resets" if critic.bounded else "resets or weight normalisation"
        said.append(f"{dead.last:.0%} of the hidden units are dead: capacity is lost; try {remedy}")
    if rank and rank.growth < 0.5:
        said.append(f"stable rank fell from {rank.first:.0f} to {rank.last:.0f}: features collapse")
    features = found.get("feature_norm")
    if features and features.growth > 5:
        held = "the normalisation after them takes that out" if critic.scale_free else "nothing holds them"
        said.append(f"features grew {features.growth:.2g}x: {held}")
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
            f"batch norm's running means move by {drift.last:.2g} standard deviations per update: acting and "
            "training see different networks; a larger minibatch or a higher --norm-momentum calms them"
        )
    return said


def _bias(found: dict[str, Course]) -> list[str]:
    mean, spread = found.get("q_bias_mean"), found.get("q_bias_std")
    if not mean or not spread:
        return []
    if abs(mean.last) <= 0.1:
        what = f"the critics' values are right on average (Q-bias {mean.last:+.0%} of the return)"
    else:
        over = "overestimate" if mean.last > 0 else "underestimate"
        what = f"the critics {over} returns by {abs(mean.last):.0%} (Q-bias)"
    return [f"{what}, with a spread of {spread.last:.0%}: the spread misleads the policy, the mean hardly"]


def _exploration(found: dict[str, Course]) -> list[str]:
    temperature = found.get("temperature")
    if temperature and temperature.growth < 1e-2:
        return [f"temperature fell {temperature.fall:.2g}x: the policy hardly explores any more"]
    if temperature and temperature.growth > 1e2:
        return [f"temperature grew {temperature.growth:.2g}x: the policy cannot keep the target entropy"]
    return []
