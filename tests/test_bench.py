"""Does the benchmark measure what it says? Counts of matrix products, figures of a tiny run, bad input."""

import json

import numpy as np
import pytest

from crossq_wn import api, bench
from crossq_wn.cli import main
from crossq_wn.training import build_algorithm


def flops(name, sizes, **changes):
    config = api.configure("cheetah-run", algorithm=name)
    algorithm = build_algorithm(config, *sizes)
    total = 0.0
    for product, times in bench.matrix_products(algorithm, config, sizes).items():
        summed = np.prod([product.left[i] for i in product.dimensions[0][0]])
        total += times * 2 * np.prod(product.left) * np.prod(product.right) / summed
    return total


@pytest.mark.parametrize("sizes", [(17, 6), (223, 38)])
def test_the_matrix_products_of_an_update_are_those_of_the_equations(sizes):
    """Multiply-adds of crossq-wn's layers, forward and backward, the actor's in a third of the updates."""
    observation, action = sizes
    d, batch, wide, narrow = observation + action, 256, 512, 256
    hidden, head = d * wide + wide * wide, wide
    online = 2 * batch * (hidden + head) * 3  # forward, gradients of weights, gradients of inputs
    target = 2 * batch * (hidden + head)
    act = batch * (observation * narrow + narrow * narrow + narrow * 2 * action)
    through_critics = 2 * batch * (hidden + head) * 2  # forward and gradients of inputs, both critics
    expected = 2 * (2 * online + 2 * target + act + (3 * act + through_critics) / 3)
    assert flops("crossq-wn", sizes) == pytest.approx(expected, rel=1e-6)


def test_products_are_multiplied_as_jax_would(monkeypatch):
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((4, 2, 3)), generator.standard_normal((4, 5, 3))
    a, b = bench._as_matrices(left, right, (((2,), (2,)), ((0,), (0,))))
    np.testing.assert_allclose(a @ b, np.einsum("bik,bjk->bij", left, right))
    a, b = bench._as_matrices(left[0], left[1], (((0,), (0,)), ((), ())))
    np.testing.assert_allclose(a @ b, left[0].T @ left[1])


def test_a_benchmark_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as stop:
        main(
            ["bench", "pendulum-swingup", "--seeds", "0,1", "--critic-width", "8", "--actor-width", "8",
             "--batch-size", "4", "--seconds", "0.01", "--json", str(out)]
        )  # fmt: skip
    assert stop.value.code == 0
    figures = json.loads(out.read_text())
    assert figures["seeds"] == 2
    assert figures["settings"]["critic_width"] == 8
    for name in (
        "update_ms", "floor_ms", "update_over_floor", "frames_per_s", "loop_over_updates",
        "environment_frames_per_s", "physics_frames_per_s", "first_update_cold_s", "first_update_cached_s",
    ):  # fmt: skip
        assert figures[name] > 0, name
    assert figures["seed_updates_per_s"] == pytest.approx(2 * figures["updates_per_s"])
    assert set(figures["split"]) == {f"{phase}_ms" for phase in bench.PHASES}
    printed = capsys.readouterr().out
    assert "update_over_floor" in printed
    assert "split.update_ms" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench"], "TASK"),
        (["bench", "nothing-run"], "unknown task"),
        (["bench", "cheetah-run", "--seconds", "0"], "--seconds is 0.0"),
        (["bench", "cheetah-run", "--json", "pyproject.toml"], "nothing is overwritten"),
        (["bench", "cheetah-run", "--against", "torchrl"], "sbx"),
    ],
)
def test_bad_input_is_refused(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert says in printed.out + printed.err
