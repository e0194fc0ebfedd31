"""Generates run directories as a stranger might make them, and watches what happens outside of them."""

import contextlib
import copy
import csv
import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from crossq_wn.cli.dispatch import main
from crossq_wn.runs.seals import signed

TEBIBYTE = 2**40


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def command(*arguments: Any) -> Said:
    """Runs the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*map(str, arguments)])
        except SystemExit as end:
            return Said(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main returns")


def fingerprint(folder: Path) -> dict[str, Any]:
    """All that is in a folder: names, kinds, times and contents."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found


# --- what may lie where a file or a folder belongs

Maker = Callable[[Path, Path], object]  # (what is replaced, a folder outside that must not change)


def _outside(path: Path, outside: Path) -> Path:
    """A copy of what is at a path, outside; what does not exist becomes a file of its own."""
    name = str(path).strip("/").replace("/", "-")
    there = outside / name
    if path.is_dir():
        shutil.copytree(path, there, symlinks=True)
    elif path.exists():
        shutil.copy(path, there)
    else:
        there.write_text("precious")
    return there


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link(path: Path, outside: Path) -> None:
    """A link to an equal file outside."""
    there = _outside(path, outside)
    _gone(path)
    path.symlink_to(there)


def hard_link(path: Path, outside: Path) -> None:
    """Another name of an equal file outside."""
    there = _outside(path, outside)
    _gone(path)
    path.hardlink_to(there)


def hard_link_of_a_file(path: Path, outside: Path) -> None:
    """As `hard_link`; a folder, which has no other name, becomes a link."""
    (link if path.is_dir() else hard_link)(path, outside)


def dangling(path: Path, outside: Path) -> None:
    """A link to a file outside that is not there, and must not be made."""
    _gone(path)
    path.symlink_to(outside / f"new-{path.name}")


def endless(path: Path, outside: Path) -> None:
    """A link to a device that never ends."""
    _gone(path)
    path.symlink_to("/dev/zero")


def loop(path: Path, outside: Path) -> None:
    """A link to itself."""
    _gone(path)
    path.symlink_to(path)


def pipe(path: Path, outside: Path) -> None:
    """A pipe to which nobody writes."""
    _gone(path)
    os.mkfifo(path)


def unix_socket(path: Path, outside: Path) -> None:
    """A socket."""
    _gone(path)
    there = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(there)


def folder(path: Path, outside: Path) -> None:
    """A folder."""
    _gone(path)
    path.mkdir()


def sparse(path: Path, outside: Path) -> None:
    """A file of a tebibyte that takes no room."""
    _gone(path)
    with open(path, "wb") as file:
        file.truncate(TEBIBYTE)


FILE_KINDS: tuple[Maker, ...] = (
    link, hard_link, dangling, endless, loop, pipe, unix_socket, folder, sparse,
)  # fmt: skip
FOLDER_KINDS: tuple[Maker, ...] = (link, dangling, loop, pipe)


# --- malformed JSON

NESTED = "[" * 100_000 + "]" * 100_000
BYTES = {
    "empty": b"",
    "half": b"{",
    "no record": b"[1]",
    "a number": b"7",
    "nothing": b"null",
    "deep": NESTED.encode(),
    "a deep value": b'{"task": ' + NESTED.encode() + b"}",
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "twice": b'{"schema": 2, "schema": 2}',
    "not a number": b'{"schema": NaN}',
    "infinite": b'{"schema": 1e999}',
    "half a letter": b'{"task": "\\ud800"}',
    "no JSON": b"\x1b[2J",
    "not UTF-8": b'{"task": "\xff\xfe"}',
    "zeros": bytes(99),
}
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**400, 1e999, "x", "\x1b[2J", "../../x", [], [[]], {}, {"x": 1},
    {"$array": "x"}, [None], "a" * 100_000,
)  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested records and lists; of long lists the first."""
    if above:
        yield above
    if isinstance(values, dict):
        for name in values:
            yield from places(values[name], (*above, name))
    elif isinstance(values, list) and values:
        yield from places(values[0], (*above, 0))


MISSING = object()


def changed(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in a place, or with none; what does not lead there is shared."""
    if not place:
        return value
    found, (name, *below) = copy.copy(values), place
    if value is MISSING and not below:
        del found[name]
    else:
        found[name] = changed(found[name], tuple(below), value)
    return found


def mutations(values: Any, wrong: tuple[Any, ...] = VALUES) -> Iterator[tuple[str, Any]]:
    """Every copy in which one value is wrong, missing or beside one too many, with what was done."""
    for place in places(values):
        where = ".".join(map(str, place))
        for value in wrong:
            yield f"{where} is {str(value)[:20]!r}", changed(values, place, value)
        yield f"{where} is missing", changed(values, place, MISSING)
    if isinstance(values, dict):
        yield "one too many", values | {"surprise": 1}


CELLS = (
    "", "nan", "inf", "-inf", "1e999", "-1", "1e300", "0x10", "1_0", "9" * 5000, "\x1b[2J", "\ufeff",
    "a\x00b", '"', "a" * 200_000, "=1+1", "../x", "\u202e",
)  # fmt: skip


def tables(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Every kind of wrong table that a sound one can become, with what was done."""
    yield from BYTES.items()
    lines = content.decode().splitlines()
    for column in range(lines[0].count(",") + 1):
        for cell in CELLS:
            cells = next(csv.reader([lines[1]]))
            cells[column] = cell
            yield (
                f"column {column} is {cell[:20]!r}",
                "\n".join([lines[0], ",".join(cells), *lines[2:]]).encode(),
            )
        names = lines[0].split(",")
        yield (
            f"no column {column}",
            "\n".join([",".join(names[:column] + names[column + 1 :]), *lines[1:]]).encode(),
        )
    yield "twice", content + content
    yield "a header alone", lines[0].encode()
    yield "quotes", content.replace(b",", b'","')
    yield "carriage returns", content.replace(b"\n", b"\r")
    yield "UTF-16", content.decode().encode("utf-16")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes config.json or manifest.json of a run with its checksum."""
    path.write_text(json.dumps(signed(values)))


def write_manifest(run: Path, log: str) -> None:
    """Writes manifest.json with its checksum, and that of a log that has changed."""
    values, content = json.loads((run / "manifest.json").read_text()), (run / log).read_bytes()
    values["logs"][log] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(run / "manifest.json", values)


def write_checkpoint(folder: Path, body: Any) -> None:
    """Writes a checkpoint's manifest with its checksum."""
    checksum = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"sha256": checksum, "checkpoint": body}))
