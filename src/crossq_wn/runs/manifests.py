"""Manifests of checkpoints: which checkpoints there are, and what each one holds."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from crossq_wn import files
from crossq_wn.errors import UserError, one_line
from crossq_wn.files import MOST_MANIFEST
from crossq_wn.runs import checksums
from crossq_wn.runs.checks import check
from crossq_wn.runs.checksums import DamagedError, checksum_of, run_of
from crossq_wn.runs.schema import CheckpointBody, Count, Position

SCHEMA = 1

_KEPT = "kept-"

_LOGS = (("metrics.csv", "metrics.jsonl"), ("eval.csv",))  # in the order of a checkpoint's `logs`


class _NewerError(UserError):
    """A checkpoint that a newer version wrote."""


def available(directory: Path) -> list[Path]:
    """The folders of all checkpoints, damaged ones included, oldest first."""
    return [directory / name for name in _numbers(directory)]


def kept_folder(directory: Path, frames: int) -> Path:
    """The name of a checkpoint that others have replaced, and that has the last good state of a seed."""
    return directory / f"{_KEPT}{frames:09d}"


def last_good(directory: Path, frames: int) -> Path:
    """The folder of the checkpoint at these environment frames that has the last good state of a seed."""
    kept, name = kept_folder(directory, frames), f"{frames:09d}"
    if kept.name in files.folders(directory, within=directory.parent):
        return kept
    return directory / next((there for there in _numbers(directory) if int(there) == frames), name)


def free_folder(directory: Path, frames: int) -> Path:
    """A name for a checkpoint, with more zeros in front of the frames while another one has these frames."""
    name, taken = f"{frames:09d}", _numbers(directory)
    while name in taken:
        name = "0" + name
    return directory / name


def trained_frames(directory: Path) -> int:
    """The environment frames of the newest checkpoint, even a damaged one; 0 without any."""
    return max(map(int, _numbers(directory)), default=0)


def _numbers(directory: Path) -> list[str]:
    """The folders in a folder of checkpoints whose names are numbers, the lowest first.

    Of two at the same frames, as a crash may leave them, that with more zeros comes last, whoever reads them.
    """
    found = []
    for name in files.folders(directory, within=directory.parent):
        if re.fullmatch(r"[0-9]{1,18}", name):
            found.append(name)
    return sorted(found, key=lambda name: (int(name), len(name)))


def newest_common(directory: Path) -> dict[str, Any]:
    """The values that seeds share in the newest checkpoint with an intact manifest; empty without one."""
    for path in reversed(available(directory)):
        try:
            common: dict[str, Any] = read_manifest(path)["common"]
            return common
        except DamagedError:
            continue
    return {}


def way_back(run: Path) -> str:
    """How a lost or damaged file is restored, to end a message with; empty if no checkpoint has its content.

    Args:
        run: the run directory.
    """
    return f": `crossq-wn resume {run}` restores it" if available(run / "checkpoints") else ""


def logged_until(common: Mapping[str, Any]) -> dict[str, Position]:
    """Where the logs of a run ended at a checkpoint, by file name; empty if that is not recorded.

    Args:
        common: what `newest_common` returned.
    """
    found: dict[str, Position] = {}
    logs = common.get("logs", [])
    check(logs, list[list[Position | Count]], "common.logs")
    for names, positions in zip(_LOGS, logs, strict=False):
        for name, position in zip(names, positions, strict=False):
            if isinstance(position, dict):  # earlier versions kept sizes alone
                found[name] = cast(Position, position)
    return found


@contextlib.contextmanager
def malformed(path: Path) -> Iterator[None]:
    """Turns errors from the contents of a checkpoint with sound checksums into a UserError.

    Args:
        path: of the checkpoint.
    """
    try:
        yield
    except UserError:
        raise
    except DamagedError as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}): restore it, or use an earlier one"
        ) from error
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(
            f"{path} is malformed, though its checksums are right ({what}): crossq-wn did not write it so"
        ) from error


def write_manifest(folder: Path, body: dict[str, Any]) -> None:
    """Writes a checkpoint's manifest, with its checksum.

    Raises:
        UserError: it would be too large to be read again.
        OSError: it cannot be written.
    """
    text = json.dumps(body).encode()  # which may be long, so it is made once
    content = _before(checksum_of(text)) + text + b"}"
    if len(content) > MOST_MANIFEST:
        raise UserError(
            f"the plain state of the environments takes {len(content) / 2**20:,.0f} MiB of JSON, where a "
            f"checkpoint holds {MOST_MANIFEST / 2**20:,.0f} MiB: keep it in numpy arrays, which have no limit"
        )
    checksums.write(folder / "manifest.json", content)


def _before(checksum: Any) -> bytes:
    """What a checkpoint's manifest holds before the text that has this checksum."""
    return f'{{"sha256": "{checksum}", "checkpoint": '.encode(errors="replace")


def manifest_of(folder: Path) -> tuple[Any, bytes]:
    """Reads a checkpoint's manifest with its checksum, whatever it holds. Raises OSError if it cannot.

    Returns:
        What it holds, and the content of the file.
    """
    path = folder / "manifest.json"
    content = files.read(path, MOST_MANIFEST, within=run_of(path))
    return files.parsed(path, content, constants=True), content


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and verifies a checkpoint's manifest.

    Raises:
        DamagedError: it cannot be read, was altered or is malformed.
        UserError: a newer version wrote it.
    """
    try:
        envelope, content = manifest_of(folder)
        body: dict[str, Any] = envelope["checkpoint"]
        checksum = envelope["sha256"]
    except OSError as error:
        raise DamagedError(f"manifest.json cannot be read: {error.strerror}") from None
    except (KeyError, TypeError) as error:
        raise DamagedError(f"manifest.json cannot be read: {type(error).__name__}") from None
    try:
        before = _before(checksum)
        sound = content.startswith(before) and checksum_of(content[len(before) : -1]) == checksum
        # Spaces do not count: Python writes what it has read from JSON as it was, to the last digit.
        if not sound and checksum_of(json.dumps(body).encode()) != checksum:
            raise DamagedError("manifest.json has been altered")
        check(body["schema"], Count, "schema")
        if body["schema"] > SCHEMA:
            raise _NewerError(
                f"{folder} has checkpoint schema {body['schema']}, this version reads up to {SCHEMA}: "
                "upgrade crossq-wn"
            )
        check(body, CheckpointBody, "checkpoint")
    except _NewerError:
        raise
    except (UserError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"manifest.json is malformed: {one_line(error)}") from None
    if body["frames"] != int(folder.name.removeprefix(_KEPT)):
        raise DamagedError(f"manifest.json is of the checkpoint at {body['frames']} frames")
    return body
