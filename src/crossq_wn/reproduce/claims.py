"""What does the paper claim that runs can bear out? Each claim is one function of tidy results.

Thresholds that the paper leaves open ("remains similar", "flat") are named here, and are ours.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from crossq_wn.environments import PAPER_GROUPS
from crossq_wn.reproduce.judging import (
    Evidence,
    Number,
    UntoldError,
    end,
    gap,
    log_end,
    log_growth,
    log_trend,
    number,
    rise,
    typical,
    whole,
)
from crossq_wn.results.statistics import Estimate

SIMILAR = 0.05  # difference in score (return / 1000, or success rate) that counts as none
FLAT = 1.25  # factor within which a norm counts as constant, and beyond which it grows
FLAT_ELR = 2.0  # the same for effective learning rates, which gradients make noisier
THRESHOLDS = (
    f"The paper leaves open what counts as similar or flat; ours are: scores within {SIMILAR} are alike, a "
    f"critic norm is flat within a factor of {FLAT} and grows beyond it, an effective learning rate is flat "
    f"within a factor of {FLAT_ELR:g} and falls beyond it."
)
_CROSSQ, _WN, _FULL = "CrossQ", "CrossQ + WN", "CrossQ + WN UTD 5"
_HARD, _EASY, *_MYO = PAPER_GROUPS


class Claim(NamedTuple):
    """A statement of the paper."""

    name: str
    text: str
    where: str
    figures: tuple[str, ...]  # whose runs it needs
    measure: Callable[[Evidence], list[Number]]
    only: tuple[str, ...] = ()  # groups of tasks that it speaks of; all by default


def norms_grow(evidence: Evidence) -> list[Number]:
    """CrossQ's by more than a factor `FLAT`, at each UTD ratio."""
    norms = evidence.metric("critic_norm")
    what, labels = "critic norm, last / first, {}", _ladder(evidence, _CROSSQ)
    found = {label: typical(evidence, norms, label, log_growth) for label in labels}
    return [number(what.format(label), growth, FLAT, log=True) for label, growth in found.items()]


def norms_grow_with_utd(evidence: Evidence) -> list[Number]:
    """CrossQ's, at the end of training; they began alike."""
    norms = evidence.metric("critic_norm")
    low, high = _ends(evidence, _CROSSQ)
    found = gap(evidence, norms, high, low, log_end)
    return [number(f"final critic norm, {high} / {low}", found, 1, log=True)]


def elr_falls(evidence: Evidence) -> list[Number]:
    """CrossQ's by more than a factor `FLAT_ELR`, at each UTD ratio."""
    trends = _elr_trends(evidence, _CROSSQ)
    return [number(what, trend, 1 / FLAT_ELR, above=False, log=True) for what, trend in trends.items()]


def neurons_die(evidence: Evidence) -> list[Number]:
    """CrossQ's, at the highest UTD ratio."""
    dead = evidence.metric("dead_neurons")
    label = _ladder(evidence, _CROSSQ)[-1]
    found = typical(evidence, dead, label, rise)
    return [number(f"fraction of dead neurons, last minus first, {label}", found, 0)]


def crossq_does_not_gain(evidence: Evidence) -> list[Number]:
    """More than `SIMILAR`, from its lowest UTD ratio to its highest."""
    low, high = _ends(evidence, _CROSSQ)
    found = gap(evidence, evidence.scores, high, low, end)
    return [number(f"final score, {high} minus {low}", found, SIMILAR, above=False)]


def wn_norm_is_flat(evidence: Evidence) -> list[Number]:
    """Within a factor `FLAT` either way, at each UTD ratio."""
    norms = evidence.metric("critic_norm")
    what, labels = "critic norm, last / first, {}", _ladder(evidence, _WN)
    return _flat({what.format(x): typical(evidence, norms, x, log_growth) for x in labels}, FLAT)


def wn_elr_is_flat(evidence: Evidence) -> list[Number]:
    """Within a factor `FLAT_ELR` either way, at each UTD ratio."""
    return _flat(_elr_trends(evidence, _WN), FLAT_ELR)


def _elr_trends(evidence: Evidence, family: str) -> dict[str, Estimate]:
    rates = evidence.metric("critic_elr")
    what, labels = "effective learning rate, last / second tenth, {}", _ladder(evidence, family)
    return {what.format(label): typical(evidence, rates, label, log_trend) for label in labels}


def _flat(trends: Mapping[str, Estimate], factor: float) -> list[Number]:
    bounds = ((factor, False), (1 / factor, True))
    return [
        number(what, trend, threshold, above=above, log=True)
        for what, trend in trends.items()
        for threshold, above in bounds
    ]


def wn_elr_is_steadier(evidence: Evidence) -> list[Number]:
    """By how many e-folds it changes, either way, against CrossQ at the same UTD ratio."""
    rates = evidence.metric("critic_elr")

    def change(wn: str, crossq: str) -> Number:
        found = gap(evidence, rates, wn, crossq, lambda curves: np.abs(log_trend(curves)))
        what = f"|log(effective learning rate, last / second tenth)|, {wn} minus {crossq}"
        return number(what, found, 0, above=False)

    return [change(*pair) for pair in _same_utd(evidence)]


def wn_learns_better(evidence: Evidence) -> list[Number]:
    """Than CrossQ, at the same UTD ratios."""
    return [_beats(evidence, wn, crossq) for wn, crossq in _same_utd(evidence)]


def wn_never_loses(evidence: Evidence) -> list[Number]:
    """More than `SIMILAR`, from one UTD ratio to the next."""
    _ends(evidence, _WN)
    labels = _ladder(evidence, _WN)
    return [_beats(evidence, high, low, -SIMILAR) for low, high in pairwise(labels)]


def wn_scales(evidence: Evidence) -> list[Number]:
    """In sample efficiency, from the lowest UTD ratio to the highest."""
    low, high = _ends(evidence, _WN)
    found = gap(evidence, evidence.scores, high, low, whole)
    return [number(f"mean score over training, {high} minus {low}", found, 0)]


def no_wn_hurts_most(evidence: Evidence) -> list[Number]:
    """Against the full algorithm, and against every other thing removed or replaced."""
    (without,) = _but(evidence, "no WN")
    others = _but(evidence, "no target network") + _but(evidence, "L2")
    return [_beats(evidence, label, without) for label in (_FULL, *others)]


def full_is_better(what: str, evidence: Evidence) -> list[Number]:
    """Than every ablation called so."""
    return [_beats(evidence, _FULL, label) for label in _but(evidence, what)]


def resets_help(evidence: Evidence) -> list[Number]:
    """CrossQ + WN."""
    return [_beats(evidence, label, _FULL) for label in _but(evidence, "resets")]


def resets_change_nothing(evidence: Evidence) -> list[Number]:
    """More than `SIMILAR`, either way."""
    (reset,) = _but(evidence, "resets")
    up = _beats(evidence, reset, _FULL, -SIMILAR)
    return [up, up._replace(above=False, threshold=SIMILAR)]


def better_than(ours: str, rivals: tuple[str, ...], threshold: float, evidence: Evidence) -> list[Number]:
    """Than each of these systems."""
    return [_beats(evidence, ours, rival, threshold) for rival in rivals]


def _beats(evidence: Evidence, label: str, other: str, threshold: float = 0.0) -> Number:
    found = gap(evidence, evidence.scores, label, other, end)
    return number(f"final score, {label} minus {other}", found, threshold)


def _ladder(evidence: Evidence, family: str) -> list[str]:
    """A family's labels at all its UTD ratios, lowest first; without ablations."""
    found = [re.fullmatch(rf"{re.escape(family)} UTD (\d+)", label) for label in evidence.planned]
    labels = [match[0] for match in sorted((m for m in found if m), key=lambda match: int(match[1]))]
    if not labels:
        raise UntoldError(f"{family} is not run at this scale")
    return labels


def _ends(evidence: Evidence, family: str) -> tuple[str, str]:
    labels = _ladder(evidence, family)
    if len(labels) < 2:
        raise UntoldError(f"{family} is run at one UTD ratio only")
    return labels[0], labels[-1]


def _same_utd(evidence: Evidence) -> list[tuple[str, str]]:
    """CrossQ + WN and CrossQ, where both are run."""
    pairs = [(label.replace(_CROSSQ, _WN), label) for label in _ladder(evidence, _CROSSQ)]
    found = [pair for pair in pairs if pair[0] in evidence.planned]
    if not found:
        raise UntoldError(f"{_WN} and {_CROSSQ} are run at no UTD ratio in common")
    return found


def _but(evidence: Evidence, what: str) -> list[str]:
    """The ablations called so."""
    found = [label for label in evidence.planned if label.startswith(f"{_FULL}, {what}")]
    if not found:
        raise UntoldError(f"{_FULL}, {what} is not run at this scale")
    return found


CLAIMS = (
    Claim("norms-grow", f"CrossQ's critic norm grows over training (beyond a factor of {FLAT})",
          "section 3, Fig. 3", ("fig3",), norms_grow),
    Claim("norms-grow-with-utd", "CrossQ's critic norm grows further at the higher UTD ratio",
          "section 3, Fig. 3", ("fig3",), norms_grow_with_utd),
    Claim("elr-falls", f"CrossQ's effective learning rate falls (beyond a factor of {FLAT_ELR:g})",
          "section 3, Fig. 3", ("fig3",), elr_falls),
    Claim("neurons-die", "CrossQ's dead neurons become more",
          "Fig. 3", ("fig3",), neurons_die),
    Claim("crossq-does-not-gain", f"CrossQ does not gain (more than {SIMILAR}) from the higher UTD ratio",
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
          "section 5.4, Fig. 5", ("fig5",), partial(full_is_better, "no target network"), (_HARD, _EASY)),
    Claim("l2-is-worse", "a soft L2 penalty is worse than WN at every scale",
          "section 5.4, Fig. 5", ("fig5",), partial(full_is_better, "L2")),
    Claim("resets-help", "resets improve CrossQ + WN slightly on dog and humanoid",
          "section 5.4, Fig. 5", ("fig5",), resets_help, (_HARD,)),
    Claim("resets-change-nothing", f"resets change nothing on the other tasks (more than {SIMILAR})",
          "section 5.4, Fig. 5", ("fig5",), resets_change_nothing, (_EASY, *_MYO)),
    Claim("wn-beats-rivals", "CrossQ + WN outperforms SimBa and BRO, all at UTD 2",
          "Fig. 1", ("fig1", "fig2"),
          partial(better_than, "CrossQ + WN UTD 2", ("SimBa UTD 2", "BRO UTD 2"), 0.0)),
    Claim("wn-beats-crossq", "CrossQ + WN at UTD 5 outperforms CrossQ",
          "Fig. 7", ("fig7",), partial(better_than, _FULL, ("CrossQ UTD 1", "CrossQ UTD 5"), 0.0)),
    Claim("wn-matches-bro", f"CrossQ + WN at UTD 5 matches BRO at UTD 10 (at most {SIMILAR} below)",
          "Fig. 7", ("fig7",), partial(better_than, _FULL, ("BRO UTD 10",), -SIMILAR)),
)  # fmt: skip
