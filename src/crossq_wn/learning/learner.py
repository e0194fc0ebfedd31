"""Where do the seed axis and the UTD ratio enter? Here, and nowhere else.

An algorithm is written for one seed and one gradient update. One decision's updates are a scan inside one
compiled call, whose compile time does not grow with the UTD ratio. The seeds are added in one of two ways,
which give the same numbers:

* `one_by_one` (CPU): the seeds' states stay apart and the same program runs for each, as many at a time as
  there are processors. Its matrix products are plain ones, which a CPU runs about twice as fast as batched
  ones, and a seed's result cannot depend on who trains beside it.
* `vectorised` (accelerators): the states are stacked and the program is mapped over the new axis, so that
  all seeds' updates are one launch; several devices share the seeds out, and never talk.
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.lazy import jax, jnp
from crossq_wn.learning.diagnostics import diagnose
from crossq_wn.learning.minibatches import Feed, fits, gathered, resident, sharing, zeros_like
from crossq_wn.learning.replay import Replay, random_batch
from crossq_wn.machine import processors
from crossq_wn.types import Algorithm, Array, Metrics, Tree

States = Any  # of all seeds; made by `join`, and donated by `update`


def _spec(*axes: str) -> Any:
    partition: Any = jax.sharding.PartitionSpec
    return partition(*axes)


class Learner(NamedTuple):
    """An algorithm over several seeds (S of them), UTD (U) updates at a time.

    join:    list of one tree per seed -> joined; for learners' states and acting memories
    split:   (joined, S) -> list of one tree per seed; of metrics that were fetched, on the host
    memory:  S -> joined acting memories of episodes that begin
    explore: (states, memories, observations [S, observation_size], decision)
             -> (actions [S, action_size], memories)
    exploit: (states, memories, observations) -> (deterministic actions, memories)
    observe: (states, observations, rewards [S], ended [S]) -> states; the old states are gone. None where
             the algorithm does not watch its transitions
    pack:    (one Replay per seed, places [U, B] per seed) -> what one decision's updates need, on the host
    load:    (feed before or None, what was packed) -> feed of one decision's updates; the feed before is
             gone. Joined batches [U, B, ...] are a feed of host-fed learners
    update:  (states, feed, index of the first update)
             -> (states, joined metrics of the last update); the old states are gone
    diagnose: (states, feed of the newest updates, index of the last) -> diagnostics on the host, one dict
             per seed. None where the algorithm shows no critic
    appraise: (states, observations, decision) -> (stochastic actions [S, action_size], -alpha log pi [S],
             Q [S]). None likewise
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States, int], list[Tree]]
    memory: Callable[[int], States]
    explore: Callable[[States, States, np.ndarray, int], tuple[np.ndarray, States]]
    exploit: Callable[[States, States, np.ndarray], tuple[np.ndarray, States]]
    observe: Callable[[States, np.ndarray, np.ndarray, np.ndarray], States] | None
    pack: Callable[[Sequence[Replay], Sequence[np.ndarray]], Any]
    load: Callable[[Any, Any], Any]
    update: Callable[[States, Any, int], tuple[States, Any]]
    diagnose: Callable[[States, Any, int], list[Metrics]] | None
    appraise: Callable[[States, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]] | None


class _Axis(NamedTuple):
    """How seeds lie beside each other.

    join, split: as in `Learner`
    count:  joined, not empty -> S
    spread: (function of one seed that returns a tuple, whether its first argument is donated)
            -> the same function of joined arguments, and of a last argument that all seeds share
    """

    join: Callable[[Sequence[Tree]], States]
    split: Callable[[States, int], list[Tree]]
    count: Callable[[States], int]
    spread: Callable[[Callable[..., tuple[Any, ...]], bool], Callable[..., tuple[Any, ...]]]


def one_by_one(algorithm: Algorithm) -> Learner:
    """The same compiled program for each seed; updates of several seeds at a time."""
    # What one thread launches runs in order, and one program alone does not keep all processors busy.
    lanes = [ThreadPoolExecutor(1) for _ in range(processors())]

    def spread(function: Callable[..., tuple[Any, ...]], donate: bool) -> Callable[..., tuple[Any, ...]]:
        program = jax.jit(function, donate_argnums=0 if donate else ())

        def all_seeds(*arguments: Any) -> tuple[Any, ...]:
            *joined, shared = arguments
            seeds = list(zip(*joined, strict=True))
            precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

            def launch(seed: tuple[Any, ...]) -> Any:
                with jax.default_matmul_precision(precision):  # which every thread has of its own
                    return program(*seed, shared)

            # Updates donate. Waits for each launch, of which the first compiles, and not for results.
            if donate and len(seeds) > 1:
                turns = zip(cycle(lanes), seeds, strict=False)
                done = [lane.submit(launch, seed).result() for lane, seed in turns]
            else:
                done = [program(*seed, shared) for seed in seeds]
            return tuple(map(list, zip(*done, strict=True)))

        return all_seeds

    feed = gathered(lambda trees: jax.device_put(list(trees)), algorithm.horizon)
    return _over(_Axis(list, lambda joined, count: list(joined), len, spread), feed, algorithm)


def vectorised(
    algorithm: Algorithm, devices: Sequence[jax.Device] | None = None, *, replay_on_device: bool = False
) -> Learner:
    """One program mapped over a leading seed axis.

    Args:
        algorithm: of one seed.
        devices: which share the seeds out, as many of them as divide their number; by default the first.
        replay_on_device: whether minibatches come from a copy of replay there.
    """
    usable = jax.devices()[:1] if devices is None else devices

    def mesh(seeds: int) -> jax.sharding.Mesh:
        return jax.sharding.Mesh(np.array(usable[: sharing(seeds, len(usable))]), ("seed",))

    def place(joined: Tree, seeds: int) -> Tree:
        return jax.device_put(joined, jax.sharding.NamedSharding(mesh(seeds), _spec("seed")))

    def join(trees: Sequence[Tree]) -> States:
        return place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), len(trees))

    def split(joined: States, count: int) -> list[Tree]:
        return [jax.tree.map(lambda leaf, i=i: leaf[i], joined) for i in range(count)]

    def count(joined: States) -> int:
        return int(jax.tree.leaves(joined)[0].shape[0])

    def spread(function: Callable[..., tuple[Any, ...]], donate: bool) -> Callable[..., tuple[Any, ...]]:
        def all_seeds(*arguments: Any) -> tuple[Any, ...]:
            # What is shared has no seed axis, so that skipped actor updates are skipped and not masked.
            others = len(arguments) - 1
            mapped = jax.vmap(function, in_axes=(*[0] * others, None))
            specs = (*[_spec("seed")] * others, _spec())
            shared_out = jax.shard_map(
                mapped,
                mesh=mesh(count(arguments[0])),
                in_specs=specs,
                out_specs=_spec("seed"),
                check_vma=False,
            )
            return tuple(shared_out(*arguments))

        return jax.jit(all_seeds, donate_argnums=0 if donate else ())

    def put(trees: Sequence[Tree]) -> Any:
        return place(jax.tree.map(lambda *leaves: np.stack(leaves), *trees), len(trees))

    def zeros(seeds: int, like: Tree) -> Any:
        sharding = jax.sharding.NamedSharding(mesh(seeds), _spec("seed"))
        return jax.jit(lambda: zeros_like(like, seeds), out_shardings=sharding)()

    feed = resident(put, zeros, algorithm.horizon) if replay_on_device else gathered(put, algorithm.horizon)
    return _over(_Axis(join, split, count, spread), feed, algorithm)


def _over(axis: _Axis, feed: Feed, algorithm: Algorithm) -> Learner:
    """An algorithm over the seeds of an axis."""

    def updates(state: Tree, fed: Any, first: Array) -> tuple[Tree, Metrics]:
        rows, batch = feed.batches(fed)

        def one(state: Tree, x: tuple[Tree, Array]) -> tuple[Tree, Metrics]:
            return algorithm.update(state, batch(x[0]), x[1])

        count = jax.tree.leaves(rows)[0].shape[0]
        state, metrics = jax.lax.scan(one, state, (rows, first + jnp.arange(count)))
        return state, jax.tree.map(lambda m: m[-1], metrics)

    explore_all = axis.spread(algorithm.explore, False)
    exploit_all = axis.spread(lambda state, memory, seen, _: algorithm.exploit(state, memory, seen), False)
    update_all = axis.spread(updates, True)

    def explore(
        states: States, memories: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, States]:
        actions, memories = explore_all(states, memories, observations, np.int32(decision))
        return np.asarray(actions), memories

    def exploit(states: States, memories: States, observations: np.ndarray) -> tuple[np.ndarray, States]:
        actions, memories = exploit_all(states, memories, observations, None)
        return np.asarray(actions), memories

    def update(states: States, fed: Any, first: int) -> tuple[States, Any]:
        updated: tuple[States, Any] = update_all(states, fed, np.int32(first))
        return updated

    return Learner(
        join=axis.join,
        split=axis.split,
        memory=lambda count: axis.join([algorithm.memory] * count),
        explore=explore,
        exploit=exploit,
        observe=_observer(axis, algorithm),
        pack=feed.pack,
        load=feed.load,
        update=update,
        diagnose=_diagnostician(axis, feed, algorithm),
        appraise=_appraiser(axis, algorithm),
    )


def _observer(
    axis: _Axis, algorithm: Algorithm
) -> Callable[[States, np.ndarray, np.ndarray, np.ndarray], States] | None:
    if (observe := algorithm.observe) is None:
        return None
    observe_all = axis.spread(lambda *arguments: (observe(*arguments[:-1]),), True)
    return lambda *arguments: observe_all(*arguments, None)[0]


def _diagnostician(
    axis: _Axis, feed: Feed, algorithm: Algorithm
) -> Callable[[States, Any, int], list[Metrics]] | None:
    if (view := algorithm.view) is None:
        return None

    def newest(state: Tree, fed: Any, last: Array) -> tuple[Metrics]:
        rows, batch = feed.batches(fed)
        return (diagnose(view(state, batch(jax.tree.map(lambda leaf: leaf[-1], rows)), last)),)

    diagnose_all = axis.spread(newest, False)

    def diagnose_seeds(states: States, fed: Any, last: int) -> list[Metrics]:
        (found,) = jax.device_get(diagnose_all(states, fed, np.int32(last)))
        return axis.split(found, axis.count(found))

    return diagnose_seeds


def _appraiser(
    axis: _Axis, algorithm: Algorithm
) -> Callable[[States, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
    if algorithm.appraise is None:
        return None
    appraise_all = axis.spread(algorithm.appraise, False)

    def appraise(
        states: States, observations: np.ndarray, decision: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        actions, bonuses, values = appraise_all(states, observations, np.int32(decision))
        return np.asarray(actions), np.asarray(bonuses), np.asarray(values)

    return appraise


def metric_names(
    algorithm: Algorithm, observation_size: int, action_size: int, *, diagnostics: bool
) -> list[str]:
    """What the algorithm's updates report, and the diagnostics; nothing is computed."""
    generator = np.random.default_rng(0)
    shape = (2,) if algorithm.horizon == 1 else (2, algorithm.horizon)
    batch = random_batch(generator, observation_size, action_size, *shape)
    state = algorithm.init(generator)
    _, metrics = jax.eval_shape(algorithm.update, state, batch, np.int32(0))
    if not diagnostics or (view := algorithm.view) is None:
        return list(metrics)
    found = jax.eval_shape(lambda *arguments: diagnose(view(*arguments)), state, batch, np.int32(0))
    return [*metrics, *found]


def make(algorithm: Algorithm, seeds: int, replay_bytes: int) -> Learner:
    """The learner that suits this machine's devices.

    Args:
        algorithm: of one seed.
        seeds: how many there are.
        replay_bytes: of each seed's replay; they go onto an accelerator if they fit.
    """
    if jax.default_backend() == "cpu":
        return one_by_one(algorithm)
    devices = jax.devices()
    return vectorised(algorithm, devices, replay_on_device=fits(replay_bytes, seeds, devices))
