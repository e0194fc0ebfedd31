"""The claims of the paper that runs can test, each as one function from evidence to numbers.

The paper leaves some thresholds open ("remains similar", "flat"); ours are named here.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from crossq_wn.environments import PAPER_GROUPS
from crossq_wn.reproduce.measuring import (
    Evidence,
    LackingError,
    Number,
    end,
    gap,
    log_end,
    log_growth,
    log_trend,
    rise,
    typical,
    whole,
)
from crossq_wn.reproduce.studies import BRO, BRO_FAST, SIMBA, PlannedSystem, crossq, wn
from crossq_wn.results.curves import Curves
from crossq_wn.results.statistics import Array
from crossq_wn.results.verdicts import Effect

SIMILAR = 0.05  # a smaller difference in score, of which 1 is the best possible, counts as none
FLAT = 1.25  # the factor within which a norm counts as constant, and beyond which it grows
FLAT_ELR = 2.0  # such a factor for effective learning rates, which are noisier because gradients are
THRESHOLDS = (
    f"The paper leaves open what counts as similar or flat; ours are: scores within {SIMILAR} are alike, a "
    f"critic norm is flat within a factor of {FLAT} and grows beyond it, an effective learning rate is flat "
    f"within a factor of {FLAT_ELR:g} and falls beyond it."
)


class Ablation(NamedTuple):
    """A kind of ablation of CrossQ + WN."""

    name: str
    made_by: Callable[[Mapping[str, Any]], bool]  # changed settings -> whether they make this ablation


NO_WN = Ablation("no WN", lambda changes: changes.get("weight_norm") == "none")
NO_TARGET = Ablation("no target network", lambda changes: changes.get("target_network") is False)
L2 = Ablation("L2", lambda changes: changes.get("weight_norm") == "l2")
RESETS = Ablation("resets", lambda changes: "reset_updates" in changes)
_FULL = wn(5)
_HARD, _EASY, *_MYO = PAPER_GROUPS


class Claim(NamedTuple):
    """A statement of the paper."""

    name: str
    text: str
    where: str
    figures: tuple[str, ...]  # the figures whose runs it needs
    measure: Callable[[Evidence], list[Number]]
    only: tuple[str, ...] = ()  # the groups of tasks that it is about; by default all


def norms_grow(evidence: Evidence) -> list[Number]:
    """CrossQ's critic norm grows by more than a factor of `FLAT`, at each UTD ratio."""
    found = []
    for system in _ladder(evidence, "crossq"):
        growth = typical(evidence, evidence.metric("critic_norm"), system, log_growth)
        found.append(Number(_norm_growth(system), growth, FLAT, above=True, log=True))
    return found


def norms_grow_with_utd(evidence: Evidence) -> list[Number]:
    """CrossQ's critic norm ends higher at the highest UTD ratio than at the lowest; both start alike."""
    low, high = _ends(evidence, "crossq")
    ratio = gap(evidence, evidence.metric("critic_norm"), high, low, log_end)
    return [Number(f"final critic norm, {high.label} / {low.label}", ratio, 1.0, above=True, log=True)]


def elr_falls(evidence: Evidence) -> list[Number]:
    """CrossQ's effective learning rate falls by more than a factor of `FLAT_ELR`, at each UTD ratio."""
    found = []
    for system in _ladder(evidence, "crossq"):
        trend = typical(evidence, evidence.metric("critic_elr"), system, log_trend)
        found.append(Number(_elr_trend(system), trend, 1 / FLAT_ELR, above=False, log=True))
    return found


def neurons_die(evidence: Evidence) -> list[Number]:
    """CrossQ's fraction of dead neurons rises, at the highest UTD ratio."""
    system = _ladder(evidence, "crossq")[-1]
    more = typical(evidence, evidence.metric("dead_neurons"), system, rise)
    return [Number(f"fraction of dead neurons, last minus first, {system.label}", more, 0.0, above=True)]


def crossq_does_not_gain(evidence: Evidence) -> list[Number]:
    """CrossQ's final score gains at most `SIMILAR` from its lowest UTD ratio to its highest."""
    low, high = _ends(evidence, "crossq")
    return [_difference(evidence, high, low, SIMILAR, above=False)]


def wn_norm_is_flat(evidence: Evidence) -> list[Number]:
    """The critic norm of CrossQ + WN stays within a factor of `FLAT` either way, at each UTD ratio."""
    found = []
    for system in _ladder(evidence, "crossq-wn"):
        growth = typical(evidence, evidence.metric("critic_norm"), system, log_growth)
        found += _flat(_norm_growth(system), growth, FLAT)
    return found


def wn_elr_is_flat(evidence: Evidence) -> list[Number]:
    """The effective learning rate of CrossQ + WN stays within a factor of `FLAT_ELR`, at each UTD ratio."""
    found = []
    for system in _ladder(evidence, "crossq-wn"):
        trend = typical(evidence, evidence.metric("critic_elr"), system, log_trend)
        found += _flat(_elr_trend(system), trend, FLAT_ELR)
    return found


def wn_elr_is_steadier(evidence: Evidence) -> list[Number]:
    """The effective learning rate of CrossQ + WN changes by a smaller factor than CrossQ's at equal UTD."""
    found = []
    for ours, theirs in _same_utd(evidence):
        change = gap(evidence, evidence.metric("critic_elr"), ours, theirs, _size_of_trend)
        what = f"|log(effective learning rate, last / second tenth)|, {ours.label} minus {theirs.label}"
        found.append(Number(what, change, 0.0, above=False))
    return found


def wn_learns_better(evidence: Evidence) -> list[Number]:
    """The final score of CrossQ + WN exceeds CrossQ's at each UTD ratio that both have."""
    return [_difference(evidence, ours, theirs) for ours, theirs in _same_utd(evidence)]


def wn_never_loses(evidence: Evidence) -> list[Number]:
    """The final score of CrossQ + WN loses at most `SIMILAR` from each UTD ratio to the next."""
    _ends(evidence, "crossq-wn")  # raises if there is only one UTD ratio
    found = []
    for low, high in pairwise(_ladder(evidence, "crossq-wn")):
        found.append(_difference(evidence, high, low, -SIMILAR))
    return found


def wn_scales(evidence: Evidence) -> list[Number]:
    """The mean score of CrossQ + WN over training rises from its lowest UTD ratio to its highest."""
    low, high = _ends(evidence, "crossq-wn")
    more = gap(evidence, evidence.scores, high, low, whole)
    return [Number(f"mean score over training, {high.label} minus {low.label}", more, 0.0, above=True)]


def no_wn_hurts_most(evidence: Evidence) -> list[Number]:
    """Without WN the final score is lower than with everything, and than in every other ablation."""
    (without,) = _ablations(evidence, NO_WN)
    others = [*_ablations(evidence, NO_TARGET), *_ablations(evidence, L2)]
    return _differences(evidence, [_whole(evidence, without), *others], [without])


def full_is_better(kind: Ablation, evidence: Evidence) -> list[Number]:
    """The final score of CrossQ + WN exceeds that of every ablation of this kind."""
    less = _ablations(evidence, kind)
    return _differences(evidence, [_whole(evidence, less[0])], less)


def resets_help(evidence: Evidence) -> list[Number]:
    """Resets raise the final score of CrossQ + WN."""
    reset = _ablations(evidence, RESETS)
    return _differences(evidence, reset, [_whole(evidence, reset[0])])


def resets_change_nothing(evidence: Evidence) -> list[Number]:
    """Resets change the final score of CrossQ + WN by at most `SIMILAR`, either way."""
    (reset,) = _ablations(evidence, RESETS)
    up = _difference(evidence, reset, _whole(evidence, reset), -SIMILAR)
    return [up, up._replace(above=False, threshold=SIMILAR)]


def better_than(
    ours: PlannedSystem, rivals: tuple[PlannedSystem, ...], threshold: float, evidence: Evidence
) -> list[Number]:
    """A system's final score exceeds that of each of its rivals.

    Args:
        ours: the system that the claim is about.
        rivals: the systems to compare it with.
        threshold: what the difference must exceed; negative if falling short by that much is allowed.
        evidence: about one group of tasks.
    """
    return _differences(evidence, [ours], rivals, threshold)


def _differences(
    evidence: Evidence,
    ours: Iterable[PlannedSystem],
    theirs: Iterable[PlannedSystem],
    threshold: float = 0.0,
) -> list[Number]:
    """Differences of final scores, of each of the first systems against each of the second."""
    return [_difference(evidence, one, other, threshold) for one, other in product(ours, theirs)]


def _difference(
    evidence: Evidence, ours: PlannedSystem, theirs: PlannedSystem, threshold: float = 0.0, above: bool = True
) -> Number:
    found = gap(evidence, evidence.scores, ours, theirs, end)
    return Number(f"final score, {ours.label} minus {theirs.label}", found, threshold, above)


def _flat(what: str, trend: Effect, factor: float) -> list[Number]:
    return [
        Number(what, trend, factor, above=False, log=True),
        Number(what, trend, 1 / factor, above=True, log=True),
    ]


def _norm_growth(system: PlannedSystem) -> str:
    return f"critic norm, last / first, {system.label}"


def _elr_trend(system: PlannedSystem) -> str:
    return f"effective learning rate, last / second tenth, {system.label}"


def _size_of_trend(curves: Curves) -> Array:
    return np.asarray(np.abs(log_trend(curves)))


def _ladder(evidence: Evidence, algorithm: str) -> list[PlannedSystem]:
    """An algorithm at all its UTD ratios, lowest first, without ablations."""
    found = [each for each in evidence.planned if each.algorithm == algorithm and not each.changes]
    if not found:
        raise LackingError(f"{algorithm} is not run at this scale")
    return sorted(found, key=lambda each: each.utd)


def _ends(evidence: Evidence, algorithm: str) -> tuple[PlannedSystem, PlannedSystem]:
    """An algorithm at its lowest and its highest UTD ratio."""
    ladder = _ladder(evidence, algorithm)
    if len(ladder) < 2:
        raise LackingError(f"{algorithm} is run at only one UTD ratio")
    return ladder[0], ladder[-1]


def _same_utd(evidence: Evidence) -> list[tuple[PlannedSystem, PlannedSystem]]:
    """Pairs of CrossQ + WN and CrossQ at each UTD ratio that both have."""
    ours = {system.utd: system for system in _ladder(evidence, "crossq-wn")}
    pairs = [(ours[other.utd], other) for other in _ladder(evidence, "crossq") if other.utd in ours]
    if not pairs:
        raise LackingError("crossq-wn and crossq are run at no UTD ratio in common")
    return pairs


def _ablations(evidence: Evidence, kind: Ablation) -> list[PlannedSystem]:
    """The ablations of CrossQ + WN of this kind."""
    found = []
    for system in evidence.planned:
        if system.algorithm == "crossq-wn" and kind.made_by(system.changes):
            found.append(system)
    if not found:
        raise LackingError(f"CrossQ + WN, {kind.name} is not run at this scale")
    return found


def _whole(evidence: Evidence, ablation: PlannedSystem) -> PlannedSystem:
    """CrossQ + WN with everything, at the UTD ratio of an ablation."""
    for system in _ladder(evidence, "crossq-wn"):
        if system.utd == ablation.utd:
            return system
    raise LackingError(f"CrossQ + WN UTD {ablation.utd} is not run at this scale")


CLAIMS = (
    Claim("norms-grow", f"CrossQ's critic norm grows over training (beyond a factor of {FLAT})",
          "section 3, Fig. 3", ("fig3",), norms_grow),
    Claim("norms-grow-with-utd", "CrossQ's critic norm grows further at the higher UTD ratio",
          "section 3, Fig. 3", ("fig3",), norms_grow_with_utd),
    Claim("elr-falls", f"CrossQ's effective learning rate falls (beyond a factor of {FLAT_ELR:g})",
          "section 3, Fig. 3", ("fig3",), elr_falls),
    Claim("neurons-die", "CrossQ's fraction of dead neurons grows",
          "Fig. 3", ("fig3",), neurons_die),
    Claim("crossq-does-not-gain", f"CrossQ does not gain from the higher UTD ratio (at most {SIMILAR})",
          "section 3, Fig. 3", ("fig3",), crossq_does_not_gain),
    Claim("wn-norm-flat", f"WN keeps the critic norm flat (within a factor of {FLAT})",
          "section 4, Fig. 3", ("fig3",), wn_norm_is_flat),
    Claim("wn-elr-flat", f"WN keeps the effective learning rate flat (within a factor of {FLAT_ELR:g})",
          "section 4, Fig. 3", ("fig3",), wn_elr_is_flat),
    Claim("wn-elr-steadier", "WN keeps the effective learning rate steadier than CrossQ does, flat or not",
          "section 4, Fig. 3", ("fig3",), wn_elr_is_steadier),
    Claim("wn-learns-better", "WN performs better than CrossQ at the same UTD ratio",
          "section 5.2, Fig. 3", ("fig3",), wn_learns_better),
    Claim("wn-never-loses", "CrossQ + WN's performance increases or stays constant with the UTD ratio "
          f"(within {SIMILAR})", "section 5.3, Fig. 4", ("fig4", "fig6"), wn_never_loses),
    Claim("wn-scales", "CrossQ + WN's sample efficiency grows with the UTD ratio",
          "section 5.3, Fig. 4 and 6", ("fig4", "fig6"), wn_scales),
    Claim("no-wn-hurts-most", "of all ablations, removing WN costs most performance",
          "section 5.4, Fig. 5", ("fig5",), no_wn_hurts_most),
    Claim("no-target-hurts", "removing the target network costs performance on DMC",
          "section 5.4, Fig. 5", ("fig5",), partial(full_is_better, NO_TARGET), (_HARD, _EASY)),
    Claim("l2-is-worse", "a soft L2 penalty is worse than WN at every scale",
          "section 5.4, Fig. 5", ("fig5",), partial(full_is_better, L2)),
    Claim("resets-help", "resets improve CrossQ + WN slightly on dog and humanoid",
          "section 5.4, Fig. 5", ("fig5",), resets_help, (_HARD,)),
    Claim("resets-change-nothing", f"resets change nothing on the other tasks (at most {SIMILAR})",
          "section 5.4, Fig. 5", ("fig5",), resets_change_nothing, (_EASY, *_MYO)),
    Claim("wn-beats-rivals", "CrossQ + WN outperforms SimBa and BRO, all at UTD 2",
          "Fig. 1", ("fig1", "fig2"),
          partial(better_than, wn(2), (SIMBA, BRO_FAST), 0.0)),
    Claim("wn-beats-crossq", "CrossQ + WN at UTD 5 outperforms CrossQ",
          "Fig. 7", ("fig7",), partial(better_than, _FULL, (crossq(1), crossq(5)), 0.0)),
    Claim("wn-matches-bro", f"CrossQ + WN at UTD 5 matches BRO at UTD 10 (at most {SIMILAR} below)",
          "Fig. 7", ("fig7",), partial(better_than, _FULL, (BRO,), -SIMILAR)),
)  # fmt: skip
