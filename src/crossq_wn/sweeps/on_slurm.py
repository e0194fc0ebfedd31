"""A sweep as an array of Slurm's jobs, through submitit: workers that share its runs.

Nothing has to stay alive on a login node: each worker is a sweep on its own node, which ends when nothing is
left to start. Before its time is up it stops its runs at a checkpoint and puts itself into the queue again.
"""

import contextlib
import importlib.util
import io
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.errors import UserError, counted, one_line
from crossq_wn.installation import install_command
from crossq_wn.lazy import submitit
from crossq_wn.runs.folders import SWEEP

MOST_WORKERS = 1000  # in one array, which Slurm limits to 1001 unless it is told otherwise
_GRACE = 300  # seconds before the end at which Slurm sends its signal, if there is time for that
_OFTEN = 10**6  # times that a worker may reach its time limit; submitit's default is three
_PROGRAMS = ("sbatch", "srun", "scontrol")
_CROSSQ_WN = (sys.executable, "-m", "crossq_wn")
# Slurm sends its signal to every process of a job, and it ends those that do not expect it. What is ignored
# stays ignored in whatever a process starts.
_DEAF = (
    "import os, signal, sys; signal.signal(signal.SIGUSR2, signal.SIG_IGN); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Array(NamedTuple):
    """What is asked of Slurm."""

    workers: int  # jobs of the array
    jobs: int  # runs side by side in each
    cpus: int  # processors per run
    gpus: float  # per run; a share of one if several runs have it
    memory: int  # bytes per run
    hours: float  # until a worker is stopped and put into the queue again
    more: Mapping[str, str]  # other options of sbatch, by their names


@dataclass
class Worker:
    """A job of the array, as submitit calls it.

    Args:
        arguments: of the command, without `crossq-wn`.
        folder: its working directory.
        program: the words before its arguments; tests have another.
    """

    arguments: tuple[str, ...]
    folder: Path
    program: tuple[str, ...] = _CROSSQ_WN
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def __call__(self) -> int:
        """Trains what is left of the sweep; returns the exit code."""
        if "SLURM_JOB_ID" in os.environ and shutil.which("scontrol") is None:
            print("no scontrol here: this worker ends for good at its time limit", flush=True)
        self.process = subprocess.Popen(
            [sys.executable, "-SEc", _DEAF, *self.program, *self.arguments], cwd=self.folder,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        while self.process.poll() is None:  # not `wait`, whose lock `checkpoint` would find taken
            time.sleep(0.2)
        return self.process.returncode

    def checkpoint(self) -> Any:
        """Stops all runs at a checkpoint, when Slurm gives notice; returns what goes on with them later."""
        if self.process is not None:
            self.process.terminate()
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(replace(self, process=None))


def check() -> None:
    """Raises UserError if submitit is not installed, or this machine cannot submit to Slurm."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError(f"--on slurm needs submitit: {install_command('slurm')}")
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--on slurm needs Slurm's {', '.join(missing)}, not found here: start it on a login node"
        )


def folder(out: Path) -> Path:
    """Where the workers of a sweep's folder keep what they print, if it has had any."""
    return out / SWEEP / "slurm"


def executor(array: Array, folder: Path) -> Any:
    """Submitit's executor for an array.

    Args:
        array: what is asked of Slurm.
        folder: for what submitit keeps and workers print; all nodes have it.

    Raises:
        UserError: Slurm's options are not as they should be.
    """
    minutes = max(1, math.ceil(60 * array.hours))
    cpus = array.jobs * array.cpus
    # As submitit spells its own options, which those of the user then replace.
    more = {name.replace("-", "_"): value for name, value in array.more.items()}
    options: dict[str, Any] = {
        "job_name": "crossq-wn", "time": minutes, "cpus_per_task": cpus,
        "mem": f"{math.ceil(array.jobs * array.memory / 2**20)}MB",
        "signal_delay_s": min(_GRACE, 60 * minutes // 5), "array_parallelism": array.workers,
        # Since Slurm 22.05, what sbatch was asked for is no longer asked for by srun.
        "srun_args": [f"--cpus-per-task={more.get('cpus_per_task', cpus)}"],
        "stderr_to_stdout": True, "additional_parameters": {"requeue": True, **more},
    }  # fmt: skip
    if array.gpus:
        options["gpus_per_node"] = math.ceil(array.jobs * array.gpus)
    try:
        made = submitit.SlurmExecutor(folder, max_num_timeout=_OFTEN)
        made.update_parameters(**options)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"Slurm: {one_line(error)}") from None
    return made


def submit(made: Any, worker: Worker, count: int) -> list[str]:
    """Puts workers into the queue; returns the ids of their jobs.

    Args:
        made: from `executor`.
        worker: is pickled for each of the jobs.
        count: the number of jobs.

    Raises:
        UserError: Slurm does not take them.
    """
    try:
        # Submitit repeats there what the exception says.
        with contextlib.redirect_stderr(io.StringIO()), made.batch():
            jobs = [made.submit(worker) for _ in range(count)]
        return [job.job_id for job in jobs]
    except (subprocess.SubprocessError, submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"Slurm refuses {counted(count, 'job')}: {one_line(error)}") from None
