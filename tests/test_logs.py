"""Does TensorBoard see what the tables hold?"""

import struct
import time
from types import SimpleNamespace

import pytest
from tensorboardX import event_file_writer
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

import crossq_wn
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass, rows


def train(path, frames=200, **options):
    options = TINY_OPTIONS | {"tensorboard": True} | options
    crossq_wn.train(PointMass, frames=frames, out=path, **options, **TINY_SETTINGS)
    return path


def events(folder):
    """Of all event files in it, oldest first."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 12 + length + 4
    return found


def scalars(found, tag):
    return [
        (event.step, value.simple_value)
        for event in found
        for value in event.summary.value
        if value.tag == tag
    ]


def test_event_files_hold_the_rows_of_the_tables(tmp_path):
    run = train(tmp_path / "run")
    found = events(run / "tensorboard" / "seed-0")
    table = [row for row in rows(run / "metrics.csv") if row["critic_loss"]]
    expected = [(int(row["frames"]), pytest.approx(float(row["critic_loss"]))) for row in table]
    assert [entry for entry in scalars(found, "train/critic_loss") if entry[1]] == expected
    table = [row for row in rows(run / "eval.csv") if row["metric"] == "return"]
    expected = [(int(row["env_step"]), pytest.approx(float(row["value"]))) for row in table]
    assert scalars(found, "eval/return") == expected


def test_a_resumed_run_voids_what_was_shown_beyond_its_checkpoint(tmp_path, monkeypatch):
    now = time.time()
    # Both sessions begin in the same second, by which the writer names its files.
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: now))
    run = train(tmp_path / "run")
    crossq_wn.resume(run, frames=300)
    found = events(run / "tensorboard" / "seed-0")
    starts = [event.step for event in found if event.session_log.status == SessionLog.START]
    assert len(starts) == 2
    assert starts[0] == 0
    assert 200 < starts[1] <= 300


def test_a_full_disk_stops_the_run_with_one_line(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "flush", refuse)
    with pytest.raises(crossq_wn.UserError, match="seed-0: No space left on device; free some space"):
        train(tmp_path / "run")
