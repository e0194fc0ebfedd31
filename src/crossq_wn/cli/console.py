"""What a person sees of a training: a live display on a terminal, plain lines elsewhere, warnings."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from crossq_wn.errors import visible

if TYPE_CHECKING:  # the loop loads much that most commands do not need
    from crossq_wn.training.progress import Reporter, Status

_PLAIN_SECONDS = 10.0  # between progress lines in a log file


class LiveReporter:
    """A progress bar, beside it the numbers that show whether the agent learns."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "Reporter":
        self._progress.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._progress.stop()

    def status(self, status: "Status") -> None:
        """Moves the bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=status.total_frames, numbers="")
        self._progress.update(self._task, completed=status.frames, numbers=describe(status))

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


class PlainReporter:
    """Prints lines for a log file."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, 0.0

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def status(self, status: "Status") -> None:
        """Prints a line, unless one was printed just now."""
        now = time.monotonic()
        if now - self._last < _PLAIN_SECONDS and status.frames < status.total_frames:
            return
        self._last = now
        self.message(describe(status))

    def message(self, text: str) -> None:
        """Prints a line."""
        self._console.print(visible(text), highlight=False, soft_wrap=True, markup=False)


def reporter() -> LiveReporter | PlainReporter:
    """Returns the display that suits where the output goes."""
    shown = _console(_Lasting(sys.stdout))
    return LiveReporter(shown) if shown.is_terminal else PlainReporter(shown)


def describe(status: "Status") -> str:
    """Returns one line, such as `12,000 frames | 118 updates/s | return 204 | loss 0.31 | 12 min left`."""
    parts = [f"{status.frames:,} frames", f"{status.decisions:,} decisions"]
    if status.updates:
        parts.append(f"{status.updates_per_second:.0f} updates/s")
    else:
        parts.append(f"{status.frames_per_second:.0f} frames/s")
    if status.evaluations:
        value = sum(status.evaluations.values()) / len(status.evaluations)
        parts.append(f"{status.metric.replace('_', ' ')} {value:.3g}")
    losses = [row["critic_loss"] for row in status.rows if "critic_loss" in row]
    if losses:
        parts.append(f"loss {sum(losses) / len(losses):.3g}")
    if status.seconds_left is not None:
        parts.append(f"{status.seconds_left / 60:.0f} min left")
    return " | ".join(parts)


def say(text: object) -> None:
    """Prints a line of output."""
    print(visible(text), flush=True)


def warn(text: str) -> None:
    """Prints a warning."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"crossq-wn: {visible(text)}", file=sys.stderr)


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


def _console(output: Any = None) -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, file=output)  # wide enough for a row of a log
