"""What does the command line say? One verb, one function; the only place that prints.

Exit codes: 0 done, 1 doctor found something essential, 2 the user can mend it, 128 + n stopped by signal n.
"""

import argparse
import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

from crossq_wn.errors import UserError, nearest, one_line

if TYPE_CHECKING:
    from crossq_wn.runs.config import RunConfig

# As the user set it: training chooses MuJoCo's renderer for itself, a video for itself.
_ENVIRONMENT = dict(os.environ)

# What a user can mend about files: space, quota, rights, a file where a folder should be.
_OUT_OF_REACH = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
)  # fmt: skip

_DAY = 24  # hours

# Imports of what is slow or fixes MuJoCo's OpenGL backend wait until a verb needs them.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Arguments of `train` that are not hyperparameters of the algorithm."""

    frames: int = 1_000_000
    """Environment frames to train, per seed."""
    seeds: str = "0"
    """Training seeds, such as 0,1,2; they train side by side in one process."""
    out: Path | None = None
    """Run directory, with all its seeds; by default the next free one under runs/TASK/."""
    episode_frames: int | None = None
    """Time limit in environment frames; by default the suite's (DMC 1000, MyoSuite 100)."""
    terminations: bool = True
    """Whether a terminating task ends the episode; without, it runs on to the time limit."""
    eval_every: int = 25_000
    """Environment frames between evaluations."""
    eval_episodes: int = 5
    """Episodes per evaluation, with the deterministic policy."""
    checkpoint_every: int = 25_000
    """Environment frames between checkpoints."""
    log_every: int = 1_000
    """Environment frames between rows of metrics."""
    video: bool = True
    """Whether a video of the trained policy is made at the end."""
    tensorboard: bool = True
    """Whether TensorBoard event files are written."""
    wandb: str | None = None
    """A Weights & Biases project to log to as well; nothing is sent unless this is given."""
    diagnostics: bool = True
    """Whether rows of metrics hold the critic's norms, effective learning rate, dead neurons and the like."""
    q_bias: bool = False
    """Whether evaluations measure the critics' bias too, on some 2,500 further decisions each."""
    overlap: bool = False
    """Whether environments step while gradient updates run, which then miss the newest transition."""
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """How accelerators multiply matrices; CPUs always do in float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """Arguments of `bench` that are not hyperparameters of the algorithm."""

    seeds: str = "0"
    """Training seeds that train side by side, such as 0,1,2."""
    overlap: bool = False
    """Whether environments step while gradient updates run, which then miss the newest transition."""
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """How accelerators multiply matrices; CPUs always do in float32."""
    against: Literal["sbx"] | None = None
    """A peer to measure in turn; its environment is built in the cache folder (sbx: 4 GB, for PyTorch)."""
    json: Path | None = None
    """A file for the figures."""
    seconds: float = 0.7
    """Seconds for each thing measured, in each of seven rounds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to its own developers
    verb = arguments[0] if arguments else "--help"
    try:
        if verb in ("-h", "--help"):
            print(_overview())
            code = 0
        elif verb == "--version":
            from crossq_wn import __version__

            print(f"crossq-wn {__version__}")
            code = 0
        elif verb in VERBS:
            code = VERBS[verb](arguments[1:])
        else:
            raise UserError(f"unknown command {verb!r}: {nearest(verb, VERBS)}known are {', '.join(VERBS)}")
    except UserError as error:
        print(f"crossq-wn: {one_line(error)}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _OUT_OF_REACH:
            raise
        print(f"crossq-wn: {error.strerror}: {error.filename or 'the file system'}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)


def train(arguments: list[str]) -> int:
    """Train on a task: a short name, a Gymnasium id, or module:factory."""
    from crossq_wn.training import api

    config, own = _configure("train", arguments, TrainArguments(), own=("out",))
    return _follow(lambda reporter: api.start(config, own["out"], reporter))


def resume(arguments: list[str]) -> int:
    """Continue a run from its newest checkpoint, bit for bit."""
    from crossq_wn.training import api

    parser = _parser("resume")
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, help="a new total of environment frames per seed")
    parsed = parser.parse_args(arguments)
    return _follow(lambda reporter: api.resume(parsed.run, frames=parsed.frames, reporter=reporter))


def evaluate(arguments: list[str]) -> int:
    """Run fresh episodes with a trained policy."""
    parser = _parser("eval")
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=_positive, default=10)
    parser.add_argument("--seed", type=int, help="training seed; by default every seed")
    parser.add_argument(
        "--q-bias", action="store_true", help="the critics' bias as well (Q - return) / |return|"
    )
    parsed = parser.parse_args(arguments)
    from crossq_wn.cli.console import table
    from crossq_wn.runs.config import read_config
    from crossq_wn.training.policy import evaluate_policy, load, measure_q_bias

    seeds = read_config(parsed.run).options.seeds if parsed.seed is None else (parsed.seed,)
    rows = []
    for seed in seeds:
        policy = load(parsed.run, seed=seed, warn=_warn)
        episodes = evaluate_policy(policy, parsed.episodes)
        returns = [episode.total_reward for episode in episodes]
        mean = sum(returns) / len(returns)
        spread = (sum((value - mean) ** 2 for value in returns) / max(1, len(returns) - 1)) ** 0.5
        success = sum(episode.success for episode in episodes) / len(episodes)
        frames = sum(episode.frames for episode in episodes) / len(episodes)
        bias = measure_q_bias(policy) if parsed.q_bias else {}
        rows.append(
            [seed, f"{policy.frames:,}", f"{mean:.1f}", f"{spread:.1f}", f"{success:.0%}", f"{frames:.0f}",
             *(f"{value:.3f}" for value in bias.values())]
        )  # fmt: skip
    columns = ["seed", "trained frames", "return", "std", "success", "frames per episode"]
    columns += ["Q-bias mean", "Q-bias std"] if parsed.q_bias else []
    table(_console(), f"{parsed.run}: {parsed.episodes} episodes per seed", columns, rows)
    return 0


def video(arguments: list[str]) -> int:
    """Record a trained policy as an mp4, without a display."""
    parser = _parser("video")
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, help="training seed; by default the first")
    parser.add_argument("--out", type=Path, help="by default RUN/videos/seed-N-FRAMES.mp4")
    parser.add_argument("--height", type=_positive, default=240)
    parser.add_argument("--width", type=_positive, default=320)
    parsed = parser.parse_args(arguments)
    if parsed.out is not None and (parsed.out.suffix != ".mp4" or parsed.out.exists()):
        wrong = "exists: nothing is overwritten" if parsed.out.suffix == ".mp4" else "must end in .mp4"
        raise UserError(f"--out {parsed.out} {wrong}; choose another file, such as policy.mp4")
    _render_headless()
    from crossq_wn.training.policy import load, record

    policy = load(parsed.run, seed=parsed.seed, warn=_warn)
    out = parsed.out or parsed.run / "videos" / f"seed-{policy.seed}-{policy.frames:09d}.mp4"
    episode = record(policy, out, height=parsed.height, width=parsed.width)
    print(f"{out}: one episode, return {episode.total_reward:.1f}, {episode.frames} frames")
    return 0


def plot(arguments: list[str]) -> int:
    """Draw the learning curves of any runs: each seed of one task, or a grid of tasks."""
    parser = _parser("plot")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    parser.add_argument(
        "--out", type=Path, help="without suffix; by default plots/learning_curve in the first run"
    )
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    from crossq_wn.results.figures import FIGURES, Source, save
    from crossq_wn.results.figures.curves import learning_curve

    first, source = parsed.runs[0], Source.of(parsed.runs, warn=_warn)
    _check_alike(source.ours, parsed.force)
    one = len(source.tasks) == 1
    own = (first / "config.json").exists()
    out = parsed.out or (first / "plots" / "learning_curve" if own else Path("learning_curves"))
    for path in learning_curve(source, out) if one else save(*FIGURES["fig7"](source), out):
        print(path)
    return 0


def figure(arguments: list[str]) -> int:
    """Draw a figure of the paper from any runs, beside published curves."""
    from crossq_wn.results.figures import FIGURES, Source, save

    parser = _parser("figure")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    about = {name: (draw.__doc__ or "").split("\n")[0] for name, draw in FIGURES.items()}
    parser.epilog = "\n".join(f"  {name:8} {text}" for name, text in about.items())
    parser.add_argument("name", choices=FIGURES, metavar="NAME", help="which figure; see below")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, folders of them, or CSV files")
    parser.add_argument(
        "--reference", type=Path, nargs="+", default=[], metavar="FILE", help="CSV files of others' curves"
    )
    parser.add_argument(
        "--systems", nargs="+", default=[], metavar="NAME", help="which, in order, by their first words"
    )
    parser.add_argument("--out", type=Path, help="without suffix; by default NAME in this folder")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the intervals (default 0.9)")
    parser.add_argument(
        "--frames",
        type=_positive,
        help="environment frame of the end; by default the last that most seeds of each system reached",
    )
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    source = Source.of(
        parsed.runs, parsed.reference, parsed.systems, parsed.frames, parsed.confidence, warn=_warn
    )
    _check_alike([*source.ours, *source.theirs], parsed.force, source.scores if parsed.systems else None)
    for path in save(*FIGURES[parsed.name](source), parsed.out or Path(parsed.name)):
        print(path)
    return 0


def compare(arguments: list[str]) -> int:
    """Lay runs beside others, or beside published curves."""
    parser = _parser("compare")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE", help="runs or CSV files of others"
    )
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    from crossq_wn.cli.console import table
    from crossq_wn.results import reading
    from crossq_wn.results.tables import compare as lay_beside

    ours, theirs = reading.sound(parsed.runs, _warn), reading.sound(parsed.against, _warn)
    _check_alike([*ours, *theirs], parsed.force)
    for task, env_steps, rows in lay_beside(reading.read(ours), reading.read(theirs) if theirs else {}):
        shown = [
            [system, seeds, *("" if value is None else f"{value:.3f}" for value in medians)]
            for system, seeds, medians in rows
        ]
        title = f"{task}: median score of the seeds at environment frames (DeepMind Control: return / 1000)"
        table(_console(), title, ["system", "seeds", *(f"{step:,}" for step in env_steps)], shown)
    return 0


def report(arguments: list[str]) -> int:
    """Write one HTML file on runs: scores, verdicts, curves, settings."""
    parser = _parser("report")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the file to write")
    parser.add_argument(
        "--reference", type=Path, nargs="+", default=[], metavar="FILE", help="CSV files of others' curves"
    )
    parser.add_argument("--systems", nargs="+", default=[], metavar="SYSTEM", help="which; by default all")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the intervals; by default 0.9")
    _add_force(parser)
    parsed = parser.parse_args(arguments)
    from crossq_wn.results.report.page import check_out, write
    from crossq_wn.results.report.study import gather

    check_out(parsed.out)
    study = gather(parsed.runs, parsed.reference, parsed.systems, parsed.confidence, _warn)
    for line in study.skipped:
        _warn(line)
    of = study.source.scores if parsed.systems else None
    _check_alike([*(run.path for run in study.runs), *study.source.theirs], parsed.force, of)
    write(study, parsed.out, _warn)
    print(parsed.out)
    return 0


def diagnose(arguments: list[str]) -> int:
    """Say in words what a run's norms, learning rates and features mean."""
    parser = _parser("diagnose")
    parser.add_argument("run", type=Path)
    parser.add_argument("--hessian", action="store_true", help="the spectrum of the critic's Hessian as well")
    parser.add_argument("--seed", type=int, help="training seed of the Hessian; by default the first")
    parsed = parser.parse_args(arguments)
    from crossq_wn.cli.console import table
    from crossq_wn.learning.diagnostics import DIAGNOSTICS
    from crossq_wn.results.health import change, courses, findings, spectrum_of
    from crossq_wn.runs.config import read_config

    found = courses(parsed.run)
    rows = [
        [name, f"{c.first:.4g}", f"{c.last:.4g}", change(name, c), DIAGNOSTICS[name].description]
        for name, c in found.items()
    ]
    table(_console(), str(parsed.run), ["diagnostic", "first", "last", "change", "what it is"], rows)
    for sentence in findings(found, read_config(parsed.run).settings):
        print(f"* {sentence}")
    if parsed.hessian:
        for sentence in spectrum_of(parsed.run, parsed.seed, _warn).describe():
            print(f"* {sentence}")
    return 0


def reproduce(arguments: list[str]) -> int:
    """Repeat figures of the paper: plan, train what is missing, draw, judge its claims."""
    parser = _parser("reproduce")
    parser.add_argument("figures", nargs="+", metavar="FIGURE", help="fig1 to fig7; together they share runs")
    parser.add_argument("--scale", required=True, help="smoke (minutes), laptop (hours) or paper (a cluster)")
    parser.add_argument("--root", type=Path, default=Path("runs/reproduce"), help="where runs lie")
    parser.add_argument("--out", type=Path, help="for figures and verdicts; by default ROOT/SCALE/results")
    parser.add_argument("--jobs", type=_positive, help="runs side by side; by default one per processor")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, train nothing")
    parser.add_argument("--yes", action="store_true", help="start even what takes more than a day")
    parsed = parser.parse_args(arguments)
    from crossq_wn import reproduce as steps
    from crossq_wn.cli.console import table

    figures, scale = list(dict.fromkeys(parsed.figures)), steps.scale_called(parsed.scale)
    runs, jobs = steps.plan(scale, figures, parsed.root), parsed.jobs or steps.default_jobs()
    out = parsed.out or parsed.root / scale.name / "results"
    steps.check_out(out, figures)
    bill = steps.bill(runs, jobs)
    table(_console(), f"{', '.join(figures)} at the scale {scale.name}", steps.COLUMNS, bill.rows)
    print(
        f"{bill.unfinished} of {len(runs)} runs to train: about {bill.core_hours:.1f} core-hours, "
        f"{bill.hours:.1f} hours with {jobs} side by side (the longest run {bill.longest:.1f}); "
        f"in the end {bill.disk:.1f} GB in {parsed.root}"
    )
    if parsed.dry_run:
        return 0
    if bill.hours > _DAY and not parsed.yes:
        raise UserError(f"that would take about {bill.hours / _DAY:,.0f} days here: --yes starts it")
    outcome = steps.train(runs, jobs, lambda text: print(text, flush=True), _ENVIRONMENT)
    if outcome.signal is not None:
        print("stopped: the same command goes on from here")
        return 128 + outcome.signal
    judged, written = steps.conclude(scale, figures, runs, outcome.failed, out, _warn)
    for claim, group, _, finding in judged:
        print(f"{finding.verdict}: {claim.text} ({group})")
    for path in written:
        print(path)
    if outcome.failed:
        raise UserError(
            f"{len(outcome.failed)} of {len(runs)} runs failed: the same command tries them again"
        )
    return 0


def bench(arguments: list[str]) -> int:
    """Measure updates and environments against this machine's limits, or a peer."""
    from crossq_wn.bench.loop import bench as measure
    from crossq_wn.bench.loop import describe
    from crossq_wn.cli.console import table
    from crossq_wn.runs.directory import manifest

    config, own = _configure("bench", arguments, BenchArguments(), own=("against", "json", "seconds"))
    out, settings, count = own["json"], config.settings, len(config.options.seeds)
    if out is not None and out.exists():
        raise UserError(f"--json {out} exists: nothing is overwritten; choose another file")
    if not 0 < own["seconds"] < 1e3:
        raise UserError(f"--seconds is {own['seconds']}: it must be above 0, such as 0.7")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    figures = measure(config, _warn, own["against"], own["seconds"])
    title = f"{config.task}, {config.system.algorithm}, UTD {settings.utd}, {count} seed(s)"
    table(_console(), title, ["figure", "value", "meaning"], describe(figures))
    if out is not None:
        about = {
            "task": config.task,
            "algorithm": config.system.algorithm,
            "seeds": count,
            "overlap": config.options.overlap,
            "matmul_precision": config.options.matmul_precision,
            "settings": dataclasses.asdict(settings),
        }
        machine = manifest(config, [])
        about |= {name: machine[name] for name in ("versions", "device")}
        out.write_text(json.dumps(about | figures, indent=2) + "\n")
    return 0


def list_(arguments: list[str]) -> int:
    """List tasks, algorithms, presets or runs."""
    parser = _parser("list")
    parser.add_argument("what", choices=["tasks", "algorithms", "presets", "runs"])
    parser.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="where runs lie")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="order by a column: names from a, numbers from the top"
    )
    parsed = parser.parse_args(arguments)
    from crossq_wn.cli.console import table

    title, columns, rows = _LISTS[parsed.what](parsed.root)
    if parsed.sort is not None:
        if parsed.sort not in columns:
            raise UserError(f"--sort is {parsed.sort!r}: the columns of {title} are {', '.join(columns)}")
        at = columns.index(parsed.sort)
        rows.sort(key=lambda row: row[at] if isinstance(row[at], str) else -row[at])
    shown = [[_readable(value) for value in row] for row in rows]
    table(_console(), title, columns, shown)
    return 0


def doctor(arguments: list[str]) -> int:
    """Check this machine: versions, rendering, accelerator."""
    _parser("doctor").parse_args(arguments)
    from crossq_wn.cli.console import table
    from crossq_wn.cli.doctor import examine

    findings = examine()
    rows = [[("!" if f.fix else "ok"), f.what, f.state, f.fix] for f in findings]
    table(_console(), "crossq-wn doctor", ["", "what", "state", "fix"], rows)
    return 1 if any(f.fix and f.essential for f in findings) else 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "eval": evaluate,
    "video": video,
    "plot": plot,
    "figure": figure,
    "compare": compare,
    "reproduce": reproduce,
    "report": report,
    "diagnose": diagnose,
    "bench": bench,
    "list": list_,
    "doctor": doctor,
}


def _configure(
    verb: str, arguments: list[str], options: Any, own: tuple[str, ...]
) -> tuple["RunConfig", dict[str, Any]]:
    """The configuration that the arguments describe, and those options that are the verb's `own`."""
    import tyro

    from crossq_wn.algorithms import ALGORITHMS, registered
    from crossq_wn.algorithms.presets import PRESETS
    from crossq_wn.runs.config import preset_settings
    from crossq_wn.training import api

    # The algorithm decides which hyperparameters there are, the preset their defaults.
    first = _Parser(prog=f"crossq-wn {verb}", add_help=False, allow_abbrev=False)
    first.add_argument("--algorithm", default="crossq-wn")
    first.add_argument("--preset", default="default")
    chosen, rest = first.parse_known_args(arguments)
    settings = preset_settings(chosen.algorithm, chosen.preset)
    name = registered(chosen.algorithm)
    kind = dataclasses.make_dataclass(
        "Arguments",
        [
            ("task", Annotated[str, tyro.conf.arg(metavar="TASK", help="The task, such as cheetah-run.")]),
            ("run", Annotated[type(options), tyro.conf.arg(name="")], options),
            ("settings", Annotated[type(settings), tyro.conf.arg(name="")], settings),
        ],
    )
    positional: Any = tyro.conf.configure(tyro.conf.PositionalRequiredArgs)(kind)
    description = (
        f"{VERBS[verb].__doc__}\n\n--algorithm {{{','.join(ALGORITHMS)}}} (now {chosen.algorithm}: "
        f"{ALGORITHMS[name].summary}) and --preset {{{','.join(PRESETS[name])}}} "
        f"(now: {PRESETS[name][chosen.preset].source}) decide which options follow."
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(positional, prog=f"crossq-wn {verb}", args=rest, description=description)
    except SystemExit as end:
        if not end.code:  # help
            raise
        raise UserError(f"{_unboxed(said.getvalue())}; see `crossq-wn {verb} --help`") from None
    values: dict[str, Any] = dataclasses.asdict(parsed.run)
    kept = {name: values.pop(name) for name in own}
    config = api.configure(
        parsed.task,
        algorithm=chosen.algorithm,
        preset=chosen.preset,
        seeds=_seeds(values.pop("seeds")),
        **values,
        **dataclasses.asdict(parsed.settings),
    )
    return config, kept


def _unboxed(text: str) -> str:
    """What a box of the option parser says, as one line."""
    lines = [line.strip("╭╮╰╯│+| ") for line in text.splitlines()[1:]]
    parts = groupby(lines, lambda line: not line.strip("─-"))  # between rules
    message, *hints = [" ".join(part) for rule, part in parts if not rule]
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number", message)
    message = re.sub(r"could not convert string to float: (.*)", r"\1 is not a number", message)
    meant = re.findall(r"--[\w-]+(?= [A-Z{])", hints[0]) if hints and "Perhaps" in hints[0] else []
    return message.rstrip(".") + (f" (did you mean {' or '.join(meant)}?)" if meant else "")


def _follow(work: Callable[[Any], Any]) -> int:
    """Trains under a progress display, then draws and records."""
    from crossq_wn.cli.console import reporter
    from crossq_wn.runs.config import read_config

    console = _console()
    with reporter(console) as shown:
        outcome = work(shown)
    if outcome.signal is not None:
        print(f"stopped at {outcome.frames:,} frames: continue with `crossq-wn resume {outcome.path}`")
        return 128 + int(outcome.signal)
    if len(outcome.failed) == len(read_config(outcome.path).options.seeds):
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in outcome.failed.items())
        raise UserError(f"every seed failed: {reasons}")
    plot([str(outcome.path)])
    if read_config(outcome.path).options.video:
        command = [sys.executable, "-m", "crossq_wn", "video", str(outcome.path)]
        # Apart, because training leaves MuJoCo without a renderer, and a broken driver must cost nothing.
        if subprocess.run(command, env=_ENVIRONMENT, check=False).returncode:
            print("the video could not be made; the trained policy is saved all the same")
    print(f"done: {outcome.path}")
    return 0


def _readable(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else value


def _list_tasks(root: Path) -> tuple[str, list[str], list[list[Any]]]:
    from crossq_wn.environments import PAPER_TASKS, SUITES

    rows: list[list[Any]] = []
    for suite in SUITES.values():
        for short, own_name in suite.tasks.items():
            name = suite.full_name(short)
            rows.append([name, suite.title, own_name, "yes" if name in PAPER_TASKS else ""])
    rows.sort(key=lambda row: (not row[3], row[1], row[0]))
    rows.append(["any Gymnasium id", "Gymnasium", "Box observations, bounded Box actions", ""])
    rows.append(["module:factory", "your own", "a class or function that makes a gymnasium.Env", ""])
    rows.append(["module:task", "your own", "a task of a suite that the module registers", ""])
    return "tasks", ["name", "suite", "suite's name", "in the paper"], rows


def _list_algorithms(root: Path) -> tuple[str, list[str], list[list[Any]]]:
    from crossq_wn.algorithms import ALGORITHMS
    from crossq_wn.algorithms.presets import PRESETS

    rows = [[n, r.summary, ", ".join(PRESETS[n])] for n, r in ALGORITHMS.items()]
    return "algorithms", ["name", "what it is", "presets"], rows


def _list_presets(root: Path) -> tuple[str, list[str], list[list[Any]]]:
    from crossq_wn.algorithms.presets import PRESETS

    rows = []
    for algorithm, presets in PRESETS.items():
        default = dataclasses.asdict(presets["default"].settings)
        for name, entry in presets.items():
            values = dataclasses.asdict(entry.settings)
            differs = {k: v for k, v in values.items() if v != default[k]}
            shown = ", ".join(f"{k}={v}" for k, v in (differs or values).items())
            rows.append([algorithm, name, entry.source, shown])
    return (
        "presets (settings that differ from the default)",
        ["algorithm", "preset", "source", "settings"],
        rows,
    )


def _list_runs(root: Path) -> tuple[str, list[str], list[list[Any]]]:
    from crossq_wn.environments import suite_of
    from crossq_wn.results import reading
    from crossq_wn.runs.config import read_config
    from crossq_wn.runs.directory import find

    if not root.is_dir():
        raise UserError(f"{root} is not a directory: name the folder that holds runs, or train one")
    rows = []
    for path in find(root):
        try:
            config, (system, task, curves) = read_config(path), reading.load(path)
        except UserError as error:
            _warn(f"{path} is skipped: {one_line(error)}")
            continue
        last = [seed[seed == seed][-1] for seed in curves.values]  # a seed that failed ends sooner
        value = sum(last) / len(last) * suite_of(task).scale  # as it was logged
        seeds = ",".join(map(str, config.options.seeds))
        reached = int(curves.env_steps[-1])
        rows.append([str(path), task, system, seeds, reached, config.options.frames, float(value)])
    columns = ["run", "task", "system", "seeds", "evaluated", "frames", "score"]
    return "runs", columns, rows


_LISTS = {
    "tasks": _list_tasks,
    "algorithms": _list_algorithms,
    "presets": _list_presets,
    "runs": _list_runs,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        raise UserError(f"{message}; see `{self.prog} --help`")


def _parser(verb: str) -> _Parser:
    return _Parser(prog=f"crossq-wn {verb}", description=VERBS[verb].__doc__, allow_abbrev=False)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="compare runs of different protocols or versions too"
    )


def _check_alike(paths: Sequence[Path], force: bool, systems: Collection[str] | None = None) -> None:
    """Refuses, or if forced warns, where runs of one task or of one system are not alike."""
    from crossq_wn.runs.protocol import conflicts

    found = conflicts(paths, systems)
    refusal = found.pop() if found and not force else None
    for conflict in found:
        _warn(conflict)
    if refusal:
        raise UserError(f"{refusal}; --force compares the runs all the same")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds is {text!r}: it must be whole numbers with commas, such as 0,1,2") from None


def _overview() -> str:
    lines = ["usage: crossq-wn COMMAND ...", "", "Sample-efficient reinforcement learning: CrossQ + WN.", ""]
    lines += [f"  {name:10} {function.__doc__}" for name, function in VERBS.items()]
    return "\n".join([*lines, "", "`crossq-wn COMMAND --help` explains each; `crossq-wn --version`."])


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def _warn(text: str) -> None:
    print(f"crossq-wn: {text}", file=sys.stderr)


def _render_headless() -> None:
    os.environ.setdefault("MUJOCO_GL", "egl")
