"""The health of a run: how the diagnostics of its critics changed, and what that means, in words."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms import CriticTraits, loaded_recipe
from crossq_wn.algorithms.settings import networks_of
from crossq_wn.errors import UserError, counted, option
from crossq_wn.learning.diagnostics import DIAGNOSTICS, shown
from crossq_wn.results import reading
from crossq_wn.results.experience import Experience, causes, largest_value, remarks
from crossq_wn.results.practice import unlogged
from crossq_wn.results.records import RunRecord
from crossq_wn.runs.config import RunConfig

# How much is read from the files.
_END = 3  # rows at either end of a curve, whose median is compared
_FEWEST_ROWS = 2 * _END  # of metrics.csv; with fewer, nothing is said
_FEWEST_EVALUATIONS = 2  # each is a mean over many state-action pairs

# From which value on something is worth a sentence. Growth is the last value over the first.
_GREW, _FELL = 1.5, 0.67  # growth of a norm or a learning rate that did not hold
_MANY_DEAD = 0.1  # fraction of hidden units
_RANK_COLLAPSED = 0.5  # growth
_FEATURES_GREW = 5  # growth
_HUGE_VALUE = 1e4  # no task here has values near it
_BEYOND = 3  # times the largest value that rewards can add up to
_LARGE_DRIFT = 0.05  # standard deviations per update
_SMALL_BIAS = 0.1  # of the return
_TEMPERATURE_FELL, _TEMPERATURE_GREW = 1e-2, 1e2  # growth
_RANDOM = 0.0  # nats: the entropy of actions that are spread evenly over half of the range of each


class Course(NamedTuple):
    """How a diagnostic changed: the median of its first and of its last few rows, averaged over seeds."""

    first: float
    last: float

    @property
    def growth(self) -> float:
        """Last / first; NaN if it began at 0."""
        return self.last / self.first if self.first else float("nan")

    @property
    def fall(self) -> float:
        """First / last; infinite if it ended at 0."""
        return self.first / self.last if self.last else float("inf")


Courses = dict[str, Course]  # by the diagnostic's name


def critic_of(config: RunConfig) -> CriticTraits:
    """Returns what is known of a run's critic: nothing of a user's own, or if its module is not loaded."""
    recipe = loaded_recipe(config.system.algorithm)
    traits = CriticTraits() if recipe is None else recipe.critic(config.settings)
    if "critic_network" in networks_of(config.settings):  # what is around a critic stays
        traits = CriticTraits(scales_rewards=traits.scales_rewards, normalises=traits.normalises)
    return traits._replace(normalises=traits.normalises or config.options.normalise_observations)


def courses(path: Path) -> Courses:
    """Reads how the diagnostics of a run changed; those that it does not have are left out.

    Args:
        path: a run directory.

    Raises:
        UserError: it is not a run directory, or it has too few rows of diagnostics.
    """
    run = RunRecord(path)
    _ = run.config  # raises where there is none
    found = {}
    for diagnostic in shown():
        if diagnostic.file == "eval.csv":
            results, fewest = reading.evaluations([run], diagnostic.name), _FEWEST_EVALUATIONS
        else:
            results, fewest = reading.logged([run], diagnostic.name), _FEWEST_ROWS
        for tasks in results.values():
            for curves in tasks.values():
                course = _course(curves.values, fewest)
                # Earlier versions recorded 0 where there is no batch norm.
                if course is not None and (diagnostic.of != "batch norm" or course.last):
                    found[diagnostic.name] = course
    if "critic_norm" not in found:
        raise _too_few(run)
    return found


def _too_few(run: RunRecord) -> UserError:
    """Says how many rows of diagnostics a run has, how many it takes and how to get them."""
    lengths = [0]
    for tasks in reading.logged([run], "critic_norm").values():
        lengths += [curves.values.shape[1] for curves in tasks.values()]
    options, rows = run.config.options, max(lengths)
    if not options.diagnostics:
        return UserError(f"{run.path} has no diagnostics: it was trained with {option('diagnostics', False)}")
    if not rows:
        return unlogged([run]) or UserError(
            f"{run.path} has no rows of diagnostics yet: there is one every {options.log_every:,} frames "
            f"({option('log_every')}) after the warm-up; critics without dense layers and older "
            "versions of this package log none"
        )
    lacking = (_FEWEST_ROWS - rows) * options.log_every
    return UserError(
        f"{run.path} has {counted(rows, 'row')} of diagnostics, and {_FEWEST_ROWS} are needed: train "
        f"{lacking:,} frames more with `crossq-wn resume {run.path} --frames {options.frames + lacking}`, or "
        f"a new run with a smaller {option('log_every')} than {options.log_every}"
    )


def _course(values: np.ndarray, fewest: int) -> Course | None:
    """Sums up curves [seeds, rows]; None if they are too short, or no seed is finite at both ends."""
    rows = values.shape[1]
    if rows < fewest:
        return None
    # The two ends of a short curve must not share rows.
    few = min(_END, rows // 2)
    finite = np.where(np.isfinite(values), values, np.nan)
    first, last = finite[:, :few], finite[:, -few:]
    whole = np.isfinite(first).any(axis=1) & np.isfinite(last).any(axis=1)
    if not whole.any():
        return None
    return Course(_level(first[whole]), _level(last[whole]))


def _level(end: np.ndarray) -> float:
    return float(np.nanmean(np.nanmedian(end, axis=1)))


def change(name: str, course: Course) -> str:
    """Writes how a diagnostic changed: `7x`, or the difference, `+4.85`, if it is signed or began at 0.

    Args:
        name: of the diagnostic.
        course: its first and its last level.
    """
    if DIAGNOSTICS[name].signed or not course.first:
        return f"{course.last - course.first:+.3g}"
    return f"{course.growth:.3g}x"


def findings(found: Courses, critic: CriticTraits, seen: Experience | None = None) -> list[str]:
    """Says what the changes mean; first what causes them, if the run's experience says so.

    Args:
        found: how the diagnostics changed; empty if the run has none.
        critic: what is known of the algorithm's critic.
        seen: what the run learned from; None if that is unknown.

    Returns:
        Sentences. Without a cause, the first one on the critics is about their weights. With one, there are
        none on the critics, which would be blamed for what follows from it.
    """
    roots = causes(seen, critic) if seen else []
    if roots:
        return [*roots, "mend that first: what the critics show may follow from it"]
    beside = remarks(seen, critic) if seen else []
    return beside + _of_the_critics(found, critic, seen) if found else beside


def _of_the_critics(found: Courses, critic: CriticTraits, seen: Experience | None) -> list[str]:
    return [
        *_norms(found, critic),
        *_dead_neurons(found, critic),
        *_features(found, critic),
        *_values(found, _largest_value(found, critic, seen)),
        *_bias(found),
        *_exploration(found, seen),
    ]


def _largest_value(found: Courses, critic: CriticTraits, seen: Experience | None) -> float | None:
    """The largest value that rewards and the bonus for entropy add up to; None if that is unknown."""
    if seen is None:
        return None
    nothing = Course(0, 0)
    temperature, entropy = found.get("temperature", nothing), found.get("entropy", nothing)
    return largest_value(seen, critic, temperature.last * entropy.last)


def _norms(found: Courses, critic: CriticTraits) -> list[str]:
    rates = found.get("critic_elr")
    moved = [_moved("critic weight norm", found["critic_norm"])]
    if rates and critic.scale_free:  # elsewhere a layer's scale matters by itself
        moved.append(_moved("effective learning rate", rates))
    meaning = _meaning(found, critic)
    said = [f"{', '.join(moved)}: {meaning}" if meaning else ", ".join(moved)]
    if rates is None:
        said.append("the effective learning rate is not finite: gradients overflow; lower the learning rates")
    return said


def _moved(what: str, course: Course) -> str:
    if course.growth > _GREW:
        return f"{what} grew {course.growth:.2g}x"
    if course.growth < _FELL:
        return f"{what} fell {course.fall:.2g}x"
    return f"{what} held ({course.growth:.2f}x)"


def _meaning(found: Courses, critic: CriticTraits) -> str:
    """Says why the norm and the effective learning rate changed as they did, and what helps; may be empty."""
    weights, rates = found["critic_norm"], found.get("critic_elr")
    if weights.growth > _GREW:
        return _growth(found, critic)
    if weights.growth < _FELL:
        return "weight decay outweighs the gradients, or a reset began anew"
    if rates is None or not critic.scale_free:
        return ""
    if rates.growth < _FELL:
        return "gradients shrank as the critic fits"
    return "gradients grew" if rates.growth > _GREW else "updates stay effective"


def _growth(found: Courses, critic: CriticTraits) -> str:
    """Says why the weights grew."""
    if not critic.scale_free:
        return "outputs grow with it unless a normalisation follows each layer; weight decay bounds weights"
    if not critic.bounded:
        return f"what weight normalisation removes ({critic.remedy})"
    whole, head = found["critic_norm"], found.get("critic_norm_head", Course(0, 0))
    if head.last - head.first < (whole.last - whole.first) / 2:
        held = option("weight_norm", "neuron")
        return f"weight normalisation leaves some biases free ({held} holds them too)"
    text = f"the head grew ({head.first:.3g} to {head.last:.3g}), with the values; hidden layers are held"
    return f"{text} ({critic.remedy} holds the head too)" if critic.remedy else text


def _dead_neurons(found: Courses, critic: CriticTraits) -> list[str]:
    dead = found.get("dead_neurons")
    if dead is None or dead.last <= _MANY_DEAD:
        return []
    remedy = "resets" if critic.bounded else "resets or weight normalisation"
    return [f"{dead.last:.0%} of the hidden units are dead: capacity is lost; try {remedy}"]


def _features(found: Courses, critic: CriticTraits) -> list[str]:
    said = []
    rank, norm = found.get("stable_rank"), found.get("feature_norm")
    if rank and rank.growth < _RANK_COLLAPSED:
        said.append(f"stable rank fell from {rank.first:.0f} to {rank.last:.0f}: features collapse")
    if norm and norm.growth > _FEATURES_GREW:
        held = "the normalisation after them takes that out" if critic.scale_free else "nothing holds them"
        said.append(f"features grew {norm.growth:.2g}x: {held}")
    return said


def _values(found: Courses, largest: float | None) -> list[str]:
    said = []
    q, drift = found.get("q_mean"), found.get("bn_drift")
    if q and abs(q.last) > (_HUGE_VALUE if largest is None else max(1.0, _BEYOND * largest)):
        beyond = "" if largest is None else f", and rewards add up to {largest:.3g} at most"
        said.append(
            f"values reach {q.last:.3g}{beyond}: divergence is near; lower the learning rates or the UTD "
            "ratio"
        )
    if drift and drift.last > _LARGE_DRIFT:
        said.append(
            f"batch norm's running means move by {drift.last:.2g} standard deviations per update: acting and "
            "training see different networks; a larger minibatch or a higher "
            f"{option('norm_momentum')} calms them"
        )
    return said


def _bias(found: Courses) -> list[str]:
    mean, spread = found.get("q_bias_mean"), found.get("q_bias_std")
    if not mean or not spread:
        return []
    if abs(mean.last) <= _SMALL_BIAS:
        what = f"the critics' values are right on average (Q-bias {mean.last:+z.0%} of the return)"
    else:
        over = "overestimate" if mean.last > 0 else "underestimate"
        what = f"the critics {over} returns by {abs(mean.last):.0%} (Q-bias)"
    return [f"{what}, with a spread of {spread.last:.0%}: the spread misleads the policy, the mean hardly"]


def _exploration(found: Courses, seen: Experience | None) -> list[str]:
    temperature, entropy = found.get("temperature"), found.get("entropy")
    if entropy and entropy.last > _RANDOM:
        if seen is None or seen.rising:
            return []
        return [
            f"the policy still acts almost at random (entropy {entropy.last:.2g} nats), and returns do not "
            "rise: to the critics no action is much better than another; where rewards are rare, a longer "
            f"{option('warmup')} or recorded data ({option('prefill')}) show some"
        ]
    if temperature and temperature.growth < _TEMPERATURE_FELL:
        return [f"temperature fell {temperature.fall:.2g}x: the policy explores as its target entropy asks"]
    if temperature and temperature.growth > _TEMPERATURE_GREW:
        return [f"temperature grew {temperature.growth:.2g}x: the policy cannot keep the target entropy"]
    return []
