"""An algorithm inside a larger state: its functions, applied to the part of the state that is its own.

What stands around an algorithm (running statistics, a second actor) keeps a state of its own. `wrap` lifts
the algorithm's functions to the larger state, and the wrapper then replaces only those that it changes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from crossq_wn.types import (
    Algorithm,
    Appraisal,
    Appraise,
    Array,
    Batch,
    CriticView,
    Exploit,
    Explore,
    Metrics,
    Tree,
    Update,
    View,
)


class Around(NamedTuple):
    """How a larger state surrounds an algorithm's own, and what the algorithm is shown."""

    own: Callable[[Tree], Tree]  # state -> the algorithm's own state
    put: Callable[[Tree, Tree], Tree]  # (state, new own state) -> state
    see: Callable[[Tree, Array], Array] = lambda state, observation: observation
    prepare: Callable[[Tree, Batch], Batch] = lambda state, batch: batch


def wrap(algorithm: Algorithm, around: Around) -> Algorithm:
    """The algorithm on the larger state; `init`, `observe` and `reset` are left to the wrapper."""
    return algorithm._replace(
        explore=partial(_explore, algorithm.explore, around),
        exploit=partial(_exploit, algorithm.exploit, around),
        update=partial(_update, algorithm.update, around),
        view=algorithm.view and partial(_view, algorithm.view, around),
        appraise=algorithm.appraise and partial(_appraise, algorithm.appraise, around),
    )


def _explore(
    inner: Explore, around: Around, state: Tree, memory: Tree, observation: Array, decision: Array
) -> tuple[Array, Tree]:
    return inner(around.own(state), memory, around.see(state, observation), decision)


def _exploit(
    inner: Exploit, around: Around, state: Tree, memory: Tree, observation: Array
) -> tuple[Array, Tree]:
    return inner(around.own(state), memory, around.see(state, observation))


def _update(inner: Update, around: Around, state: Tree, batch: Batch, count: Array) -> tuple[Tree, Metrics]:
    own, metrics = inner(around.own(state), around.prepare(state, batch), count)
    return around.put(state, own), metrics


def _view(inner: View, around: Around, state: Tree, batch: Batch, count: Array) -> CriticView:
    return inner(around.own(state), around.prepare(state, batch), count)


def _appraise(inner: Appraise, around: Around, state: Tree, observation: Array, decision: Array) -> Appraisal:
    return inner(around.own(state), around.see(state, observation), decision)
