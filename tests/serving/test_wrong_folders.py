"""A run, an index, a file or nothing where a bundle or a run is asked for: the message says what it is."""

import json

import pytest
from bundle_cases import save
from program_cases import started

from experiments.shared.workdir import Workdir
from retrieval.serving import bundle


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders of each kind, by name."""
    folder = tmp_path_factory.mktemp("places")
    run = folder / "runs/mine"
    run.mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        (run / name).write_text(json.dumps({"sha256": "0"}))
    save(run / "bundle")
    (folder / "bare").mkdir()
    (folder / "bare/config.json").write_text("{}")
    (folder / "empty").mkdir()
    (folder / "empty/.hidden").touch()
    (folder / "file.json").write_text("{}")
    (folder / "other").mkdir()
    (folder / "other/thesis.txt").write_text("")
    return folder


@pytest.mark.parametrize(
    "place, told",
    [
        ("runs/mine", r"is the folder of a run; its bundle is .*runs/mine/bundle"),
        ("bare", "is the folder of a run, which has no bundle yet"),
        ("runs", "is a folder of runs, such as .*runs/mine"),
        ("runs/mine/bundle/index", "is the folder of an index in the bundle .*runs/mine/bundle"),
        ("empty", "is an empty folder"),
        ("file.json", "is a file, not a folder"),
        ("nowhere", "does not exist"),
        ("other", "is a folder with 'thesis.txt' in it"),
    ],
)
def test_what_is_no_bundle_is_called_what_it_is(places, place, told):
    with pytest.raises(ValueError, match=f"is no bundle: it {told}"):
        bundle.load(places / place)


def test_a_bundle_without_its_manifest_is_no_whole_one(places, tmp_path):
    folder = save(tmp_path / "bundle")
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="is no whole bundle: it has no manifest.json; export the bundle again"):
        bundle.load(folder)


@pytest.mark.parametrize(
    "place, told",
    [
        ("runs/mine/bundle", "it is a bundle of the run .*runs/mine"),
        ("runs", "it is a folder of runs, such as .*runs/mine"),
        ("nowhere", "it does not exist"),
    ],
)
def test_what_is_no_run_is_called_what_it_is(places, place, told):
    with pytest.raises(ValueError, match=told):
        Workdir(places / place).read_config()


def test_the_programs_say_it_in_one_line(places):
    error = started("recommend", f"--bundle={places / 'runs/mine'}", "--user_id=ann").stderr
    assert error.count("\n") == 1 and "its bundle is" in error
    error = started("evaluate", f"--workdir={places / 'runs/mine/bundle'}").stderr
    assert error.count("\n") == 1 and "it is a bundle of the run" in error
