"""The figures of the paper, drawn from any runs. Draw one from a source, then save it:

source = Source.of([Path("runs")], reference=[Path("rivals.csv")])
picture = FIGURES["fig1"](source)
save(picture.figure, picture.rows, Path("fig1"))        # fig1.png, fig1.svg, fig1.csv
"""

from collections.abc import Callable

from crossq_wn.results.figures.bars import ablations, aggregates
from crossq_wn.results.figures.columns import q_bias, training_health
from crossq_wn.results.figures.curves import per_group, per_task
from crossq_wn.results.figures.files import save
from crossq_wn.results.figures.profiles import profiles
from crossq_wn.results.figures.scaling import performance_and_speed, utd_scaling
from crossq_wn.results.figures.source import Source
from crossq_wn.results.figures.style import Picture

__all__ = ["CURVES", "FIGURES", "Picture", "Source", "save"]

# The figures of the paper (v2), figure 2 of v1, and performance profiles.
FIGURES: dict[str, Callable[[Source], Picture]] = {
    "fig1": aggregates,
    "fig2": performance_and_speed,
    "fig3": training_health,
    "fig4": utd_scaling,
    "fig5": ablations,
    "fig6": per_group,
    "fig7": per_task,
    "q-bias": q_bias,
    "profile": profiles,
}
CURVES = (
    "fig3",
    "fig6",
    "fig7",
    "q-bias",
)  # those that may run over gradient updates or hours instead of frames
