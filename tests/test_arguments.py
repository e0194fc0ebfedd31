"""The options of the command line: made from the fields of dataclasses, read as they are typed."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pytest

from crossq_wn.algorithms import ALGORITHMS, Preset
from crossq_wn.algorithms.settings import setting_names
from crossq_wn.cli.arguments import Parser, field_texts, parse_run
from crossq_wn.errors import UserError
from crossq_wn.runs import familiar
from crossq_wn.runs.config import preset_settings
from crossq_wn.runs.options import OPTION_NAMES, RunOptions
from crossq_wn.training.api import configure


def parsed(*arguments, **options):
    return parse_run(Parser("train"), [str(each) for each in arguments], **options)


def test_only_what_is_given_is_set():
    assert parsed("cheetah-run") == {"task": "cheetah-run", "algorithm": "crossq-wn", "preset": "default"}


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        ("--frames 10 --utd 5", {"frames": 10, "utd": 5}),
        ("--frames=10", {"frames": 10}),
        ("--frames 1e6", {"frames": 1_000_000}),
        ("--seeds 0,1", {"seeds": (0, 1)}),
        ("--seeds 0-9", {"seeds": tuple(range(10))}),
        ("--seeds 0-2,7", {"seeds": (0, 1, 2, 7)}),
        ("--seed 3", {"seeds": (3,)}),
        ("--no-video --tensorboard", {"video": False, "tensorboard": True}),
        ("--no-terminations", {"terminations": False}),
        ("--q-bias", {"q_bias": True}),
        ("--tau 1e-3", {"tau": 1e-3}),
        ("--log-std-min -5", {"log_std_min": -5.0}),
        ("--episode-frames 7", {"episode_frames": 7}),
        ("--episode-frames None", {"episode_frames": None}),
        ("--discount None", {"discount": None}),
        ("--reset-updates 9", {"reset_updates": 9}),
        ("--wandb project", {"wandb": "project"}),
        ("--weight-norm none --norm layer-norm", {"weight_norm": "none", "norm": "layer-norm"}),
        ("--matmul-precision bfloat16", {"matmul_precision": "bfloat16"}),
    ],
)
def test_options_are_read_as_their_types_before_and_after_the_task(flags, values):
    usual = {"task": "cheetah-run", "algorithm": "crossq-wn", "preset": "default"}
    assert parsed("cheetah-run", *flags.split()) == usual | values
    assert parsed(*flags.split(), "cheetah-run") == usual | values


@pytest.mark.parametrize("resets", ["--resets 1 2", "--resets 1,2", "--resets=1,2"])
@pytest.mark.parametrize("seeds", ["--seeds 3 4", "--seeds 3,4", "--seeds=3,4", "--seeds=3 4"])
def test_several_numbers_have_commas_or_spaces_between_them(resets, seeds):
    flags = ["--algorithm", "bro", *resets.split(), *seeds.split()]
    for arguments in (["dog-run", *flags], [*flags, "dog-run"]):
        chosen = parsed(*arguments)
        assert (chosen["task"], chosen["resets"], chosen["seeds"]) == ("dog-run", (1, 2), (3, 4))


def test_several_numbers_may_be_none_and_no_number_is_one_line():
    chosen = parsed("dog-run", "--algorithm", "bro", "--resets", 1, 2)
    assert configure(chosen.pop("task"), **chosen).settings.resets == (1, 2)
    none = parsed("dog-run", "--algorithm", "bro", "--resets")
    assert configure(none.pop("task"), **none).settings.resets == ()
    with pytest.raises(UserError, match="'x' is not a whole number"):
        parsed("dog-run", "--algorithm", "bro", "--resets", "1,x")


@pytest.mark.parametrize("flags", ["--fram 10", "--frame 10", "--eval_every 10", "--vid", "--algo sac"])
def test_options_are_not_abbreviated_and_the_nearest_is_named(flags):
    with pytest.raises(UserError, match="did you mean '--") as refusal:
        parsed("cheetah-run", *flags.split())
    assert flags.split()[0] in str(refusal.value)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--gamma 0.9", "did you mean '--discount'?"),
        ("--lr 1e-3", "did you mean '--actor-learning-rate' and '--critic-learning-rate'?"),
        ("--total-timesteps 1e6", "did you mean '--frames'?"),
        ("--buffer_size 10", "did you mean '--replay-size'?"),
        ("--env=cheetah-run", "the task is named without an option, as in `crossq-wn train cheetah-run`"),
        ("--subset 2", "only redq has it"),
        ("--algorithm sac --horizon 2", "only tdmpc2, drq have it"),
    ],
)
def test_names_from_other_packages_are_answered_with_ours(flags, says):
    for arguments in (["cheetah-run", *flags.split()], flags.split()):  # with the task and without
        with pytest.raises(UserError) as refusal:
            parsed(*arguments)
        assert says in str(refusal.value)
        assert flags.split()[0].split("=")[0] in str(refusal.value) or "horizon" in str(refusal.value)


@pytest.mark.parametrize("name", familiar._OURS)
def test_every_familiar_name_leads_to_one_that_there_is(name):
    known = {*OPTION_NAMES, *setting_names(ALGORITHMS["crossq-wn"].settings), "task", "algorithm", "out"}
    assert set(familiar._OURS[name]) <= known
    assert name not in known
    assert familiar.meant(f"--{name.replace('_', '-')}", known)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--frames", "1" + 23 * "0"], "too large"),
        (["--frames", "1e23"], "too large"),
        (["--frames", "inf"], "is not a whole number"),
        (["--utd", "1.5"], "'1.5' is not a whole number"),
        (["--seeds", "0-"], "is not a list of whole numbers"),
        (["--seeds", "5-2"], "is not a list of whole numbers"),
        (["--seeds", "0-99999999999"], "more than 1,000 numbers"),
        (["--warmup", 5000 * "9"], "is not a whole number"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(flags, says):
    with pytest.raises(UserError, match=f"argument {flags[0]}: ") as refusal:
        parsed("cheetah-run", *flags)
    assert says in str(refusal.value)
    assert len(str(refusal.value)) < 250


def test_no_file_is_called_nothing():
    parser = Parser("eval")
    parser.add_argument("run", type=Path)
    with pytest.raises(UserError, match="argument RUN: '' is no name of a file or folder"):
        parser.parse_args([""])


def test_a_verb_has_only_its_run_options():
    assert parsed("cheetah-run", "--seeds", "1", options=("seeds",))["seeds"] == (1,)
    with pytest.raises(UserError, match="--frames"):
        parsed("cheetah-run", "--frames", "1", options=("seeds",))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_help_names_every_option_with_what_it_does_and_its_default(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        parsed("--help", "--algorithm", name)
    said = " ".join(capsys.readouterr().out.split())
    settings = preset_settings(name, "default")
    for record in (RunOptions(), settings):
        texts = field_texts(type(record))
        for each in fields(record):
            assert f"--{each.name.replace('_', '-')}" in said
            assert len(texts[each.name]) > 10
            assert texts[each.name] in said
    assert f"(default: {settings.utd})" in said
    assert f"hyperparameters of {name}, preset default" in said


def test_no_hyperparameter_is_named_like_a_run_option():
    for recipe in ALGORITHMS.values():
        assert set(OPTION_NAMES).isdisjoint(setting_names(recipe.settings))


def own(kind):
    """A recipe whose hyperparameters are SAC's and those of a subclass of its settings."""
    recipe = ALGORITHMS["sac"]
    settings = kind(**asdict(recipe.presets["default"].settings))
    return recipe._replace(settings=kind, presets={"default": Preset(settings, "mine")})


def test_a_users_hyperparameter_named_like_a_run_option_is_refused(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Own(ALGORITHMS["sac"].settings):
        overlap: int = 1

    monkeypatch.setitem(ALGORITHMS, "own", own(Own))
    with pytest.raises(UserError, match="'overlap', which is a run option: rename it"):
        parsed("cheetah-run", "--algorithm", "own")


def test_a_users_hyperparameters_may_have_any_type_that_can_be_typed(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Own(ALGORITHMS["sac"].settings):
        scales: tuple[float, ...] = (1.0,)
        names: tuple[str, ...] = ()
        file: Path | None = None

    monkeypatch.setitem(ALGORITHMS, "own", own(Own))
    flags = ("--scales", "0.5", "2", "--names", "a", "b", "--file", "x.csv")
    chosen = parsed("cheetah-run", "--algorithm", "own", *flags)
    assert (chosen["scales"], chosen["names"], chosen["file"]) == ((0.5, 2.0), ("a", "b"), Path("x.csv"))


def test_a_type_that_cannot_be_typed_is_refused_in_words(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Own(ALGORITHMS["sac"].settings):
        table: dict = field(default_factory=dict)

    monkeypatch.setitem(ALGORITHMS, "own", own(Own))
    with pytest.raises(UserError, match="no command line option can have the type dict"):
        parsed("cheetah-run", "--algorithm", "own")
