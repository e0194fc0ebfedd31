"""The commands on a trained policy: `eval` and `video`."""

from pathlib import Path

from crossq_wn.cli.arguments import Parser, positive, whole_number
from crossq_wn.cli.console import table, warn
from crossq_wn.environments import prepare_graphics
from crossq_wn.errors import UserError
from crossq_wn.results.tables import episode_summary
from crossq_wn.runs.config import read_config
from crossq_wn.training.policy import evaluate_policy, load, measure_q_bias, record


def evaluate(parser: Parser, arguments: list[str]) -> int:
    """Runs fresh episodes and prints a row per seed."""
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=positive, default=10, help="episodes per seed (default: 10)")
    parser.add_argument("--seed", type=whole_number, help="training seed; by default every seed")
    parser.add_argument(
        "--q-bias", action="store_true", help="measure the critics' bias (Q - return) / |return| as well"
    )
    parsed = parser.parse_args(arguments)
    seeds = read_config(parsed.run).options.seeds if parsed.seed is None else (parsed.seed,)
    columns = ["seed", "trained frames", "return", "std", "success", "frames per episode"]
    columns += ["Q-bias mean", "Q-bias std"] if parsed.q_bias else []
    rows = []
    for seed in seeds:
        policy = load(parsed.run, seed=seed, warn=warn)
        found = episode_summary(evaluate_policy(policy, parsed.episodes))
        row = [str(seed), f"{policy.frames:,}", f"{found.mean:.1f}", f"{found.std:.1f}"]
        row += [f"{found.success:.0%}", f"{found.frames:.0f}"]
        if parsed.q_bias:
            row += [f"{value:.3f}" for value in measure_q_bias(policy).values()]
        rows.append(row)
    table(f"{parsed.run}: {parsed.episodes} episodes per seed", columns, rows)
    return 0


def video(parser: Parser, arguments: list[str]) -> int:
    """Records one episode."""
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=whole_number, help="training seed; by default the first")
    parser.add_argument("--out", type=Path, help="by default RUN/videos/seed-N-FRAMES.mp4")
    parser.add_argument("--height", type=positive, default=240, help="in pixels (default: 240)")
    parser.add_argument("--width", type=positive, default=320, help="in pixels (default: 320)")
    parsed = parser.parse_args(arguments)
    if parsed.out is not None and (parsed.out.suffix != ".mp4" or parsed.out.exists()):
        wrong = "exists: nothing is overwritten" if parsed.out.suffix == ".mp4" else "must end in .mp4"
        raise UserError(f"--out {parsed.out} {wrong}; choose another file, such as policy.mp4")
    prepare_graphics(render=True)
    policy = load(parsed.run, seed=parsed.seed, warn=warn)
    out = parsed.out or parsed.run / "videos" / f"seed-{policy.seed}-{policy.frames:09d}.mp4"
    episode = record(policy, out, height=parsed.height, width=parsed.width)
    print(f"{out}: one episode, return {episode.total_reward:.1f}, {episode.frames} frames")
    return 0
