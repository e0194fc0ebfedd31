"""Do imports run one way, inside functions too, and does the source keep to the house's limits?"""

import ast
import re

import pytest

from house import PACKAGE, ROOT, sources

ENTRY = {"__init__", "__main__"}  # of the package itself


def floors():
    """The rooms from the bottom up, as README.md lists them."""
    block = (ROOT / "README.md").read_text().split("```\nsrc/crossq_wn/\n")[1].split("\ntests/")[0]
    columns = [re.split(r" {2,}", line.strip())[0] for line in block.splitlines()]
    return [name.rstrip("/").removesuffix(".py") for name in columns]


def module_name(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(file):
    """The modules of the package that a file imports anywhere, as (name, where) without `crossq_wn.`."""
    modules = {module_name(each) for each in sources()}
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
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
