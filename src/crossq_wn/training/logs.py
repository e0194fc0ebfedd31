"""The tables that training writes, and their copies in TensorBoard and W&B."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from crossq_wn import fences, files
from crossq_wn.errors import UserError, option
from crossq_wn.installation import install_command
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.schema import Position
from crossq_wn.runs.tables import EVAL_COLUMNS, Order, Table, cannot_write, rows_of
from crossq_wn.training.finished import evaluated_at
from crossq_wn.training.stopwatch import PHASES

METRICS_COLUMNS = (  # followed by the algorithm's own metrics and the diagnostics
    "seed", "frames", "decisions", "updates", "resets", "episodes", "episode_return", "episode_frames",
    "episode_success",
)  # fmt: skip
TIMING_COLUMNS = (
    "frames", "seconds", "frames_per_second", "updates_per_second", "memory_mib",
    *(f"{phase}_ms" for phase in PHASES),
)  # fmt: skip


def require_extras(config: RunConfig) -> None:
    """Checks that the packages that a run logs with are installed.

    Raises:
        UserError: W&B is asked for and not installed; the message says how to install it.
    """
    if config.options.wandb is not None and importlib.util.find_spec("wandb") is None:
        raise UserError(f"{option('wandb')} needs W&B: {install_command('wandb')}")


class Logs:
    """The tables of a run and their copies.

    Args:
        config: the run's configuration.
        path: the run directory.
        metrics: the names of the algorithm's own metrics and of the diagnostics, which become columns.
    """

    def __init__(self, config: RunConfig, path: Path, metrics: Sequence[str]) -> None:
        self._config, self._start = config, time.perf_counter()
        seeds = config.options.seeds
        columns = (*METRICS_COLUMNS, *metrics)
        self._metrics = Table(path / "metrics.csv", columns, lines=True, order=Order("frames", seeds))
        # A run that was extended is not evaluated where it ended before.
        order = Order("env_step", seeds, partial(evaluated_at, config))
        self._eval = Table(path / "eval.csv", EVAL_COLUMNS, kept=True, order=order)
        self._timing = Table(path / "timing.csv", TIMING_COLUMNS)
        self._writers: dict[int, Any] = {}
        self._tensorboard = path / "tensorboard" if config.options.tensorboard else None
        self._wandb: Any = None
        if config.options.wandb is not None:
            wandb = importlib.import_module("wandb")
            self._wandb = wandb.init(project=config.options.wandb, name=path.name, config=config.to_json())

    def metrics(self, rows: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Records the newest metrics.

        Args:
            rows: one per seed, each with values by column of metrics.csv.
            timing: values by column of timing.csv, without `seconds`.
        """
        self._metrics.append(rows)
        seconds = round(time.perf_counter() - self._start, 1)
        self._timing.append([{**timing, "seconds": seconds}])
        for row in rows:
            numbers = {f"train/{k}": v for k, v in row.items() if k not in ("seed", "frames")}
            self._mirror(row["seed"], row["frames"], numbers)
        if rows:
            numbers = {f"time/{k}": v for k, v in timing.items() if k != "frames"}
            self._mirror(rows[0]["seed"], timing["frames"], numbers)

    def evaluation(self, seed: int, frames: int, results: dict[str, float]) -> None:
        """Records an evaluation of one seed.

        Args:
            seed: the training seed.
            frames: environment frames that it has trained for.
            results: values by metric, such as `return`; each becomes a row of eval.csv.
        """
        rows = []
        for metric, value in results.items():
            row = (self._config.system.label, self._config.task, seed, metric, frames, value)
            rows.append(dict(zip(EVAL_COLUMNS, row, strict=True)))
        self._eval.append(rows)
        self._mirror(seed, frames, {f"eval/{k}": v for k, v in results.items()})

    def evaluated(self, frames: int) -> set[int]:
        """The training seeds whose evaluation at a number of environment frames is recorded."""
        rows = rows_of(files.read(self._eval.path, files.MOST_TABLE))
        return {row["seed"] for row in rows if row["env_step"] == frames}

    def begin(self) -> None:
        """Starts every table of a new run with its header."""
        for table in (self._metrics, self._eval, self._timing):
            table.begin()

    def sort(self) -> Callable[[], None]:
        """Puts rows in order that came as seeds caught up: see `Table.sort`."""
        writes = [self._metrics.sort(), self._eval.sort()]

        def write() -> None:
            for each in writes:
                each()

        return write

    def positions(self) -> list[list[Position]]:
        """The state of metrics.csv and eval.csv, for a checkpoint; timing.csv only ever grows."""
        return [self._metrics.position(), self._eval.position()]

    def ends(self) -> dict[str, Position]:
        """Where each log ends now, by file name, for the run's manifest; all of them are then on disk."""
        found: dict[str, Position] = {}
        for table in (self._metrics, self._eval, self._timing):
            for path, position in zip(table.paths, table.position(), strict=True):
                found[path.name] = {"size": position["size"], "sha256": position["sha256"]}
        return found

    def resume(self, positions: Sequence[Sequence[Position | int]], warn: Callable[[str], None]) -> None:
        """Brings metrics.csv and eval.csv back to their state at a checkpoint.

        Args:
            positions: what `positions` returned then.
            warn: is told in one line of each file that had to be restored.
        """
        self._metrics.resume(positions[0], warn)
        self._eval.resume(positions[1], warn)
        self._timing.go_on()

    def close(self) -> None:
        """Closes TensorBoard's files and the run on W&B."""
        for writer in self._writers.values():
            writer.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _mirror(self, seed: int, frames: int, numbers: dict[str, Any]) -> None:
        if self._tensorboard is not None:
            if seed not in self._writers:
                self._writers[seed] = _EventFile(self._tensorboard / f"seed-{seed}", frames)
            self._writers[seed].add(frames, numbers)
        if self._wandb is not None:
            self._wandb.log({f"seed-{seed}/{k}": v for k, v in numbers.items()} | {"frames": frames})


class _EventFile:
    """A TensorBoard event file to which every row is written at once.

    The writer of tensorboardX uses a thread, which hangs in the end if the disk was full.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder = folder
        with self._readable_errors():
            files.make_folder(folder, within=folder.parents[1])
            # The writer names files by the second, and would empty one that began in the same.
            self._writer = EventsWriter(str(folder / "events"), f".{len(files.names(folder)):04d}")
        # Makes TensorBoard discard what an interrupted session wrote from this frame on.
        self._write(frames, session_log=SessionLog(status=SessionLog.START))

    def add(self, frames: int, numbers: dict[str, Any]) -> None:
        """Adds scalars, by name, at a number of environment frames."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in numbers.items()]
        self._write(frames, summary=Summary(value=values))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, frames: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        fences.require(self._folder)
        with self._readable_errors():
            self._writer.write_event(Event(wall_time=time.time(), step=frames, **content))
            self._writer.flush()

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._folder, error) from None
