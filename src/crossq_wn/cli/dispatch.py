"""The entry point: finds the command, runs it, and reports errors as one line and an exit code.

Exit codes: 0 done, 1 doctor found something essential missing, 2 the user can mend it, 3 some of a run's
seeds failed, 128 + n stopped by signal n.
"""

import contextlib
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import crossq_wn
from crossq_wn.cli.console import discard_output
from crossq_wn.errors import (
    OUT_OF_MEMORY,
    UserError,
    explained,
    lacks_memory,
    naming_options,
    nearest,
    one_line,
    visible,
)
from crossq_wn.installation import versions
from crossq_wn.machine import collect_seldom

# Each verb: the module and function that runs it, loaded on use because most load much, and what it does.
VERBS = {
    "train": ("train:train", "Train on a task: a short name, a Gymnasium id, or module:factory."),
    "resume": ("train:resume", "Continue a run from its newest checkpoint, bit for bit."),
    "sweep": (
        "sweep:sweep",
        "Train many runs from one file or a grid of options, and resume what was cut off.",
    ),
    "eval": ("policy:evaluate", "Run fresh episodes with a trained policy."),
    "video": ("policy:video", "Record a trained policy as an mp4, without a display."),
    "export": (
        "policy:write_export",
        "Write a trained policy that acts by itself: for numpy alone, or for onnxruntime.",
    ),
    "data": ("data:data", "Write a run's replay as a Minari data set or an .npz file."),
    "plot": (
        "results:plot",
        "Draw the learning curves of any runs: each seed of one task, or a grid of tasks.",
    ),
    "figure": ("results:figure", "Draw a figure of the paper from any runs, beside published curves."),
    "compare": ("results:compare", "Lay runs beside others, or beside published curves."),
    "curves": (
        "curves:curves",
        "Write learning curves to publish: tables, how they were made, pictures beside others.",
    ),
    "reproduce": (
        "reproduce:reproduce",
        "Repeat figures of the paper: plan, train what is missing, draw, judge its claims.",
    ),
    "report": ("results:report", "Write one HTML file on runs: scores, verdicts, curves, settings."),
    "diagnose": (
        "diagnose:diagnose",
        "Say in words why a run does not learn, as far as its data and its diagnostics tell.",
    ),
    "bench": ("bench:bench", "Measure updates and environments against this machine's limits, or a peer."),
    "list": ("lists:show_list", "List tasks, algorithms, presets or runs."),
    "doctor": ("doctor:doctor", "Check this machine: versions, rendering, accelerator."),
    "completion": ("completion:completion", "Print what completes commands, options and tasks in a shell."),
}


_LONG, _SHOWN = 400, 80  # letters of a word that is shortened, and what is shown of it


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    collect_seldom()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides the compiler's notes to its own developers
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which warns where it cannot keep its cache
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # replaced or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with naming_options():
            code = run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        code = _refuse(one_line(error))
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        discard_output()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _refuse(where + explained(error))
    except (MemoryError, RuntimeError) as error:
        code = _refuse_for_memory(error)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)


def _refuse_for_memory(error: Exception) -> int:
    """Prints that there is too little memory, if that is the error, and returns the exit code for it."""
    if not lacks_memory(error):
        raise error
    what_to_do = "free some memory, or give the command less to do at once, such as fewer seeds"
    return _refuse(f"{OUT_OF_MEMORY} ({one_line(error)}): {what_to_do}")


def _refuse(text: str) -> int:
    """Prints why a command ends, in a line of readable length, and returns the exit code for it."""
    short = re.sub(rf"\S{{{_LONG},}}", lambda word: f"{word[0][:_SHOWN]}...", text)
    print(f"crossq-wn: {visible(short)}", file=sys.stderr)
    return 2


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code.

    Raises:
        UserError: an unknown command, or whatever the command refuses.
    """
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == "--version":
        print(f"crossq-wn {crossq_wn.__version__}\n{versions()}")
        return 0
    if verb not in VERBS:
        raise UserError(f"unknown command {verb!r}: {nearest(verb, VERBS)}choose from {', '.join(VERBS)}")
    place, summary = VERBS[verb]
    module, function = place.split(":")
    parser = importlib.import_module("crossq_wn.cli.arguments").Parser(verb, summary)
    perform: Any = getattr(importlib.import_module(f"crossq_wn.cli.{module}"), function)
    code: int = perform(parser, rest)
    return code


def _overview() -> str:
    lines = ["usage: crossq-wn COMMAND ...", "", "Sample-efficient reinforcement learning: CrossQ + WN.", ""]
    lines += [f"  {verb:10} {summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join([*lines, "", "`crossq-wn COMMAND --help` explains each; `crossq-wn --version`."])
