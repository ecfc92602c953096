"""A bundle is replaced whole or not at all, whatever happens on the way, and the one before comes back."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from bundle_cases import CORPUS, EVERYBODY, QUERIES, copy, save, sign
from program_cases import started

from retrieval.common import folders
from retrieval.data.interactions import Table
from retrieval.serving import bundle
from retrieval.serving.bundle.golden import ask, differences
from retrieval.serving.exports.parquet import write_vectors

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return save(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def folder(old, tmp_path):
    return copy(old, tmp_path / "bundle")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_sound(folder):
    return not any(finding.problems for finding in bundle.inspect(folder))


@pytest.mark.parametrize("limit", [0, 300, 3000, 8000])
def test_a_full_disk_leaves_the_old_bundle(folder, limit):
    before = contents(folder.parent)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError):
            save(folder, scale=2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(folder.parent) == before
    assert is_sound(folder)


def killed_save(folder, last):
    command = [sys.executable, str(ROOT / "tests/cases/killed_save.py"), str(folder), str(last), "2.0"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.mark.slow
def test_a_save_that_is_killed_leaves_a_whole_bundle(old, tmp_path):
    counted = killed_save(copy(old, tmp_path / "counted" / "bundle"), 0)
    assert counted.returncode == 0, counted.stderr
    number = int(counted.stdout)
    assert number > 40
    answers = {
        name: bundle.load(path).recommend(EVERYBODY, 3).scores
        for name, path in (("old", old), ("new", tmp_path / "counted" / "bundle"))
    }
    assert not np.allclose(answers["old"], answers["new"])
    points = np.random.default_rng(0).choice(np.arange(1, number - 4), 15, replace=False).tolist()
    seen = set()
    for last in sorted([*points, *range(number - 4, number + 1)]):
        folder = copy(old, tmp_path / "killed" / "bundle")
        result = killed_save(folder, last)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert is_sound(folder), f"killed at {last} of {number}"
        scores = bundle.load(folder).recommend(EVERYBODY, 3).scores
        seen |= {name for name, known_scores in answers.items() if np.array_equal(known_scores, scores)}
        save(folder, scale=2.0)  # what the killed one left is in nobody's way
        assert np.array_equal(bundle.load(folder).recommend(EVERYBODY, 3).scores, answers["new"])
    assert seen == {"old", "new"}


def test_there_is_a_bundle_at_each_instant_of_a_replacement(folder, tmp_path, monkeypatch):
    instants, new = [], copy(folder, tmp_path / "new")

    def watched(name):
        call = getattr(os, name)

        def replacement(*arguments, **keywords):
            instants.append(is_whole(folder))
            result = call(*arguments, **keywords)
            instants.append(is_whole(folder))
            return result

        monkeypatch.setattr(os, name, replacement)

    def is_whole(folder):
        return (folder / bundle.MANIFEST).is_file()

    for name in ("rename", "fsync", "rmdir", "unlink", "open"):
        watched(name)
    folders.replace_folder(new, folder, tmp_path / "kept")
    folders.replace_folder(copy(folder, tmp_path / "new"), folder, tmp_path / "kept")
    assert len(instants) > 20 and all(instants)


def test_a_bundle_is_loaded_whole_while_others_take_its_place(folder, tmp_path):
    other = save(tmp_path / "other", scale=2.0)
    answers = [bundle.load(path).recommend(EVERYBODY, 3).scores for path in (folder, other)]
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            folders.exchange(other, folder)
            time.sleep(0.02)

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        found = [bundle.load(folder).recommend(EVERYBODY, 3).scores for _ in range(8)]
    finally:
        stop.set()
        writer.join()
    assert all(any(np.array_equal(scores, answer) for answer in answers) for scores in found)


def test_the_bundle_before_is_kept_and_comes_back(folder):
    before = bundle.load(folder).recommend(EVERYBODY, 3).scores
    with pytest.raises(ValueError, match="there is no bundle before .*: .*bundle.previous does not exist"):
        bundle.roll_back(folder)
    (folder / bundle.EXPORTS).mkdir()
    export = folder / bundle.EXPORTS / "candidates.parquet"
    export.write_text("of the first")
    save(folder, scale=2.0)
    assert not export.exists()  # what is made of one bundle never lies beside another
    after = bundle.load(folder).recommend(EVERYBODY, 3).scores
    bundle.roll_back(folder)
    assert np.array_equal(bundle.load(folder).recommend(EVERYBODY, 3).scores, before)
    assert export.read_text() == "of the first"
    bundle.roll_back(folder)
    assert np.array_equal(bundle.load(folder).recommend(EVERYBODY, 3).scores, after)


def test_what_is_made_of_a_bundle_takes_its_place_with_it_or_not_at_all(folder):
    def exports(made, recommender):
        scores = recommender.recommend(EVERYBODY, 3).scores
        assert is_sound(made.parent) and np.array_equal(bundle.load(made.parent).recommend(EVERYBODY, 3).scores, scores)
        (made / "candidates.parquet").write_text("of the new one")

    def break_off(made, recommender):
        exports(made, recommender)
        raise OSError("the disk is full")

    before = contents(folder.parent)
    with pytest.raises(OSError, match="the disk is full"):
        save(folder, scale=2.0, exports=break_off)
    assert contents(folder.parent) == before
    save(folder, scale=2.0, exports=exports)
    assert (folder / bundle.EXPORTS / "candidates.parquet").exists() and is_sound(folder)
    assert contents(bundle.previous(folder)) == contents_of_the_old(before)


def contents_of_the_old(before):
    return {path.relative_to("bundle"): content for path, content in before.items()}


def test_a_damaged_bundle_does_not_come_back(folder):
    save(folder, scale=2.0)
    (bundle.previous(folder) / "corpus.json").write_text("")
    with pytest.raises(ValueError, match="bundle.previous/corpus.json has changed"):
        bundle.roll_back(folder)
    assert is_sound(folder)


@pytest.mark.parametrize("name", ["bundle", "bundle.previous"])
def test_what_is_no_bundle_is_not_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("the only copy")
    with pytest.raises(ValueError, match=f"{name} exists and is no bundle; move it"):
        save(tmp_path / "bundle")
    assert (tmp_path / name / "thesis.txt").exists() and len(list(tmp_path.iterdir())) == 1


def test_a_bundle_says_how_it_came_about(folder):
    manifest = bundle.load(folder).manifest
    assert manifest["figures"] == {"index/recall_at_10": 1.0} and "jax" in manifest["versions"]
    for facts in manifest["files"].values():
        assert facts["size"] > 0 and len(facts["sha256"]) == 64


def test_golden_queries_are_of_all_kinds(folder):
    records = json.loads((folder / "golden.json").read_text())
    requests = [record["request"] for record in records]
    assert any("features" in request for request in requests) and all(
        any(name in request for request in requests) for name in ("exclude", "filter")
    )
    assert any(request.get("exclude_seen") is False for request in requests)
    assert {known for record in records for known in record["answer"]["known"]} == {True, False}


def test_golden_queries_hold_the_numbers_of_features_and_none_for_missing_ones(tmp_path):
    table = Table(
        QUERIES.ids,
        {"age": np.array([20.5, np.nan, 40.0, 50.0]), "zip": QUERIES.columns["zip"]},
    )
    records = ask(bundle.load(save(tmp_path / "bundle")), table)
    (rows,) = (record["request"]["features"] for record in records if "features" in record["request"])
    assert rows == [{"age": 20.5}, {"age": None}, {"age": 40.0}, {"age": 50.0}]


def replayed(folder, change):
    """Returns how the bundle answers golden queries in another way once their records are changed."""
    records = json.loads((folder / "golden.json").read_text())
    change(records)
    return differences(bundle.load(folder), records)


@pytest.mark.parametrize("place", range(4))
def test_an_answer_that_is_changed_in_any_place_is_named(folder, place):
    def change(records):
        ids = records[1]["answer"]["ids"][0]
        ids[place], ids[place - 1] = ids[place - 1], ids[place]

    def put_an_unknown_one(records):
        records[1]["answer"]["ids"][0][place] = 12345

    for changed in (change, put_an_unknown_one):
        assert all("golden queries 1, query 0: got " in problem for problem in replayed(folder, changed))
        assert len(replayed(folder, changed)) == 1


def test_candidates_of_nearly_equal_scores_may_change_places(folder, monkeypatch):
    def change(records):
        answer = records[1]["answer"]
        for own, known in zip(answer["ids"], answer["scores"], strict=True):
            own[0], own[1] = own[1], own[0]
            known[0] = known[1] = (known[0] + known[1]) / 2

    assert replayed(folder, change)
    monkeypatch.setattr("retrieval.serving.bundle.golden.TOLERANCE", 100.0)
    assert replayed(folder, change) == []


def test_a_record_that_asks_for_too_much_is_refused(folder):
    with pytest.raises(ValueError, match="k must be at most 1,048,576, got 10"):
        replayed(folder, lambda records: records[0]["request"].update(k=10**15))


def verify(folder):
    return started("verify", f"--bundle={folder}")


def test_the_program_prints_a_verdict(folder):
    result = verify(folder)
    checks = ["manifest", "files", "hashes", "pairing", "candidate tower", "golden queries"]
    lines = result.stdout.splitlines()
    assert [line.split("  ")[:2] for line in lines[1:-1]] == [[check, "ok"] for check in checks]
    assert lines[-1] == "verdict: sound" and result.returncode == 0


def test_the_program_names_what_does_not_match(folder):
    path = folder / "seen_rows.npy"
    np.save(path, np.load(path)[::-1])
    result = verify(folder)
    assert f"mismatch: {path} has changed since it was written" in result.stdout and result.returncode == 1
    assert result.stdout.splitlines()[-1] == "verdict: 1 mismatches, do not serve it"
    sign(folder)
    result = verify(folder)
    assert "mismatch: " in result.stdout and "golden.json: golden queries 0, query" in result.stdout
    assert result.returncode == 1 and "Traceback" not in result.stderr


def test_embeddings_are_written_for_vector_databases(tmp_path):
    embeddings = np.arange(10, dtype=np.float32).reshape(5, 2)
    table = Table(CORPUS.ids[1:], {name: column[1:] for name, column in CORPUS.columns.items()})
    table = Table(table.ids, {**table.columns, "id": np.arange(4), "vector": np.ones((4, 3), np.float32)})
    write_vectors(tmp_path / "vectors.parquet", CORPUS.ids, embeddings, table)
    read = pq.read_table(tmp_path / "vectors.parquet")
    assert str(read.schema.field("embedding").type) == "fixed_size_list<element: float>[2]"
    assert read["id"].to_pylist() == CORPUS.ids.tolist() and read["embedding"].to_pylist() == embeddings.tolist()
    assert read["genres"].to_pylist() == [None, "War", "", "Drama|Comedy", "Comedy"]
    assert read["attribute_id"].to_pylist() == [None, 0, 1, 2, 3]
    assert read["seller"].to_pylist() == [None, 2**53 + 4, None, 2**53 + 2, 7]
    assert read["in_stock"].to_pylist() == [None, False, None, True, False]
    assert read["tags"].to_pylist() == [None, ["a"], [], ["b"], ["c"]]
    assert read["vector"].to_pylist() == [None, *[[1.0] * 3] * 4]
    with pytest.raises(ValueError, match="5 embeddings needed"):
        write_vectors(tmp_path / "vectors.parquet", CORPUS.ids, embeddings[1:])
    write_vectors(tmp_path / "bare.parquet", np.array(["a"]), embeddings[:1])
    assert pq.read_table(tmp_path / "bare.parquet").column_names == ["id", "embedding"]
