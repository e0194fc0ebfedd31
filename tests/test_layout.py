"""Do imports run one way, inside functions too, and does the source keep to the house's limits?"""

import ast
import re
from functools import cache

import pytest

from house import PACKAGE, ROOT, measure, parsed, sources

ENTRY = {"__init__", "__main__"}  # of the package itself


def floors():
    """The rooms from the bottom up, as CONTRIBUTING.md lists them."""
    block = (ROOT / "CONTRIBUTING.md").read_text().split("```\nsrc/crossq_wn/\n")[1].split("\ntests/")[0]
    columns = [re.split(r" {2,}", line.strip())[0] for line in block.splitlines()]
    return [name.rstrip("/").removesuffix(".py") for name in columns]


def module_name(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@cache
def imported(file):
    """The modules of the package that a file imports anywhere, as (name, where) without `crossq_wn.`."""
    modules = {module_name(each) for each in sources()}
    found = []
    for node in ast.walk(parsed(file)):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        package, _, rest = node.module.partition(".")
        if package != "crossq_wn":
            continue
        for alias in node.names:
            whole = f"{rest}.{alias.name}".lstrip(".")
            found.append(whole if whole in modules else rest)
    return [name for name in found if name]


def room(name):
    return name.split(".")[0]


def test_every_room_is_on_the_map_once():
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(floors()) == sorted(there - ENTRY)


def test_a_room_imports_only_from_rooms_below_it():
    places = {name: place for place, name in enumerate(floors())}
    wrong = []
    for file in sources():
        own = room(module_name(file))
        if own in ENTRY or own not in places:
            continue
        for name in imported(file):
            if places[room(name)] > places[own]:
                wrong.append((module_name(file), name))
    assert not wrong


@pytest.mark.parametrize("folder", ["benchmarks", "tools"])
def test_scripts_import_what_there_is(folder):
    """Inside functions too, which no test calls."""
    asked = set()
    for file in (ROOT / folder).glob("*.py"):
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crossq_wn"):
                asked |= {(node.module, alias.name) for alias in node.names}
    assert asked
    for module, name in asked:
        exec(f"from {module} import {name}", {})


@pytest.mark.parametrize("name", floors())
def test_no_two_files_of_a_room_import_each_other(name):
    """Inside a room imports run one way too: the files can be ordered."""
    edges = {}
    for file in sources(PACKAGE / name) if (PACKAGE / name).is_dir() else []:
        own = module_name(file)
        edges[own] = {other for other in imported(file) if room(other) == name and other != own}
    while edges:
        free = [own for own, others in edges.items() if not others & edges.keys()]
        assert free, f"these import each other in a circle: {sorted(edges)}"
        for own in free:
            del edges[own]


# What a function imports itself, and why it may; everything else is imported at the top of a file.
SIMULATOR = "a simulator, which only its tasks need"
MATPLOTLIB = "figures load matplotlib, which commands that draw nothing do not need"
QUICK = "answers to mistakes and --help come before what takes seconds to load"
ACTING = "only where episodes are played: a policy that only acts needs none of it, and starts sooner"
INSTALLED = "takes a tenth of the time to the first action, and only some ask what is installed"
JAX = "of JAX, which is loaded on first use"
DELAYED = {
    ("__init__", "crossq_wn.training"): QUICK,
    ("cli", "crossq_wn.cli"): "on Windows, a message comes before what is not there",
    ("bench.loop", "gymnasium"): "only the environment that costs nothing needs it",
    ("cli.bench", "crossq_wn.bench"): QUICK,
    ("cli.bench", "crossq_wn.training"): QUICK,
    ("cli.lists", "crossq_wn.results.tables"): QUICK,
    ("cli.train", "crossq_wn.training"): QUICK,
    ("cli.train", "crossq_wn.cli.results"): MATPLOTLIB,
    ("environments", "crossq_wn.environments.factories"): SIMULATOR,
    ("environments", "crossq_wn.environments.gymnasium"): SIMULATOR,
    ("environments.gymnasium", "crossq_wn.environments.physics"): SIMULATOR,
    ("environments.layers", "gymnasium"): SIMULATOR,
    ("environments.suites", "crossq_wn.environments.dm_control"): SIMULATOR,
    ("environments.suites", "crossq_wn.environments.factories"): SIMULATOR,
    ("environments.suites", "crossq_wn.environments.gymnasium"): SIMULATOR,
    ("environments.suites", "crossq_wn.environments.myosuite"): SIMULATOR,
    ("installation", "importlib.metadata"): INSTALLED,
    ("learning.hessian", "jax.flatten_util"): JAX,
    ("reproduce.pages", "crossq_wn.results.figures.files"): MATPLOTLIB,
    ("reproduce.drawing", "crossq_wn.results.figures"): MATPLOTLIB,
    ("results.verdicts", "scipy.special"): "only verdicts need it",
    ("training.api", "crossq_wn.training"): "only where progress is shown",
    ("training.logs", "tensorboardX.event_file_writer"): "not with --no-tensorboard",
    ("training.logs", "tensorboardX.proto.event_pb2"): "not with --no-tensorboard",
    ("training.logs", "tensorboardX.proto.summary_pb2"): "not with --no-tensorboard",
    ("training.policy", "crossq_wn.environments"): ACTING,
    ("training.policy", "crossq_wn.environments.pool"): ACTING,
    ("training.policy", "crossq_wn.environments.streams"): ACTING,
    ("training.policy", "crossq_wn.learning.evaluation"): ACTING,
    ("training.policy", "crossq_wn.learning.learner"): ACTING,
    ("training.policy", "crossq_wn.learning.q_bias"): ACTING,
    ("training.policy", "crossq_wn.real_time.pacing"): ACTING,
    ("training.policy", "crossq_wn.training.building"): ACTING,
    ("training.policy", "crossq_wn.training.playing"): ACTING,
    ("training.policy", "crossq_wn.training.seeds"): ACTING,
    ("training.video", "av"): "only videos need it",
}


def delayed(file):
    """The modules that the functions of a file import."""
    found = set()
    for function in ast.walk(parsed(file)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    found.add(node.module)
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    return found


def test_functions_import_only_what_is_listed_with_its_reason():
    there = set()
    for file in sources():
        there |= {(module_name(file) or "__init__", name) for name in delayed(file)}
    assert there == DELAYED.keys()


# How large things may get. Who comes near a limit looks for the noun that wants a place of its own.
FILE_LINES = 350
FUNCTION_LINES = 55
COMPLEXITY = 10
COMPREHENSIONS = 25  # per 1,000 lines of the whole package


def too_large(part, limit):
    """The functions of the package in which a measure (1: lines, 2: complexity) is beyond its limit."""
    found = []
    for file in sources():
        for function in measure(file).functions:
            if function[part] > limit:
                found.append(f"{file.relative_to(PACKAGE)}: {function[0]} has {function[part]}")
    return found


def test_no_file_is_long():
    long = [
        f"{file.relative_to(PACKAGE)} ({n})" for file in sources() if (n := measure(file).lines) > FILE_LINES
    ]
    assert not long, f"more than {FILE_LINES} lines; move what is a thing of its own to its own file: {long}"


def test_no_function_is_long():
    long = too_large(1, FUNCTION_LINES)
    assert not long, f"more than {FUNCTION_LINES} lines; name its steps and make them functions: {long}"


def test_no_function_has_many_branches():
    """By McCabe's measure."""
    hard = too_large(2, COMPLEXITY)
    assert not hard, (
        f"complexity above {COMPLEXITY}; a group of its branches is a function with a name: {hard}"
    )


def test_no_comprehension_is_nested():
    nested = [str(file.relative_to(PACKAGE)) for file in sources() if measure(file).nested]
    assert not nested, f"a comprehension inside another; name the inner one, or write the loop out: {nested}"


def test_comprehensions_are_few():
    counted = {file: measure(file) for file in sources()}
    lines = sum(each.lines for each in counted.values())
    rate = 1000 * sum(each.comprehensions for each in counted.values()) / lines
    most = sorted(counted, key=lambda file: -counted[file].comprehensions / counted[file].lines)[:5]
    names = ", ".join(str(file.relative_to(PACKAGE)) for file in most)
    assert rate <= COMPREHENSIONS, (
        f"{rate:.1f} comprehensions per 1,000 lines, {COMPREHENSIONS} at most; write loops, first in {names}"
    )


def test_the_measures_measure(tmp_path):
    """What the limits rest on, on a file whose measures are known."""
    file = tmp_path / "sample.py"
    file.write_text(
        "def f(a, b):\n    if a and b:  # one\n        return [[x for x in a] for _ in b]\n"
        "    for _ in a:\n        pass\n    return [x for x in b if x]\n"
    )
    found = measure(file)
    # One path, an `if` with an `and`, a loop, three comprehensions.
    assert found.functions == [("sample.f", 6, 7)]
    assert (found.lines, found.comprehensions, found.nested, found.comments) == (6, 3, 1, 1)
