"""Is the README's map of the house true? Every file is on it, and imports only from files above itself."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "crossq_wn"
ENTRY = {"__init__", "__main__"}


def layout():
    """The names of modules and folders, from the top."""
    block = (ROOT / "README.md").read_text().split("```\nsrc/crossq_wn/\n")[1].split("\ntests/")[0]
    columns = [re.split(r" {3,}", line.strip())[0] for line in block.splitlines()]
    return [name.rstrip("/").removesuffix(".py") for column in columns for name in column.split()]


def test_every_file_is_on_the_map_once():
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(layout()) == sorted(there - ENTRY)


def test_a_file_imports_only_from_files_above_it():
    places = {name: place for place, name in enumerate(layout())}
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.parse(file.read_text()).body:  # what is imported inside a function comes later
            if own in ENTRY or not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            package, _, rest = node.module.partition(".")
            names = [rest.split(".")[0]] if rest else [alias.name for alias in node.names]
            if package == "crossq_wn":
                wrong += [(own, name) for name in names if name in places and places[name] > places[own]]
    assert not wrong
