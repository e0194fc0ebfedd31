"""An algorithm inside a larger state: its functions, applied to the part of the state that is its own.

What stands around an algorithm (running statistics, a second actor) keeps a state of its own. `wrap` lifts
the algorithm's functions to the larger state, and the wrapper then replaces only those that it changes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from crossq_wn.types import Algorithm, Appraisal, Array, Batch, Metrics, Tree


class Around(NamedTuple):
    """How a larger state surrounds an algorithm's own, and what it changes of what goes in and comes out."""

    own: Callable[[Tree], Tree]  # state -> the algorithm's own state
    put: Callable[[Tree, Tree], Tree]  # (state, new own state) -> state
    see: Callable[[Tree, Array], Array] = lambda state, observation: observation
    prepare: Callable[[Tree, Batch], Batch] = lambda state, batch: batch
    answer: Callable[[Tree, Appraisal], Appraisal] = lambda state, appraisal: appraisal


def wrap(algorithm: Algorithm, around: Around) -> Algorithm:
    """The algorithm on the larger state; `init`, `observe` and `reset` are left to the wrapper."""
    own, see, prepare, answer = around.own, around.see, around.prepare, around.answer
    explore, exploit, view, appraise = (
        algorithm.explore,
        algorithm.exploit,
        algorithm.view,
        algorithm.appraise,
    )
    return algorithm._replace(
        explore=lambda state, memory, seen, decision: explore(own(state), memory, see(state, seen), decision),
        exploit=lambda state, memory, seen: exploit(own(state), memory, see(state, seen)),
        update=partial(_update, algorithm, around),
        view=view and (lambda state, batch, count: view(own(state), prepare(state, batch), count)),
        appraise=appraise
        and (lambda state, seen, decision: answer(state, appraise(own(state), see(state, seen), decision))),
    )


def _update(
    algorithm: Algorithm, around: Around, state: Tree, batch: Batch, count: Array
) -> tuple[Tree, Metrics]:
    own, metrics = algorithm.update(around.own(state), around.prepare(state, batch), count)
    return around.put(state, own), metrics
