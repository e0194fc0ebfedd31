"""What are 20,000 recorded transitions worth on walker-run, if half of each minibatch is drawn from them?

    python benchmarks/prefill.py OUT [FRAMES [OPTIONS OF train...]]

It trains three runs under OUT and compares the last two, with and without the data, of three seeds each. The
first, whose replay is the data, has one seed and 40,000 frames, which are 20,000 decisions. FRAMES is the
length of the others: 200,000 by default, which takes some ten hours on two cores. Runs that
were cut off are resumed, and finished ones are left alone. OPTIONS apply to all three runs, such as
`--critic-width 128 --actor-width 64`, with which FRAMES of 40,000 take half an hour.
"""

import subprocess
import sys
from pathlib import Path

TASK, SEEDS = "walker-run", "0-2"
TRANSITIONS = 20_000
FRAMES_PER_DECISION = 2


def crossq_wn(*words: str) -> None:
    """Runs a command of ours, whose faults end the program."""
    subprocess.run([sys.executable, "-m", "crossq_wn", *words], check=True)


def train(out: Path, frames: int, *options: str) -> Path:
    """Trains a run, or resumes it; returns its directory."""
    if (out / "config.json").exists():
        crossq_wn("resume", str(out))
    else:
        every = str(max(frames // 20, FRAMES_PER_DECISION))
        crossq_wn(
            "train", TASK, "--frames", str(frames), "--eval-every", every, "--checkpoint-every", every,
            "--no-video", "--no-tensorboard", "--out", str(out), *options,
        )  # fmt: skip
    return out


def main(out: Path, frames: int = 200_000, *options: str) -> None:
    """Trains all runs and compares the two ways.

    Args:
        out: folder of the runs.
        frames: environment frames per seed of the two ways.
        options: further ones of `train`, for all runs.
    """
    half = train(out / "half-trained", TRANSITIONS * FRAMES_PER_DECISION, "--seeds", "100", *options)
    plain = train(out / "plain", frames, "--seeds", SEEDS, *options)
    data = ("--prefill", str(half), "--prefill-share", "0.5")
    prefilled = train(out / "prefilled", frames, "--seeds", SEEDS, *data, *options)
    # Their protocols differ on purpose: in the data.
    crossq_wn("compare", str(prefilled), "--against", str(plain), "--force")
    crossq_wn("plot", str(plain), str(prefilled), "--force", "--out", str(out / "curves"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]), *sys.argv[3:])
