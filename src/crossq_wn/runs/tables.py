"""CSV files that grow by whole rows and can be cut back to what a checkpoint remembers."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crossq_wn.errors import UserError
from crossq_wn.machine import to_disk

EVAL_COLUMNS = ("exp_name", "env_name", "seed", "metric", "env_step", "value")


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
        """Appends rows; values that a row lacks stay empty."""
        rows = list(rows)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        _append(self.path, text.getvalue())
        if self._json:
            _append(self._json, "".join(json.dumps(row) + "\n" for row in rows))

    def position(self) -> list[int]:
        """Returns the sizes of the files in bytes, once all of them is on disk."""
        for path in self._files():
            to_disk(path)
        return [path.stat().st_size for path in self._files()]

    def cut(self, position: list[int]) -> None:
        """Cuts the files back to a position, because what came later will be written again.

        Args:
            position: what `position` returned.

        Raises:
            UserError: a file is missing, shorter, or has other columns.
        """
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


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "a") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> UserError:
    """Returns the error for a file of a run that could not be written."""
    return UserError(f"cannot write {path}: {error.strerror}; free some space, then `crossq-wn resume`")
