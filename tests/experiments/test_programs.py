"""The programs, run as a user runs them."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet
import pytest
from program_cases import ROOT, contents, program, started

from retrieval.config.schema import Config, Data, Split
from retrieval.config.space import value_of, with_settings
from retrieval.data.dataset import load
from retrieval.evaluation.per_query import read_per_query
from retrieval.pipeline.checks import index_choices

SYNTHETIC = "--config=configs/synthetic.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "synthetic"
    return workdir, program("run", SYNTHETIC, "--verbose", f"--workdir={workdir}")


def test_a_run_leaves_everything_behind_and_says_where(finished):
    workdir, output = finished
    metrics = json.loads((workdir / "metrics.json").read_text())
    expected = [f"test/factorized_top_k/top_{k}_categorical_accuracy" for k in (1, 5, 10, 50, 100)]
    for name in ("precision_at_10", "recall_at_10"):
        expected += [f"test/excluding_seen/{name}", f"test/including_seen/{name}"]
        expected += [f"train/including_seen/{name}", f"popularity/excluding_seen/{name}"]
    expected += ["test/loss", "index/recall_at_10"]
    expected += [f"seconds/{stage}" for stage in ("data", "train", "evaluate", "export", "index", "total")]
    assert set(expected) <= metrics.keys()
    files = ["config.json", "metrics.jsonl", "manifest.json", "metrics.json", "intervals.json", "slices.json"]
    for path in (*files, "checkpoints", "bundle", "per_query"):
        assert (workdir / path).exists()
        assert str(workdir / path) in output
    assert output.count("\nUser ") == 3  # the tables of three users


def test_every_metric_of_a_system_has_an_interval_and_its_queries(finished):
    workdir = finished[0]
    metrics, intervals = (json.loads((workdir / f"{name}.json").read_text()) for name in ("metrics", "intervals"))
    for system in ("test", "popularity"):
        per_query = read_per_query(workdir / "per_query" / f"{system}.parquet")
        for name, value in per_query.means().items():
            low, high = intervals[f"{system}/{name}"]
            assert metrics[f"{system}/{name}"] == value
            if low is not None:  # as of the coverage of lists that are all the same
                assert low - 1e-12 <= value <= high + 1e-12
    slices = json.loads((workdir / "slices.json").read_text())
    assert {record["system"] for record in slices} == {"test", "popularity", "item_knn_bm25", "content"}
    assert {"head", "middle", "tail", "known", "cold"} <= {record["value"] for record in slices}


@pytest.mark.slow
def test_quiet_programs_tell_the_results_alone(finished):
    output = program("evaluate", f"--workdir={finished[0]}", "--quiet")
    assert "two towers  precision@10 0." in output and "epoch" not in output


def test_the_model_beats_the_most_popular(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    model, popular = (metrics[f"{system}/excluding_seen/precision_at_10"] for system in ("test", "popularity"))
    assert model > 2 * popular


def test_every_epoch_is_one_line_of_the_log(finished):
    records = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records if r["phase"] == "search"][:3] == [0, 1, 2]
    assert all("loss" in r for r in records if r["epoch"] > 0)


def test_the_manifest_tells_how_the_run_came_about(finished):
    manifest = json.loads((finished[0] / "manifest.json").read_text())
    assert manifest["seed"] == 0 and len(manifest["data"]["fingerprint"]) == 64
    assert {"versions", "git_commit", "device"} <= manifest.keys()
    assert manifest["versions"]["jax"]


def test_a_finished_run_is_left_alone(finished):
    before = contents(finished[0])
    assert "finished; nothing to do" in program("run", SYNTHETIC, f"--workdir={finished[0]}")
    assert contents(finished[0]) == before


def test_a_workdir_of_another_config_is_refused(finished):
    before = contents(finished[0])
    error = program("run", SYNTHETIC, f"--workdir={finished[0]}", "--config.train.seed=5", fails=True)
    assert "train.seed: 0, 5" in error
    assert contents(finished[0]) == before


@pytest.mark.parametrize("setting", ["hnsw.space=cosine", "threads=-1", "target_recall=1.0", "hnsw.M=1"])
def test_settings_of_the_index_are_checked_before_the_training(setting):
    config = Config()
    name, _, value = setting.partition("=")
    field = f"index.{name}"
    config = with_settings(config, {field: type(value_of(config, field))(value)})
    with pytest.raises(ValueError, match=f"^{field} must"):
        index_choices(config.index)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    assert "holds no run" in program("run", SYNTHETIC, f"--workdir={tmp_path}", fails=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_the_steps_alone_come_to_what_the_run_does(finished, tmp_path):
    program("train", SYNTHETIC, f"--workdir={tmp_path / 'steps'}")
    program("evaluate", f"--workdir={tmp_path / 'steps'}")
    output = program("export", f"--workdir={tmp_path / 'steps'}")
    for name in ("bundle", "bundle/exports/candidates.parquet", "bundle/exports/queries.parquet"):
        assert (tmp_path / "steps" / name).exists() and str(tmp_path / "steps" / name) in output
    steps = f"--workdir={tmp_path / 'steps'}"
    message = program("export", steps, "--index.target=0.5", fails=True)
    assert "error: --index.target=0.5: the config has no field 'index.target'; did you mean" in message
    message = program("export", steps, "--roll_back", fails=True)
    assert "error: there is no bundle before" in message
    steps_metrics, run_metrics = (
        json.loads((w / "metrics.json").read_text()) for w in (tmp_path / "steps", finished[0])
    )
    others = ("seconds/", "content/", "item_knn_bm25/")  # the run alone evaluates baselines
    assert steps_metrics == {name: value for name, value in run_metrics.items() if not name.startswith(others)}
    records = [
        json.loads((folder / "bundle/index/index.json").read_text()) for folder in (tmp_path / "steps", finished[0])
    ]
    assert records[0]["arrays"] == records[1]["arrays"] and records[0]["figures"] == records[1]["figures"]
    for name in ("candidate_embeddings.npy", "corpus.json", "seen_rows.npy"):
        assert (tmp_path / "steps/bundle" / name).read_bytes() == (finished[0] / "bundle" / name).read_bytes()
    before = json.loads((tmp_path / "steps/metrics.json").read_text())
    output = program(
        "export", steps, "--index.kind=hnsw", "--index.hnsw.M=5", "--index.hnsw.ef=10", "--index.target_recall=0.9999"
    )
    assert "index: hnsw, recall@10 " in output and "warning: 0.9999 was meant" in output
    assert json.loads((tmp_path / "steps/bundle/index/index.json").read_text())["settings"]["M"] == 5
    assert (tmp_path / "steps/bundle.previous/exports/candidates.parquet").exists()
    assert json.loads((tmp_path / "steps/metrics.json").read_text()) != before
    program("export", steps, "--roll_back")
    assert json.loads((tmp_path / "steps/metrics.json").read_text()) == before


def test_recommendations_are_titles(finished):
    output = program("recommend", f"--bundle={finished[0] / 'bundle'}", "--user_id=10", "--k=3")
    assert len(output.splitlines()) == 3 and all("Group" in line for line in output.splitlines())


def test_an_unknown_user_is_told(finished):
    output = program("recommend", f"--bundle={finished[0] / 'bundle'}", "--user_id=12345", "--k=3")
    assert "12345 is not in the vocabulary: this is the answer for an unknown user" in output


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(finished, tmp_path):
    workdir = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.run", SYNTHETIC, f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (workdir / "metrics.json").exists()
    program("run", SYNTHETIC, f"--workdir={workdir}")
    resumed, whole = (json.loads((w / "metrics.json").read_text()) for w in (workdir, finished[0]))
    assert {k: v for k, v in resumed.items() if "seconds" not in k} == {
        k: v for k, v in whole.items() if "seconds" not in k
    }


@pytest.mark.slow
def test_a_profile_is_written_beside_the_same_metrics(finished, tmp_path):
    workdir = tmp_path / "profiled"
    output = program("train", SYNTHETIC, f"--workdir={workdir}", "--profile")
    assert f"xprof --logdir={workdir / 'profile'}" in output
    (trace,) = (workdir / "profile").rglob("*.xplane.pb")
    assert b"run_block" in trace.read_bytes()
    machine_dependent = ("seconds", "per_second", "peak")
    logs = [(w / "metrics.jsonl").read_text().splitlines() for w in (workdir, finished[0])]
    profiled, plain = (
        [
            {k: v for k, v in json.loads(line).items() if not any(part in k for part in machine_dependent)}
            for line in lines
        ]
        for lines in logs
    )
    assert profiled == plain


@pytest.mark.slow
def test_a_training_that_breaks_says_so_and_keeps_its_last_checkpoint(tmp_path):
    broken = ["--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e30"]
    error = program("run", SYNTHETIC, f"--workdir={tmp_path / 'run'}", *broken, fails=True)
    assert error.startswith("error: the ") and "not finite" in error and "lower the learning rate" in error
    assert [path.name for path in (tmp_path / "run/checkpoints/search").iterdir()] == ["000000.checkpoint"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.train.epoch=3"], "no field 'train.epoch'; did you mean 'train.epochs'?"),
        (["--config.epochs=3"], "did you mean 'train.epochs'?"),
        (["--config.train.epochs=three"], "train.epochs must be a whole number, got 'three'"),
        (["--config=configs/nowhere.py"], "No such file or directory: 'configs/nowhere.py'"),
        (["--config=configs/movielens_100k.py:no"], "variant must be"),
        (["--config.data.split.test_fraction=1.5"], "data.split.test_fraction must be above 0, below 1, got 1.5"),
        (["--config.optimizer.name=adagard"], "got 'adagard'; did you mean 'adagrad'?"),
        (["--config.evaluate.ks=0"], "evaluate.ks[0] must be 1 or more, at most 1,048,576, got 0"),
        (["--config.loss.reduction=median"], "loss.reduction must be one of 'sum', 'mean', got 'median'"),
        (["epochs=3"], "flags begin with --"),
    ],
)
def test_a_mistake_is_explained_in_one_message(tmp_path, arguments, message):
    error = program("run", SYNTHETIC, f"--workdir={tmp_path / 'run'}", *arguments, fails=True)
    assert message in error
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.slow
def test_a_mistake_does_not_take_the_folder(tmp_path):
    short = [SYNTHETIC, f"--workdir={tmp_path / 'run'}", "--config.train.epochs=1"]
    program("run", *short, "--config.data.split.test_fraction=1.5", fails=True)
    assert not (tmp_path / "run").exists()
    program("run", *short, "--config.model.precision=float16", fails=True)
    program("run", *short)
    assert json.loads((tmp_path / "run/config.json").read_text())["model"]["precision"] == "float32"


def test_help_shows_the_command_and_the_flags():
    text = started("run", "--help").stdout
    assert "python -m experiments.run --config=configs/movielens_100k.py" in text
    assert (
        re.search(r"^  --workdir=WORKDIR  .required.\n      Folder of the run", text, re.M)
        and "--config=CONFIG" in text
    )


@pytest.mark.slow
def test_own_interactions_run_from_files(tmp_path):
    events = tmp_path / "events.tsv"
    with events.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["who", "what"])
        writer.writerows((f"user{u}", f"item{(u + 5 * i) % 40}") for u in range(60) for i in range(8))
    program(
        "run",
        "--config=configs/my_interactions.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.interactions={events}",
        "--config.data.columns.query_id=who",
        "--config.data.columns.candidate_id=what",
        "--config.train.batch_size=64",
        "--config.train.epochs=3",
        "--config.evaluate.top_k_accuracies=1,10",
    )
    output = program("recommend", f"--bundle={tmp_path / 'run/bundle'}", "--user_id=user7", "--k=2")
    assert output.count("item") == 2


@pytest.mark.slow
def test_items_that_nobody_has_chosen_are_ranked_by_their_attributes(tmp_path):
    """Each user chooses one of two kinds; the items held out are found by their kind, and by nothing else."""
    items = [f"{kind}{i}" for i in range(30) for kind in "ab"]
    with (tmp_path / "events.csv").open("w", newline="") as file:
        pairs = [(f"user{u}", item) for u in range(40) for item in items if item[0] == "ab"[u % 2]]
        csv.writer(file).writerows([("user_id", "item_id"), *pairs])
    with (tmp_path / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("item_id", "kind"), *((item, f"{item[0]}|any") for item in items)])
    flags = [
        "--config=configs/my_items.py:kind",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.interactions={tmp_path / 'events.csv'}",
        f"--config.data.candidates={tmp_path / 'items.csv'}",
        "--config.train.epochs=4",
        "--config.evaluate.ks=5,20",
        "--config.data.split.test_fraction=0.4",
    ]
    output = program("run", *flags, "--verbose") + program("baselines", *flags, "--baselines=content,random")
    assert "training, s " in output
    assert output.count("full corpus, among the items that train does not have") == 2
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    model, content, chance = (
        metrics[f"{system}/cold_candidates/precision_at_5"] for system in ("test", "content", "random")
    )
    assert model == content == 1 and chance < 0.8


@pytest.mark.slow
def test_a_run_that_streams_a_parquet_file_gives_the_metrics_of_one_in_memory(tmp_path):
    parts = load(Data(dataset="synthetic", split=Split(validation_fraction=0.0))).parts
    for name, part in (("train", parts.train), ("test", parts.test)):
        columns = {"user_id": part.query_ids, "item_id": part.candidate_ids}
        pa.parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    fields = {"train": tmp_path / "train.parquet", "test": tmp_path / "test.parquet", "cache": tmp_path}
    fields |= {"dataset": "", "drop_duplicates": False}
    runs = []
    for placement in ("device", "stream"):
        flags = [f"--config.data.{name}={value}" for name, value in (fields | {"placement": placement}).items()]
        workdir = tmp_path / placement
        program("run", SYNTHETIC, f"--workdir={workdir}", "--config.train.epochs=2", *flags)
        metrics = json.loads((workdir / "metrics.json").read_text())
        runs.append({name: value for name, value in metrics.items() if "seconds/" not in name})
    assert runs[0] == runs[1]
