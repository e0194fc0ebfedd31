"""Running statistics around an algorithm, which bring observations and rewards to a common scale.

Replay keeps what the environment gave; a batch is scaled with the statistics of the moment it is drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from crossq_wn.algorithms.wrapping import Around, wrap
from crossq_wn.lazy import jnp
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, Spec, Tree

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
    discount: float, statistics: ReturnStatistics, observation: Array, reward: Array, ended: Array
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


_AROUND = Around(own=lambda state: state.inner, put=lambda state, inner: state._replace(inner=inner))
Watch = Callable[[Tree, Array, Array, Array], Tree]  # (statistics, observation, reward, ended) -> statistics


def normalise_observations(spec: Spec) -> Callable[[Algorithm], Algorithm]:
    """(s - mean) / std of the observations in which the agent decided, warm-up included (SimBa)."""

    def see(state: Scaled, observation: Array) -> Array:
        return standardised(state.statistics, observation)

    def prepare(state: Scaled, batch: Batch) -> Batch:
        return batch._replace(
            observation=see(state, batch.observation), next_observation=see(state, batch.next_observation)
        )

    def watch(running: Running, observation: Array, reward: Array, ended: Array) -> Running:
        return add_sample(running, observation)

    around = _AROUND._replace(see=see, prepare=prepare)
    return partial(_behind, around, no_samples(spec.observation_size), watch)


def scale_rewards(spec: Spec, unit: Callable[[ReturnStatistics], Array]) -> Callable[[Algorithm], Algorithm]:
    """Divides rewards by a unit that the statistics of the discounted return decide."""

    def prepare(state: Scaled, batch: Batch) -> Batch:
        return batch._replace(reward=batch.reward / unit(state.statistics))

    def answer(state: Scaled, appraisal: Appraisal) -> Appraisal:  # in the environment's unit again
        scale = unit(state.statistics)
        return appraisal._replace(bonus=scale * appraisal.bonus, q=scale * appraisal.q)

    around = _AROUND._replace(prepare=prepare, answer=answer)
    return partial(_behind, around, no_returns(), partial(add_reward, spec.discount))


def _behind(around: Around, start: Tree, watch: Watch, algorithm: Algorithm) -> Algorithm:
    """The algorithm behind statistics that begin at `start` and that resets keep."""

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
