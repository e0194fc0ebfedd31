"""Wrappers that bring observations and rewards to a common scale by running statistics.

Replay keeps the environment's own numbers; a minibatch is scaled with the statistics of the moment it is
drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from crossq_wn.acting.operations import Op
from crossq_wn.algorithms.wrapping import Around, wrap
from crossq_wn.lazy import jnp
from crossq_wn.nets.layer import operation
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, InNumpy, Spec, Tree

_EPSILON = 1e-8


# Statistics


class Running(NamedTuple):
    """A running mean and variance."""

    samples: Array
    mean: Array
    variance: Array


def no_samples(*shape: int, prior: float = 1e-4) -> Running:
    """The running mean and variance before the first sample.

    Args:
        shape: of a sample.
        prior: number of samples of mean 0 and variance 1 that count as seen.
    """
    return Running(np.float32(prior), np.zeros(shape, np.float32), np.ones(shape, np.float32))  # type: ignore[arg-type]


def add_sample(running: Running, x: Array) -> Running:
    """Updates mean and variance with one more sample (Welford 1962).

    Args:
        running: the statistics so far.
        x: one sample, of the shape that `no_samples` was given.
    """
    samples = running.samples + 1
    difference = x - running.mean
    mean = running.mean + difference / samples
    squares = running.variance * running.samples + difference * (x - mean)
    return Running(samples, mean, squares / samples)


def add_sample_padded(running: Running, x: Array) -> Running:
    """Like `add_sample`, but the earlier variance weighs 1e-4 samples too many (FlashSAC's code)."""
    plain = add_sample(running, x)
    return plain._replace(variance=plain.variance + 1e-4 * running.variance / plain.samples)


def standardised(running: Running, x: Array) -> Array:
    """(x - mean) / standard deviation.

    Args:
        running: mean and variance, [n].
        x: [..., n].
    """
    return (x - running.mean) / jnp.sqrt(running.variance + _EPSILON)


class ReturnStatistics(NamedTuple):
    """Statistics of the discounted return so far, G."""

    now: Array  # G of the running episode
    moments: Running  # mean and variance of G over all decisions; checkpoints store it by this name
    largest: Array  # the largest |G| so far


def no_returns(prior: float = 1e-4) -> ReturnStatistics:
    """The statistics before the first reward; `prior` as in `no_samples`."""
    zero = np.zeros((), np.float32)
    return ReturnStatistics(zero, no_samples(prior=prior), zero)  # type: ignore[arg-type]


class Accumulate(Protocol):
    """Adds a reward to the discounted return."""

    def __call__(self, discount: float, before: Array, reward: Array, ended: Array, /) -> tuple[Array, Array]:
        """Returns G including the reward, and the G to which the next reward will be added."""


def leaking(discount: float, before: Array, reward: Array, ended: Array) -> tuple[Array, Array]:
    """G <- gamma (1 - ended) G + r, as in the code of XQC and SimbaV2.

    The last reward of an episode thus stands alone, and leaks into the next episode.

    Args:
        discount: gamma, per agent decision.
        before: what it returned second for the decision before, a scalar.
        reward: scalar, summed over the frames of the decision.
        ended: scalar boolean, whether the episode ended with this decision.
    """
    total = discount * jnp.where(ended, 0.0, before) + reward
    return total, total


def restarting(discount: float, before: Array, reward: Array, ended: Array) -> tuple[Array, Array]:
    """G <- gamma G + r, which restarts at 0 in each episode.

    Args:
        discount: gamma, per agent decision.
        before: what it returned second for the decision before, a scalar.
        reward: scalar, summed over the frames of the decision.
        ended: scalar boolean, whether the episode ended with this decision.
    """
    total = discount * before + reward
    return total, jnp.where(ended, 0.0, total)


class RewardScale(NamedTuple):
    """How rewards are brought to the scale of returns."""

    unit: Callable[[ReturnStatistics], Array]  # statistics -> the scalar that rewards are divided by
    accumulate: Accumulate = leaking
    prior: float = 1e-4  # as in `no_samples`
    add: Callable[[Running, Array], Running] = add_sample


def add_reward(
    scale: RewardScale,
    discount: float,
    statistics: ReturnStatistics,
    observation: Array,
    reward: Array,
    ended: Array,
) -> ReturnStatistics:
    """Updates the statistics with one more reward.

    Args:
        scale: how a reward enters G, and how G enters its moments.
        discount: gamma, per agent decision.
        statistics: so far.
        observation: unused; every watcher is given it.
        reward: scalar, summed over the frames of the decision.
        ended: scalar boolean, whether the episode ended with this decision.
    """
    total, carried = scale.accumulate(discount, statistics.now, reward, ended)
    return ReturnStatistics(
        now=carried,
        moments=scale.add(statistics.moments, total),
        largest=jnp.maximum(statistics.largest, jnp.abs(total)),
    )


def deviation_of_return(statistics: ReturnStatistics) -> Array:
    """The standard deviation of the discounted return, from a variance that is never 0."""
    return jnp.sqrt(statistics.moments.variance + _EPSILON)


def spread_of_return() -> RewardScale:
    """The return's standard deviation as the unit, counted from the first reward on (XQC's code)."""
    return RewardScale(lambda statistics: jnp.sqrt(statistics.moments.variance) + _EPSILON, prior=0.0)


def bounded_return(largest: float) -> RewardScale:
    """A unit in which every return seen so far stays within `largest` (SimbaV2's code).

    It is the standard deviation of the return, or a larger number where the bound requires it.

    Args:
        largest: the limit of |G| after scaling, which is where the critics' atoms end.
    """

    def unit(statistics: ReturnStatistics) -> Array:
        return jnp.maximum(deviation_of_return(statistics), statistics.largest / largest)

    return RewardScale(unit)


# Wrappers


class Scaled(NamedTuple):
    """An algorithm's state, and the statistics that scale its inputs."""

    inner: Tree
    statistics: Tree


_AROUND = Around(own=lambda state: state.inner, put=lambda state, inner: state._replace(inner=inner))
Watch = Callable[[Tree, Array, Array, Array], Tree]  # (statistics, observation, reward, ended) -> statistics


def normalise_observations(spec: Spec, prior: float = 1e-4) -> Callable[[Algorithm], Algorithm]:
    """A wrapper that gives the algorithm (s - mean) / std (SimBa).

    The statistics are of the observations on which the agent decided, those of the warm-up included.

    Args:
        spec: the problem, which gives the observation's size.
        prior: as in `no_samples`; SimBa's. With 0 the statistics are those of the observations alone,
            whatever their scale and their distance from 0.
    """

    def see(state: Scaled, observation: Array) -> Array:
        return standardised(state.statistics, observation)

    def prepare(state: Scaled, batch: Batch) -> Batch:
        return batch._replace(
            observation=see(state, batch.observation), next_observation=see(state, batch.next_observation)
        )

    def watch(running: Running, observation: Array, reward: Array, ended: Array) -> Running:
        return add_sample(running, observation)

    around = _AROUND._replace(see=see, prepare=prepare, in_numpy=InNumpy(see, _standardising))
    start = no_samples(spec.observation_size, prior=prior)
    return lambda algorithm: _behind(around, start, watch, algorithm)._replace(normalises=True)


def _standardising(state: Scaled) -> tuple[Op, ...]:
    """What `standardised` does, as an affine map."""
    running = state.statistics
    scale = 1 / np.sqrt(np.asarray(running.variance, np.float64) + _EPSILON)
    return operation("affine", shift=running.mean, scale=scale)


def scale_rewards(spec: Spec, scale: RewardScale) -> Callable[[Algorithm], Algorithm]:
    """A wrapper that divides rewards by a unit, which follows the statistics of the discounted return.

    Args:
        spec: the problem, whose discount defines the return.
        scale: the unit, and how its statistics are kept.
    """

    def prepare(state: Scaled, batch: Batch) -> Batch:
        return batch._replace(reward=batch.reward / scale.unit(state.statistics))

    def answer(state: Scaled, appraisal: Appraisal) -> Appraisal:  # back to the environment's unit
        unit = scale.unit(state.statistics)
        return appraisal._replace(bonus=unit * appraisal.bonus, q=unit * appraisal.q)

    around = _AROUND._replace(prepare=prepare, answer=answer)
    watch = partial(add_reward, scale, spec.discount)
    return partial(_behind, around, no_returns(scale.prior), watch)


def _behind(around: Around, start: Tree, watch: Watch, algorithm: Algorithm) -> Algorithm:
    """The algorithm behind statistics that begin at `start`; resets of the algorithm keep them."""

    def observe(state: Scaled, observation: Array, reward: Array, ended: Array) -> Scaled:
        inner = state.inner
        if algorithm.observe is not None:
            inner = algorithm.observe(inner, around.see(state, observation), reward, ended)
        return Scaled(inner, watch(state.statistics, observation, reward, ended))

    return wrap(algorithm, around)._replace(
        init=lambda generator: Scaled(algorithm.init(generator), start),
        observe=observe,
        reset=lambda state, new: Scaled(algorithm.reset(state.inner, new.inner), state.statistics),
    )
