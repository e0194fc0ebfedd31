"""What is compiled before the first update, and when?"""

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from crossq_wn.training import compiling
from helpers import TESTS, Listener, environment_variables

PROGRAMS = 5  # before the first update, on any backend

# Trains toys with an empty cache and prints the programs that are compiled before each one's first update.
SCRIPT = """
import contextlib, json, sys, tempfile, threading
import jax
sys.path.insert(0, {tests!r})
import crossq_wn
from crossq_wn.learning import learner
from helpers import TINY_OPTIONS, TINY_SETTINGS, PointMass

made = []

def compiled(event, seconds, **about):
    if event == "/jax/core/compile/backend_compile_duration":
        made.append((seconds, about["fun_name"], threading.current_thread().name))

jax.monitoring.register_event_duration_secs_listener(compiled)
make = learner.make
kinds = {{
    "one by one": learner.one_by_one,
    "vectorised": learner.vectorised,
    "resident": lambda algorithm: learner.vectorised(algorithm, replay_on_device=True),
}}
for algorithm, kind in {pairs!r}:
    jax.clear_caches()
    made.clear()
    before = []

    def noting(algorithm, *arguments, **options):
        learn = kinds[kind](algorithm)

        def update(*arguments):
            learn.update(*arguments)
            before.extend(made)
            raise InterruptedError  # what comes later would be compiled in vain

        return learn._replace(update=update)

    learner.make = noting
    with contextlib.suppress(InterruptedError):
        crossq_wn.train(
            PointMass, algorithm=algorithm, frames=40, seeds=(0, 1), out=tempfile.mkdtemp() + "/run",
            **TINY_OPTIONS, **TINY_SETTINGS, critics=1,  # which compile sooner
        )
    print(json.dumps([algorithm, kind, before]))
"""


def programs(pairs, folder):
    """Each (algorithm, kind of learner) with the programs that are compiled before its first update.

    A program is its (seconds of compilation, name, thread).
    """
    environment = environment_variables(
        {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=str(TESTS), pairs=pairs)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_few_programs_are_compiled_before_the_first_update(tmp_path):
    pairs = [
        ("crossq-wn", "one by one"), ("sac", "vectorised"),
        ("simba", "resident"),  # which keeps running statistics
    ]  # fmt: skip
    found = programs(pairs, tmp_path)
    assert [(algorithm, kind) for algorithm, kind, _ in found] == pairs
    for algorithm, kind, compiled in found:
        assert 2 < len(compiled) <= PROGRAMS, (algorithm, kind, compiled)
        # That of the updates takes by far the longest.
        assert max(compiled)[2] == "compilation", (algorithm, kind, compiled)


@pytest.fixture
def session(monkeypatch):
    """(work, decisions so far, all decisions) -> a session with a warm-up of 100, and `work` to compile."""

    def make(work, decisions=0, total=200):
        monkeypatch.setattr(compiling, "_work", lambda session: work)
        config = SimpleNamespace(settings=SimpleNamespace(warmup=100), decisions=total)
        return SimpleNamespace(
            config=config, decisions=decisions, seeds=[0], compiling=None, watch=None, reporter=Listener()
        )

    return make


def test_a_run_that_ends_during_compilation_waits_for_it_and_says_so(session):
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        go_on.wait(60)
        done.append(True)

    made = session(work)
    with compiling.compiling_ahead(made):
        assert begun.wait(60)
        made.reporter.message = lambda text: (made.reporter.messages.append(text), go_on.set())
    assert done == [True]
    assert made.compiling is None
    assert "still being compiled" in made.reporter.messages[0]


def test_what_cannot_be_compiled_is_left_to_the_call_that_needs_it(session):
    made = session(lambda: 1 / 0)
    with compiling.compiling_ahead(made):
        compiling.wait(made)
        assert made.compiling is None
    assert made.reporter.messages == []


@pytest.mark.parametrize(("decisions", "total"), [(100, 200), (0, 100), (0, 50)])
def test_nothing_is_compiled_ahead_where_no_updates_follow_on_a_warm_up(session, decisions, total):
    called = []
    made = session(lambda: called.append(True), decisions, total)
    with compiling.compiling_ahead(made):
        assert made.compiling is None
    assert called == []
