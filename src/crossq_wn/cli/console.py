"""How does a person follow training? A live display on a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from crossq_wn.training.loop import Reporter, Status

_PLAIN_SECONDS = 10.0  # between progress lines in a log file


class LiveReporter:
    """A progress bar with the numbers that tell whether it learns."""

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

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._progress.stop()

    def status(self, status: Status) -> None:
        """Moves the bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=status.total_frames, numbers="")
        self._progress.update(self._task, completed=status.frames, numbers=describe(status))

    def message(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class PlainReporter:
    """Lines for a log file."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def status(self, status: Status) -> None:
        """A line, unless one was just written."""
        now = time.monotonic()
        if now - self._last < _PLAIN_SECONDS and status.frames < status.total_frames:
            return
        self._last = now
        self.message(describe(status))

    def message(self, text: str) -> None:
        """A line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)


def reporter(console: Console) -> LiveReporter | PlainReporter:
    """The display that suits where output goes."""
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)


def describe(status: Status) -> str:
    """`12,000 frames | 6,000 decisions | 118 updates/s | return 204 | loss 0.31 | 12 min left`."""
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


def table(console: Console, title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Prints a table."""
    from rich.table import Table

    shown = Table(*columns, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    console.print(shown)
