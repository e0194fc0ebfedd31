"""The run directory: a folder that one process owns at a time.

RUN/
  config.json      the system, every option and every setting, resolved
  manifest.json    exact command, versions of everything that changes numbers, device, protocol
  metrics.csv      one row per seed and interval (metrics.jsonl: the same as JSON lines)
  eval.csv         exp_name, env_name, seed, metric, env_step, value; env_step counts environment frames
  timing.csv       wall-clock and memory, in a separate file because no two runs agree in them
  tensorboard/     event files, one folder per seed
  checkpoints/  plots/  videos/  exports/
  errors/          the traceback of each seed whose environment, or callback that, raised an exception
  .lease-000001/   who may write here, and what it is writing (`leases`)
"""

import contextlib
import json
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.algorithms import registered
from crossq_wn.environments import SUITES, lookup
from crossq_wn.environments.suites import simulator_packages
from crossq_wn.errors import UserError, not_made, one_line, option
from crossq_wn.files import to_disk
from crossq_wn.installation import NUMBERS_DEPEND_ON, SIMULATORS, simulator_set, version
from crossq_wn.lazy import jax
from crossq_wn.runs import leases
from crossq_wn.runs.beginnings import begun
from crossq_wn.runs.checksums import checksum_of
from crossq_wn.runs.config import DAMAGED, SCHEMA, RunConfig, extend, read_config
from crossq_wn.runs.protocol import read_manifest
from crossq_wn.runs.schema import Position
from crossq_wn.runs.seals import sealed

_LOGS = ("metrics.csv", "metrics.jsonl", "eval.csv", "timing.csv")
# A process that is killed while it creates a run directory may leave these.
_SCAFFOLDING = {".lock", "manifest.json", ".config.json.partial", ".manifest.json.partial"}
_OURS = (*_SCAFFOLDING, "config.json", *_LOGS)


class RunDirectory:
    """An open run directory, to which only one process may write at a time.

    Args:
        path: the folder, which exists.
        command: the command that opened it, for the manifest.
        take_over: whether to take it over from a process that may still be alive, and is then shut out.
        tell: is told in one line if it takes a while to see whether a process on another machine is alive.

    Raises:
        UserError: another process has opened it.
    """

    def __init__(
        self,
        path: Path,
        command: Sequence[str] = (),
        *,
        take_over: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path, self._command = path, list(command)
        self._made: list[Path] = []  # folders that `create` made for it
        self._noted = False  # whether manifest.json has the command
        # Held until close; and why the file system cannot lock it, None if it can.
        self._lease, self.unlocked = leases.take(path, over=take_over, tell=tell)

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    def close(self) -> None:
        """Gives the directory back, so that other processes can open it."""
        self._lease.end()

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Writes or replaces a JSON file with its checksum in one step, so that it survives a power cut."""
        files.write_atomically(self.path / name, sealed(values))
        to_disk(self.path)

    def describe(self, config: RunConfig, values: dict[str, Any]) -> None:
        """Writes config.json and manifest.json.

        Args:
            config: of the run.
            values: the contents of manifest.json.
        """
        # In this order, because a folder with config.json counts as a run.
        self.write_json("manifest.json", values)
        self.write_json("config.json", config.to_json())

    def vouch(self, logs: Mapping[str, Position], failed: Mapping[str, Any]) -> None:
        """Notes in manifest.json where the logs end, with their checksums, and which seeds failed.

        Args:
            logs: by file name.
            failed: by seed.
        """
        try:
            values = read_manifest(self.path)
        except DAMAGED:  # without a manifest, checkpoints vouch for their part
            return
        self.write_json("manifest.json", values | {"logs": logs, "failed": failed})

    def keep_traceback(self, name: str, error: BaseException) -> Path:
        """Writes the full traceback of an exception in a user's code; returns the file.

        Args:
            name: whose code: a seed's environment, or a callback.
            error: the exception.
        """
        path = self.path / "errors" / f"{re.sub('[^A-Za-z0-9_.-]', '-', name)}.txt"
        files.make_folder(path.parent, within=self.path)
        files.write_atomically(path, "".join(traceback.format_exception(error)), within=self.path)
        return path

    def discard(self) -> None:
        """Removes a run that could not start, and the folders that were created for it."""
        if begun(self.path):
            return
        for name in _OURS:
            files.remove(self.path / name)
        with contextlib.suppress(OSError):
            files.remove(self.path / "checkpoints")
        self._lease.end()
        with contextlib.suppress(OSError):
            files.remove(self._lease.folder)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # a folder that has other contents by now stays
                folder.rmdir()

    def note_resumption(
        self, config: RunConfig, warn: Callable[[str], None], lost: Sequence[dict[str, Any]] = ()
    ) -> list[str]:
        """Records the command that resumes the run, once, and the configuration and versions from now on.

        Args:
            config: from now on.
            warn: is told in one line if manifest.json is lost or damaged; what is left of it is set aside.
            lost: the rows of replay that could not be restored, per seed.

        Returns:
            How the versions differ from those before, such as `jax 0.9.0, now 0.10.2`.
        """
        values, differs = manifest(config, self._command), []
        values |= {"lost_replay": list(lost)} if lost else {}
        try:
            old = read_manifest(self.path)
        except UserError as error:
            aside = files.set_aside(self.path / "manifest.json")
            kept = f"; what was there is now {aside.name}" if aside else ""
            warn(f"{one_line(error)}: earlier commands, versions and protocols are not known{kept}")
        else:
            commands = old["commands"] if self._noted else [*old["commands"], self._command]
            history: dict[str, Any] = {"commands": commands}
            # The manifest remembers that a part was trained with other versions or another simulator.
            for name in ("versions", "protocol"):
                earlier = f"earlier_{name.removesuffix('s')}s"
                changed = _changed(old[name], values[name])
                history[earlier] = [*old.get(earlier, []), *([old[name]] if changed else [])]
            for name, (before, now) in _changed(old["versions"], values["versions"]).items():
                differs.append(f"{name} {before}, now {now}")
            losses = old.get("lost_replay", [])
            losses += [loss for loss in lost if loss not in losses]  # else a session wrote no checkpoint
            history |= {"lost_replay": losses} if losses else {}
            values |= history
        self.describe(config, values)
        self._noted = True
        return differs


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The entries that both have and in which they differ: (old value, new value) by name."""
    return {name: (before, new[name]) for name, before in old.items() if new.get(name, before) != before}


def create(
    config: RunConfig,
    out: Path | None,
    command: list[str],
    *,
    take_over: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> RunDirectory:
    """Creates a run directory, or continues one whose run stopped before its first checkpoint.

    Args:
        config: of the run.
        out: the directory; by default the next free number under runs/TASK/.
        command: the command that starts the run, for the manifest.
        take_over: see `RunDirectory`.
        tell: likewise.

    Raises:
        UserError: `out` already holds something else, or it cannot be created.
    """
    made: list[Path] = []
    if out is None:
        path = _next_free(
            Path("runs") / config.task.replace("/", "-").replace(":", "-"),
            registered(config.system.algorithm),
            made,
        )
    else:
        path = out
        check_free(path, config)
        try:
            _make_folders(path, made)
        except OSError as error:
            raise UserError(f"cannot create {option('out', str(path))}: {not_made(error, path)}") from None
    run = RunDirectory(path, command, take_over=take_over, tell=tell)
    run._made = made  # for `discard`
    try:
        check_free(path, config)  # again, now that the lease keeps other processes out
        for name in _LOGS:  # remains of the run that stopped before its first checkpoint
            files.remove(path / name)
        run.describe(config, manifest(config, command))
    except BaseException:
        run.close()
        raise
    return run


def only_scaffolding(names: Iterable[str]) -> bool:
    """Whether these names in a folder are of a run directory in which nothing has begun."""
    return all(name in _SCAFFOLDING or leases.is_lease(name) for name in names)


def check_free(out: Path | None, config: RunConfig) -> None:
    """Checks that a run may start in a directory.

    Args:
        out: the run directory that was asked for, if any.
        config: of the run.

    Raises:
        UserError: it holds something other than the remains of this same run from before its first
            checkpoint.
    """
    if out is None or not out.exists():
        return
    if out.is_dir() and only_scaffolding(path.name for path in out.iterdir()):
        return
    where = option("out", str(out))
    if not (out / "config.json").exists():
        raise UserError(f"{where} is not an empty directory: nothing is overwritten; choose another")
    if begun(out) or not _is_of(out, config):
        raise UserError(
            f"{where} holds a run: nothing is overwritten; choose another, or `crossq-wn resume {out}`"
        )


def _is_of(path: Path, config: RunConfig) -> bool:
    """Whether a run directory is of this run; one that is to be longer or shorter is still the same."""
    try:
        return extend(read_config(path), config.options.frames) == config
    except UserError:
        return False


def manifest(config: RunConfig, command: list[str]) -> dict[str, Any]:
    """The contents of manifest.json: everything besides config.json that decides the numbers.

    Args:
        config: of the run.
        command: the command that starts the run, which is recorded too.
    """
    device = jax.devices()[0]
    suite = SUITES[lookup(config.task).suite]
    protocol = config.protocol | {name: version(name) for name in suite.packages}
    if set(suite.packages) & set(SIMULATORS):
        protocol["simulators"] = simulator_set(suite.packages)
    digest = checksum_of(json.dumps(protocol, sort_keys=True).encode())
    return {
        "schema": SCHEMA,
        "commands": [command],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in (*NUMBERS_DEPEND_ON, *simulator_packages())},
        "device": {"platform": device.platform, "kind": device.device_kind, "cores": os.cpu_count()},
        "system": f"{platform.system()} {platform.machine()}",
        "protocol": protocol,
        "protocol_sha256": digest,
        # With this, results of a suite from outside can be read where its module is not installed.
        **({"suite": suite.description()} if suite.module else {}),
        "executable": Path(sys.executable).name,
    }


def _make_folders(path: Path, made: list[Path]) -> None:
    """Creates a folder and its missing parents, whose names survive a power cut; adds them to `made`."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            made.append(folder)
            to_disk(folder.parent)


def _next_free(parent: Path, stem: str, made: list[Path]) -> Path:
    try:
        _make_folders(parent, made)
    except OSError as error:
        raise UserError(
            f"cannot create {parent}: {not_made(error, parent)}, or choose another place with {option('out')}"
        ) from None
    number = 1
    while True:
        path = parent / f"{stem}-{number:03d}"
        try:
            path.mkdir()  # fails if the folder exists, so two processes never get the same number
        except FileExistsError:
            number += 1
        else:
            made.append(path)
            to_disk(parent)
            return path
