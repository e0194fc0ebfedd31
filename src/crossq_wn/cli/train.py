"""The commands `train` and `resume`."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossq_wn.algorithms import ALGORITHMS
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli.arguments import Parser, add_trust, parse_run, whole_number
from crossq_wn.cli.console import discard_output, warn
from crossq_wn.errors import SEEDS_FAILED, UserError, one_line, visible
from crossq_wn.runs.choices import read_choices
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.folders import run_in
from crossq_wn.runs.options import OPTION_NAMES
from crossq_wn.training.display import reporter
from crossq_wn.training.film import film
from crossq_wn.training.progress import Outcome, Reporter


def train(parser: Parser, arguments: list[str]) -> int:
    """Runs `train`: trains on a task."""
    config, out = configured(parser, arguments)
    from crossq_wn.training import api

    return _follow(lambda shown: api.start(config, out, shown))


def configured(parser: Parser, arguments: list[str]) -> tuple[RunConfig, Path | None]:
    """Parses the arguments of `train`.

    Args:
        parser: of the command.
        arguments: of the command.

    Returns:
        The run's configuration, and the run directory if one is named.

    Raises:
        UserError: an option or a value is wrong.
    """
    parser.add_argument(
        "--out", type=Path, metavar="RUN", help="run directory; by default the next free one under runs/TASK/"
    )
    _add_start(parser)
    values = parse_run(parser, arguments, start=_start(parser.prog, arguments))
    from crossq_wn.training import api

    out: Path | None = values.pop("out")
    # `_start` has read these; all others are the run's.
    del values["config"], values["trust"]
    return api.configure(values.pop("task"), **values), out


def _add_start(parser: Parser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="start from the config.json of a run: its task, algorithm, preset, options and hyperparameters "
        "hold unless others are given; it may also be the run's directory",
    )
    add_trust(parser)


def _start(prog: str, arguments: list[str]) -> dict[str, Any]:
    """Reads the file that a new run starts from, if one is named."""
    # Alone, because the file decides which hyperparameters the whole parser has.
    first = Parser(prog.split()[-1], add_help=False)
    _add_start(first)
    chosen, _ = first.parse_known_args(arguments)
    if chosen.config is None:
        return {}
    return read_choices(chosen.config, trust=chosen.trust)


def resume(parser: Parser, arguments: list[str]) -> int:
    """Runs `resume`: continues a run."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument(
        "--frames",
        type=whole_number,
        help="a new total of environment frames per seed, to train a finished run further",
    )
    parser.add_argument(
        "--without-damaged-replay",
        action="store_true",
        help="continue without rows of replay that are damaged beyond repair",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="shut out another process that has the run, such as one on a machine that is cut off",
    )
    add_trust(parser)
    _refuse_choices(arguments)
    parsed = parser.parse_args(arguments)
    from crossq_wn.training import api

    return _follow(
        lambda shown: api.go_on(
            run_in(parsed.run),
            parsed.frames,
            shown,
            without_damaged_replay=parsed.without_damaged_replay,
            trust=parsed.trust,
            take_over=parsed.take_over,
        )
    )


def _refuse_choices(arguments: list[str]) -> None:
    """Refuses what is chosen when a run begins, and says how to begin another that differs in it."""
    names = set(OPTION_NAMES) - {"frames"}
    for recipe in ALGORITHMS.values():
        names.update(setting_names(recipe.settings))
    for each in arguments:
        name = each.split("=")[0]
        if name.startswith("--") and name.removeprefix("--").removeprefix("no-").replace("-", "_") in names:
            raise UserError(
                f"{name} is chosen when a run begins, and resume goes on as it began: "
                f"`crossq-wn train --config RUN {name} ...` begins another one with it"
            )


def _follow(work: Callable[[Reporter], Outcome]) -> int:
    """Trains while progress is shown, then draws the learning curves and records a video."""
    with reporter() as shown:
        outcome = work(shown)
    _flush()
    if outcome.untouched:
        return _conclude(outcome)
    if outcome.signal is not None:
        _tell(f"stopped at {outcome.frames:,} frames: continue with `crossq-wn resume {outcome.path}`")
        return 128 + int(outcome.signal)
    _draw(outcome.path)
    film(outcome, _tell, warn)
    if not outcome.failed:
        _tell(f"done: {outcome.path}")
    return _conclude(outcome)


def _conclude(outcome: Outcome) -> int:
    """Says which seeds have failed, why, and how they go on; returns the exit code, which tells that, too."""
    for line in outcome.failures():
        warn(line)
    return SEEDS_FAILED if outcome.failed else 0


def _draw(path: Path) -> None:
    from crossq_wn.cli.results import draw

    try:
        for picture in draw([path]):
            _tell(str(picture))
    except Exception as error:  # whatever it is, the training counts
        warn(f"the curves could not be drawn ({one_line(error)}); what was trained is saved all the same")


def _tell(text: str) -> None:
    """Prints a line; if that fails because nobody reads it or the disk is full, the training still counts."""
    with contextlib.suppress(OSError):
        print(visible(text))
    _flush()


def _flush() -> None:
    """Flushes standard output; if that fails, whatever is printed later is discarded."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
