"""The folder of a run: other data, damage, kills and other processes are noticed at every entrance, in one message."""

import dataclasses
import itertools
import json
import shutil

import pytest
from forks import run_killed
from program_cases import contents

from experiments import baselines, evaluate, export, export_tensorboard, inspect, train
from experiments import run as run_program
from experiments.report import __main__ as report
from experiments.shared import flags, systems
from experiments.shared.run_data import changes_of_data, load_data
from experiments.shared.workdir import Workdir
from retrieval.common.claims import FolderInUseError
from retrieval.common.manifest import read_manifest, write_manifest
from retrieval.config.schema import Config, Data, Feature, Split, Train
from retrieval.data.dataset import load
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.evaluate_trained import evaluate_trained
from retrieval.pipeline.export_trained import export_trained
from retrieval.serving import bundle

GENRES = ("Comedy|Drama", "Drama", "War")


def write_files(folder):
    events = [f"{user},{(7 * user + 3 * i) % 25}" for user in range(30) for i in range(8)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id", *events]) + "\n")
    items = [f"{item},{GENRES[item % 3]}" for item in range(25)]
    (folder / "items.csv").write_text("\n".join(["item_id,genres", *items]) + "\n")
    users = [f"{user},{20 + user % 40}" for user in range(30)]
    (folder / "users.csv").write_text("\n".join(["user_id,age", *users]) + "\n")


def make_config(folder):
    files = {"interactions": "events.csv", "candidates": "items.csv", "queries": "users.csv"}
    data = Data(**{field: str(folder / name) for field, name in files.items()}, split=Split(validation_fraction=0.1))
    config = Config(data=data, train=Train(batch_size=64, epochs=1))
    config.model.candidate.features = (Feature("genres", "bag"),)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_files(folder)
    run_program.run(make_config(folder), Workdir(folder / "run"))
    return folder


@pytest.fixture
def home(finished, tmp_path, monkeypatch):
    """A folder of its own with the files and the run, which the programs are started on."""
    shutil.copytree(finished, tmp_path / "home")
    path = tmp_path / "home/run/config.json"
    files = read_manifest(tmp_path / "home/run/manifest.json")
    files["files"].pop("config.json")  # names the files of the copy
    write_manifest(tmp_path / "home/run/manifest.json", files)
    path.write_text(path.read_text().replace(str(finished), str(tmp_path / "home")))
    monkeypatch.setattr(flags, "workdir", lambda: str(tmp_path / "home/run"))
    monkeypatch.setattr(flags, "config", lambda: make_config(tmp_path / "home"))
    monkeypatch.setattr(flags, "index", lambda settings: settings)
    for name in ("profile", "roll_back", "tensorflow", "verbose"):
        monkeypatch.setattr(flags, name, lambda: False)
    monkeypatch.setattr(flags, "sign_key", lambda: None)
    for module, name, value in ((inspect, "WORKDIR", str(tmp_path / "home/run")), (inspect, "OUT", "")):
        monkeypatch.setattr(module, name, type("Flag", (), {"value": value}))
    monkeypatch.setattr(baselines, "NAMES", type("Flag", (), {"value": ["random"]}))
    monkeypatch.setattr(export_tensorboard, "import_writer", lambda: None)
    return tmp_path / "home"


ENTRANCES = {
    "run": run_program.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "export": export.main,
    "baselines": baselines.main,
    "report": report.main,
    "export_tensorboard": export_tensorboard.main,
    "inspect": inspect.main,
    "compare": lambda: systems.read_slice(flags.workdir(), "vocabulary=known"),
}
CHANGES = {
    "items.csv": ("3,Comedy", "3,War", "data.candidates", "column 'genres' has changed"),
    "users.csv": ("7,27", "7,28", "data.queries", "column 'age' has changed"),
    "events.csv": ("0,0\n", "0,1\n", "data.interactions", "column 'item_id' has changed"),
}


def change(home, name):
    before, now, field, difference = CHANGES[name]
    path = home / name
    assert f"\n{before}" in path.read_text()
    path.write_text(path.read_text().replace(f"\n{before}", f"\n{now}"))
    return f"was begun on other data:\n  {field} ({path}): {difference}"


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_refuses_other_attributes_of_the_same_ids(home, entrance):
    message = change(home, "items.csv")
    before = contents(home)
    with pytest.raises(ValueError) as found:
        ENTRANCES[entrance]()
    assert message in str(found.value) and "use another --workdir, or the data of then" in str(found.value)
    assert contents(home) == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_finished_run_is_not_taken_for_that_of_other_data(home, capsys, name):
    run_program.main()
    assert "finished; nothing to do" in capsys.readouterr().out
    message = change(home, name)
    with pytest.raises(ValueError) as found:
        run_program.main()
    assert message in str(found.value) and "nothing to do" not in capsys.readouterr().out


def test_a_model_in_python_is_neither_evaluated_nor_exported_with_other_data(home):
    config, workdir = make_config(home), Workdir(home / "run")
    dataset = load_data(config, workdir)
    trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    other, index = dataclasses.replace(dataset, queries=None), bundle.load(workdir.bundle).index
    message = "the model was trained on other data:\n  data.queries .*users.csv.*is not there any more\ntrain it again"
    with pytest.raises(ValueError, match=message):
        evaluate_trained(config, other, trained)
    with pytest.raises(ValueError, match=message):
        export_trained(config, other, trained, index, home / "bundle", metrics={}, intervals={})
    with pytest.raises(ValueError, match="was trained with another config, vocabulary or data"):
        search_and_fit.restore(config, other, workdir.checkpoints, workdir.read_choice())


@pytest.mark.parametrize(
    ("name", "entrance", "remedy"),
    [
        ("config.json", "evaluate", "run it anew in another --workdir"),
        ("manifest.json", "export", "run it anew in another --workdir"),
        ("checkpoints/choice.json", "export", "remove it: experiments.train then chooses again"),
        ("metrics.jsonl", "report", "remove it and checkpoints/choice.json"),
        ("metrics.json", "export", "remove it and evaluate again"),
        ("intervals.json", "report", "remove it and evaluate again"),
        ("slices.json", "report", "remove it and evaluate again"),
    ],
)
def test_a_file_with_another_digit_is_refused_with_the_remedy(home, name, entrance, remedy):
    workdir = Workdir(home / "run")
    workdir._files.list_file("config.json")
    path = home / "run" / name
    text = path.read_text()
    place = max(i for i, character in enumerate(text) if character in "1234567")
    path.write_text(text[:place] + str(int(text[place]) + 1) + text[place + 1 :])
    before = contents(home)
    with pytest.raises(ValueError) as found:
        ENTRANCES[entrance]()
    assert str(path) in str(found.value) and remedy in str(found.value)
    assert contents(home) == before


def test_metrics_of_each_query_that_changed_are_not_compared(home):
    path = home / "run/per_query/test.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="per_query/test.parquet has changed since it was written.*evaluate again"):
        systems.read_system(str(home / "run"))


def test_a_damaged_choice_is_made_again_once_it_is_removed(home):
    choice = home / "run/checkpoints/choice.json"
    whole = choice.read_bytes()
    choice.write_text('{"phase": "final", "epoch": 0}')
    with pytest.raises(ValueError, match="choice.json has changed since it was written"):
        export.main()
    choice.unlink()
    train.main()
    assert choice.read_bytes() == whole


def test_a_run_of_an_earlier_version_goes_on_and_says_what_is_not_checked(home, capsys):
    manifest = read_manifest(home / "run/manifest.json")
    dataset = load_data(make_config(home), Workdir(home / "run"))
    manifest["data"] = {"fingerprint": dataset.old_fingerprint(), "duplicates_dropped": 0}
    del manifest["files"]
    (home / "run/manifest.json").write_text(json.dumps(manifest))
    evaluate.main()
    output = capsys.readouterr().out
    assert "without hashes of config.json and checkpoints/choice.json: damage to them is not noticed" in output
    assert "no digests of columns: changes of the attributes of users and items are not noticed" in output
    change(home, "events.csv")
    with pytest.raises(ValueError, match="was begun on other data:\n  fingerprint"):
        evaluate.main()


def test_a_second_process_is_refused_and_harms_nothing(home):
    with Workdir(home / "run").claimed("trains"):
        before = contents(home)
        for entrance in set(ENTRANCES) - {"inspect", "compare"}:  # these two write nothing into the run
            with pytest.raises(FolderInUseError, match=f"trains in {home / 'run'}, pid [0-9]+; wait for it"):
                ENTRANCES[entrance]()
        assert contents(home) == before


@pytest.mark.slow
def test_a_run_that_is_killed_as_it_begins_has_its_folder_still(home, tmp_path):
    config = make_config(home)

    def begin(path):
        workdir = Workdir(path)
        with workdir.claimed("trains"):
            workdir.check(config)
            load_data(config, workdir)

    for last in itertools.count(1):
        path = tmp_path / f"killed_{last}"
        was_killed = run_killed(lambda path=path: begin(path), path, last)
        begin(path)
        assert Workdir(path).read_config() == config
        assert sorted(file.name for file in path.iterdir()) == ["config.json", "manifest.json"]
        if not was_killed:
            break
    assert last > 8


def test_what_killed_processes_left_goes_and_what_is_another_s_stays(home):
    run = home / "run"
    left = [".metrics.json.7", "checkpoints/.choice.json.7", "per_query/.test.parquet.7", "report/.curves.png.7"]
    others = [".notes.json.7", ".metrics.json.backup", "checkpoints/.mine.7"]
    for name in (*left, *others, ".lock"):
        (run / name).write_text("999999 trains\n")
    with Workdir(run).claimed("evaluates"):
        pass
    assert not [name for name in (*left, ".lock") if (run / name).exists()]
    assert all((run / name).exists() for name in others)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / ".config.json.12").write_text("")
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(ValueError, match="holds no run, but 'thesis.txt': .*; use another --workdir"):
        Workdir(tmp_path).claimed("trains").__enter__()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config.json.12", "thesis.txt"]


def test_verify_says_which_data_have_changed_since_the_export(home):
    path = home / "run/bundle/manifest.json"
    manifest = read_manifest(path)
    manifest["config"] = dataclasses.asdict(make_config(home))  # with the files of the copy
    write_manifest(path, manifest)
    assert changes_of_data(str(home / "run/bundle")) == ["data: as at the export"]
    change(home, "items.csv")
    (line,) = changes_of_data(str(home / "run/bundle"))
    file = home / "items.csv"
    assert line == f"data have changed since the export: data.candidates ({file}): column 'genres' has changed"
    file.write_text("item_id,genres\n")
    (line,) = changes_of_data(str(home / "run/bundle"))
    assert "they cannot be read any more" in line and "items.csv" in line
    file.unlink()
    assert changes_of_data(str(home / "run/bundle")) == []


def test_a_bundle_tells_the_digest_of_each_column_of_its_data(home):
    manifest, dataset = bundle.load(home / "run/bundle").manifest, load(make_config(home).data)
    assert manifest["data_columns"] == dataset.fingerprint.to_record()
    assert manifest["data_fingerprint"] == dataset.fingerprint.sha256
