"""The table of diagnostics: what training records besides the score, and what each quantity means.

The columns of metrics.csv, `crossq-wn diagnose`, the columns of figure 3 and the report all come from this
table. To add a diagnostic, write a function of a `Probe` and register its record:

    register(Diagnostic("critic_margin", "how far the critics disagree", axis="margin", function=margin))
"""

from __future__ import annotations  # JAX's types are loaded on first use

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from crossq_wn.learning import measures
from crossq_wn.learning.measures import Part, Probe
from crossq_wn.types import Array, CriticView, Metrics

_LAYER = "{layer}"


@dataclass(frozen=True)
class Diagnostic:
    """One quantity that training records.

    Attributes:
        name: its column of metrics.csv, or its metric in eval.csv. A name with `{layer}` stands for one
            column per hidden layer, counted from 1; these are only recorded.
        meaning: what it is, in a few words.
        unit: such as "nats"; empty if it has none.
        axis: its name on the axis of a figure, without the unit; by default `name`.
        signed: whether it may be negative; then its change is a difference and not a ratio.
        logarithmic: whether it changes by orders of magnitude; then axes are logarithmic.
        in_figure_3: whether it has a column in figure 3.
        detail: whether it is recorded but left out of `diagnose` and the report.
        file: the file that records it.
        function: computes it from a probe: a scalar, or [layers] for a name with `{layer}`. None if the
            algorithm's updates or the evaluation report it.
        of: the part of the critic that it is about; critics without that part have no such diagnostic.
    """

    name: str
    meaning: str
    unit: str = ""
    axis: str = ""
    signed: bool = False
    logarithmic: bool = False
    in_figure_3: bool = False
    detail: bool = False
    file: Literal["metrics.csv", "eval.csv"] = "metrics.csv"
    function: Callable[[Probe], Array] | None = None
    of: Part = "critic"

    @property
    def description(self) -> str:
        """The meaning with its unit."""
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning

    @property
    def label(self) -> str:
        """The label of a figure's axis: the short name with its unit."""
        name = self.axis or self.name.replace("_", " ")
        return f"{name} ({self.unit})" if self.unit else name


DIAGNOSTICS: dict[str, Diagnostic] = {}  # by name; filled by `register`


def register(*diagnostics: Diagnostic) -> None:
    """Adds diagnostics to the table; runs that start afterwards record them.

    Raises:
        ValueError: the name is taken.
    """
    for diagnostic in diagnostics:
        if diagnostic.name in DIAGNOSTICS:
            raise ValueError(f"there is a diagnostic {diagnostic.name!r} already: choose another name")
        DIAGNOSTICS[diagnostic.name] = diagnostic


def shown() -> list[Diagnostic]:
    """The diagnostics that `diagnose` and the report show, in the table's order."""
    return [each for each in DIAGNOSTICS.values() if not each.detail and _LAYER not in each.name]


def diagnose(view: CriticView) -> Metrics:
    """Computes the diagnostics of a critic, as far as it has the parts that they are about.

    Returns:
        Scalars by column of metrics.csv.
    """
    probe = measures.probe_of(view)
    parts = measures.parts_of(probe)
    found: Metrics = {}
    for diagnostic in DIAGNOSTICS.values():
        if diagnostic.function is None or diagnostic.of not in parts:
            continue
        value = diagnostic.function(probe)
        if _LAYER not in diagnostic.name:
            found[diagnostic.name] = value
            continue
        for layer in range(len(value)):
            found[diagnostic.name.format(layer=layer + 1)] = value[layer]
    return found


def lacking(columns: Collection[str]) -> dict[Part, list[str]]:
    """The diagnostics that a critic lacks, by the part that it lacks; many do without batch norm.

    Args:
        columns: of its metrics.csv.
    """
    found: dict[Part, list[str]] = {}
    for diagnostic in DIAGNOSTICS.values():
        if diagnostic.of == "batch norm":
            continue
        if diagnostic.function and _LAYER not in diagnostic.name and diagnostic.name not in columns:
            found.setdefault(diagnostic.of, []).append(diagnostic.name)
    return found


register(
    Diagnostic(
        "critic_norm",
        "weight norm of the critics' dense layers, summed",
        axis="critic parameter norm",
        in_figure_3=True,
        function=measures.weight_norm,
        of="dense layers",
    ),
    Diagnostic(
        "critic_norm_root",
        "weight norm of the critics' dense layers, root of the sum of squares",
        detail=True,
        function=measures.weight_norm_root,
        of="dense layers",
    ),
    Diagnostic(
        "critic_norm_{layer}",
        "weight norm of one hidden layer",
        detail=True,
        function=measures.hidden_weight_norms,
        of="dense layers",
    ),
    Diagnostic(
        "critic_norm_head",
        "weight norm of the critics' last layer alone",
        function=measures.head_weight_norm,
        of="dense layers",
    ),
    Diagnostic(
        "critic_gradient_norm",
        "norm of the critic loss's gradient",
        logarithmic=True,
        in_figure_3=True,
        function=measures.gradient_norm,
        of="dense layers",
    ),
    Diagnostic(
        "critic_gradient_norm_{layer}",
        "norm of the critic loss's gradient in one hidden layer",
        detail=True,
        function=measures.hidden_gradient_norms,
        of="dense layers",
    ),
    Diagnostic(
        "critic_gradient_norm_head",
        "norm of the critic loss's gradient in the last layer",
        detail=True,
        function=measures.head_gradient_norm,
        of="dense layers",
    ),
    Diagnostic(
        "critic_elr",
        "effective learning rate: gradient over weight norm",
        axis="effective learning rate",
        logarithmic=True,
        in_figure_3=True,
        function=measures.effective_learning_rate,
        of="dense layers",
    ),
    Diagnostic(
        "critic_elr_hidden",
        "effective learning rate of the hidden layers",
        detail=True,
        function=measures.hidden_learning_rate,
        of="hidden dense layers",
    ),
    Diagnostic(
        "critic_elr_head",
        "effective learning rate of the last layer",
        detail=True,
        function=measures.head_learning_rate,
        of="dense layers",
    ),
    Diagnostic(
        "critic_step_size",
        "learning rate over squared weight norm, hidden layers",
        function=measures.step_size,
        of="hidden dense layers",
    ),
    Diagnostic(
        "dead_neurons",
        "hidden units silent on a whole minibatch",
        unit="fraction",
        in_figure_3=True,
        function=measures.dead_neurons,
        of="non-linearities",
    ),
    Diagnostic(
        "feature_norm",
        "length of the hidden features, summed over layers",
        function=measures.feature_norm,
        of="non-linearities",
    ),
    Diagnostic(
        "stable_rank",
        "singular values that make up 99 % of the last hidden features",
        function=measures.stable_rank,
        of="non-linearities",
    ),
    Diagnostic(
        "bn_drift",
        "how far batch norm's running means move per update",
        unit="standard deviations",
        function=measures.statistics_drift,
        of="batch norm",
    ),
    Diagnostic(
        "bn_variance_drift",
        "how far batch norm's running variances move per update",
        unit="share of them",
        function=measures.variance_drift,
        of="batch norm",
    ),
    Diagnostic("q_mean", "mean value of replayed actions", signed=True),
    Diagnostic(
        "target_q_mean",
        "mean target of a minibatch; if it leaves q_mean behind, values diverge",
        signed=True,
    ),
    Diagnostic(
        "target_q_min",
        "smallest target in a minibatch",
        signed=True,
        detail=True,
        function=measures.smallest_target,
    ),
    Diagnostic(
        "target_q_max",
        "largest target in a minibatch",
        signed=True,
        function=measures.largest_target,
    ),
    Diagnostic("entropy", "entropy of the policy", unit="nats", signed=True),
    Diagnostic("temperature", "the worth of a nat of entropy in units of reward"),
    Diagnostic("critic_loss", "the critics' loss; algorithms with different losses cannot be compared"),
    Diagnostic("actor_loss", "the actor's loss; it falls as values rise", signed=True),
    Diagnostic(
        "q_bias_mean",
        "how far values exceed the returns that follow, over |return|",
        axis="normalised Q-bias, mean",
        signed=True,
        file="eval.csv",
    ),
    Diagnostic(
        "q_bias_std",
        "spread of the Q-bias; a bias misleads a policy only where it is unequal",
        axis="normalised Q-bias, std",
        file="eval.csv",
    ),
)
