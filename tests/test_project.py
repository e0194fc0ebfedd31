"""The project's own files: lock files, extras, citation and issue templates say what the code says."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import crossq_wn
from crossq_wn import installation
from crossq_wn.installation import MIXED, SIMULATOR_SETS, simulator_set
from crossq_wn.results import health
from house import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"published": "requirements.lock", "current": "requirements-current.lock"}
FILES = LOCKS | {"extras": "requirements-extras.lock"}


def locked(name):
    """The versions in a lock file, by distribution."""
    found = {}
    for line in (ROOT / FILES[name]).read_text().splitlines():
        if not line.startswith("#"):
            package, version = re.fullmatch(r"([a-z0-9.-]+)==([^ ;]+)(?: ; .+)?", line).groups()
            found[package.replace("-", "_")] = version
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_lock_file_is_names_and_versions_alone(name):
    some = {"optuna", "pyarrow"} if name == "extras" else {"jax", "numpy", "pytest", "mujoco", "uv"}
    assert some <= set(locked(name))


def test_the_tests_of_optional_parts_get_what_they_need_with_either_set():
    extras = PROJECT["optional-dependencies"]
    [tested] = extras["tested"]
    wanted = set()
    for extra in re.search(r"\[(.+)\]", tested)[1].split(","):
        wanted |= {re.match(r"[\w-]+", each)[0].replace("-", "_") for each in extras[extra]}
    more = locked("extras")
    for name in LOCKS:
        installed = locked(name)
        assert wanted <= installed.keys() | more.keys()
        assert all(installed.get(package, version) == version for package, version in more.items())
    # Of the extras for which there are tests, only Ray is left out, which is as large as all others together.
    apart = {"published", "current", "myosuite", "cuda", "dev", "docs", "tested", "wandb", "ray"}
    assert set(re.search(r"\[(.+)\]", tested)[1].split(",")) == extras.keys() - apart


@pytest.mark.parametrize("name", LOCKS)
def test_extras_and_lock_files_hold_the_releases_of_a_set(name):
    extra = dict(re.split(r"==", each) for each in PROJECT["optional-dependencies"][name])
    for package, release in SIMULATOR_SETS[name].items():
        assert f"{locked(name)[package]}.".startswith(f"{release}."), package
        if package != "myosuite":
            assert extra[package].removesuffix(".*") == release
    assert ("myosuite" in locked(name)) == (name == "published")


@pytest.mark.parametrize(
    ("installed", "title"),
    [
        (
            {"mujoco": "3.6.0", "dm_control": "1.0.38", "gymnasium": "1.2.3", "myosuite": "2.12.2"},
            "published",
        ),
        ({"mujoco": "3.6.0", "dm_control": "1.0.38", "gymnasium": "1.2.3"}, "published"),
        ({"mujoco": "3.17.0", "dm_control": "1.0.50", "gymnasium": "1.4.0"}, "current"),
        ({"mujoco": "3.17.0", "dm_control": "1.0.50", "gymnasium": "1.4.0", "myosuite": "2.12.2"}, MIXED),
        ({"mujoco": "3.60.0", "dm_control": "1.0.38", "gymnasium": "1.2.3"}, MIXED),
        ({"mujoco": "3.6.0", "dm_control": "1.0.38", "gymnasium": "1.4.0"}, MIXED),
    ],
)
def test_the_installed_set_is_named(installed, title, monkeypatch):
    monkeypatch.setattr(installation, "version", installed.get)
    assert simulator_set() == title
    # A task's physics does not depend on the simulators of others.
    physics = {"mujoco": "3.6.0", "dm_control": "1.0.38"}.items() <= installed.items()
    assert (simulator_set(("mujoco", "dm_control")) == "published") == physics


def test_supported_pythons_are_those_of_the_classifiers():
    listed = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    assert listed == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == ">=3.11,<3.15"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", crossq_wn.__version__)
    names = [each["family-names"] for each in citation["preferred-citation"]["authors"]]
    assert f"({', '.join(names)})" in (ROOT / "PAPER.md").read_text()


def options_of(file, begin):
    """The options of the first command in a file that begins so, by name."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    words = next(line for line in text.splitlines() if line.strip().startswith(begin)).split()
    return dict(zip(words[3::2], words[4::2], strict=True))


def test_the_tutorial_begins_with_the_demo():
    demo = options_of("Makefile", "$(BIN)/crossq-wn train Reacher-v5")
    assert options_of("docs/tutorial.md", "crossq-wn train Reacher-v5") == demo | {"--out": "runs/first"}
    rows = (int(demo["--frames"]) - int(demo["--warmup"])) // int(demo["--log-every"])
    assert rows >= health._FEWEST_ROWS  # so that the tutorial's `diagnose` has something to say


def test_issue_templates_are_forms():
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(file.read_text())
        if file.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            assert {each["type"] for each in form["body"]} <= {"markdown", "textarea", "input", "dropdown"}


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"SIMULATORS": "newest"}, "SIMULATORS is 'newest': it is published or current"),
        ({"PYTHON": "/bin/false"}, "PYTHON=/bin/false is no Python 3.11 to 3.14 with venv"),
        (
            {"PYTHON": "/bin/false", "SIMULATORS": "published"},
            "PYTHON=/bin/false is no Python 3.11 to 3.13 with",
        ),
    ],
)
def test_an_installation_that_cannot_be_is_refused_before_anything_is_removed(choice, says, tmp_path):
    for name in ("tools/install.sh", "requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    done = subprocess.run(
        ["bash", tmp_path / "tools" / "install.sh"], env=os.environ | choice,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"crossq-wn: {says}")
    assert (tmp_path / ".venv").is_dir()


STAND_INS = {
    # A Python that is too old, and what it makes of a virtual environment: one whose pip installs uv.
    "python3": """
        [[ $1 == -c ]] && exit 1
        mkdir -p "$3/bin"; cp "$HERE/pip" "$3/bin/python"
    """,
    "pip": 'echo "$@" >>"$HERE/calls"; cp "$HERE/uv-to-come" "${0%python}uv"',
    # It is on no path.
    "uv-to-come": """
        echo "uv $@" >>"$HERE/calls"
        [[ $1 == venv ]] || exit 0
        mkdir -p .venv/bin; printf '#!/bin/bash\\necho 0\\n' >.venv/bin/python; chmod +x .venv/bin/python
    """,
}


def install_with_stand_ins(tmp_path, **changed):
    """Calls tools/install.sh where only the stand-ins are; returns the checkout and what was said."""
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "tools").mkdir(parents=True)
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "old").touch()
    programs.mkdir()
    for name in ("tools/install.sh", "requirements.lock"):
        shutil.copy(ROOT / name, checkout / name)
    for name, text in (STAND_INS | changed).items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(0o755)
    for name in ("bash", "sed", "rm", "dirname", "touch", "mktemp", "mkdir", "cp", "chmod"):
        (programs / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["bash", checkout / "tools" / "install.sh"], env={"PATH": str(programs), "HERE": str(programs)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return checkout, done, (programs / "calls").read_text().splitlines()


def test_where_only_another_python_is_uv_is_installed_and_brings_one(tmp_path):
    checkout, done, calls = install_with_stand_ins(tmp_path)
    assert done.returncode == 0, done.stderr
    pip, find, venv, packages = calls
    assert find == "uv python find --quiet 3.12"
    assert re.fullmatch(rf"-m pip install .* uv=={locked('published')['uv']}", pip)
    assert venv == "uv venv --quiet --seed --python 3.12 .venv"
    assert packages.startswith("uv pip install ")
    assert packages.endswith("--no-deps -r requirements.lock -e .")
    assert (checkout / ".venv" / "installed").exists()
    assert not (checkout / ".venv" / "old").exists()


def test_an_environment_is_kept_where_no_python_can_be_brought(tmp_path):
    none = 'echo "uv $@" >>"$HERE/calls"; exit 1'
    checkout, done, _ = install_with_stand_ins(tmp_path, **{"uv-to-come": none})
    assert done.returncode == 2
    assert done.stderr.endswith("crossq-wn: uv could not bring Python 3.12\n")
    assert (checkout / ".venv" / "old").exists()


@pytest.mark.parametrize(
    ("asked", "anew"),
    [
        ("", False),
        ("PYTHON=python3.13", False),
        ("PYTHON=python3.12", True),
        ("SIMULATORS=current", False),
        ("SIMULATORS=published", True),
        ("PYTHON=python3.13 SIMULATORS=published", True),
    ],
)
def test_an_environment_of_another_python_or_set_than_asked_for_is_made_anew(asked, anew, tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "tools/install.sh", *LOCKS.values()):
        shutil.copy(ROOT / name, tmp_path / name)
    answers = """#!/bin/bash
        [[ $1 == -m ]] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
        case $2 in
            *simulator_set*) echo current ;;
            *_base_executable*) echo "$0" ;;
            *base_prefix*) echo VERSION of /usr ;;
        esac
    """
    for place, version in (
        (".venv/bin/python", "3.13.1"),
        ("python3.13", "3.13.1"),
        ("python3.12", "3.12.9"),
    ):
        (tmp_path / place).write_text(answers.replace("VERSION", version))
        (tmp_path / place).chmod(0o755)
    (tmp_path / "python3").symlink_to("python3.12")
    (tmp_path / ".venv" / "bin" / "uv").symlink_to("/bin/true")
    (tmp_path / ".venv" / "installed").touch()
    done = subprocess.run(
        ["make", "install", *asked.split()], cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ("it is made anew" in done.stdout, (tmp_path / ".venv/bin/uv").is_symlink()) == (anew, not anew)
