"""What all tests share: small settings, an algorithm's parts, random batches, a compilation cache."""

import atexit
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # each process would compile JAX's files anew, for 2 s
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path.home() / ".cache" / "crossq-wn" / "tests" / "bytecode")
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]

import hypothesis
import jax
import numpy as np
import pytest

from crossq_wn.algorithms import ALGORITHMS, Recipe
from crossq_wn.algorithms.actor_critic import Parts
from crossq_wn.algorithms.settings import Settings
from crossq_wn.learning import diagnostics, learner, memory, products
from crossq_wn.learning.rows import random_batch
from crossq_wn.machine import available_memory, collect_seldom, resident_memory, trim_memory
from crossq_wn.types import Algorithm, Batch, Spec

SPEC = Spec(observation_size=5, action_size=2, discount=0.9)
SMALL = {
    "actor_width": 16, "critic_width": 16, "batch_size": 8, "atoms": 11, "quantiles": 5,
    "encoder_width": 16, "latent_size": 16, "width": 16, "bins": 11, "iterations": 2, "samples": 16,
    "policy_samples": 4, "elites": 4, "reset_updates": 100, "reset_grid": 5,
    "action_width": 8, "target_period": 4,
}  # fmt: skip
# What repeats parts of a program: compiling takes as long as they are many.
FEW = {"critics": 4, "value_functions": 3, "horizon": 2, "n_step": 2, "hidden_layers": 2}

# What the tests train with is remembered for the tests alone.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="crossq-wn-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_DATA_HOME"], ignore_errors=True)

hypothesis.settings.register_profile("small", max_examples=10, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("small")
# Here and in every process that a test starts, which then shares compiled programs with all the others.
# Programs of tests run a few times: those that compile in a third of the time and run more slowly suit them.
# Real programs are compiled in test_golden.py.
XLA = ["--xla_cpu_parallel_codegen_split_count=1"]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    XLA.append("--xla_cpu_use_fusion_emitters=false")  # later versions end the process: an unknown flag
# Each once, though workers of pytest-xdist inherit them: the cache tells programs apart by them.
os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys((*os.environ.get("XLA_FLAGS", "").split(), *XLA)))
COMPILATION = {
    "jax_compilation_cache_dir": str(Path.home() / ".cache" / "crossq-wn" / "tests"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # eager operations, too: thousands in all
    "jax_disable_most_optimizations": True,
}
collect_seldom()
for option, value in COMPILATION.items():
    jax.config.update(option, value)
    os.environ[option.upper()] = str(value)


# Files that take longest, in that order: processes that share the files had better not end with them.
LONG = (
    "test_contract", "test_learning", "test_resume", "test_damage", "test_reproduce", "test_bench",
    "test_rivals", "test_updates", "test_drq", "test_real_time", "test_workers", "test_diagnostics",
    "test_cli", "test_minibatches", "test_hostile", "test_flashsac", "test_docs", "test_own_suite",
    "test_golden", "test_training", "test_figures", "test_environments", "test_resets", "test_leases",
    "test_export", "test_start", "test_safety", "test_returns", "test_suites", "test_parcels",
    "test_sweeps", "test_report", "test_command_lines", "test_startup", "test_callbacks", "test_fitting",
    "test_ablations", "test_progress", "test_crashes", "test_messages",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("myosuite") is None:  # the current set of simulators has none
        for item in items:
            if re.search(r"myo[A-Z-]|myosuite", item.nodeid.partition("::")[2]):
                item.add_marker(pytest.mark.skip(reason="MyoSuite is not installed"))
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_collection_finish() -> None:
    gc.freeze()  # all modules are there to stay: no collection goes through them again


def _small(name: str, preset: str = "default", **changes: object) -> Settings:
    settings = ALGORITHMS[name].presets[preset].settings
    small = {key: value for key, value in SMALL.items() if getattr(settings, key, None) is not None}
    small |= {key: min(most, getattr(settings, key)) for key, most in FEW.items() if hasattr(settings, key)}
    return replace(settings, **(small | changes)).for_run(500_000)


def _parts(
    name: str,
    settings: Settings | None = None,
    observation: int = SPEC.observation_size,
    action: int = SPEC.action_size,
    **changes: object,
) -> Parts:
    spec = SPEC._replace(observation_size=observation, action_size=action)
    made = ALGORITHMS[name].make(spec, settings or _small(name, **changes))
    assert isinstance(made, Parts)
    return made


def _algorithm(name: str, preset: str = "default", **changes: object) -> Algorithm:
    return ALGORITHMS[name].build(SPEC, _small(name, preset, **changes))


def _batch(seed: int, *shape: int) -> Batch:
    return random_batch(np.random.default_rng(seed), SPEC, *shape)


@pytest.fixture(scope="session")
def small_settings() -> Callable[..., Settings]:
    """(algorithm, preset, **changes) -> settings of width 16 and batch size 8."""
    return _small


@pytest.fixture(scope="session")
def parts() -> Callable[..., Parts]:
    """(algorithm, settings, observation, action, **changes) -> the parts that the algorithm is made of."""
    return _parts


@pytest.fixture(scope="session")
def algorithm() -> Callable[..., Algorithm]:
    """(algorithm, preset, **changes) -> a small algorithm for 5 observations and 2 actions."""
    return _algorithm


@pytest.fixture(scope="session")
def batch() -> Callable[..., Batch]:
    """(seed, *leading shape) -> random transitions, a fifth of them terminal."""
    return _batch


@pytest.fixture(scope="session")
def float64() -> Callable[[], AbstractContextManager[object]]:
    """A context in which JAX computes in double precision; elsewhere it stays in float32."""
    return jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width of the terminal that runs the tests is not that of what they print."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session", autouse=True)
def unwaited_disk() -> Iterator[None]:
    """No test waits until something is on disk: what matters is that it would, and of which files."""

    def refuse_what_is_closed(handle: int) -> None:
        os.fstat(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", refuse_what_is_closed)
        yield


# Bytes that a process may fill with compiled programs: two of them share a machine with what they start.
MOST = min(4 * 2**30, max(1.5 * 2**30, (available_memory() or 0) / 6))


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs() -> Iterator[None]:
    """Compiled programs are kept for the modules to come until they fill gigabytes."""
    yield
    if resident_memory() > MOST:
        jax.clear_caches()
        gc.collect()
        trim_memory()


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Runs with the same algorithm and settings share their compiled programs."""
    build = Recipe.build
    algorithms: dict[object, tuple[Recipe, Algorithm]] = {}  # what is held keeps its id

    def build_once(recipe: Recipe, spec: Spec, settings: Settings) -> Algorithm:
        # What is registered while a test runs is part of what gets compiled.
        key = id(recipe.make), spec, repr(settings), *diagnostics.DIAGNOSTICS
        if key not in algorithms:
            algorithms[key] = recipe, build(recipe, spec, settings)
        return algorithms[key][1]

    def once(function: Callable[..., object]) -> Callable[..., object]:
        kept: dict[object, tuple[Algorithm, object]] = {}

        def call(algorithm: Algorithm, *arguments: object, **options: object) -> object:
            key = id(algorithm), *options.items()
            if key not in kept:
                kept[key] = algorithm, function(algorithm, *arguments, **options)
            return kept[key][1]

        return call

    one_by_one = once(learner.one_by_one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "build", build_once)
        patch.setattr(learner, "one_by_one", one_by_one)
        patch.setattr(learner, "metric_names", once(learner.metric_names))
        patch.setattr(memory, "state_shapes", once(products.state_shapes))
        yield
