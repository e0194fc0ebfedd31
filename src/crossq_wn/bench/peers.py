"""Rival packages to benchmark against, each in its own virtual environment.

None of them is a dependency. A peer is a script `run_NAME.py` beside this file, run by the Python of its
virtual environment. It receives the settings as JSON and then budgets in seconds as lines; it first answers
with its device, and then each budget with the seconds per gradient update.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from crossq_wn.algorithms.settings import Settings
from crossq_wn.errors import UserError
from crossq_wn.machine import cache_folder
from crossq_wn.types import Spec

# Versions that are known to work together.
REQUIREMENTS = {
    "sbx": [
        "sbx-rl==0.28.0",
        "stable-baselines3==2.9.2",
        "torch==2.15.0",
        "jax==0.10.2",
        "flax==0.12.8",
        "numpy==2.4.6",
    ]
}


class Peer(NamedTuple):
    """A peer that is waiting for its turn."""

    device: str  # "cpu" or "gpu", as JAX names them
    measure: Callable[[float], float]  # seconds of budget -> seconds per gradient update


@contextmanager
def start(name: str | None, settings: Settings, spec: Spec) -> Iterator[Peer | None]:
    """Starts a peer that trains networks of the same sizes on random transitions.

    Args:
        name: of the script `run_NAME.py` beside this file; None starts nothing.
        settings: of the networks.
        spec: the problem, which decides the sizes.

    Raises:
        UserError: the peer has stopped.
    """
    if name is None:
        yield None
        return
    python = _folder(name) / "bin" / "python"
    about = asdict(settings) | {"observation_size": spec.observation_size, "action_size": spec.action_size}
    command = [str(python), str(Path(__file__).parent / f"run_{name}.py"), json.dumps(about)]
    # Unbuffered, so that closing a pipe to a peer that has stopped has nothing left to write.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:

        def answer() -> str:
            assert process.stdout is not None
            if line := process.stdout.readline():
                return str(line, "utf-8")
            raise UserError(f"{name} has stopped; remove {python.parents[1]} to have it built again")

        def measure(budget: float) -> float:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # `answer` reports a peer that has stopped
                process.stdin.write(f"{budget}\n".encode())
            return float(answer())

        try:
            yield Peer(answer().strip(), measure)
        finally:
            process.kill()


def prepare(name: str, say: Callable[[str], None]) -> None:
    """Builds a peer's virtual environment if it is missing or outdated.

    Args:
        name: of the script `run_NAME.py` beside this file.
        say: is told when the environment is being built, which takes minutes.

    Raises:
        UserError: it cannot be built.
    """
    folder = _folder(name)
    python, built = folder / "bin" / "python", folder / "built"
    wanted = "\n".join(REQUIREMENTS[name])
    if not built.exists() or built.read_text() != wanted:
        say(f"building an environment for {name} in {folder} (once)")
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            raise UserError(f"{name} could not be installed in {folder}: see above")
        built.write_text(wanted)


def _folder(name: str) -> Path:
    return cache_folder() / "peers" / name
