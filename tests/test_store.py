"""Does a store of runs give each back whole, and count only what the newest attempt stored?"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossq_wn
import helpers
from crossq_wn.errors import UserError
from crossq_wn.fences import LostLeaseError
from crossq_wn.runs import leases
from crossq_wn.sweeps import engines, store, stored
from crossq_wn.sweeps.node import Outcome, Place
from crossq_wn.sweeps.plans import Run, folder_of
from crossq_wn.sweeps.store import Claim, Store
from crossq_wn.sweeps.stored import Mirror, MirroredProcess, Stored
from crossq_wn.training import api

pytestmark = pytest.mark.skipif(find_spec("fsspec") is None, reason="fsspec is not installed")
RUN = "dog-run/crossq-wn/seed-0"


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    return f"file://{tmp_path}/store" if request.param == "file" else f"memory://{uuid.uuid4()}"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    monkeypatch.setattr(store, "_LOOK", 0.05)


def made(folder, *checkpoints, text="trained"):
    """A run directory."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    for frames in checkpoints:
        (folder / "checkpoints" / f"{frames:09d}").mkdir(exist_ok=True)
        (folder / "checkpoints" / f"{frames:09d}" / "manifest.json").write_text(f"{text} {frames}")
    (folder / "eval.csv").write_text(f"{text} {checkpoints}\n")
    (folder / "config.json").write_text("{}")
    return folder


def content(folder):
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_text()
    return found


def cut_off(claim):
    """Leaves a claim as a process does that was stopped or killed."""
    claim._ended.set()
    claim._life.join()


def test_a_run_comes_back_as_it_was_stored(url, tmp_path):
    place, folder = Store(url), made(tmp_path / "run", 100)
    for name in (".lock", ".config.json.partial"):
        (folder / name).touch()
    (folder / ".lease-000003").mkdir()
    (folder / ".lease-000003" / "holder.json").touch()
    assert (place.newest(RUN), place.fetch(RUN, tmp_path / "there")) == (None, None)
    claim = Claim(place, RUN)
    claim.save(folder)
    made(folder, 200)
    (folder / "checkpoints" / "000000100" / "manifest.json").unlink()
    puts = []
    put = place.put
    place.put = lambda local, path: (puts.append(path), put(local, path))
    claim.save(folder)
    assert len(puts) == 3  # eval.csv and config.json, which were written anew, and the checkpoint
    claim.end()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").touch()
    snapshot = Store(url).fetch(RUN, tmp_path / "there")
    assert snapshot.trained
    assert content(tmp_path / "there") == {
        "checkpoints/000000200/manifest.json": "trained 200", "eval.csv": "trained (200,)\n",
        "config.json": "{}",
    }  # fmt: skip
    (attempt,) = place.attempts(RUN)
    kept = place.names(f"{RUN}/{attempt}/files", store._CHECKSUM)
    assert len(kept) == 3  # what no list names is removed


def test_what_links_in_a_run_lead_to_is_not_stored(url, tmp_path):
    folder, outside = made(tmp_path / "run", 100), tmp_path / "outside"
    outside.mkdir()
    (outside / "diary").write_text("dear diary")
    (folder / "latest").symlink_to(outside / "diary")
    (folder / "more").symlink_to(outside)
    claim = Claim(Store(url), RUN)
    claim.save(folder)
    claim.end()
    Store(url).fetch(RUN, tmp_path / "there")
    assert "dear diary" not in content(tmp_path / "there").values()
    assert "eval.csv" in content(tmp_path / "there")


def test_what_an_old_attempt_still_stores_does_not_count(url, tmp_path, impatient):
    place = Store(url)
    old = Claim(place, RUN)
    old.save(made(tmp_path / "old", 100, text="old"))
    cut_off(old)
    new = Claim(place, RUN)
    # Until the new one has stored anything, the run is what the old one stored last.
    assert place.fetch(RUN, tmp_path / "there").attempt == old.name
    new.save(made(tmp_path / "new", 100, 200, text="new"))
    with pytest.raises(LostLeaseError):
        old.save(made(tmp_path / "old", 100, 200, 300, text="old"))
    old.require = lambda: None  # it was stopped after it had asked
    old.save(tmp_path / "old")
    assert place.newest(RUN).attempt == new.name
    place.fetch(RUN, tmp_path / "there")
    assert content(tmp_path / "there") == content(tmp_path / "new")
    new.save(tmp_path / "new")
    assert place.attempts(RUN) == [new.name]  # what the old one left is gone
    new.end()


@given(st.lists(st.tuples(st.sampled_from(["begin", "store", "store", "cut"]), st.integers(0, 3))))
def test_the_run_is_what_the_highest_attempt_stored_last(actions):
    """Whoever stores what and when, and wherever a list or a file of it was cut off."""
    place, claims, wanted = Store(f"memory://{uuid.uuid4()}"), [], {}
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "PATIENCE", 0.0)
        for turn, (action, which) in enumerate(actions):
            if action == "begin" or not claims:
                claims.append(Claim(place, RUN))
                cut_off(claims[-1])
                continue
            claim = claims[which % len(claims)]
            claim.require = lambda: None
            if action == "cut":  # it was killed while it wrote a list
                place.write(f"{RUN}/{claim.name}/{claim._number + 7:09d}.json", b'{"eval.csv": "ab')
                continue
            claim._number += 20
            folder = made(Path(scratch) / str(turn), turn, text=claim.name)
            claim.save(folder)
            wanted[claim.name] = content(folder)
        snapshot = place.fetch(RUN, Path(scratch) / "there")
        if wanted:
            assert content(Path(scratch) / "there") == wanted[max(wanted)]
            assert snapshot.attempt == max(wanted)
        else:
            assert snapshot is None


def test_an_attempt_that_is_alive_keeps_others_out(url, monkeypatch, impatient):
    monkeypatch.setattr(store, "RENEWED", 0.02)
    place = Store(url)
    first = Claim(place, RUN)
    with pytest.raises(UserError, match="is in use by another process: wait for it, or stop it"):
        Claim(place, RUN)
    first.end()
    begin = time.monotonic()
    second = Claim(place, RUN)
    assert time.monotonic() - begin < leases.PATIENCE
    with pytest.raises(LostLeaseError):
        first.require()
    second.end()
    assert second.name[:6] == "000002"


def test_a_copy_that_lacks_a_file_is_passed_over(url, tmp_path, impatient):
    place = Store(url)
    for text in ("first", "second"):
        claim = Claim(place, RUN)
        claim._clear = lambda files: None
        claim.save(made(tmp_path / text, 100, text=text))
        claim.end()
    newest = place.attempts(RUN)[-1]
    for name in place.names(f"{RUN}/{newest}/files", store._CHECKSUM)[:1]:
        place.write(f"{RUN}/{newest}/files/{name}", b"damaged")
    place.fetch(RUN, tmp_path / "there")
    assert content(tmp_path / "there") == content(tmp_path / "first")
    place.remove(f"{RUN}/{place.attempts(RUN)[0]}")
    with pytest.raises(UserError, match="is damaged in the store: every copy of it lacks a file"):
        place.fetch(RUN, tmp_path / "there")


@pytest.mark.parametrize("path", ["../../evil", "/evil", "checkpoints/../../evil"])
def test_a_path_that_leads_out_of_a_run_is_refused(path, url, tmp_path):
    place = Store(url)
    place.write(f"{RUN}/000001-00000000/000000000.json", f'{{"{path}": "{"0" * 64}"}}'.encode())
    with pytest.raises(UserError, match="which is none of a run's"):
        place.fetch(RUN, tmp_path / "there")


def test_a_run_that_changes_all_the_time_is_stored_later(url, tmp_path):
    claim, folder = Claim(Store(url), RUN), made(tmp_path / "run", 100)
    put, count = claim._put, iter(range(1000))

    def busy(path):
        (folder / "checkpoints" / f"{next(count):09d}").mkdir(exist_ok=True)
        return put(path)

    claim._put = busy
    claim._known = {}
    monkey = claim._stored

    def anew(folder):
        claim._known.clear()
        return monkey(folder)

    claim._stored = anew
    with pytest.raises(OSError, match="changes faster than it is stored"):
        claim.save(folder)
    claim._put = put
    claim.save(folder)
    assert Store(url).newest(RUN) is not None
    claim.end()


# --- Attempts


STANDS_FOR_TRAINING = (
    "import pathlib, sys, time; verb = sys.argv[1]; "
    "folder = pathlib.Path(sys.argv[2 if verb == 'resume' else -1]); folder.mkdir(exist_ok=True); "
    "at = max([int(p.name) for p in folder.glob('checkpoints/0*')], default=0) + 100; "
    "(folder / 'checkpoints' / f'{at:09d}').mkdir(parents=True); "
    "(folder / 'checkpoints' / f'{at:09d}' / 'manifest.json').touch(); "
    "print(verb, at, flush=True); (folder / 'eval.csv').open('a').write(f'{at}\\n'); "
    "time.sleep(60 if at == {stays} else 0); sys.exit(0 if at == 300 else 3)"
)


def stands_for_training(monkeypatch, stays=0):
    real, code = engines.subprocess.Popen, STANDS_FOR_TRAINING.replace("{stays}", str(stays))

    def popen(words, **options):
        begin = words.index("crossq_wn")
        return real([*words[: begin - 2], sys.executable, "-c", code, *words[begin + 1 :]], **options)

    monkeypatch.setattr(engines.subprocess, "Popen", popen)


PLACE = Place(Path("/nowhere"), {}, 1)


def test_each_attempt_goes_on_where_the_last_one_was_stored(url, tmp_path, monkeypatch):
    stands_for_training(monkeypatch)
    what = Stored(url, RUN, ("train", "dog-run", "--out"), 300)
    found = [stored.attempt(what, PLACE) for _ in range(3)]
    assert [each.code for each in found] == [3, 3, 0]
    assert [each.said for each in found] == [b"train 100\n", b"resume 200\n", b"resume 300\n"]
    Store(url).fetch(RUN, tmp_path / "there")
    assert (tmp_path / "there" / "eval.csv").read_text() == "100\n200\n300\n"


def test_a_node_that_is_lost_costs_what_came_after_the_last_checkpoint(tmp_path, monkeypatch, impatient):
    url = f"file://{tmp_path}/store"
    program = (
        "import pytest, test_store, sys; from crossq_wn.sweeps import stored\n"
        "with pytest.MonkeyPatch.context() as patch:\n"
        "    test_store.stands_for_training(patch, stays=100)\n"
        f"    stored.attempt(stored.Stored({url!r}, {RUN!r}, ('train', '--out'), 300), test_store.PLACE)\n"
    )
    node = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parent)
    end = time.monotonic() + 60
    while (snapshot := Store(url).newest(RUN)) is None or not snapshot.trained:
        assert time.monotonic() < end
        time.sleep(0.1)
    node.send_signal(signal.SIGKILL)
    node.wait()
    stands_for_training(monkeypatch)
    assert stored.attempt(Stored(url, RUN, ("train", "--out"), 300), PLACE).said == b"resume 200\n"


def test_an_attempt_that_was_cut_off_ends_its_process(url, tmp_path, monkeypatch, impatient):
    stands_for_training(monkeypatch, stays=100)
    real = Claim.save

    def taken_over(claim, folder):  # while this node did not reach the store
        claim.store.write(f"{RUN}/000009-00000000/sign", b"1")
        real(claim, folder)

    monkeypatch.setattr(Claim, "save", taken_over)
    begin = time.monotonic()
    outcome = stored.attempt(Stored(url, RUN, ("train", "--out"), 300), PLACE)
    assert time.monotonic() - begin < 30
    assert outcome.code == 2
    assert b"was taken over by another process" in outcome.said
    assert not engines.is_final(outcome.said.decode(), 2, None)
    assert Store(url).newest(RUN) is None


def test_a_store_that_fails_for_a_while_costs_nothing(url, tmp_path, monkeypatch):
    stands_for_training(monkeypatch)
    real, failures = Claim.save, [OSError("no route")]

    def save(claim, folder):
        if failures:
            raise failures.pop()
        real(claim, folder)

    monkeypatch.setattr(Claim, "save", save)
    what = Stored(url, RUN, ("train", "--out"), 300)
    keeper = stored._Keeper(claim := Claim(Store(url), RUN), made(tmp_path / "run"))
    made(tmp_path / "run", 100)
    keeper.look()
    assert Store(url).newest(RUN) is None
    keeper._next = 0.0
    keeper.look()
    assert Store(url).newest(RUN).trained
    claim.end()
    monkeypatch.setattr(stored, "_AGAIN", 0.01)
    monkeypatch.setattr(stored, "_LAST", 0.0)
    failures.append(OSError("no route"))
    with pytest.raises(UserError, match=f"{RUN} cannot be stored: no route"):
        stored.attempt(what, PLACE)


def test_the_last_save_is_tried_for_a_while(url, tmp_path, monkeypatch):
    """Whatever a kind of store raises, and whoever interrupts."""
    monkeypatch.setattr(stored, "_AGAIN", 0.01)
    stands_for_training(monkeypatch)
    real, failures = Claim.save, [OSError("no route"), RuntimeError("503"), OSError("no route")]

    def save(claim, folder):
        if failures:
            os.kill(os.getpid(), signal.SIGINT)
            raise failures.pop()
        real(claim, folder)

    monkeypatch.setattr(Claim, "save", save)
    monkeypatch.setattr(stored._Keeper, "look", lambda keeper: None)
    assert stored.attempt(Stored(url, RUN, ("train", "dog-run", "--out"), 300), PLACE).code == 3
    assert failures == []
    assert Store(url).newest(RUN).trained
    claim = Claim(Store(url), RUN)
    monkeypatch.setattr(claim, "save", lambda folder: (_ for _ in ()).throw(LostLeaseError(folder)))
    with pytest.raises(LostLeaseError):
        stored._keep(claim, tmp_path)

    def write(path, content):
        raise RuntimeError("503")

    claim.store.write = write
    claim.end()  # which hides no other error, and needs no store


# --- The machine that drives the sweep


@pytest.fixture
def run(tmp_path):
    config = api.configure("helpers:PointMass", **helpers.TINY_SETTINGS, **helpers.TINY_OPTIONS)
    return Run(tmp_path / "out" / folder_of(config), config)


def test_the_sweeps_folder_follows_the_store(url, run, tmp_path):
    mirror = Mirror(url, tmp_path / "out")
    mirror.refresh(run)
    assert not run.path.exists()
    what = mirror.stored(run)
    assert (what.name, what.frames) == (
        run.path.relative_to(tmp_path / "out").as_posix(),
        run.config.options.frames,
    )
    assert (what.train[0], what.train[-1]) == ("train", "--out")
    claim = Claim(Store(url), what.name)
    for frames in (100, 200):
        claim.save(made(tmp_path / "there", frames))
        mirror.refresh_all([run])
        assert content(run.path) == content(tmp_path / "there")
    claim.end()
    before = os.stat(run.path / "eval.csv")
    mirror.refresh(run)
    assert os.stat(run.path / "eval.csv").st_ino == before.st_ino  # there was nothing new


def test_what_was_trained_before_there_was_a_store_is_stored(url, run, tmp_path):
    made(run.path, 100)
    mirror = Mirror(url, tmp_path / "out")
    mirror.refresh(run)
    Store(url).fetch(mirror.stored(run).name, tmp_path / "there")
    assert content(tmp_path / "there") == content(run.path)


@pytest.mark.parametrize("marked", [True, False])
def test_training_that_the_store_does_not_have_is_kept(marked, url, run, tmp_path):
    mirror = Mirror(url, tmp_path / "out")
    claim = Claim(Store(url), mirror.stored(run).name)
    claim.save(made(tmp_path / "there", 100, text="stored"))
    claim.end()
    if marked:  # the folder followed the store, and then went on without it
        mirror.refresh(run)
        aside = run.path.with_name(f"{run.path.name}-aside-1")
        assert not aside.exists()
    made(run.path, 100, 200, text="here")
    here = content(run.path)
    mirror.refresh(run)
    assert content(run.path) == content(tmp_path / "there")
    found = content(run.path.with_name(f"{run.path.name}-aside-1"))
    assert {name: text for name, text in found.items() if not name.startswith(".")} == here
    mirror.refresh(run)
    assert not run.path.with_name(f"{run.path.name}-aside-2").exists()


def test_a_copy_that_was_cut_off_before_it_was_in_its_place_is_made_again(url, run, tmp_path, monkeypatch):
    mirror = Mirror(url, tmp_path / "out")
    claim = Claim(Store(url), mirror.stored(run).name)
    claim.save(made(tmp_path / "there", 100))
    claim.end()

    def rename(path, target):
        if not path.exists():
            raise FileNotFoundError
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            mirror.refresh(run)
    mirror.refresh(run)
    assert content(run.path) == content(tmp_path / "there")
    assert {path.name for path in run.path.parent.iterdir()} == {run.path.name}


def test_a_run_that_could_not_be_stored_is_given_back(url, run, tmp_path, monkeypatch):
    made(run.path, 100)
    mirror = Mirror(url, tmp_path / "out")

    def save(claim, folder):
        raise RuntimeError("503: slow\ndown")

    with monkeypatch.context() as patch:
        patch.setattr(Claim, "save", save)
        with pytest.raises(UserError) as refused:
            mirror.refresh_all([run])
    assert str(refused.value) == f"--store {url} cannot be used: 503: slow down"
    begin = time.monotonic()
    mirror.refresh_all([run])  # and nobody counts as alive there
    assert time.monotonic() - begin < leases.PATIENCE / 2
    assert Store(url).newest(mirror.stored(run).name).trained


@pytest.mark.parametrize(("where", "out"), [("x", "x"), ("x/store", "x"), ("x", "x/out"), ("x/../x", "x")])
def test_a_store_and_a_folder_that_lie_in_one_another_are_refused(where, out, tmp_path):
    with pytest.raises(UserError, match="lie in one another: choose a --store beside the folder"):
        Mirror(f"file://{tmp_path}/{where}", tmp_path / out)
    assert not any(tmp_path.iterdir())
    Mirror(f"file://{tmp_path}/x", tmp_path / "xy")


def test_an_attempt_has_ended_when_its_run_is_here(run, tmp_path):
    class Ended:
        def __init__(self):
            self.gone, self.stops = False, 0

        def ended(self):
            return self.gone

        def stop(self):
            self.stops += 1

        def memory(self):
            return 7

        def worked(self):
            return 3.0

        def node(self):
            return "there"

        def failure(self):
            return "killed", -9

    inner, fetched = Ended(), Future()
    process = MirroredProcess(inner, lambda: fetched)
    process.stop()
    assert (process.ended(), process.memory(), process.worked(), inner.stops) == (False, 7, 3.0, 1)
    inner.gone = True
    assert not process.ended()
    fetched.set_result(None)
    assert process.ended()
    assert process.failure() == ("killed", -9)
    failed = Future()
    failed.set_exception(UserError("all damaged"))
    process = MirroredProcess(inner, lambda: failed)
    assert process.ended()
    assert process.failure() == ("failed, as it cannot be fetched from the store: all damaged", 1)
    assert Outcome(0, 0, 0.0, "").said == b""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_sweep_on_ray_through_a_store(tmp_path):
    """With runs in scratch folders of the nodes, evaluations equal those of runs that nothing moves."""
    options = {
        **helpers.TINY_SETTINGS,
        "frames": 200,
        "eval_every": 50,
        "eval_episodes": 1,
        "checkpoint_every": 50,
    }
    flags = []
    for name, value in options.items():
        flags.append(f"--{name.replace('_', '-')}={value}")
    done = helpers.cli(
        "sweep", "--task", "helpers:PointMass", "--seeds", "0:2", "--seeds-per-process", 1, "--out", "s",
        "--on", "ray", "--store", f"file://{tmp_path}/store", *flags, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for seed, path in enumerate(sorted((tmp_path / "s").glob("*/*/seed-*"))):
        alone = tmp_path / f"alone-{seed}"
        crossq_wn.train(helpers.PointMass, seeds=[seed], out=alone, tensorboard=False, video=False, **options)
        found, wanted = helpers.rows(path / "eval.csv"), helpers.rows(alone / "eval.csv")
        assert [row["value"] for row in found] == [row["value"] for row in wanted]
        assert len(wanted) == 2 * 5  # of two metrics
    assert len(list((tmp_path / "store").glob("*/*/seed-*"))) == 2
    assert not list((tmp_path / "s").glob(".sweep/fetched/*"))


@pytest.mark.parametrize(
    ("here", "there", "more"),
    [("000000100", "0000000060", True), ("0000000060", "000000100", False), ("000000060", "", True)],
)
def test_checkpoints_here_and_in_the_store_are_compared_by_their_frames(here, there, more, tmp_path):
    """One that replaced another at the same frames has one zero more in front."""
    (tmp_path / "checkpoints" / here).mkdir(parents=True)
    held = {f"checkpoints/{there}/manifest.json": ""} if there else {}
    assert stored._has_more(tmp_path, store.Snapshot("attempt", 1, held)) is more
