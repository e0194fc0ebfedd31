"""Which rows does training write, and where? CSV and JSON lines; TensorBoard by default, W&B if asked."""

import importlib
import importlib.util
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError
from crossq_wn.runs.config import RunConfig
from crossq_wn.runs.tables import EVAL_COLUMNS, Table, cannot_write
from crossq_wn.training.stopwatch import PHASES

METRICS_COLUMNS = (  # then come the algorithm's own
    "seed", "frames", "decisions", "updates", "resets", "episodes", "episode_return", "episode_frames",
    "episode_success",
)  # fmt: skip
TIMING_COLUMNS = (
    "frames", "seconds", "frames_per_second", "updates_per_second", "memory_mib",
    *(f"{phase}_ms" for phase in PHASES),
)  # fmt: skip


def require_extras(config: RunConfig) -> None:
    """Raises UserError if W&B was asked for and is not installed."""
    if config.options.wandb is not None and importlib.util.find_spec("wandb") is None:
        raise UserError("--wandb needs W&B: pip install 'crossq-wn[wandb]'")


class Logs:
    """The tables of a run and their mirrors; `metrics` names what the algorithm reports."""

    def __init__(self, config: RunConfig, path: Path, metrics: Sequence[str]) -> None:
        self._config, self._start = config, time.perf_counter()
        self._metrics = Table(path / "metrics.csv", (*METRICS_COLUMNS, *metrics), lines=True)
        self._eval = Table(path / "eval.csv", EVAL_COLUMNS)
        self._timing = Table(path / "timing.csv", TIMING_COLUMNS)
        self._writers: dict[int, Any] = {}
        self._tensorboard = path / "tensorboard" if config.options.tensorboard else None
        self._wandb: Any = None
        if config.options.wandb is not None:
            wandb = importlib.import_module("wandb")
            self._wandb = wandb.init(project=config.options.wandb, name=path.name, config=config.to_json())

    def metrics(self, rows: list[dict[str, Any]], timing: dict[str, Any]) -> None:
        """One row per seed, and what the clock says."""
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
        """One row per metric."""
        names = (self._config.system.label, self._config.task)
        self._eval.append(
            dict(zip(EVAL_COLUMNS, (*names, seed, metric, frames, value), strict=True))
            for metric, value in results.items()
        )
        self._mirror(seed, frames, {f"eval/{k}": v for k, v in results.items()})

    def positions(self) -> list[list[int]]:
        """Where the tables end now, except the clock's."""
        return [self._metrics.position(), self._eval.position()]

    def cut(self, positions: list[list[int]]) -> None:
        """Goes back to where a checkpoint was made."""
        self._metrics.cut(positions[0])
        self._eval.cut(positions[1])

    def close(self) -> None:
        """Flushes the mirrors."""
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
    """A TensorBoard event file, written at once: after a full disk, tensorboardX's thread would hang."""

    def __init__(self, folder: Path, frames: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder = folder
        with self._one_line():
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))
        # What an earlier session wrote from here on is void.
        self._write(frames, session_log=SessionLog(status=SessionLog.START))

    def add(self, frames: int, numbers: dict[str, Any]) -> None:
        """Scalars of one place on the axis of environment frames."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in numbers.items()]
        self._write(frames, summary=Summary(value=values))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, frames: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        with self._one_line():
            self._writer.write_event(Event(wall_time=time.time(), step=frames, **content))
            self._writer.flush()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._folder, error) from None
