"""Optuna's record of a search, in the sweep's folder."""

from pathlib import Path
from typing import Any

from crossq_wn import files
from crossq_wn.files import MOST_TABLE
from crossq_wn.lazy import optuna
from crossq_wn.runs.folders import SWEEP


def record_of(out: Path) -> Path:
    """The file of the record."""
    return out / SWEEP / "search.journal"


def storage(out: Path, *, write: bool) -> Any:
    """Optuna's storage of the record; None if there is no record and none is to be made.

    Args:
        out: the folder of the sweep.
        write: whether to make a record if there is none.
    """
    record, journal = record_of(out), optuna.storages.journal
    if not (write or record.exists()):
        return None
    if write:
        record.parent.mkdir(parents=True, exist_ok=True)
    backend = journal.JournalFileBackend(str(record), _lock(record))
    if write:
        mend(out)
    return optuna.storages.JournalStorage(backend)


def mend(out: Path) -> None:
    """Takes back half a line, which a full disk or a crash leaves; Optuna would not read on behind it."""
    record = record_of(out)
    lock = _lock(record)
    lock.acquire()
    try:
        content = files.read(record, MOST_TABLE)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            files.write_atomically(record, content[:whole])
    finally:
        lock.release()


def _lock(record: Path) -> Any:
    # Optuna's other lock is a link, which some network file systems lack.
    return optuna.storages.journal.JournalFileOpenLock(str(record))
