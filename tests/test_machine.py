"""The machine: memory as the kernel counts it, and files that are written whole or not at all."""

import gc
import mmap
import os
import re
import subprocess
import sys

import pytest

import crossq_wn
import helpers
from crossq_wn import UserError, files, machine
from crossq_wn.learning.replay import Replay

MIB = 2**20


@pytest.fixture
def system(tmp_path):
    """Files of a kernel: (MiB free; by group: limit or "max", used, cached MiB; own group) -> their root."""

    def make(free, groups=None, own="/"):
        written = {
            "proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {1024 * free} kB\n",
            "proc/self/cgroup": f"0::{own}\n",
        }
        for path, (limit, used, cached) in (groups or {}).items():
            top = f"sys/fs/cgroup{path}"
            written |= {
                f"{top}/memory.max": str(limit if limit == "max" else limit * MIB),
                f"{top}/memory.current": str(used * MIB),
                f"{top}/memory.stat": f"anon 1\ninactive_file {cached * MIB}\n",
            }
        for name, text in written.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


def test_without_limits_the_machines_free_memory_counts(system):
    assert machine.available_memory(system(300)) == 300 * MIB
    assert machine.available_memory(system(300, {"/job": ("max", 10, 0)}, own="/job")) == 300 * MIB


def test_a_limit_counts_for_the_groups_inside_it_and_cached_files_give_way(system):
    groups = {"/slurm": (200, 150, 20), "/slurm/job": ("max", 100, 0), "/other": (1, 1, 0)}
    assert machine.available_memory(system(300, groups, own="/slurm/job")) == 70 * MIB


def test_a_system_that_says_nothing_has_no_known_limit(tmp_path):
    assert machine.available_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "processors"), [("100000 100000", 1), ("10000 100000", 1), ("max 100000", 9)]
)
def test_a_quota_of_processor_time_counts_for_the_groups_inside_it(quota, processors, system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(9)))
    root = system(300, {"/pod": ("max", 1, 0), "/pod/own": ("max", 1, 0)}, own="/pod/own")
    assert machine.processors(root) == 9
    (root / "sys/fs/cgroup/pod/cpu.max").write_text(quota)
    assert machine.processors(root) == processors
    (root / "sys/fs/cgroup/pod/own/cpu.max").write_text("250000 100000")
    assert machine.processors(root) == min(processors, 3)


def test_resident_memory_falls_when_memory_is_given_back():
    before = machine.resident_memory()
    block = mmap.mmap(-1, 64 * MIB)  # fresh pages, which an allocator need not give
    block.write(b"x" * len(block))
    grown = machine.resident_memory()
    assert grown - before > 60 * MIB
    block.close()
    assert grown - machine.resident_memory() > 60 * MIB
    assert machine.peak_memory() > grown - MIB


def test_the_memory_of_a_process_counts_those_that_it_has_started():
    child = "block = b'x' * (64 << 20); print(flush=True); input()"
    leader = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-SEc', {child!r}]))"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-SEc", leader], start_new_session=True, **pipes) as process:
        process.stdout.readline()
        machine._started.cache_clear()
        more = machine.memory_of_session(process.pid) - machine.memory_of(process.pid)
        process.communicate(b"\n")
    assert 64 * MIB < more < 72 * MIB
    assert machine.memory_of_session(process.pid) == 0


def check(capacity, observation, action, seeds):
    return machine.check_memory(capacity, Replay.bytes(capacity, observation, action), seeds)


def test_replay_beyond_the_free_memory_is_refused_with_a_size_that_fits(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 100 * MIB)
    assert check(10_000, 10, 2, seeds=2) == 2 * Replay.bytes(10_000, 10, 2)
    with pytest.raises(UserError, match="replay_size=") as refusal:
        check(1_000_000, 200, 40, seeds=2)
    size = int(re.search(r"replay_size=(\d+)", str(refusal.value))[1])
    assert size > 10_000
    assert check(size, 200, 40, seeds=2) <= 100 * MIB


def test_ten_replays_of_a_million_dog_transitions_take_less_than_eleven_gigabytes(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    assert 10e9 < check(1_000_000, 223, 38, seeds=10) < 11e9


def test_a_system_that_does_not_say_how_much_memory_it_has_refuses_nothing(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    assert check(10**9, 1000, 10, seeds=1) > 10**12


@pytest.mark.parametrize("content", ["new é", "new é".encode(), lambda file: file.write("new é".encode())])
def test_a_file_is_replaced_by_all_of_the_new_one(content, tmp_path):
    (tmp_path / "page.html").write_text("old")
    files.write_atomically(tmp_path / "page.html", content)
    assert (tmp_path / "page.html").read_bytes() == "new é".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(call, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    (tmp_path / "page.html").write_text("old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.fixture
def thresholds():
    """Sets the thresholds of Python's search for cycles for a test."""
    before = gc.get_threshold()
    yield gc.set_threshold
    gc.set_threshold(*before)


def test_training_searches_for_cycles_seldom_and_leaves_the_process_as_it_was(thresholds, tmp_path):
    seen = []

    class Noting(helpers.PointMass):
        def __init__(self):
            seen.append(gc.get_threshold()[0])
            raise OSError("no such robot")

    thresholds(700, 10, 10)
    with pytest.raises(UserError, match="no such robot"):
        crossq_wn.train(Noting, out=tmp_path / "run", algorithm="sac", seeds=[0], **helpers.TINY_SETTINGS)
    assert seen == [50_000]
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [(0, 10, 10), (90_000, 5, 5)])
def test_a_search_for_cycles_that_is_off_or_as_seldom_stays_as_it_is(own, thresholds):
    thresholds(*own)
    with machine.collecting_seldom():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own
