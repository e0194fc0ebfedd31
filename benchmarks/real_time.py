"""Does learning in real time keep its rate beside a plant that keeps its own clock?

    python benchmarks/real_time.py --minutes 10          # figures of one training
    python benchmarks/real_time.py --minutes 10 --kill   # kill -9 of the learning process at half time

The plant is walker physics in a process of its own, which ticks at 50 Hz whatever anybody does, and counts
the ticks at which no new command had come: these are deadlines that were really missed. Run it on a quiet
machine with at least two processors; on a busy one it measures the neighbours. Of each late action it says
how long the acting thread had waited for a processor, and whether the machine ran at all: a virtual one does
not while its host runs others, which the kernel counts as stolen. The plant, too, wakes late then; that
counts as a sign only where it may have a real-time priority, as it waits for no other process then.
"""

import argparse
import contextlib
import csv
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

HERTZ = 50.0
OBSERVATIONS, ACTIONS = 24, 6  # of walker-walk
PERIOD = 1 / HERTZ
# kind; seed, or -1 to go on; seconds since the observation, thereof of waiting for a processor, and of having
# one; action
COMMAND = struct.Struct(f"<Bqddd{ACTIONS}f")
ANSWER = struct.Struct(
    f"<Qfd{OBSERVATIONS}f"
)  # commands taken, whether the episode is over, reward, observation
STEP, RESET = 0, 1


class Plant(gymnasium.Env[Any, Any]):
    """A walker in another process; `step` gives a command and waits for the tick that carries it out."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
    own_clock = True

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--plant", "ticking" if self.own_clock else "waiting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._sent = 0
        self._arrived = 0.0  # when the newest observation did
        self._waited = self._computed = 0.0  # seconds of this thread by then

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode; the plant stands still until the first command."""
        super().reset(seed=seed)
        return self._ask(RESET, np.zeros(ACTIONS), -1 if seed is None else seed)[2], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Returns what the sensors read at the tick after the command."""
        over, reward, observation = self._ask(STEP, action)
        return observation, reward, False, over, {}

    def safe_action(self) -> np.ndarray:
        """No torque."""
        return np.zeros(ACTIONS)

    def close(self) -> None:
        """Ends the plant."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, kind: int, action: np.ndarray, seed: int = -1) -> tuple[bool, float, np.ndarray]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        passed, waited = time.perf_counter() - self._arrived, _waited() - self._waited
        computed = time.thread_time() - self._computed
        self._process.stdin.write(COMMAND.pack(kind, seed, passed, waited, computed, *map(float, action)))
        self._sent += 1
        while True:
            taken, over, reward, *observation = ANSWER.unpack(_exactly(self._process.stdout, ANSWER.size))
            if taken == self._sent:  # else it is of a tick that came before the command
                self._arrived, self._waited = time.perf_counter(), _waited()
                self._computed = time.thread_time()
                return over != 0, reward, np.array(observation, np.float32)


class Waiting(Plant):
    """The same walker without a clock: it takes a step whenever a command comes, so that none is late."""

    own_clock = False


def _waited() -> float:
    """Seconds that this thread has been ready to run and had no processor, where the kernel counts them."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _stolen() -> float:
    """Seconds that this machine's processors had something to run and its host did not run them."""
    try:
        return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def _exactly(stream: Any, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = stream.read(size - len(content))
        if not part:
            raise EOFError("the plant has ended")
        content += part
    return content


class Late(NamedTuple):
    """A late action, in milliseconds."""

    late: float  # since its observation
    waited: float  # thereof for a processor that others had
    computed: float  # thereof with a processor
    stolen: float  # by the host meanwhile, of each processor on average
    overslept: float  # by which the plant woke late meanwhile

    def stood(self, *, first: bool) -> bool:
        """Whether the machine itself did not run for most of the time.

        Args:
            first: whether the plant comes before every other process, so that it wakes late only then.
        """
        return max(self.stolen, self.overslept if first else 0.0) > self.late / 2


class Counts:
    """What a plant counts.

    Attributes:
        first: whether the plant comes before every other process.
        ticks: of its clock.
        idle: ticks at which no new command had come.
        stood: ticks thereof before which the machine did not run: the plant woke late, though it is first.
        late: the late actions.
    """

    def __init__(self, *, first: bool) -> None:
        self.first = first
        self.ticks = self.idle = self.stood = 0
        self.late: list[Late] = []
        # Of the last seconds: when, how much had been stolen by then, by how much the plant woke late.
        self._seen = deque([(time.perf_counter(), _stolen(), 0.0)], maxlen=200)

    def tick(self, times: Sequence[float], overslept: float) -> None:
        """Counts a tick.

        Args:
            times: seconds from the observation to the command, thereof of waiting for a processor, and of
                having one; empty: there is no new command.
            overslept: seconds by which the plant woke late.
        """
        now, stolen = time.perf_counter(), _stolen()
        self.ticks, self.idle = self.ticks + 1, self.idle + (not times)
        self.stood += self.first and not times and overslept > PERIOD / 2
        self._seen.append((now, stolen, overslept))
        if times and times[0] > PERIOD / 2:
            before = stolen
            for when, stolen_then, overslept_then in reversed(self._seen):
                before, overslept = stolen_then, max(overslept, overslept_then)
                if when < now - times[0] - PERIOD:
                    break
            of_each = (stolen - before) / (os.cpu_count() or 1)
            self.late.append(Late(*(1e3 * each for each in (*times, of_each, overslept))))

    def write(self) -> None:
        """Writes what has been counted to the folder PLANT_LOG."""
        names = ("first", "ticks", "idle", "stood", "late")
        found = {name: getattr(self, name) for name in names}
        Path(os.environ["PLANT_LOG"], str(os.getpid())).write_text(json.dumps(found))


def plant(*, ticking: bool) -> None:
    """The plant's process: ticks while an episode runs, and writes its counts where there is time for it."""
    from crossq_wn.environments import make

    walker, counts, taken = make("walker-walk"), Counts(first=_come_first()), 0
    running, held, due = False, np.zeros(ACTIONS, np.float32), 0.0
    while True:
        times: tuple[float, ...] = ()
        overslept = 0.0
        if running:
            time.sleep(max(0.0, due - time.perf_counter()))
            overslept = time.perf_counter() - due
            due += PERIOD
        while not times and (not running or select.select([0], [], [], 0)[0]):
            content = sys.stdin.buffer.raw.read(COMMAND.size)  # type: ignore[attr-defined]
            if not content:
                counts.write()
                return
            kind, seed, passed, waited, computed, *action = COMMAND.unpack(content)
            taken += 1
            if kind == RESET:
                _answer(taken, False, 0.0, walker.reset(None if seed < 0 else seed))
                counts.write()
                running = False
                continue
            times = passed, waited, computed
            if not running:  # the first command of an episode starts the clock, however late it comes
                running, times, due = ticking, (0.0, 0.0, 0.0), time.perf_counter() + PERIOD
            held = np.array(action, np.float32)
        after = walker.step(held)
        running = ticking and after.episode is None
        _answer(taken, after.episode is not None, after.reward, after.next_observation)
        counts.tick(times, overslept)


def _come_first() -> bool:
    """Puts this process before every other one, as a robot's clock is; returns whether its user may."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        return True
    return False


def _answer(taken: int, over: bool, reward: float, observation: np.ndarray) -> None:
    sys.stdout.buffer.write(ANSWER.pack(taken, over, reward, *map(float, observation)))
    sys.stdout.buffer.flush()


def train(minutes: float, out: Path, *, kill: bool, width: int) -> None:
    """Trains beside the plant for so many minutes, by the command line, and prints the figures."""
    frames = int(minutes * 60 * HERTZ)
    command = [
        "train", "real_time:Plant", "--real-time", str(HERTZ), "--frames", str(frames), "--eval-every", "0",
        "--checkpoint-every", "1000", "--log-every", "250", "--warmup", "1000", "--utd", "1",
        "--critic-width", str(width), "--no-tensorboard", "--out", str(out),
    ]  # fmt: skip
    load, stolen = os.getloadavg()[0], _stolen()  # the load of others: before anything of ours runs
    started = start(command)
    if kill:
        while _decisions(out) < frames // 2:
            time.sleep(0.5)
        started.kill()
        started.wait()
        print(f"killed the learning process at {_decisions(out):,} decisions or later")
        started = start(["resume", str(out), "--take-over"])
    if started.wait():
        raise SystemExit("training failed")
    stolen = _stolen() - stolen
    print(f"machine                        {os.cpu_count()} processors, load {load:.1f} before the start")
    print(f"stolen by the machine's host   {stolen:.2f} s in all, of all processors together")
    _print_figures(out)


def start(command: list[str]) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "crossq_wn", *command], env={**os.environ, "PYTHONPATH": paths}
    )


def _decisions(run: Path) -> int:
    found = _rows(run) if (run / "metrics.csv").exists() else []
    return int(found[-1]["decisions"]) if found else 0


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _print_figures(run: Path) -> None:
    found = [row for row in _rows(run) if row["jitter_p50_ms"]]
    counts = [json.loads(file.read_text()) for file in Path(os.environ["PLANT_LOG"]).iterdir()]
    ticks, idle, stood = (sum(each[name] for each in counts) for name in ("ticks", "idle", "stood"))
    print(f"decisions                      {int(found[-1]['decisions']):,}")
    print(f"deadline misses (acting side)  {sum(int(row['deadline_misses']) for row in found)}")
    first = all(each["first"] for each in counts)
    print(
        f"plant's real-time priority     {'granted' if first else 'denied: others may have kept it waiting'}"
    )
    late = [Late(*values) for each in counts for values in each["late"]]
    stopped = sum(each.stood(first=first) for each in late)
    print(f"late as the plant sees them    {len(late)}, {stopped} while the machine itself did not run")
    for each in late:
        print(
            f"  {each.late:.1f} ms: {each.waited:.1f} ms of waiting for a processor, {each.computed:.1f} ms "
            f"with one; {each.stolen:.0f} ms stolen of each processor, the plant woke {each.overslept:.1f} "
            "ms late"
        )
    print(
        f"plant's ticks without command  {idle} of {ticks:,}, {stood} of them since the machine did not run"
    )
    print(f"environment overruns           {sum(int(row['environment_overruns']) for row in found)}")
    for name, most in (("jitter_p50_ms", "median"), ("jitter_p99_ms", "median"), ("jitter_max_ms", "max")):
        values = [float(row[name]) for row in found]
        print(f"{name:<30} {np.median(values) if most == 'median' else max(values):.3f} ({most} of rows)")
    print(f"achieved UTD                   {found[-1]['achieved_utd']} of 1")
    stale = [float(row["staleness_mean"]) for row in found]
    oldest = max(int(row["staleness_max"]) for row in found)
    print(f"staleness in decisions         {np.mean(stale):.1f} (mean), {oldest} (max)")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--width", type=int, default=256, help="of the critic's layers")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--plant", choices=("ticking", "waiting"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.plant:
        plant(ticking=chosen.plant == "ticking")
        return
    folder = Path(tempfile.mkdtemp(prefix="real-time-"))
    os.environ["PLANT_LOG"] = str(folder / "plant")
    (folder / "plant").mkdir()
    try:
        train(chosen.minutes, folder / "run", kill=chosen.kill, width=chosen.width)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
