"""The paper's figures, each drawn from the runs that it plans."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from crossq_wn.errors import UserError
from crossq_wn.reproduce.findings import CONFIDENCE
from crossq_wn.reproduce.studies import PlannedRun, Scale
from crossq_wn.results.statistics import Aggregation
from crossq_wn.runs.config import read_config


def draw(
    scale: Scale,
    figures: Iterable[str],
    drawn: Sequence[PlannedRun],
    out: Path,
    warn: Callable[[str], None],
) -> list[Path]:
    """Draws figures: pictures, and the numbers behind them.

    Args:
        scale: whose plans the figures are.
        figures: such as fig3.
        drawn: the runs to draw.
        out: the folder.
        warn: is told what is left out, such as a figure without a run to draw.

    Returns:
        The files written.
    """
    from crossq_wn.results.figures import CURVES, FIGURES, Source, save

    written = []
    for figure in figures:
        tasks, systems = scale.figures[figure]
        shown = [run for run in drawn if run.system in systems and run.config.task in tasks]
        if not shown:
            warn(f"{figure} is not drawn: none of its runs has come far enough")
            continue
        # In the order of the plan, which also decides colours.
        shown.sort(key=lambda run: systems.index(run.system))
        paths = [run.path for run in shown]
        labels = dict.fromkeys(read_config(path).system.label for path in paths)  # without repetitions
        along = scale.along if figure in CURVES else "frames"
        source = Source.of(paths, systems=list(labels), how=Aggregation(CONFIDENCE), warn=warn, along=along)
        try:
            picture = FIGURES[figure](source)
        except UserError as reason:
            warn(f"{figure} is not drawn: {reason}")
            continue
        written += save(picture.figure, picture.rows, out / figure)
    return written
