"""What a person sees of a training: a live display on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from crossq_wn.errors import visible
from crossq_wn.training.progress import Reporter, Status, short

_PLAIN_SECONDS = 10.0  # between progress lines in a log file
_LOG_WIDTH = 160  # letters, enough for a row of numbers


class LiveReporter:
    """A progress bar, and beside it what training is doing and how well."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def status(self, status: Status) -> None:
        """Moves the bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=status.total_frames, numbers="")
        self._progress.update(self._task, completed=status.frames, numbers=describe(status))

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


class PlainReporter:
    """Prints a line every few seconds, and whenever compilation begins or training ends."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def status(self, status: Status) -> None:
        """Prints a line, unless one was printed just now."""
        now = time.monotonic()
        # What happens seldom is told at once.
        rare = status.phase in ("compiling", "done", "stopped")
        if not rare and now - self._last < _PLAIN_SECONDS:
            return
        self._last = now
        self.message(describe(status))

    def message(self, text: str) -> None:
        """Prints a line."""
        self._console.print(visible(text), highlight=False, soft_wrap=True, markup=False)


def reporter() -> LiveReporter | PlainReporter:
    """The display that suits where the output goes."""
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _LOG_WIDTH, file=_Lasting(sys.stdout))  # type: ignore[arg-type]
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)


def describe(status: Status) -> str:
    """One line: `training | 12,000 frames | 118 updates/s | return 204 | loss 0.31 | 12 min left`.

    Losses are those of the newest row of metrics, so they are shown only while training goes on.
    """
    doing: str = status.phase
    if doing == "collecting":
        doing = f"collecting until {status.warmup_frames:,} frames"
        doing += ", compiling meanwhile" if status.compiling else ""
    parts = [doing, f"{status.frames:,} frames", *_rate(status)]
    if status.evaluations:
        value = sum(status.evaluations.values()) / len(status.evaluations)
        parts.append(f"{status.metric.replace('_', ' ')} {short(value)}")
    parts += _timing(status)
    losses = [row["critic_loss"] for row in status.rows if "critic_loss" in row]
    if losses and status.phase != "compiling":
        parts.append(f"loss {sum(losses) / len(losses):.3g}")
    parts += _left(status)
    return " | ".join(parts)


def _timing(status: Status) -> list[str]:
    """How well a run in real time keeps its clock."""
    if not status.rows or "jitter_p99_ms" not in status.rows[0] or status.phase == "compiling":
        return []
    row = status.rows[0]
    late = f"{row['deadline_misses']} late, jitter p99 {row['jitter_p99_ms']:.2g} ms"
    if not row["updates"]:
        return [late]
    return [late, f"UTD {row['achieved_utd']:.3g}", f"policy {row['staleness_mean']:.3g} decisions old"]


def _rate(status: Status) -> list[str]:
    if status.phase == "collecting" and status.frames_per_second:
        return [f"{status.frames_per_second:.0f} frames/s"]
    if status.phase == "training" and status.updates_per_second:
        return [f"{status.updates_per_second:.0f} updates/s"]
    return []


def _left(status: Status) -> list[str]:
    """How long it still takes, or why that is not known yet."""
    if status.phase in ("done", "stopped"):
        return []
    if status.seconds_left is not None:
        return [f"{_duration(status.seconds_left)} left"]
    if status.forecast is not None:
        return [f"roughly {_duration(status.forecast)} left"]
    return ["time left: " + ("being measured" if status.updates else "known once updates begin")]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


class _Lasting:
    """An output that goes silent, rather than end a training, once it is closed or no room is left for it."""

    def __init__(self, output: Any) -> None:
        self._output, self._gone = output, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)

    def write(self, text: str) -> int:
        """Writes, if there is still anything to write to."""
        self._attempt(lambda: self._output.write(text))
        return len(text)

    def flush(self) -> None:
        """Flushes, likewise."""
        self._attempt(self._output.flush)

    def _attempt(self, work: Callable[[], Any]) -> None:
        try:
            if not self._gone:
                work()
        except (OSError, ValueError):  # ValueError: of a closed file
            self._gone = True
