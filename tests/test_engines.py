"""Does each engine of a sweep call the same command, wherever it does, and tell truly how that ended?"""

import argparse
import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import helpers
from crossq_wn import train
from crossq_wn.cli import engines as choice
from crossq_wn.cli.sweep import side_by_side
from crossq_wn.errors import UserError, tells_of_outage
from crossq_wn.signals import collected_signals
from crossq_wn.sweeps import engines, local, node, on_ray, on_slurm, stored
from crossq_wn.sweeps.engines import Job
from crossq_wn.sweeps.history import keep_plan, logs
from crossq_wn.sweeps.node import Outcome, Place
from crossq_wn.sweeps.on_ray import RayEngine, RayProcess, Resources
from crossq_wn.sweeps.plans import Run, command, folder_of
from crossq_wn.sweeps.states import State
from crossq_wn.training import api

NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def tiny(seed=0):
    return api.configure("helpers:PointMass", seeds=[seed], **helpers.TINY_SETTINGS, **helpers.TINY_OPTIONS)


@pytest.fixture
def run(tmp_path):
    config = tiny()
    return Run(tmp_path / folder_of(config), config)


# --- One attempt on a node


def stands_for_training(monkeypatch, code):
    """Puts a program in the place of crossq-wn."""
    real = engines.subprocess.Popen

    def popen(words, **options):
        begin = words.index("-m", -len(words)) - 1
        return real([*words[:begin], sys.executable, "-c", code], **options)

    monkeypatch.setattr(engines.subprocess, "Popen", popen)


PLACE = Place(Path("/nowhere"), {"LACKING": "given", "PATH": "of the sweep's machine"}, 1)


def test_an_attempt_tells_how_it_ended_and_leaves_what_was_said(tmp_path, monkeypatch):
    code = (
        "import os, sys; print(os.environ['LACKING'], os.environ['PATH'] == 'of the sweep\\'s machine',"
        " os.environ['OMP_NUM_THREADS'], len(os.sched_getaffinity(0))); x = bytearray(10**8); "
        "import time; time.sleep(0.5); sys.exit(7)"
    )
    stands_for_training(monkeypatch, code)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = node.attempt(Job(("train",), tmp_path / "log"), PLACE)
    assert (found.code, found.node) == (7, os.uname().nodename)
    assert found.memory > 10**8
    assert found.seconds > 0.4
    assert (tmp_path / "log").read_text() == "given False 1 1\n"
    assert engines.why(7, tmp_path / "log").startswith("failed (exit code 7): given False 1 1; see ")


def test_an_interrupt_asks_the_process_to_end(tmp_path, monkeypatch):
    stands_for_training(
        monkeypatch,
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (print('checkpoint'), sys.exit(143)))\n"
        "print('begun', flush=True); time.sleep(60)",
    )
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        while "begun" not in ((tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    found = node.attempt(Job(("train",), tmp_path / "log"), PLACE)
    thread.join()
    assert found.code == 143
    assert (tmp_path / "log").read_text() == "begun\ncheckpoint\n"
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process so")
def test_a_process_is_told_when_whoever_started_it_is_gone(tmp_path):
    """As when the agent of a node is killed."""
    code = "import signal, sys, time; signal.signal(15, lambda *_: (print('told'), sys.exit())); "
    code += "print('begun', flush=True); time.sleep(60)"
    parent = (
        "import subprocess, sys, time; from crossq_wn.machine import tied; "
        f"subprocess.Popen([*tied(), sys.executable, '-c', {code!r}]); time.sleep(60)"
    )
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", parent], stdout=log)
    until(lambda: (tmp_path / "log").read_text() == "begun\n")
    process.kill()
    process.wait()
    until(lambda: (tmp_path / "log").read_text() == "begun\ntold\n")


def until(happened, seconds=30.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("gpus", "wanted"),
    [(0.0, ["", "None"]), (0.5, ["3", "0.45"]), (0.1, ["3", "0.09"]), (1.0, ["3", "None"])],
)
def test_an_attempt_takes_the_gpus_that_are_its_own(gpus, wanted, tmp_path, monkeypatch):
    stands_for_training(
        monkeypatch,
        "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], end=' ');"
        " print(os.environ.get('XLA_PYTHON_CLIENT_MEM_FRACTION'))",
    )
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # as Ray says, or whoever set up the node
    node.attempt(Job(("train",), tmp_path / "log"), PLACE._replace(gpus=gpus))
    assert (tmp_path / "log").read_text().rstrip("\n").split(" ") == wanted


def test_a_node_without_the_sweeps_folder_says_so(tmp_path):
    with pytest.raises(UserError, match=r"has no .*/logs: mount the sweep's folder on every node") as refused:
        node.attempt(Job(("train",), tmp_path / "logs" / "log"), PLACE)
    assert tells_of_outage(f"failed on its node: {refused.value}")  # no run is to blame for it


def test_where_processors_cannot_be_chosen_a_run_starts_all_the_same(tmp_path, monkeypatch):
    def refuse(pid, processors):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    started = []
    with engines._kept_to([0]):
        started.append("the run")
    assert started


def test_attempts_on_one_machine_have_processors_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(node.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5}, raising=False)
    with node._processors(2) as first, node._processors(1) as second, node._processors(1) as third:
        assert (list(first), list(second), list(third)) == ([2, 3], [5], [])
    with node._processors(4) as more, node._processors(3) as all_:
        assert (list(more), list(all_)) == ([], [])  # too few, which are held until that is known
    with node._processors(3) as all_:
        assert list(all_) == [2, 3, 5]


# --- Ray, of straw


class StrawRay:
    """Stands for the module `ray`: tasks are kept, and end as a test says."""

    def __init__(self, *nodes):
        self.started, self.cancelled, self.ends = [], [], {}
        self.present = [{"Alive": alive, "Resources": resources} for alive, resources in nodes]

    def nodes(self):
        return self.present

    def remote(self, function):
        assert function in (node.attempt, stored.attempt)

        def options(**asked):
            return SimpleNamespace(
                remote=lambda *given: (self.started.append((asked, given)), len(self.started))[1]
            )

        return SimpleNamespace(options=options)

    def wait(self, tasks, timeout):
        assert timeout == 0
        return [task for task in tasks if task in self.ends], None

    def get(self, task):
        if isinstance(self.ends[task], BaseException):
            raise self.ends[task]
        return self.ends[task]

    def cancel(self, task, force):
        assert not force
        self.cancelled.append(task)


def straw(monkeypatch, *nodes):
    made = StrawRay(*nodes)
    monkeypatch.setattr(on_ray, "ray", made)
    return made


def test_there_are_as_many_places_as_the_living_nodes_have_resources_for(tmp_path, monkeypatch):
    ray = straw(monkeypatch, (True, {"CPU": 4.0, "GPU": 1.0}), (True, {"CPU": 3.0}), (False, {"CPU": 64.0}))
    found = []
    for resources in (Resources(), Resources(2), Resources(1, 0.5), Resources(5)):
        found.append(RayEngine(tmp_path, {}, resources).capacity())
    assert found == [7, 3, 2, 0]
    ray.present = [{"Alive": True, "Resources": {"CPU": 64.0, "GPU": 2.0}}]
    found = []
    for share in (0.1, 0.3, 0.7, 1.0, 2.0, 3.0):
        found.append(RayEngine(tmp_path, {}, Resources(1, share)).capacity())
    assert found == [20, 6, 2, 2, 1, 0]  # no run has shares of two GPUs
    straw(monkeypatch, (True, {"CPU": 4.0}), (True, {"CPU": 3.0}))
    ray = on_ray.ray
    engine = RayEngine(tmp_path, {}, Resources())
    assert engine.places() == 8  # one more, for which a cluster may grow
    ray.present.append({"Alive": True, "Resources": {"CPU": 2.0}})
    engine._looked -= 60
    assert engine.places() == 10  # a node was added
    assert engine.free_memory() is None


@pytest.mark.parametrize(("asked", "room", "wanted"), [(100, 8, 8), (3, 8, 3), (None, 8, 8), (100, 0, 100)])
def test_as_many_runs_train_side_by_side_as_there_is_room_for(asked, room, wanted):
    assert side_by_side(asked, SimpleNamespace(capacity=lambda: room, places=lambda: room + 1)) == wanted
    assert side_by_side(asked, local.LocalEngine(room, Path(), {})) == wanted


def test_a_run_is_a_task_with_its_resources_that_ray_does_not_retry(run, tmp_path, monkeypatch):
    ray = straw(monkeypatch, (True, {"CPU": 4.0, "memory": 5e9}))
    engine = RayEngine(logs(tmp_path), {"MUJOCO_GL": "egl", "CUDA_VISIBLE_DEVICES": "3"}, Resources(2, 0.5))
    process = engine.start(run, State("missing", 0), 0, 3 * 10**9)
    engine.start(run, State("cut off", 100), 0, 9 * 10**9)
    (asked, (job, place)), (larger, (resumed, _)) = ray.started
    assert asked == {"name": run.name, "num_cpus": 2, "num_gpus": 0.5, "memory": 3 * 10**9, "max_retries": 0}
    assert larger["memory"] == 5 * 10**9  # no node has more
    assert job.arguments == command(run)
    assert resumed.arguments == ("resume", str(run.path), "--frames", str(run.config.options.frames))
    assert place == Place(Path.cwd(), {"MUJOCO_GL": "egl"}, 2, 0.5)
    assert not process.ended()
    process.stop()
    assert ray.cancelled == [1]


LOST = "failed, as its node or the agent there is lost"


@NO_RAY
def test_how_a_task_ended_is_told_in_one_line(tmp_path, monkeypatch):
    exceptions = importlib.import_module("ray.exceptions")
    ray = straw(monkeypatch)
    (tmp_path / "log").write_text("all the seeds diverged\n")
    raised = exceptions.RayTaskError("attempt", "traceback", UserError("node7 has no logs: mount it"))
    ends = {
        "finished": (Outcome(0, 7, 3.0, "node7"), "failed (exit code 0): all the seeds diverged; see ", 0),
        "killed": (Outcome(-9, 7, 3.0, "node7"), "failed (killed by signal 9, as for lack of memory): ", -9),
        "waited": (exceptions.TaskCancelledError(), "stopped before it began", 143),
        "raised": (raised, "failed on its node: node7 has no logs: mount it", -1),
        "lost": (exceptions.NodeDiedError("the node\nis dead"), f"{LOST}: the node is dead", -1),
        "crashed": (exceptions.WorkerCrashedError(), f"{LOST}: ", -1),
    }  # fmt: skip
    for name, (end, says, code) in ends.items():
        process = RayProcess(name, Job((), tmp_path / "log"))
        assert (process.ended(), process.memory(), process.worked(), process.node()) == (False, 0, None, "")
        ray.ends[name] = end
        assert process.ended()
        cause, number = process.failure()
        assert cause.startswith(says)
        assert number == code
        assert "\n" not in cause
    ray.ends["finished"] = Outcome(0, 7, 3.0, "node7")
    process = RayProcess("finished", Job((), tmp_path / "log"))
    assert (process.ended(), process.memory(), process.worked(), process.node()) == (True, 7, 3.0, "node7")
    assert process.failure()[0].endswith(" (on node7)")


# --- Slurm, with programs of straw, and submitit's own executor for this machine

NO_SUBMITIT = pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is not installed")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Puts programs that stand for Slurm's on the path; returns the file with what was submitted last."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in on_slurm._PROGRAMS:
        (folder / name).write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/submitted; echo Submitted batch job 77\n')
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return tmp_path / "submitted"


@NO_SUBMITIT
def test_slurm_is_asked_for_an_array_that_may_go_on(slurm, tmp_path):
    worker = on_slurm.Worker(("sweep", "x"), tmp_path)
    asked = on_slurm.Array(3, 2, 4, 0.5, 2**30, 24.0, {"partition": "long"})
    made = on_slurm.executor(asked, tmp_path / "slurm")
    assert made.max_num_timeout > 1000  # submitit's default is three
    assert on_slurm.submit(made, worker, 3) == ["77_0", "77_1", "77_2"]
    lines = slurm.read_text().splitlines()
    for line in (
        "array=0-2%3", "cpus-per-task=8", "mem=2048MB", "gpus-per-node=1", "time=1440", "signal=USR2@300",
        "partition=long", "requeue", "open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in lines
    assert any(line.startswith("srun ") and " --cpus-per-task=8 " in line for line in lines)
    own = {"gpus-per-node": "a100:2", "cpus-per-task": "12", "job-name": "mine", "mail-type": "END"}
    assert on_slurm.submit(on_slurm.executor(asked._replace(more=own), tmp_path / "slurm"), worker, 3)
    lines = slurm.read_text().splitlines()
    for name, value in own.items():
        assert [line for line in lines if line.startswith(f"#SBATCH --{name}=")] == [
            f"#SBATCH --{name}={value}"
        ]
    assert any(line.startswith("srun ") and " --cpus-per-task=12 " in line for line in lines)
    short = on_slurm.executor(asked._replace(hours=0.1, gpus=0.0), tmp_path / "slurm")
    assert on_slurm.submit(short, worker, 1) == ["77"]
    assert "#SBATCH --signal=USR2@72" in slurm.read_text()  # and not at once
    assert "gpus" not in slurm.read_text()


@NO_SUBMITIT
def test_a_worker_that_slurm_stops_saves_a_checkpoint_and_goes_on_later(tmp_path):
    """With submitit's executor for this machine, whose signal reaches only the worker itself."""
    code = (
        "import os, pathlib, signal, sys, time\n"
        "log = pathlib.Path(sys.argv[1])\n"
        "assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN\n"  # Slurm's reaches everything
        "def stop(*_): log.write_text('checkpoint'); sys.exit(143)\n"
        "if log.exists(): log.write_text(log.read_text() + ', resumed'); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "log.with_suffix('.pid').write_text(f'{os.getppid()} ')\n"
        "time.sleep(60)\n"
    )
    import submitit

    log = tmp_path / "log"
    worker = on_slurm.Worker((str(log),), tmp_path, program=(sys.executable, "-c", code))
    executor = submitit.LocalExecutor(tmp_path / "submitit", max_num_timeout=3)
    executor.update_parameters(timeout_min=5)
    job = executor.submit(worker)
    until(lambda: log.with_suffix(".pid").exists() and log.with_suffix(".pid").read_text().endswith(" "))
    os.kill(int(log.with_suffix(".pid").read_text()), signal.SIGUSR2)
    assert job.result() == 5
    assert log.read_text() == "checkpoint, resumed"


@NO_SUBMITIT
def test_workers_are_submitted_for_what_is_left(slurm, tmp_path):
    line = ("--task", "dog-run", "--seeds", "0:6", "--seeds-per-process", 1, "--out", "x", "--yes")
    before = time.time()
    said = helpers.call("sweep", *line, "--on", "slurm", "--jobs", 2, "--slurm", "account=me", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "with 6 side by side" in said.stdout
    assert f"3 workers in Slurm's queue as job 77: `crossq-wn sweep --status {tmp_path / 'x'}" in said.stdout
    assert {"#SBATCH --array=0-2%3", "#SBATCH --account=me"} < set(slurm.read_text().splitlines())
    (path, *_) = (tmp_path / "x" / ".sweep" / "slurm").glob("*_submitted.pkl")
    import submitit

    worker = submitit.core.utils.DelayedSubmission.load(path).function
    assert worker.arguments[:4] == ("sweep", str(tmp_path / "x"), "--jobs", "2")
    assert {"--no-wait", "--yes"} < {*worker.arguments}
    assert before < float(worker.arguments[worker.arguments.index("--since") + 1]) < time.time()
    assert worker.program[1:] == ("-m", "crossq_wn")
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho no such partition >&2; exit 1\n")
    said = helpers.call("sweep", "x", "--on", "slurm", "--slurm", "partition=log", "--yes", cwd=tmp_path)
    assert said.returncode == 2
    assert "Slurm refuses 6 jobs: " in said.stderr
    assert said.stderr.count("\n") == 1


@NO_SUBMITIT
def test_a_machine_without_slurm_is_told_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--on slurm needs Slurm's sbatch, srun, scontrol, not found here"):
        on_slurm.check()
    monkeypatch.setattr(on_slurm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--on slurm needs submitit: .*pip install .*\[slurm\]"):
        on_slurm.check()


def test_a_run_that_a_scheduler_stops_too_is_not_asked_twice(tmp_path):
    """SIGTERM for every process of a job, and what the sweep passes on, are one request to end."""
    sent = []
    process = local.LocalProcess(SimpleNamespace(send_signal=sent.append), tmp_path)
    process.stop()
    process.stop()
    assert sent == [signal.SIGUSR1, signal.SIGKILL]
    with collected_signals() as received:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert received == [signal.SIGTERM, signal.SIGUSR1]


# --- The command


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--on", "rya"], "invalid choice: 'rya'"),
        (["--on", "ray", "--address", "here"], "--address is 'here': give HOST:PORT"),
        (["--on", "ray", "--address", "ray://10.0.0.1:10001"], "use `ray job submit`"),
        (["--on", "ray", "--address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
        (["--on", "ray", "--address", "127.0.0.1:99999"], "no Ray cluster answers at 127.0.0.1:99999"),
        (["--on", "ray", "--cpus", "0"], "'0' is not a whole number of at least 1"),
        (["--on", "ray", "--gpus", "1.5"], "'1.5' is neither a number of GPUs nor a share"),
        (["--on", "ray", "--gpus", "nan"], "'nan' is neither a number of GPUs nor a share"),
        (["--address", "10.0.0.1:6379"], "--address goes with --on ray, not with --on local"),
        (["--store", "s3://bucket"], "--store goes with --on ray, not with --on local"),
        (["--on", "ray", "--store", "bucket"], "--store is 'bucket': give a URL, such as s3://bucket/paper"),
        (["--on", "ray", "--store", "nowhere://bucket"], "--store nowhere://bucket cannot be used: "),
        (["--on", "ray", "--store", "file:///proc/none"], "--store file:///proc/none cannot be used: "),
        (["--on", "ray", "--store", "file://x"], "--store file://x and the sweep's folder "),
        (["--cpus", "2"], "--cpus goes with --on ray or --on slurm"),
        (["--on", "ray", "--workers", "2"], "--workers goes with --on slurm, not with --on ray"),
        (["--on", "slurm", "--workers", "1001"], "'1001' is more than the 1,000 that an array takes"),
        (["--on", "slurm", "--hours", "0"], "'0' is no number of hours from 0.1 to 8760"),
        (["--on", "slurm", "--slurm", "partition"], "'partition' is not KEY=VALUE"),
    ],
)
def test_wrong_options_of_an_engine_start_nothing(line, says, tmp_path, monkeypatch):
    if "--store" in line and find_spec("fsspec") is None:
        pytest.skip("fsspec is not installed")
    if "--address" in line and find_spec("ray") is None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    said = helpers.call("sweep", "--task", "dog-run", "--out", "x", *line, cwd=tmp_path)
    assert said.returncode == 2
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_missing_extra_is_named_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    parsed = argparse.Namespace(on="ray", address=None, cpus=None, gpus=None, jobs=None, store=None)
    with pytest.raises(UserError, match=r"--on ray needs Ray: .*pip install .*\[ray\]"):
        choice.opened(parsed, tmp_path, {}, None).__enter__()


# --- Ray itself


PENDULUM = {"warmup": 50, "batch_size": 8, "actor_width": 8, "critic_width": 8, "utd": 1}
OFTEN = {"eval_episodes": 1, "eval_every": 200, "checkpoint_every": 200, "log_every": 100, "frames": 1500}


def as_flags(options):
    found = []
    for name, value in options.items():
        found += [f"--{name.replace('_', '-')}", str(value)]
    return found


def evaluations(path):
    return [(row["env_step"], row["value"]) for row in helpers.rows(path / "eval.csv")]


def newest(out):
    """Environment frames of the newest checkpoint of any run."""
    return max((int(path.name) for path in out.glob("*/*/seed-*/checkpoints/0*")), default=0)


def equal_undisturbed(out, count, folder):
    """Every run of a sweep is there, complete, and has the evaluations of one that nothing disturbed."""
    paths = sorted(out.glob("*/*/seed-*"))
    assert len(paths) == count
    for seed, path in enumerate(paths):
        train(
            "Pendulum-v1", seeds=[seed], out=folder / path.name, tensorboard=False, video=False,
            **PENDULUM, **OFTEN,
        )  # fmt: skip
        assert evaluations(path) == evaluations(folder / path.name)
        assert (path / "checkpoints" / "000001500").exists()


@pytest.mark.slow
@NO_RAY
def test_nodes_may_be_lost_and_added_and_the_head_lost(tmp_path, monkeypatch):
    """On a cluster of three nodes with one processor each, every evaluation is made exactly once."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a minute, otherwise
    cluster_utils = importlib.import_module("ray.cluster_utils")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    out, count = tmp_path / "sweep", 4

    def cluster(nodes):
        made = cluster_utils.Cluster(
            initialize_head=True, head_node_args=small | {"include_dashboard": False}
        )
        return made, [made.add_node(**small) for _ in range(nodes)]

    def sweep(address):
        return helpers.start_cli(
            "sweep", "--task", "Pendulum-v1", "--seeds", f"0:{count}", "--seeds-per-process", 1, "--out", out,
            "--on", "ray", "--address", address, *as_flags(PENDULUM | OFTEN), cwd=tmp_path,
        )  # fmt: skip

    made, nodes = cluster(2)
    process = sweep(made.address)
    try:
        until(lambda: newest(out) > 0, 120)
        made.remove_node(nodes[0], allow_graceful=False)
        made.add_node(**small)
        until(lambda: newest(out) >= 600, 60)
        made.remove_node(made.head_node, allow_graceful=False)
        assert process.wait(60) != 0
    finally:
        process.kill()
        made.shutdown()
    assert not all((path / "checkpoints/000001500").exists() for path in out.glob("*/*/seed-*"))
    made, _ = cluster(1)
    try:
        process = sweep(made.address)
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
    finally:
        process.kill()
        made.shutdown()
    equal_undisturbed(out, count, tmp_path)


@pytest.mark.slow
@NO_SUBMITIT
def test_a_sweep_that_slurm_stops_twice_makes_every_evaluation_once(tmp_path, monkeypatch):
    """With submitit's executor for this machine, and true runs."""
    import submitit

    for name, value in helpers.environment_variables().items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "sweep"
    options = "".join(f"{name} = {value}\n" for name, value in (PENDULUM | OFTEN).items())
    keep_plan(out, f"seeds_per_process = 1\n[defaults]\ntask = 'Pendulum-v1'\nseeds = '0:2'\n{options}")
    words = ("sweep", str(out), "--jobs", "2", "--no-wait", "--yes")
    executor = submitit.LocalExecutor(tmp_path / "submitit", max_num_timeout=3)
    executor.update_parameters(timeout_min=10)
    job = executor.submit(on_slurm.Worker(words, tmp_path))
    for frames in (400, 1000):
        until(lambda least=frames: newest(out) >= least, 120)
        controller = job._process.pid
        (worker,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        os.kill(int(worker), signal.SIGUSR2)
        until(lambda ended=worker: not Path("/proc", ended).exists(), 60)
    assert job.result() == 0
    equal_undisturbed(out, 2, tmp_path)
