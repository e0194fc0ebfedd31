"""What is compiled before the first update, and when?"""

import json
import os
import subprocess
import sys

import pytest

from helpers import TESTS, environment_variables

PROGRAMS = 5  # before the first update, on any backend

# Trains toys with an empty cache and prints the programs that are compiled before each one's first update.
SCRIPT = """
import json, sys, tempfile, threading
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
    "one after another": learner.one_after_another,
    "vectorised": learner.vectorised,
    "resident": lambda algorithm: learner.vectorised(algorithm, replay_on_device=True),
}}
for kind in {kinds!r}:
    jax.clear_caches()
    made.clear()
    before = []

    def noting(algorithm, *arguments, **options):
        learn = kinds[kind](algorithm)

        def update(*arguments):
            done = learn.update(*arguments)
            before.append(list(made))
            return done

        return learn._replace(update=update)

    learner.make = noting
    crossq_wn.train(
        PointMass, algorithm={algorithm!r}, frames=40, seeds=(0, 1), out=tempfile.mkdtemp() + "/run",
        **TINY_OPTIONS, **TINY_SETTINGS,
    )
    print(json.dumps([kind, before[0]]))
"""


def programs(algorithm, kinds, folder):
    """kind of learner -> (seconds, name, thread) of each program that is compiled before the first update."""
    environment = environment_variables(
        {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=str(TESTS), kinds=kinds, algorithm=algorithm)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("algorithm", "kinds"),
    [
        ("crossq-wn", ["one by one", "one after another", "vectorised", "resident"]),
        ("simba", ["resident"]),  # which keeps running statistics
    ],
)
def test_few_programs_are_compiled_before_the_first_update(algorithm, kinds, tmp_path):
    found = programs(algorithm, kinds, tmp_path)
    assert list(found) == kinds
    for kind, compiled in found.items():
        assert 2 < len(compiled) <= PROGRAMS, (kind, compiled)
        # That of the updates takes by far the longest.
        assert max(compiled)[2] == "compilation", (kind, compiled)
