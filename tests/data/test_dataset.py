"""A data set from the fields of a config."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from retrieval.config.schema import Columns, Data, Split
from retrieval.data.dataset import load
from retrieval.data.out_of_core.stored import StoredInteractions

EVENTS = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "c"), ("u3", "b"), ("u3", "a")]


def write(path, rows, header="user_id,item_id"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def data(**fields):
    return Data(split=Split(test_fraction=0.5, validation_fraction=0.0), **fields)


def pairs(part):
    return list(zip(part.query_ids.tolist(), part.candidate_ids.tolist(), strict=True))


def test_one_file_is_split(tmp_path):
    dataset = load(data(interactions=write(tmp_path / "events.csv", EVENTS)))
    assert sorted(pairs(dataset.parts.train) + pairs(dataset.parts.test)) == sorted(EVENTS)
    assert dataset.parts.validation is None


def test_ready_made_parts_are_kept_as_they_are(tmp_path):
    dataset = load(
        data(
            train=write(tmp_path / "train.csv", EVENTS[:3]),
            validation=write(tmp_path / "validation.csv", EVENTS[3:4]),
            test=write(tmp_path / "test.csv", EVENTS[4:]),
        )
    )
    parts = dataset.parts
    assert [pairs(parts.train), pairs(parts.validation), pairs(parts.test)] == [
        EVENTS[:3],
        EVENTS[3:4],
        EVENTS[4:],
    ]


def test_the_corpus_is_every_candidate_seen_in_any_part(tmp_path):
    train, test = write(tmp_path / "train.csv", EVENTS[:2]), write(tmp_path / "test.csv", [("u1", "z")])
    assert load(data(train=train, test=test)).corpus.ids.tolist() == ["a", "b", "z"]


def test_the_table_of_candidates_is_the_corpus_with_its_titles(tmp_path):
    candidates = write(tmp_path / "items.csv", [("c", "C!"), ("a", "A!"), ("b", "B!"), ("d", "D!")], "item_id,name")
    dataset = load(
        data(
            interactions=write(tmp_path / "events.csv", EVENTS),
            candidates=candidates,
            columns=Columns(title="name"),
        )
    )
    assert dataset.corpus.ids.tolist() == ["c", "a", "b", "d"]
    assert dataset.corpus.columns["title"].tolist() == ["C!", "A!", "B!", "D!"]


def test_a_candidate_that_the_table_lacks_is_named(tmp_path):
    events = write(tmp_path / "events.csv", EVENTS)
    candidates = write(tmp_path / "items.csv", [("a",), ("c",)], "item_id")
    with pytest.raises(ValueError, match=r"2 interactions of .*events.csv .*items.csv lacks, the first in row 2: 'b'"):
        load(data(interactions=events, candidates=candidates))


def test_a_misspelt_title_column_is_named_with_the_nearest(tmp_path):
    events = write(tmp_path / "events.csv", EVENTS)
    candidates = write(tmp_path / "items.csv", [("a", "A"), ("b", "B"), ("c", "C")], "item_id,title")
    with pytest.raises(ValueError, match="no column 'titel' .* did you mean 'title'"):
        load(data(interactions=events, candidates=candidates, columns=Columns(title="titel")))


def test_repeated_pairs_are_dropped_and_counted_or_kept(tmp_path):
    path = write(tmp_path / "events.csv", [*EVENTS, EVENTS[0], EVENTS[0]])
    dropped = load(data(interactions=path))
    kept = load(data(interactions=path, drop_duplicates=False))
    assert (dropped.num_duplicates, kept.num_duplicates) == (2, 0)
    assert (len(dropped.parts.all()), len(kept.parts.all())) == (6, 8)


def test_integers_in_one_file_and_text_in_another_are_one_kind_of_id(tmp_path):
    train = write(tmp_path / "train.csv", [(1, 10), (2, 11)])
    test = write(tmp_path / "test.csv", [(2, "x")])
    candidates = write(tmp_path / "items.csv", [(10,), (11,), ("x",)], "item_id")
    dataset = load(data(train=train, test=test, candidates=candidates))
    assert dataset.parts.train.candidate_ids.tolist() == ["10", "11"]
    assert dataset.parts.train.query_ids.tolist() == [1, 2]


def write_parquet(path, rows):
    users, items = zip(*rows, strict=True)
    pa.parquet.write_table(pa.table({"user_id": list(users), "item_id": list(items)}), path)
    return str(path)


@pytest.fixture
def parquet(tmp_path):
    parts = {
        "train": write_parquet(tmp_path / "train.parquet", EVENTS),
        "test": write(tmp_path / "t.csv", [("u2", "z")]),
    }
    return parts | {"cache": str(tmp_path / "cache"), "drop_duplicates": False}


def test_a_streamed_train_part_in_parquet_is_the_same_data_out_of_core(parquet):
    whole, streamed = load(data(**parquet)), load(data(**parquet, placement="stream"))
    assert isinstance(streamed.parts.train, StoredInteractions)
    assert pairs(streamed.parts.train) == EVENTS
    assert streamed.corpus.ids.tolist() == whole.corpus.ids.tolist() == ["a", "b", "c", "z"]
    assert streamed.fingerprint == whole.fingerprint and streamed.old_fingerprint() == whole.old_fingerprint()


@pytest.mark.parametrize("fields", [{"drop_duplicates": True}, {"validation": "validation.csv"}])
def test_what_needs_the_train_part_in_memory_is_refused_out_of_core(parquet, fields):
    (field,) = fields
    with pytest.raises(ValueError, match=f"data.{field} needs the train part in memory.*set data.placement to 'auto'"):
        load(data(**parquet | fields, placement="stream"))


def test_integers_out_of_core_beside_text_are_refused(parquet, tmp_path):
    parquet["train"] = write_parquet(tmp_path / "integers.parquet", [(1, "a"), (2, "b")])
    with pytest.raises(ValueError, match="query ids of the train part are integers and those of another file are text"):
        load(data(**parquet, placement="stream"))


def test_an_unknown_placement_is_refused():
    with pytest.raises(ValueError, match="placement must be one of 'auto', 'device', 'stream', got 'disk'"):
        load(Data(dataset="synthetic", placement="disk"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "set data.dataset, or data.interactions, or both data.train and data.test"),
        ({"train": "t.csv"}, "both data.train and data.test"),
        ({"interactions": "e.csv", "test": "t.csv"}, "data.interactions and data.test are both set"),
        ({"dataset": "synthetic", "train": "t.csv"}, "data.dataset and data.train are both set"),
        ({"dataset": "movielens-100"}, "did you mean 'movielens-10"),
    ],
)
def test_a_source_that_is_missing_or_doubtful_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        load(Data(**fields))


def test_what_is_large_is_computed_once():
    dataset = load(Data(dataset="synthetic"))
    assert dataset.fingerprint is dataset.fingerprint
    assert dataset.parts.train_and_validation() is dataset.parts.train_and_validation()


def test_the_fingerprint_tells_splits_apart():
    same = load(Data(dataset="synthetic")).fingerprint.sha256
    assert same == load(Data(dataset="synthetic")).fingerprint.sha256
    assert same != load(Data(dataset="synthetic", split=Split(seed=7))).fingerprint.sha256


def test_synthetic_data_have_no_repeated_pair():
    parts = load(dataclasses.replace(Data(), dataset="synthetic", drop_duplicates=False)).parts
    assert len(np.unique(np.stack([parts.all().query_ids, parts.all().candidate_ids]), axis=1).T) == 12_000
