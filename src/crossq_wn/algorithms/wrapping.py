"""Wrapping an algorithm whose state becomes part of a larger one.

Running statistics or a second actor around an algorithm have a state of their own. `wrap` makes the
algorithm's functions work on the larger state; the wrapper then replaces only those that it changes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from crossq_wn.acting.operations import Network
from crossq_wn.types import (
    Algorithm,
    Appraisal,
    Array,
    Batch,
    Exploit,
    InNumpy,
    Metrics,
    Tree,
    network_of,
)


def _as_it_is(state: Tree, observation: Array) -> Array:
    return observation


class Around(NamedTuple):
    """How a larger state contains an algorithm's own, and what changes on the way in and out."""

    own: Callable[[Tree], Tree]  # larger state -> the algorithm's own state
    put: Callable[[Tree, Tree], Tree]  # (larger state, new own state) -> new larger state
    # What the algorithm gets to see of an observation [..., observation_size] and of a minibatch.
    see: Callable[[Tree, Array], Array] = _as_it_is
    prepare: Callable[[Tree, Batch], Batch] = lambda state, batch: batch
    # The algorithm's estimates in the units of the environment.
    answer: Callable[[Tree, Appraisal], Appraisal] = lambda state, appraisal: appraisal
    # `describe` takes a state and returns the operations of `see`; None: acting through `see` takes JAX.
    in_numpy: InNumpy | None = InNumpy(_as_it_is, lambda state: ())


def wrap(algorithm: Algorithm, around: Around) -> Algorithm:
    """The algorithm on the larger state; `init`, `observe` and `reset` are for the wrapper to replace.

    Args:
        algorithm: works on its own state.
        around: how the larger state contains it.
    """
    own, see, prepare, answer = around.own, around.see, around.prepare, around.answer
    explore, view, appraise = algorithm.explore, algorithm.view, algorithm.appraise
    exploit, prior = _seeing(algorithm.exploit, around), None
    if algorithm.prior is not None:
        prior = _seeing(algorithm.prior, around)

    def drawn(state: Tree, memory: Tree, seen: Array, decision: Array) -> tuple[Array, Tree]:
        return explore(own(state), memory, see(state, seen), decision)

    return algorithm._replace(
        explore=drawn,
        gaussian=drawn if algorithm.gaussian is explore else None,
        exploit=exploit,
        prior=prior,
        in_numpy=InNumpy(prior or exploit, partial(_network, algorithm, around)),
        update=partial(_update, algorithm, around),
        view=view and (lambda state, batch, count: view(own(state), prepare(state, batch), count)),
        appraise=appraise
        and (lambda state, seen, decision: answer(state, appraise(own(state), see(state, seen), decision))),
    )


def _seeing(exploit: Exploit, around: Around) -> Exploit:
    """An algorithm's `exploit` or `prior`, on the larger state."""
    return lambda state, memory, seen: exploit(around.own(state), memory, around.see(state, seen))


def _network(algorithm: Algorithm, around: Around, state: Tree) -> Network:
    """The policy network behind the operations of `see`."""
    first = InNumpy.of(around.see, around.in_numpy)(state)
    network = network_of(algorithm, around.own(state))
    return network._replace(operations=(*first, *network.operations))


def _update(
    algorithm: Algorithm, around: Around, state: Tree, batch: Batch, count: Array
) -> tuple[Tree, Metrics]:
    own, metrics = algorithm.update(around.own(state), around.prepare(state, batch), count)
    return around.put(state, own), metrics
