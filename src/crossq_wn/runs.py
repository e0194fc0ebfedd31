"""What does a run leave behind? A directory that one run owns: config, versions, rows, checkpoints, pictures.

RUN/
  config.json      every setting, resolved
  manifest.json    exact command, versions of all that changes numbers, device, protocol
  metrics.csv      one row per seed and interval (metrics.jsonl: the same as JSON lines)
  eval.csv         exp_name, env_name, seed, metric, env_step, value; env_step counts environment frames
  timing.csv       wall-clock and memory, apart because they never repeat
  tensorboard/     event files, one folder per seed
  checkpoints/  plots/  videos/
"""

import contextlib
import csv
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax

from crossq_wn.algorithms import ALGORITHMS, registered
from crossq_wn.algorithms.settings import Settings, require, require_types
from crossq_wn.environments import lookup
from crossq_wn.errors import UserError, one_line

SCHEMA = 1
EVAL_COLUMNS = ("exp_name", "env_name", "seed", "metric", "env_step", "value")
_DAMAGED = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged file raises
_NUMBERS_DEPEND_ON = (
    "crossq-wn", "jax", "jaxlib", "optax", "numpy", "gymnasium", "mujoco", "dm_control", "myosuite",
)  # fmt: skip
# By suite, those of them that decide what a task is.
_SIMULATORS = {
    "dmc": ("mujoco", "dm_control"), "myosuite": ("mujoco", "myosuite"), "gymnasium": ("mujoco", "gymnasium"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers, and what it records."""

    task: str
    metric: str  # what evaluation reports first: "return" or "success_rate"
    algorithm: str
    preset: str
    system: str  # what is being compared, as tables and figures name it
    seeds: tuple[int, ...]
    frames: int  # environment frames to train, over each seed
    action_repeat: int  # frames per decision
    episode_frames: int | None  # time limit in frames; None: the environment's own
    terminations: bool  # whether terminating tasks end the episode
    discount: float  # per decision
    eval_every: int  # environment frames between evaluations
    eval_episodes: int
    checkpoint_every: int  # environment frames between checkpoints
    log_every: int  # environment frames between rows of metrics
    video: bool
    tensorboard: bool
    wandb: str | None  # project name
    diagnostics: bool = True  # of the critic, in every row of metrics
    q_bias: bool = False  # measured at every evaluation
    overlap: bool = False  # environments step while gradient updates run
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"  # on accelerators
    settings: Settings

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("frames", "action_repeat", "eval_every", "eval_episodes", "checkpoint_every",
                     "log_every"):  # fmt: skip
            require(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        require(self, "episode_frames", self.episode_frames is None or self.episode_frames >= 1, "at least 1")
        require(self, "seeds", len(self.seeds) > 0, "at least one seed, such as 0 or 0,1,2")
        require(self, "seeds", len(set(self.seeds)) == len(self.seeds), "without repetition")
        require(self, "seeds", all(0 <= s < 2**31 for s in self.seeds), "whole numbers from 0 to 2147483647")
        require(self, "frames", self.frames >= self.action_repeat, "at least one decision's frames")

    @property
    def decisions(self) -> int:
        """Agent decisions to train, per seed."""
        return self.frames // self.action_repeat

    @property
    def episode_decisions(self) -> int | None:
        """Time limit in agent decisions; None: the environment's own."""
        return None if self.episode_frames is None else -(-self.episode_frames // self.action_repeat)

    @property
    def protocol(self) -> dict[str, Any]:
        """What must agree before two runs may be compared."""
        return {
            "task": self.task,
            "action_repeat": self.action_repeat,
            "episode_frames": self.episode_frames,
            "terminations": self.terminations,
            "discount": self.discount,
            "eval_every": self.eval_every,
            "eval_episodes": self.eval_episodes,
            "success_rule": "any frame of the episode",
        }

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"schema": SCHEMA, "seeds": list(self.seeds)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_json`."""
        values = dict(values)
        values.pop("schema")
        kind = ALGORITHMS[registered(values["algorithm"])].settings
        settings = kind(**values.pop("settings"))
        return RunConfig(**{**values, "seeds": tuple(values["seeds"]), "settings": settings})


class RunDirectory:
    """An open run directory; only one process may write to it at a time.

    Raises UserError if another process holds it.
    """

    def __init__(self, path: Path, command: Sequence[str] = ()) -> None:
        self.path, self._command = path, list(command)
        self._lock = open(path / ".lock", "w")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{path} is in use by another process: wait for it, stop it, or choose another --out"
            ) from None

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.path / "checkpoints"

    def close(self) -> None:
        """Lets other processes write here."""
        self._lock.close()

    def write_json(self, name: str, values: Any) -> None:
        """Replaces a JSON file at once."""
        partial = self.path / f".{name}.partial"
        partial.write_text(json.dumps(values, indent=2) + "\n")
        to_disk(partial)
        os.replace(partial, self.path / name)

    def note_resumption(self, config: RunConfig) -> list[str]:
        """Records the command that continues the run, the configuration and versions as they are now.

        Returns:
            What differs from the versions before, such as `jax 0.9.0, now 0.10.2`.
        """
        values, differs = manifest(config, self._command), []
        with contextlib.suppress(*_DAMAGED):  # lost: it begins anew
            old = json.loads((self.path / "manifest.json").read_text())
            now = values["versions"]
            differs = [f"{n} {v}, now {now[n]}" for n, v in old["versions"].items() if v != now.get(n, v)]
            earlier = [*old.get("earlier_versions", []), *([old["versions"]] if differs else [])]
            values |= {"commands": [*old["commands"], self._command], "earlier_versions": earlier}
            # What was trained under another simulator stays so: see `protocol_conflicts`.
            under, today = dict(old["protocol"]), values["protocol"]
            other = any(v != today.get(n, v) for n, v in under.items())
            values["earlier_protocols"] = [*old.get("earlier_protocols", []), *([under] if other else [])]
        self.write_json("manifest.json", values)
        self.write_json("config.json", config.to_json())
        return differs


class Table:
    """A CSV file that grows by whole rows and can be cut back to what a checkpoint remembers."""

    def __init__(self, path: Path, columns: Iterable[str], *, lines: bool = False) -> None:
        self.path, self.columns = path, tuple(columns)
        self._json = path.with_suffix(".jsonl") if lines else None
        if not path.exists():
            path.write_text(",".join(self.columns) + "\n")
            if self._json:
                self._json.write_text("")

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows; missing values stay empty."""
        rows = list(rows)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        _append(self.path, text.getvalue())
        if self._json:
            _append(self._json, "".join(json.dumps(row) + "\n" for row in rows))

    def position(self) -> list[int]:
        """The sizes of the files, which are on disk from now on."""
        for path in self._files():
            to_disk(path)
        return [path.stat().st_size for path in self._files()]

    def cut(self, position: list[int]) -> None:
        """Goes back to a position: what came later will be written again."""
        sizes = list(zip(self._files(), position, strict=True))
        for path, size in sizes:
            if not path.exists() or path.stat().st_size < size:
                raise UserError(f"{path} is missing or shorter than the checkpoint remembers: put it back")
        with open(self.path, errors="replace") as file:
            header = file.readline().rstrip("\n")
        if header != ",".join(self.columns):
            raise UserError(
                f"{self.path} has other columns than this version writes: resume with the version that "
                "manifest.json names, or start a new run"
            )
        for path, size in sizes:
            os.truncate(path, size)

    def _files(self) -> list[Path]:
        return [self.path, *([self._json] if self._json else [])]


def to_disk(path: Path) -> None:
    """Returns once a file, or a folder's list of names, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "a") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> UserError:
    """What to tell of a record that could not be written."""
    return UserError(f"cannot write {path}: {error.strerror}; free some space, then `crossq-wn resume`")


def create(config: RunConfig, out: Path | None, command: list[str]) -> RunDirectory:
    """A new run directory; without `out`, the next free number under runs/TASK/.

    Raises UserError if `out` already holds something.
    """
    if out is None:
        path = _next_free(
            Path("runs") / config.task.replace("/", "-").replace(":", "-"), registered(config.algorithm)
        )
    else:
        path = out
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create --out {path}: {error.strerror}") from None
    run = RunDirectory(path, command)
    run.write_json("config.json", config.to_json())
    run.write_json("manifest.json", manifest(config, command))
    return run


def check_free(out: Path | None) -> None:
    """Raises UserError if a run directory asked for already holds something."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        holds_run = (out / "config.json").exists()
        what = "holds a run" if holds_run else "is not an empty directory"
        fix = f", or `crossq-wn resume {out}`" if holds_run else ""
        raise UserError(f"--out {out} {what}: nothing is overwritten; choose another{fix}")


def read_config(path: Path) -> RunConfig:
    """A run's configuration. Raises UserError if there is none, or one of a newer version."""
    try:
        return RunConfig.from_json(_configured(path))
    except (KeyError, TypeError) as error:
        raise _altered(path / "config.json", error) from None


def read_names(path: Path) -> tuple[str, str]:
    """A run's system and task; of a run, too, whose settings this version does not know.

    Raises UserError if config.json does not say, or is of a newer version.
    """
    values = _configured(path)
    try:
        return str(values["system"]), str(values["task"])
    except KeyError as error:
        raise _altered(path / "config.json", error) from None


def read_protocols(path: Path) -> list[dict[str, Any]]:
    """What a run was trained and evaluated under: now, and before it was resumed under something else.

    Raises UserError if manifest.json does not say.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        found = [dict(each) for each in (manifest["protocol"], *manifest.get("earlier_protocols", []))]
    except _DAMAGED:
        found = []
    if not all(found) or not found:
        raise UserError(f"{path} has no readable manifest.json, so its protocol is unknown")
    return found


def _configured(path: Path) -> dict[str, Any]:
    """What config.json holds. Raises UserError if there is none, or one of a newer version."""
    try:
        values: dict[str, Any] = json.loads((path / "config.json").read_text())
        schema = int(values["schema"])
    except _DAMAGED:
        raise UserError(
            f"{path} is not a run directory (no readable config.json): `crossq-wn list runs` names them"
        ) from None
    if schema > SCHEMA:
        raise UserError(
            f"{path} has run schema {schema}, this version reads up to {SCHEMA}: upgrade crossq-wn"
        )
    return values


def _altered(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} has been altered: {one_line(error)}")


def extend(config: RunConfig, frames: int | None) -> RunConfig:
    """The same run to a new number of environment frames."""
    return config if frames is None else replace(config, frames=frames)


def manifest(config: RunConfig, command: list[str]) -> dict[str, Any]:
    """What else decides numbers: versions, device, protocol; and the command that started the run."""
    device = jax.devices()[0]
    protocol = config.protocol | {name: version(name) for name in _SIMULATORS[lookup(config.task).suite]}
    digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()
    return {
        "schema": SCHEMA,
        "commands": [command],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _NUMBERS_DEPEND_ON},
        "device": {"platform": device.platform, "kind": device.device_kind, "cores": os.cpu_count()},
        "system": f"{platform.system()} {platform.machine()}",
        "protocol": protocol,
        "protocol_sha256": digest,
        "executable": Path(sys.executable).name,
    }


def conflicts(paths: Iterable[Path], systems: Collection[str] | None = None) -> list[str]:
    """Why runs should not be compared, a line each: unlike protocols on a task, unlike settings of a system.

    Args:
        paths: run directories, folders of them, or their eval.csv; other files have no protocol.
        systems: those that are compared; by default all.
    """
    runs = dict.fromkeys(run for path in paths for run in _described(path))
    compared = [run for run in runs if systems is None or _system(run) in systems]
    if len(compared) < 2:
        return []  # nothing stands beside it; that it was resumed under another simulator is no matter then
    unknown = [run for run in compared if not _protocols(run)]
    return [
        *(f"the protocol of {run} is unknown: it has no readable manifest.json" for run in unknown),
        *(f"the protocols differ: {line}" for line in protocol_conflicts(compared)),
        *(f"runs of one name have different settings: {line}" for line in setting_conflicts(compared)),
    ]


def _described(path: Path) -> list[Path]:
    """The run directories below a folder, or the one that a file belongs to; damaged ones too."""
    tables = path.rglob("eval.csv") if path.is_dir() else [path]
    folders = {table.parent for table in tables if table.name == "eval.csv"}
    marks = ("config.json", "manifest.json")
    return sorted(folder for folder in folders if any((folder / name).exists() for name in marks))


def _system(run: Path) -> str | None:
    with contextlib.suppress(UserError):
        return read_names(run)[0]
    return None


def _protocols(run: Path) -> list[dict[str, Any]]:
    """None if they cannot be read."""
    with contextlib.suppress(UserError):
        return read_protocols(run)
    return []


def protocol_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of one task differ in protocol, a line per task; with none, they may be compared.

    A run that was resumed under another simulator differs from itself.
    """
    return _differences((str(values.get("task")), where, values) for where, values in _histories(runs))


def simulator_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of any tasks differ in the versions of their simulators, a line for each other set of them."""
    known = {name for simulators in _SIMULATORS.values() for name in simulators}
    return _differences(
        ("simulators", where, {name: value for name, value in values.items() if name in known})
        for where, values in _histories(runs)
    )


def _histories(runs: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each run, in words, with each of its protocols."""
    for run in runs:
        for i, values in enumerate(_protocols(run)):
            yield f"{run} before it was resumed" if i else f"{run}", values


def setting_conflicts(runs: Iterable[Path]) -> list[str]:
    """How runs of one system differ in hyperparameters, a line per system: versions with other presets.

    A system is named by what leaves its preset, so its runs are alike unless the preset has changed between
    them.
    """
    return _differences(_settings(runs))


def _settings(runs: Iterable[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """System, run and settings, of those whose configuration can be read."""
    for run in runs:
        with contextlib.suppress(UserError, *_DAMAGED):
            values = _configured(run)
            besides = {name: values[name] for name in ("overlap", "matmul_precision") if name in values}
            yield values["system"], str(run), values["settings"] | besides


def _differences(entries: Iterable[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Where what should be alike is not, a line for each way in which it is not.

    Args:
        entries: (what each should be like all others of, where it is from, its values)
    """
    first: dict[tuple[str, str], tuple[str, Any]] = {}  # what only one version knows of is no difference
    lines: dict[str, str] = {}
    for group, where, values in entries:
        differs, told = {}, []
        for name, value in values.items():
            other, usual = first.setdefault((group, name), (where, value))
            if value != usual:
                differs[name] = value
                told.append(f"{name} is {usual} in {other} and {value} in {where}")
        if told:
            lines.setdefault(f"{group}{differs}", f"{group}: {', '.join(told)}")
    return list(lines.values())


def version(distribution: str) -> str | None:
    """An installed distribution's version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _next_free(parent: Path, stem: str) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {parent}: {error.strerror}; choose another place with --out"
        ) from None
    number = 1
    while True:
        path = parent / f"{stem}-{number:03d}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def find(root: Path) -> list[Path]:
    """All directories below a folder that hold a run, or what is left of one."""
    files = [file for name in ("config.json", "eval.csv") for file in root.rglob(name)]
    # A checkpoint has a manifest of its own.
    files += [file for file in root.rglob("manifest.json") if file.parts[-3:-2] != ("checkpoints",)]
    return sorted({file.parent for file in files})
