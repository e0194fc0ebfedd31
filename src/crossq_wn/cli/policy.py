"""The commands `eval`, `video` and `export`, on trained policies."""

from pathlib import Path
from typing import Any

from crossq_wn.cli.arguments import Parser, add_trust, positive, whole_number
from crossq_wn.cli.console import each, say, telling_of_folders, warn
from crossq_wn.cli.spinner import working
from crossq_wn.cli.tables import Column, Table, add_forms, show
from crossq_wn.environments import prepare_graphics
from crossq_wn.errors import UserError, counted
from crossq_wn.export.api import KINDS, Exported, export
from crossq_wn.export.latency import CALLS
from crossq_wn.results.tables import episode_summary
from crossq_wn.runs.config import read_config
from crossq_wn.runs.folders import run_in
from crossq_wn.training.policy import evaluate_policy, load, measure_q_bias
from crossq_wn.training.video import record


def evaluate(parser: Parser, arguments: list[str]) -> int:
    """Runs `eval`: plays episodes that training never saw, and prints a row per seed."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument("--episodes", type=positive, default=10, help="episodes per seed (default: 10)")
    parser.add_argument("--seed", type=whole_number, help="training seed; by default every seed")
    parser.add_argument(
        "--q-bias", action="store_true", help="also measure the critics' bias, (Q - return) / |return|"
    )
    add_forms(parser)
    add_trust(parser)
    parsed = parser.parse_args(arguments)
    run = run_in(parsed.run)
    seeds = read_config(run).options.seeds if parsed.seed is None else (parsed.seed,)
    columns: list[str | Column] = [
        "seed", "trained frames", Column("return", "{:z.1f}".format), Column("std", _spread),
        Column("success", _share), Column("frames per episode", "{:.0f}".format),
    ]  # fmt: skip
    if parsed.q_bias:
        columns += [Column(name, "{:z.3f}".format) for name in ("Q-bias mean", "Q-bias std")]

    def play(seed: int) -> list[Any]:
        policy = load(run, seed=seed, warn=warn, trust=parsed.trust)
        with working(f"seed {seed}: playing {counted(parsed.episodes, 'episode')}"):
            found = episode_summary(evaluate_policy(policy, parsed.episodes))
            biases = measure_q_bias(policy).values() if parsed.q_bias else ()
        return [seed, policy.frames, *found, *biases]

    rows = each(seeds, play)  # a seed that failed at its very start does not hide the others
    show(Table(f"{run}: episodes per seed: {parsed.episodes}", columns, rows), parsed.form)
    return 0


def _spread(value: float | None) -> str:
    """Writes the spread of returns; nothing for a single episode, which has none."""
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    """Writes the share of successful episodes; nothing for tasks that do not say what success is."""
    return "" if value is None else f"{value:.0%}"


def video(parser: Parser, arguments: list[str]) -> int:
    """Runs `video`: records one episode."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument("--seed", type=whole_number, help="training seed; by default the first")
    parser.add_argument("--out", type=Path, help="by default RUN/videos/seed-N-FRAMES.mp4")
    parser.add_argument("--height", type=positive, help="in pixels (default: 240, or the environment's own)")
    parser.add_argument("--width", type=positive, help="in pixels (default: 320, or the environment's own)")
    add_trust(parser)
    parsed = parser.parse_args(arguments)
    if parsed.out is not None and (parsed.out.suffix != ".mp4" or parsed.out.exists()):
        wrong = "exists: nothing is overwritten" if parsed.out.suffix == ".mp4" else "must end in .mp4"
        raise UserError(f"--out {parsed.out} {wrong}; choose another file, such as policy.mp4")
    # Before MuJoCo is imported, which reads the choice only once.
    prepare_graphics(render=True)
    policy = load(parsed.run, seed=parsed.seed, warn=warn, trust=parsed.trust)
    out = parsed.out or policy.path / "videos" / f"seed-{policy.seed}-{policy.frames:09d}.mp4"
    with telling_of_folders(parsed.out), working(f"seed {policy.seed}: recording an episode"):
        episode = record(policy, out, height=parsed.height, width=parsed.width)
    say(f"{out}: one episode, return {episode.total_reward:z.1f}, {episode.frames} frames")
    return 0


def write_export(parser: Parser, arguments: list[str]) -> int:
    """Runs `export`: writes a policy for use without this package, and prints how fast it acts."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument(
        "--to",
        metavar="KIND",
        required=True,
        help=f"{' or '.join(KINDS)}: a folder with a program of one file that needs numpy alone, or a model "
        "for onnxruntime",
    )
    parser.add_argument("--seed", type=whole_number, help="training seed; by default the first")
    parser.add_argument("--out", type=Path, help="a new folder; by default RUN/exports/seed-N-FRAMES-KIND")
    add_forms(parser)
    add_trust(parser)
    parsed = parser.parse_args(arguments)
    with telling_of_folders(parsed.out):
        written = export(
            parsed.run, parsed.to, seed=parsed.seed, out=parsed.out, warn=warn, trust=parsed.trust
        )
    columns: list[str | Column] = [Column("folder", whole=True), "gradient updates"]
    columns += [Column(f"{name} us", "{:.1f}".format) for name in written.seconds]
    updates = written.description["gradient_updates"]
    row = [str(written.path), updates, *(1e6 * value for value in written.seconds.values())]
    show(Table(f"one action: {CALLS:,} calls on one core", columns, [row]), parsed.form, [_about(written)])
    return 0


def _about(written: Exported) -> str:
    """What was written and how it was checked, in one line."""
    said, checked = written.description, written.description["parity"]
    rate = said["control"]["decisions_per_second"]
    clock = "" if rate is None else f", {rate:g} decisions per second"
    trained = f"{said['trained_frames']:,} frames and {counted(said['gradient_updates'], 'gradient update')}"
    return (
        f"{said['system']} on {said['task']}, seed {said['seed']} after {trained}{clock}: on "
        f"{checked['observations']} observations, its actions in [-1, 1] differ from the JAX policy's by at "
        f"most {checked['largest_difference']:.1e}"
    )
