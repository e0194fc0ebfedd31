"""The command `data`: writes a run's replay out."""

from pathlib import Path

from crossq_wn.cli.arguments import Parser, whole_number
from crossq_wn.cli.console import say, warn
from crossq_wn.data.writing import KINDS, write
from crossq_wn.errors import counted


def data(parser: Parser, arguments: list[str]) -> int:
    """Runs `data`: writes the transitions of a run for other programs, and for `train --prefill`."""
    parser.add_argument("run", type=Path, help="the run directory, or a folder that holds one run")
    parser.add_argument(
        "--to",
        metavar="KIND",
        required=True,
        help=f"{' or '.join(KINDS)}: a data set of Minari, or one .npz file of NumPy",
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or a new .npz file")
    parser.add_argument("--seed", type=whole_number, help="training seed; by default every seed")
    parsed = parser.parse_args(arguments)
    path, count = write(parsed.run, parsed.to, parsed.out, seed=parsed.seed, warn=warn)
    say(f"{path}: {counted(count, 'transition')}")
    return 0
