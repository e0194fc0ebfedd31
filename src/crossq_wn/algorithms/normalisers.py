"""Running statistics around an algorithm, which bring observations and rewards to a common scale.

Replay keeps what the environment gave; a batch is scaled with the statistics of the moment it is drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.wrapping import Around, wrap
from crossq_wn.lazy import jnp
from crossq_wn.types import Algorithm, Appraisal, Appraise, Array, Batch, Spec, Tree

_EPSILON = 1e-8


# Statistics


class Running(NamedTuple):
    """Running mean and variance; starts as if 1e-4 samples of mean 0 and variance 1 had been seen."""

    samples: Array
    mean: Array
    variance: Array


def no_samples(*shape: int) -> Running:
    """The running mean and variance before the first sample."""
    return Running(np.float32(1e-4), np.zeros(shape, np.float32), np.ones(shape, np.float32))  # type: ignore[arg-type]


def add_sample(running: Running, x: Array) -> Running:
    """Counts one more sample in (Welford 1962)."""
    samples = running.samples + 1
    difference = x - running.mean
    mean = running.mean + difference / samples
    squares = running.variance * running.samples + difference * (x - mean)
    return Running(samples, mean, squares / samples)


def standardised(running: Running, x: Array) -> Array:
    """(x - mean) / standard deviation."""
    return (x - running.mean) / jnp.sqrt(running.variance + _EPSILON)


class ReturnStatistics(NamedTuple):
    """Of the discounted return so far, G <- gamma G + r from 0 at each episode's start."""

    now: Array  # G
    moments: Running  # of G; checkpoints know it by this name
    largest: Array  # |G|, the largest seen


def no_returns() -> ReturnStatistics:
    """The statistics before the first reward."""
    zero = np.zeros((), np.float32)
    return ReturnStatistics(zero, no_samples(), zero)  # type: ignore[arg-type]


def add_reward(
    discount: float, statistics: ReturnStatistics, reward: Array, ended: Array
) -> ReturnStatistics:
    """Counts one more reward in."""
    total = discount * statistics.now + reward
    return ReturnStatistics(
        now=jnp.where(ended, 0.0, total),
        moments=add_sample(statistics.moments, total),
        largest=jnp.maximum(statistics.largest, jnp.abs(total)),
    )


def deviation_of_return(statistics: ReturnStatistics) -> Array:
    """The standard deviation of the return (XQC)."""
    return jnp.sqrt(statistics.moments.variance + _EPSILON)


def bounded_return(largest: float) -> Callable[[ReturnStatistics], Array]:
    """Its standard deviation, but enough to keep every return seen within `largest` (SimbaV2)."""

    def unit(statistics: ReturnStatistics) -> Array:
        return jnp.maximum(deviation_of_return(statistics), statistics.largest / largest)

    return unit


# Scaling by them


class Scaled(NamedTuple):
    """An algorithm's state and the statistics that scale what the algorithm sees."""

    inner: Tree
    statistics: Tree


def normalise_observations(spec: Spec) -> Callable[[Algorithm], Algorithm]:
    """(s - mean) / std of the observations in which the agent decided, warm-up included (SimBa)."""

    def watch(running: Running, observation: Array, reward: Array, ended: Array) -> Running:
        return add_sample(running, observation)

    def prepare(running: Running, batch: Batch) -> Batch:
        return batch._replace(
            observation=standardised(running, batch.observation),
            next_observation=standardised(running, batch.next_observation),
        )

    return partial(_behind, _Scaling(no_samples(spec.observation_size), watch, prepare, standardised))


def scale_rewards(spec: Spec, unit: Callable[[ReturnStatistics], Array]) -> Callable[[Algorithm], Algorithm]:
    """Divides rewards by a unit that the statistics of the discounted return decide."""

    def watch(
        statistics: ReturnStatistics, observation: Array, reward: Array, ended: Array
    ) -> ReturnStatistics:
        return add_reward(spec.discount, statistics, reward, ended)

    def prepare(statistics: ReturnStatistics, batch: Batch) -> Batch:
        return batch._replace(reward=batch.reward / unit(statistics))

    def in_unit_of_reward(statistics: ReturnStatistics, appraisal: Appraisal) -> Appraisal:
        scale = unit(statistics)
        return appraisal._replace(bonus=scale * appraisal.bonus, q=scale * appraisal.q)

    return partial(_behind, _Scaling(no_returns(), watch, prepare, answer=in_unit_of_reward))


class _Scaling(NamedTuple):
    """Statistics, and what they change of that which goes into an algorithm and comes out of it."""

    start: Tree
    watch: Callable[[Tree, Array, Array, Array], Tree]  # (statistics, observation, reward, ended) -> new
    prepare: Callable[[Tree, Batch], Batch]
    see: Callable[[Tree, Array], Array] = lambda statistics, observation: observation
    answer: Callable[[Tree, Appraisal], Appraisal] = lambda statistics, appraisal: appraisal


def _behind(scaling: _Scaling, algorithm: Algorithm) -> Algorithm:
    """The algorithm behind statistics, which resets keep."""
    around = Around(
        own=lambda state: state.inner,
        put=lambda state, inner: state._replace(inner=inner),
        see=lambda state, observation: scaling.see(state.statistics, observation),
        prepare=lambda state, batch: scaling.prepare(state.statistics, batch),
    )
    wrapped = wrap(algorithm, around)
    return wrapped._replace(
        init=lambda generator: Scaled(algorithm.init(generator), scaling.start),
        observe=partial(_observe, algorithm, scaling),
        reset=lambda state, new: Scaled(algorithm.reset(state.inner, new.inner), state.statistics),
        appraise=wrapped.appraise and partial(_answer, scaling, wrapped.appraise),
    )


def _observe(
    algorithm: Algorithm, scaling: _Scaling, state: Scaled, observation: Array, reward: Array, ended: Array
) -> Scaled:
    inner = state.inner
    if algorithm.observe is not None:
        inner = algorithm.observe(inner, scaling.see(state.statistics, observation), reward, ended)
    return Scaled(inner, scaling.watch(state.statistics, observation, reward, ended))


def _answer(
    scaling: _Scaling, appraise: Appraise, state: Scaled, observation: Array, decision: Array
) -> Appraisal:
    return scaling.answer(state.statistics, appraise(state, observation, decision))
