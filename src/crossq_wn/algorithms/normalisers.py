"""How are observations and rewards brought to a common scale? By running statistics around an algorithm.

Replay keeps what the environment gave; a batch is normalised with the statistics of the moment it is drawn.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossq_wn.lazy import jnp
from crossq_wn.types import Algorithm, Appraisal, Array, Batch, CriticView, Metrics, Tree

_EPSILON = 1e-8


class Moments(NamedTuple):
    """Running mean and variance; starts as 1e-4 samples of mean 0 and variance 1."""

    samples: Array
    mean: Array
    variance: Array


def no_samples(*shape: int) -> Moments:
    """Moments before the first sample."""
    return Moments(np.float32(1e-4), np.zeros(shape, np.float32), np.ones(shape, np.float32))  # type: ignore[arg-type]


def add_sample(moments: Moments, x: Array) -> Moments:
    """One more sample (Welford 1962)."""
    samples = moments.samples + 1
    difference = x - moments.mean
    mean = moments.mean + difference / samples
    squares = moments.variance * moments.samples + difference * (x - mean)
    return Moments(samples, mean, squares / samples)


class ReturnStatistics(NamedTuple):
    """Of the discounted return so far, G <- gamma G + r from 0 at each episode's start."""

    now: Array
    moments: Moments
    largest: Array  # of |G|


class Scaled(NamedTuple):
    """An algorithm's state and the statistics that scale what it sees."""

    inner: Tree
    statistics: Tree


def normalise_observations(algorithm: Algorithm, observation_size: int) -> Algorithm:
    """(s - mean) / std of the observations in which the agent decided, warm-up included (SimBa)."""

    def scale(moments: Moments, observation: Array) -> Array:
        return (observation - moments.mean) / jnp.sqrt(moments.variance + _EPSILON)

    def prepare(moments: Moments, batch: Batch) -> Batch:
        return batch._replace(
            observation=scale(moments, batch.observation),
            next_observation=scale(moments, batch.next_observation),
        )

    def watch(moments: Moments, observation: Array, reward: Array, ended: Array) -> Moments:
        return add_sample(moments, observation)

    return _around(algorithm, no_samples(observation_size), watch, prepare, scale)


def scale_rewards(
    algorithm: Algorithm, discount: float, scale: Callable[[ReturnStatistics], Array]
) -> Algorithm:
    """Divides rewards by a scale of the discounted return."""

    def prepare(statistics: ReturnStatistics, batch: Batch) -> Batch:
        return batch._replace(reward=batch.reward / scale(statistics))

    def watch(
        statistics: ReturnStatistics, observation: Array, reward: Array, ended: Array
    ) -> ReturnStatistics:
        total = discount * statistics.now + reward
        return ReturnStatistics(
            now=jnp.where(ended, 0.0, total),
            moments=add_sample(statistics.moments, total),
            largest=jnp.maximum(statistics.largest, jnp.abs(total)),
        )

    zero = np.zeros((), np.float32)
    start = ReturnStatistics(zero, no_samples(), zero)  # type: ignore[arg-type]
    around = _around(algorithm, start, watch, prepare, lambda statistics, observation: observation)

    def appraise(state: Scaled, observation: Array, decision: Array) -> Appraisal:
        """In the environment's own unit of reward."""
        assert around.appraise is not None
        scaled, unit = around.appraise(state, observation, decision), scale(state.statistics)
        return scaled._replace(bonus=unit * scaled.bonus, q=unit * scaled.q)

    return around._replace(appraise=around.appraise and appraise)


def deviation_of_return(statistics: ReturnStatistics) -> Array:
    """The standard deviation of the return (XQC)."""
    return jnp.sqrt(statistics.moments.variance + _EPSILON)


def bounded_return(largest: float) -> Callable[[ReturnStatistics], Array]:
    """Its standard deviation, but enough to keep every return seen within `largest` (SimbaV2)."""

    def scale(statistics: ReturnStatistics) -> Array:
        return jnp.maximum(deviation_of_return(statistics), statistics.largest / largest)

    return scale


def _around(
    algorithm: Algorithm,
    start: Tree,
    watch: Callable[[Tree, Array, Array, Array], Tree],
    prepare: Callable[[Tree, Batch], Batch],
    see: Callable[[Tree, Array], Array],
) -> Algorithm:
    """The algorithm behind statistics that `watch` keeps and that `prepare` and `see` apply."""

    def init(generator: np.random.Generator) -> Scaled:
        return Scaled(algorithm.init(generator), start)

    def observe(state: Scaled, observation: Array, reward: Array, ended: Array) -> Scaled:
        inner = state.inner
        if algorithm.observe is not None:
            inner = algorithm.observe(inner, see(state.statistics, observation), reward, ended)
        return Scaled(inner, watch(state.statistics, observation, reward, ended))

    def update(state: Scaled, batch: Batch, step: Array) -> tuple[Scaled, Metrics]:
        inner, metrics = algorithm.update(state.inner, prepare(state.statistics, batch), step)
        return Scaled(inner, state.statistics), metrics

    def explore(state: Scaled, memory: Tree, observation: Array, decision: Array) -> tuple[Array, Tree]:
        return algorithm.explore(state.inner, memory, see(state.statistics, observation), decision)

    def exploit(state: Scaled, memory: Tree, observation: Array) -> tuple[Array, Tree]:
        return algorithm.exploit(state.inner, memory, see(state.statistics, observation))

    def view(state: Scaled, batch: Batch, step: Array) -> CriticView:
        assert algorithm.view is not None
        return algorithm.view(state.inner, prepare(state.statistics, batch), step)

    def appraise(state: Scaled, observation: Array, decision: Array) -> Appraisal:
        assert algorithm.appraise is not None
        return algorithm.appraise(state.inner, see(state.statistics, observation), decision)

    def reset(state: Scaled, fresh: Scaled) -> Scaled:
        return Scaled(algorithm.reset(state.inner, fresh.inner), state.statistics)

    return algorithm._replace(
        init=init,
        explore=explore,
        exploit=exploit,
        update=update,
        observe=observe,
        reset=reset,
        view=algorithm.view and view,
        appraise=algorithm.appraise and appraise,
    )
