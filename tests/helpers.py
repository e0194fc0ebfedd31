"""What do the tests share? Toy environments that resolve as `helpers:Name`, tiny runs, the command line."""

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import load_file

from crossq_wn.cli import main
from crossq_wn.environments import moving
from crossq_wn.environments.crew import Crew
from crossq_wn.results import reading
from crossq_wn.runs import directory
from crossq_wn.runs.manifests import available
from crossq_wn.runs.seals import signed
from crossq_wn.runs.system import System
from crossq_wn.training import api, building
from crossq_wn.training.seeds import Stream, integer, stream

TESTS = Path(__file__).parent

# A run of a few seconds; crosses episode ends, evaluations and checkpoints.
TINY = [
    "--warmup", "20", "--batch-size", "8", "--actor-width", "8", "--critic-width", "8", "--utd", "1",
    "--eval-episodes", "1", "--no-video", "--no-tensorboard",
    "--log-every", "50", "--eval-every", "200", "--checkpoint-every", "100",
]  # fmt: skip
TINY_SETTINGS: dict[str, Any] = {
    "warmup": 20, "batch_size": 8, "actor_width": 8, "critic_width": 8, "utd": 1,
}  # fmt: skip
TINY_OPTIONS: dict[str, Any] = {
    "eval_episodes": 1, "video": False, "tensorboard": False,
    "log_every": 50, "eval_every": 200, "checkpoint_every": 100,
}  # fmt: skip


EVAL_HEADER = "exp_name,env_name,seed,metric,env_step,value\n"


class Listener:
    """A reporter that remembers what it was told."""

    def __init__(self):
        self.messages = []

    def status(self, status):
        pass

    def message(self, text):
        self.messages.append(text)


class PointMass(gymnasium.Env):
    """A point on a square: reaching the corner terminates, the 37th step is the time limit.

    With HELPERS_SLEEP set it takes that many seconds per step, so that a signal finds it running.
    """

    LIMIT = 37
    observation_space: Any = spaces.Box(-10, 10, (3,), np.float32)
    action_space: Any = spaces.Box(-2, 3, (2,), np.float32)

    def __init__(self):
        self.position = np.zeros(2)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-0.5, 0.5, 2)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        if "HELPERS_SLEEP" in os.environ:  # a pause of no time costs more than all the rest
            time.sleep(float(os.environ["HELPERS_SLEEP"]))
        self.steps += 1
        noise = self.np_random.normal(0, 0.02, 2)
        self.position = np.clip(self.position + 0.1 * action + noise, -1, 1)
        corner = bool((self.position > 0.97).all())
        reward = -float(np.abs(self.position - 0.5).sum())
        return self.observe(), reward, corner, self.steps >= self.LIMIT, {"is_success": corner}

    def observe(self):
        return np.array([*self.position, self.steps / self.LIMIT], np.float32)


class Unending(PointMass):
    """Neither terminates nor has a time limit."""

    def step(self, action):
        return (*super().step(action)[:2], False, False, {})


class StartFault(PointMass):
    """Whose second environment (of the second seed) cannot begin."""

    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.number = type(self).made

    def reset(self, *, seed=None, options=None):
        if self.number == 2:
            raise RuntimeError("no signal from [/dev/motor]")
        return super().reset(seed=seed, options=options)


class DictPoint(PointMass):
    """The same with a Dict of two parts; sorted order puts `clock` first."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-1, 1, (2,), np.float64), "clock": spaces.Box(0, 1, (1,), np.float32)}
    )

    def observe(self):
        return {"place": self.position.copy(), "clock": np.array([self.steps / self.LIMIT], np.float32)}


class DiscretePoint(PointMass):
    """Discrete actions: not supported."""

    action_space = spaces.Discrete(3)


class PairPoint(PointMass):
    """Observations in a tuple: not supported as they are."""

    observation_space = spaces.Tuple((spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))))


class NoSpaces(gymnasium.Env):
    """Says nothing of itself: not supported."""


class NoActionSpace(gymnasium.Env):
    """Forgets its actions: not supported."""

    observation_space = PointMass.observation_space


class UnboundedPoint(PointMass):
    """Unbounded actions: not supported."""

    action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class PixelPoint(PointMass):
    """Pixel observations: not supported."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)


class HugePoint(PointMass):
    """Observations so large that no memory holds a replay of them."""

    observation_space = spaces.Box(-1, 1, (500_000,), np.float32)


class CountingPoint(PointMass):
    """Counts its resets, over all of its objects."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        CountingPoint.resets += 1
        return super().reset(seed=seed, options=options)


class Hardening(PointMass):
    """Each episode pays less than the one before: a curriculum that no reset begins anew."""

    def __init__(self):
        super().__init__()
        self.begun = 0

    def reset(self, *, seed=None, options=None):
        self.begun += 1
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward - 0.1 * self.begun, *rest


class NanObservation(PointMass):
    """After 60 steps of its own, in whatever episode, it sees NaN."""

    AFTER = 60

    def __init__(self):
        super().__init__()
        self.lifetime = 0

    def step(self, action):
        self.lifetime += 1
        observation, *rest = super().step(action)
        if self.lifetime >= self.AFTER:
            observation[1] = np.nan
        return observation, *rest


class NanOnCheckpoint(NanObservation):
    """Every seed fails in the very decision that would be saved (with checkpoints every 50 or 100)."""

    AFTER = 100


class NanForSeedOne(PointMass):
    """Only where training seed 1 trains: NaN reward after 120 steps."""

    FAILING = integer(stream(1, Stream.ENVIRONMENT))

    def __init__(self):
        super().__init__()
        self.lifetime, self.failing = 0, False

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.failing = seed == self.FAILING
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.lifetime += 1
        observation, reward, *rest = super().step(action)
        if self.failing and self.lifetime > 120:
            reward = float("nan")
        return observation, reward, *rest


class Faulty(PointMass):
    """Fails where a seed trains or is evaluated, as `faults` says.

    It names training seeds, or seeds and the frames at which they are evaluated; and of each what fails
    (`step`, `reset`, `nan`, or `memory` for a step that runs out of it), from which step of its own on.
    """

    faults: ClassVar[dict[int | tuple[int, int], tuple[str, int]]] = {}

    def __init__(self):
        super().__init__()
        self.lifetime, self.start = 0, 0

    def reset(self, *, seed=None, options=None):
        self.start = self.start if seed is None else seed
        observed = super().reset(seed=seed, options=options)
        self.fail("reset")
        return observed

    def step(self, action):
        self.lifetime += 1
        observation, reward, *rest = super().step(action)  # first, so that its state has changed by then
        self.fail("step")
        self.fail("memory", MemoryError)
        return observation, float("nan") if self.due("nan") else reward, *rest

    def due(self, method):
        for who, (what, lifetime) in self.faults.items():
            begun = stream(who, Stream.ENVIRONMENT) if isinstance(who, int) else _evaluation(*who)
            if (integer(begun), what) == (self.start, method):
                return self.lifetime >= lifetime
        return False

    def fail(self, method, error=RuntimeError):
        if self.due(method):
            raise error(f"no {method} today")


def _evaluation(seed, frames):
    return stream(seed, Stream.EVALUATION, frames)


class NanInEvaluationOfSeedOne(PointMass):
    """Only where training seed 1 is evaluated at 200 frames: NaN reward."""

    def __init__(self):
        super().__init__()
        self.failing = False

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.failing = seed == integer(stream(1, Stream.EVALUATION, 200))
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, float("nan") if self.failing else reward, *rest


class Raising(PointMass):
    """Raises an exception of its own after 60 steps."""

    def __init__(self):
        super().__init__()
        self.lifetime = 0

    def step(self, action):
        self.lifetime += 1
        if self.lifetime > 60:
            raise RuntimeError("the motor\nis on fire")
        return super().step(action)


class Strange(PointMass):
    """Its state cannot be captured: it holds a running generator."""

    def __init__(self):
        super().__init__()
        self.wind = iter(int, 1)

    def step(self, action):
        next(self.wind)
        return super().step(action)


def no_environment():
    """A factory that makes none."""
    return {"not": "an environment"}


def broken_factory():
    """A factory that raises."""
    raise RuntimeError("no licence found")


def needs_argument(size):
    """A factory that wants an argument."""
    return PointMass()


NOT_CALLABLE = 3


def environment_variables(env: dict[str, str] | None = None) -> dict[str, str]:
    """For a subprocess in which `helpers:Name` resolves."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Training in this process leaves MuJoCo without a renderer; others choose for themselves.
    kept = {k: v for k, v in os.environ.items() if (k, v) != ("MUJOCO_GL", "disabled")}
    return {**kept, "PYTHONPATH": path, "COLUMNS": "200", **(env or {})}


def cli(
    *args: Any, cwd: Path, timeout: float = 400, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "crossq_wn", *map(str, args)],
        cwd=cwd, timeout=timeout, env=environment_variables(env), capture_output=True, text=True, check=False,
    )  # fmt: skip


def call(*args: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line in this process: sooner, and with programs that it has compiled already."""
    import pytest  # which processes that train one of the toys need not load

    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, "path", list(sys.path))
        patch.setenv("COLUMNS", "200")
        try:
            main([str(argument) for argument in args])
        except SystemExit as stop:
            code = stop.code
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


SEVERAL = """
import json, sys
from pathlib import Path
from crossq_wn.cli import train
from helpers import call
train._draw = lambda run: None  # of no interest in what is trained here, and a second each
done = [call(*line, cwd=Path.cwd()) for line in json.load(sys.stdin)]
print(json.dumps([[each.args, each.returncode, each.stdout, each.stderr] for each in done]))
"""


def clis(*lines: tuple[Any, ...], cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """Runs several command lines, one after the other, in one process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL], input=json.dumps([[*map(str, line)] for line in lines]),
        cwd=cwd, env=environment_variables(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [subprocess.CompletedProcess(*each) for each in json.loads(done.stdout)]


def start_cli(*args: Any, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts the command line and does not wait for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "crossq_wn", *map(str, args)],
        cwd=cwd, env=environment_variables(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file as dicts."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def replay_rows(run: Path, seed: int) -> dict[str, np.ndarray]:
    """All of a seed's replay that lies on disk, however it is cut into segments."""
    files = sorted((run / "checkpoints" / "replay").glob(f"seed-{seed}-*.safetensors"))
    segments = [load_file(file) for file in files]
    return {
        key: np.concatenate([segment[key] for segment in segments])
        for key in ("observation", "action", "reward", "mask", "final")
    }


def same_run(left: Path, right: Path, *, tables: bool = True, seeds: tuple[int, ...] = (0,)) -> None:
    """Asserts that two runs agree bit for bit: tables, last checkpoint, replay."""
    if tables:
        for name in ("metrics.csv", "metrics.jsonl", "eval.csv"):
            assert (left / name).read_bytes() == (right / name).read_bytes(), name
    final = [available(run / "checkpoints")[-1] for run in (left, right)]
    assert int(final[0].name) == int(final[1].name)  # more zeros in front where one was replaced
    for seed in seeds:
        name = f"seed-{seed}.safetensors"
        assert (final[0] / name).read_bytes() == (final[1] / name).read_bytes(), name
        ours, theirs = replay_rows(left, seed), replay_rows(right, seed)
        for key, values in ours.items():
            np.testing.assert_array_equal(values, theirs[key], err_msg=f"{name} {key}")


# By name: what may happen to a run directory, and what is said of it then.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda run: (run / "manifest.json").unlink(), "no readable manifest.json"),
    "half a manifest": (lambda run: (run / "manifest.json").write_text("{"), "no readable manifest.json"),
    "no configuration": (lambda run: (run / "config.json").unlink(), "no readable config.json"),
    "no scores": (lambda run: (run / "eval.csv").unlink(), "nothing has been evaluated yet"),
    "junk for scores": (lambda run: (run / "eval.csv").write_text("junk\n"), "lacks the columns"),
    "an infinite score": (
        lambda run: (run / "eval.csv").write_text(
            re.sub(",[^,]*$", ",inf\n", (run / "eval.csv").read_text())
        ),
        "a score is infinite",
    ),
}


def make_run(
    path: Path,
    *,
    task: str = "cheetah-run",
    eval_rows: Iterable[tuple[int, float]] = ((100, 50.0),),
    algorithm: str = "crossq-wn",
    seed: int = 0,
    **options: Any,
) -> Path:
    """A run directory as training leaves it, but for what it trained."""
    hyperparameters = options.pop("hyperparameters", {})
    config = api.configure(task, algorithm=algorithm, seeds=[seed], **options, **hyperparameters)
    directory.create(config, path, ["crossq-wn", "train"]).close()
    rows = "".join(
        f'"{config.system.label}",{task},{seed},return,{step},{value}\n' for step, value in eval_rows
    )
    (path / "eval.csv").write_text(EVAL_HEADER + rows)
    return path


def alter_config(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a run's config.json and its checksum, as if the run had been started so."""
    values = json.loads((path / "config.json").read_text())
    change(values)
    (path / "config.json").write_text(json.dumps(signed(values)))


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for something that is certain to come soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def use_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments move to workers, which are tried at once and count as faster; PARENT is this process."""
    monkeypatch.setattr(moving, "_PATIENCE", 0.0)
    monkeypatch.setattr(moving, "WORTH", 0.0)
    monkeypatch.setattr(moving, "pays", lambda times: True)
    monkeypatch.setattr(building, "processors", lambda: 2)
    ready = Crew.ready

    def wait(crew: Crew) -> bool:
        wait_until(lambda: ready(crew) or crew.refusal)
        return not crew.refusal

    monkeypatch.setattr(Crew, "ready", wait)
    monkeypatch.setenv("PARENT", str(os.getpid()))


def by_label(results: dict[System, Any]) -> dict[str, Any]:
    """Results of systems by their labels, which must differ."""
    labelled = {system.label: found for system, found in results.items()}
    assert len(labelled) == len(results)
    return labelled


def read(paths: Iterable[Path], warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The scores in paths, by label."""
    return by_label(reading.scores(reading.inputs(paths), warn))
