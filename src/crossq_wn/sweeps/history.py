"""What has been tried: one line per attempt at a run of a sweep, for retries and for people.

OUT/.sweep/
  plan-001.toml      the sweep's file as it was given; the newest one counts
  estimates.json     how many seconds each run was planned to take
  attempts.jsonl     a line per attempt that has ended, and where a sweep began to count failures anew
  sweep.log          what the sweep said, with the time
  logs/              what each run printed
  present/           the sweeps that work on the folder (`presence`)
  search.journal     what a search has proposed and judged
"""

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn import files
from crossq_wn.errors import NOT_MOUNTED, UserError, visible
from crossq_wn.files import MOST_TABLE
from crossq_wn.machine import resolved
from crossq_wn.runs.folders import SWEEP
from crossq_wn.sweeps.sheets import Sheet, parse

RETRIES = 3  # how often a sweep tries a failed run again by default


class Attempt(NamedTuple):
    """One process that worked on a run, once it has ended."""

    run: str  # its folder, relative to the sweep's
    ended: float  # seconds since 1970
    before: int  # environment frames per seed at its newest checkpoint when it began
    after: int  # and when it ended
    cause: str  # of its failure; empty if it finished, was stopped on request, or left the run to another
    final: bool = False  # whether it would fail in the same way again
    memory: int = 0  # the most bytes that it was seen to take
    seconds: float = 0.0  # that it took
    retries: int = RETRIES  # how often its sweep tries a failed run again
    passing: bool = False  # whether the run is not to blame, and it counts as none of those
    anew: bool = False  # no attempt, but a sweep that began: failures before this count no longer


class History:
    """The attempts at each run of a sweep, oldest first.

    Args:
        out: the folder of the sweep.
    """

    def __init__(self, out: Path) -> None:
        self._file, self._out = out / SWEEP / "attempts.jsonl", os.path.join(out, "")
        self._attempts: dict[str, list[Attempt]] = {}
        self._memory: dict[str, int] = {}  # by the folder of runs that differ in their seeds alone
        self._own: set[Attempt] = set()  # added here, and not read since
        self._end = 0  # bytes of the file that have been read
        self.news()

    def name(self, run: Path) -> str:
        """The name here of a run directory of the sweep."""
        return str(run).removeprefix(self._out)  # a sweep asks all the time, and `relative_to` takes long

    def of(self, run: str) -> Sequence[Attempt]:
        """The attempts at a run."""
        return self._attempts.get(run, ())

    @property
    def there(self) -> bool:
        """Whether the sweep's folder is there, which a mount that is gone takes with it."""
        return self._file.parent.is_dir()

    def require_folder(self) -> None:
        """Raises UserError if the sweep's folder is not there."""
        if not self.there:
            raise UserError(f"{self._out} is gone: {NOT_MOUNTED} again")

    def since(self, when: float) -> list[Attempt]:
        """All attempts that ended at a time or later, in seconds since 1970."""
        found = []
        for attempts in self._attempts.values():
            found += [attempt for attempt in attempts if attempt.ended >= when]
        return found

    def memory(self, run: str) -> int:
        """The most bytes that a run, or one that differs in its seeds alone, has taken; 0 if unknown."""
        return self._memory.get(_alike(run), 0)

    def news(self) -> list[Attempt]:
        """The attempts of other sweeps on the folder that were recorded since this was last called."""
        content, found = b"", []
        with contextlib.suppress(OSError), files.opened(self._file) as file:
            size = file.seek(0, os.SEEK_END)
            content = os.pread(file.fileno(), min(max(0, size - self._end), MOST_TABLE), self._end)
        whole = content[: content.rfind(b"\n") + 1]  # the last line may still be written
        for attempt in _attempts(whole):
            if attempt in self._own:
                self._own.discard(attempt)
                continue
            self._take(attempt)
            found.append(attempt)
        self._end += len(whole)
        return found

    def add(self, attempt: Attempt) -> None:
        """Records an attempt, on disk too if it is not full: the sweep goes on without the record."""
        self._take(attempt)
        self._own.add(attempt)
        with contextlib.suppress(OSError), files.open_log(self._file) as file:
            file.write(json.dumps(attempt._asdict()).encode() + b"\n")

    def _take(self, attempt: Attempt) -> None:
        self._attempts.setdefault(attempt.run, []).append(attempt)
        alike = _alike(attempt.run)
        self._memory[alike] = max(attempt.memory, self._memory.get(alike, 0))


def _alike(run: str) -> str:
    return run.rpartition("/")[0] or run


def log_folder(out: Path) -> Path:
    """The folder for what runs print."""
    return out / SWEEP / "logs"


def logs(out: Path) -> Path:
    """The folder for what runs print, which is created."""
    folder = log_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recorded(out: Path, say: Callable[[str], None]) -> Callable[[str], None]:
    """Has what a sweep says kept in its folder, too, if its disk takes it."""

    def tell(line: str) -> None:
        with contextlib.suppress(OSError), files.open_log(out / SWEEP / "sweep.log") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {visible(line)}\n".encode())
        say(line)

    return tell


def keep_plan(out: Path, text: str) -> None:
    """Writes a sweep's file, as it was given, into the folder of the sweep, beside earlier ones."""
    logs(out)
    if keeps(out, text):
        return
    number = max(_plans(out), default=0) + 1
    files.write_atomically(out / SWEEP / f"plan-{number:03d}.toml", text)


def keeps(out: Path, text: str) -> bool:
    """Whether the newest plan in a folder is this one."""
    plans = _plans(out)
    if not plans:
        return False
    return files.read(plans[max(plans)], files.MOST_JSON).decode(errors="replace") == text


def keep_estimates(out: Path, seconds: Mapping[Path, float]) -> None:
    """Writes how long each run was planned to take, unless it is there; by that `--status` tells time."""
    if estimates(out).keys() != seconds.keys():
        named = {str(run.relative_to(out)): round(value, 1) for run, value in seconds.items()}
        files.write_atomically(out / SWEEP / "estimates.json", json.dumps(named))


def estimates(out: Path) -> dict[Path, float]:
    """How many seconds each run was planned to take; none if nobody has kept that."""
    try:
        values = json.loads(files.read(out / SWEEP / "estimates.json", MOST_TABLE))
        seconds = {out / run: float(value) for run, value in values.items()}
        return {run: value for run, value in seconds.items() if 0 < value < math.inf}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def newest_plan(out: Path) -> Path:
    """The file of a sweep that is kept in its folder.

    Raises:
        UserError: the folder holds none.
    """
    plans = _plans(out)
    if not plans:
        raise UserError(f"{out} holds no sweep: start one with `crossq-wn sweep FILE.toml --out {out}`")
    return plans[max(plans)]


def kept_plan(out: Path) -> Sheet:
    """The newest plan of a sweep. Raises UserError if there is none."""
    return read_sheet(newest_plan(out))[0]


def read_sheet(path: Path) -> tuple[Sheet, str]:
    """Reads a sweep's file; returns what it says, and its text.

    Raises:
        UserError: it cannot be read, or describes no sweep.
    """
    try:
        text = files.read(resolved(path), files.MOST_JSON).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not TOML: it is not UTF-8 text") from None
    return parse(text, str(path)), text


def _plans(out: Path) -> dict[int, Path]:
    """The plans in a folder, by their numbers."""
    found = {}
    for name in files.names(out / SWEEP):
        if match := re.fullmatch(r"plan-(\d{1,9})\.toml", name):
            found[int(match[1])] = out / SWEEP / name
    return found


def _attempts(content: bytes) -> Iterable[Attempt]:
    """Reads attempts; a line that a crash cut off, or a stranger wrote, is passed over."""
    for line in content.splitlines():
        try:
            values: dict[str, Any] = json.loads(line)
            yield Attempt(
                str(values["run"]), float(values["ended"]), int(values["before"]), int(values["after"]),
                str(values["cause"]), bool(values["final"]), int(values["memory"]), float(values["seconds"]),
                int(values.get("retries", RETRIES)), bool(values.get("passing", False)),
                bool(values.get("anew", False)),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
