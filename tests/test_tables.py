"""Tables: what a person reads on a terminal or in a pipe, and what programs get, for any content."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from crossq_wn.cli import main
from crossq_wn.cli.tables import Column, Table, _to_terminal, readable, show
from crossq_wn.results import wording
from helpers import make_run

# What rich would take for markup, emoji or highlighting, and letters that take two columns.
WORDS = st.text(st.sampled_from("ab[]/_-:(){}\\é漢"), max_size=30)
PATHS = st.text(st.sampled_from("ab[]/_-. é漢"), min_size=1, max_size=120).filter(
    lambda text: text.strip() == text
)


def printed(capsys, *arguments):
    """What a command prints, which is successful."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    return said.out, said.err


def on_terminal(table, width):
    """What a terminal of that width shows, with its colours."""
    file = io.StringIO()
    _to_terminal(table, Console(file=file, width=width, force_terminal=True, color_system=None))
    return file.getvalue()


@given(rows=st.lists(st.tuples(PATHS, WORDS, st.integers(-(10**9), 10**9)), min_size=1, max_size=4))
def test_nothing_is_lost_or_cut_whatever_a_cell_holds(rows):
    table = Table("a [title]", [Column("run", whole=True), "task", "frames"], rows)
    for width in (20, 80, 400):
        shown = on_terminal(table, width)
        assert "[title]" in shown.replace("\n", "")
        for path, word, number in rows:
            assert path in shown  # on one line: it can be copied
            assert word.strip() in shown
            assert f"{number:,}" in shown


@given(rows=st.lists(st.tuples(PATHS, WORDS, st.integers(), st.booleans()), max_size=4))
def test_programs_get_the_values_themselves(rows):
    table = Table("title", ["run", "two words", "frames", "in the paper"], rows)
    keys = ["run", "two_words", "frames", "in_the_paper"]
    assert [list(record) for record in table.for_programs] == [keys] * len(rows)
    assert [tuple(record.values()) for record in table.for_programs] == rows
    for form in ("json", "csv"):
        with pytest.MonkeyPatch.context() as patch:
            file = io.StringIO()
            patch.setattr("sys.stdout", file)
            show(table, form)
        if form == "json":
            assert [tuple(record.values()) for record in json.loads(file.getvalue())] == rows
        elif rows:
            found = list(csv.DictReader(io.StringIO(file.getvalue())))
            assert [tuple(record.values()) for record in found] == [tuple(map(str, row)) for row in rows]


def test_a_pipe_gets_plain_aligned_lines(capsys):
    rows = [("runs/[a]", "crossq-wn[myosuite]", 1_000_000), ("b", "c" * 300, 5)]
    show(Table("title", ["run", "system", "frames"], rows), "text", ["a note"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert lines[1].split() == ["run", "system", "frames"]
    assert lines[2].split() == ["runs/[a]", "crossq-wn[myosuite]", "1,000,000"]
    assert lines[3].split() == ["b", "c" * 300, "5"]
    assert len({len(line) for line in lines[1:4]}) == 1  # numbers are flush right
    assert lines[4:] == ["", "a note"]


def test_a_pipe_is_as_wide_as_the_user_says(capsys, monkeypatch):
    table = Table("title", [Column("run", whole=True), "words"], [("runs/a", "word " * 40)])
    for width in (30, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        show(table)
        out = capsys.readouterr().out
        assert out.count("word") == 41
        assert "\x1b" not in out
        assert max(map(len, out.splitlines())) <= width
    monkeypatch.setenv("COLUMNS", "many")  # no number: as if it were not set
    show(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) > 200


def test_rows_too_wide_for_a_terminal_are_names_with_values_and_break_between_these():
    table = Table("scores", ["system", "seeds", "0", "1,000"], [("crossq-wn" * 5, 1, "-8.984", "0.732")])
    assert on_terminal(table, 30).split("\n")[2:] == ["  seeds: 1  0: -8.984  ", "  1,000: 0.732  ", ""]


@pytest.mark.parametrize(
    ("score", "written"),
    [(0.5, "0.500"), (0.00002, "2e-05"), (-8983646.003, "-8,983,646"), (1234.5, "1234.500"), (0, "0.000")],
)
def test_medians_of_any_scale_can_be_read(score, written, capsys, tmp_path):
    run = make_run(tmp_path / "run", task="Pendulum-v1", eval_rows=[(100, score)])
    assert printed(capsys, "compare", run)[0].splitlines()[2].split()[-1] == written


def test_presets_are_listed_by_what_they_change(capsys):
    out = printed(capsys, "list", "presets")[0]
    lines = [line for line in out.splitlines() if line.startswith("crossq-wn ")]
    assert {line.split()[1] for line in lines} >= {"default", "paper-v2", "code"}
    assert max(map(len, out.splitlines())) < 500  # the default ones have some forty settings
    records = json.loads(printed(capsys, "list", "presets", "--json")[0])
    by_name = json.loads(printed(capsys, "list", "presets", "--json", "--sort", "preset")[0])
    assert by_name == sorted(records, key=lambda each: each["preset"])
    default = next(each for each in records if (each["algorithm"], each["preset"]) == ("sac", "default"))
    assert "batch_size=256" in default["settings"]
    assert "warmup=" in default["settings"]


def test_several_tables_are_one_list_for_programs_and_notes_go_elsewhere(capsys):
    tables = [Table("one", ["a"], [[1]]), Table("two", ["b"], [[float("nan")]], [{"a": 2, "b": (0, 1)}])]
    show(tables, "json", ["a note"])
    said = capsys.readouterr()
    assert json.loads(said.out) == [{"a": 1}, {"a": 2, "b": [0, 1]}]
    assert said.err == "a note\n"
    show(tables, "csv")
    assert capsys.readouterr().out == 'a,b\n1,\n2,"0,1"\n'
    show(tables[1].__class__("two", ["b"], [[float("nan")]]), "json")
    assert json.loads(capsys.readouterr().out) == [{"b": None}]


def test_no_cell_acts_on_a_terminal(capsys):
    table = Table("title\x1b[2J", ["run", "task"], [["a\x1b]0;b\x07c", "d\ne\x9bf"]])
    for form in ("text", "json", "csv"):
        show(table, form, ["note\x1b[31m"])
        said = capsys.readouterr()
        assert all(letter.isprintable() or letter == "\n" for letter in said.out + said.err)
    assert all(
        letter.isprintable() or letter == "\n" for letter in on_terminal(table, 9) + on_terminal(table, 90)
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "yes"), (False, ""), (12345, "12,345"), (0.12345, "0.123"), (12345.6, "12,346"),
        ((0, 1, 2), "0,1,2"), ("a", "a"),
    ],
)  # fmt: skip
def test_values_are_written_for_people(value, text):
    assert readable(value) == text


def test_no_score_is_written_as_minus_zero(capsys, tmp_path):
    run = make_run(tmp_path / "run", task="Pendulum-v1", eval_rows=[(0, -0.0001), (100, -0.0)])
    out = printed(capsys, "compare", run)[0]
    assert out.count("0.000") == 2
    assert "-0.0" not in out
    assert (wording.number(-0.0004), readable(-0.0), wording.number(-0.2)) == ("0.000", "0", "-0.200")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, one in a folder with brackets, with diagnostics."""
    root = tmp_path_factory.mktemp("folder") / "runs [final]"
    for seed in (0, 1):
        path = make_run(root / f"[red]a-long-name-of-a-run-{seed}", seed=seed, eval_rows=[(0, 1), (100, 50)])
        header = "seed,frames,critic_norm\n"
        (path / "metrics.csv").write_text(header + "".join(f"{seed},{x},{x}\n" for x in range(1, 8)))
    return root


@pytest.mark.parametrize(
    ("verb", "keys"),
    [
        ("list tasks", {"name", "suite", "suite_s_name", "in_the_paper"}),
        ("list algorithms", {"name", "what_it_is", "presets"}),
        ("list presets", {"algorithm", "preset", "source", "settings"}),
        ("list runs RUNS", {"run", "task", "system", "seeds", "evaluated", "frames", "scored", "score"}),
        ("compare RUNS", {"task", "system", "seeds", "frames", "median", "seeds_there"}),
        ("diagnose RUN", {"diagnostic", "first", "last", "change", "what_it_is"}),
        ("reproduce fig3 --scale smoke --dry-run", {"system", "runs", "core_hours", "gb"}),
        ("doctor", {"verdict", "what", "state", "fix"}),
    ],
)
def test_every_command_that_prints_a_table_gives_it_to_programs(verb, keys, runs, capsys):
    places = {"RUNS": runs, "RUN": next(runs.iterdir())}
    arguments = [places.get(word, word) for word in verb.split()]
    records = json.loads(printed(capsys, *arguments, "--json")[0])
    assert keys <= records[0].keys()
    table = list(csv.DictReader(io.StringIO(printed(capsys, *arguments, "--csv")[0])))
    assert len(table) == len(records)
    assert list(table[0]) == list(records[0])
    text = printed(capsys, *arguments)[0]
    assert not set(text) & set("│┃━─╭\x1b…")
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_folder_with_brackets_is_listed(runs, capsys):
    out, err = printed(capsys, "list", "runs", runs)
    assert err == ""
    for run in runs.iterdir():
        assert str(run) in out


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_each_cell_of_a_long_table_is_looked_at_a_few_times(form, capsys):
    looked = []

    class Row(tuple):
        def __iter__(self):
            looked.append(self)
            return super().__iter__()

    show(Table("t", ["name", "number"], [Row((f"row {i}", i)) for i in range(300)]), form)
    assert capsys.readouterr().out.count("row ") == 300
    assert len(looked) <= 3 * 300
