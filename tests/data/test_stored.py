"""Interactions encoded out of core are those of the file read whole; half-written ones are never used."""

import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.data import interactions as interactions_module
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.out_of_core import stored
from retrieval.data.readers.files import read_interactions
from retrieval.data.vocabulary import Vocabulary

NAMES = {"query_id": "user", "candidate_id": "item"}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(stored, "READ_ROWS", 3)
    monkeypatch.setattr(interactions_module, "WINDOW", 4)


def write(folder, users, items, name="train.parquet", row_group_size=4):
    path = folder / name
    pa.parquet.write_table(pa.table({"user": users, "item": items}), path, row_group_size=row_group_size)
    return path


def encode(path, **names):
    return stored.encode(path, path.parent / "cache", **(NAMES | names))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    assert ours.fingerprint() == theirs.fingerprint()
    for a, b in zip(ours.distinct_ids, theirs.distinct_ids, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    for name in ("query_ids", "candidate_ids"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


INTEGERS = st.integers(0, 30)
TEXTS = st.sampled_from(["a", "b", "long one", "é", "7", "007", "12"])


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(INTEGERS, TEXTS), min_size=1, max_size=20), text_of=st.sampled_from([int, str]))
def test_encoded_interactions_are_those_of_the_file_read_whole(tmp_path, pairs, text_of):
    users, items = zip(*pairs, strict=True)
    path = write(tmp_path, [text_of(user) for user in users], list(items))
    assert_same(encode(path), read_interactions(path, **NAMES))


def test_ids_are_text_if_one_of_them_is_however_late_it_comes(tmp_path):
    items = ["10", "9", "10", "9", "10", "9", "x", "10"]
    ours = encode(write(tmp_path, list(range(8)), items))
    assert ours.distinct_ids[1].tolist() == ["10", "9", "x"]
    assert ours.candidate_ids.tolist() == items


def test_categories_are_the_ids_they_stand_for(tmp_path):
    items = pa.array(["b", "a", "b", "c", "a"]).dictionary_encode()
    assert encode(write(tmp_path, [1, 2, 3, 4, 5], items)).candidate_ids.tolist() == ["b", "a", "b", "c", "a"]


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path, rng.integers(0, 9, 50), rng.integers(100, 120, 50))
    return encode(path), read_interactions(path, **NAMES)


@pytest.mark.parametrize("rows", [slice(3, 20), slice(0, 0), np.array([7, 7, 0]), np.arange(50) % 3 == 0])
def test_taking_events_gives_them_in_memory(pair, rows):
    ours, theirs = (interactions.take(rows) for interactions in pair)
    assert type(ours) is Interactions
    assert_same(ours, theirs)


def test_pieces_are_the_events_in_order(pair):
    sizes, ids = zip(*((len(piece), piece.query_ids) for piece in pair[0].pieces()), strict=True)
    assert sizes == (*[4] * 12, 2)
    assert np.array_equal(np.concatenate(ids), pair[1].query_ids)


def test_examples_of_their_own_vocabularies_are_the_files(pair):
    ours, theirs = pair
    corpus = Table(np.arange(100, 120))
    encoding = Encoding.fit(ours, corpus)
    examples, expected = encoding.examples(ours), Encoding.fit(theirs, corpus).examples(theirs)
    for a, b in zip(examples[:3], expected[:3], strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert all(isinstance(column, np.memmap) for column in examples[:2])
    assert np.array_equal(encoding.counts(examples), encoding.counts(expected))


def test_rows_in_other_vocabularies_are_those_of_the_ids(pair):
    ours, theirs = pair
    queries, candidates = Vocabulary([5, 6, 77]), Vocabulary(np.arange(90, 130))
    for a, b in zip(ours.rows_in(queries, candidates), theirs.rows_in(queries, candidates), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_what_a_query_has_seen_is_found_piece_by_piece(pair):
    ours, theirs = pair
    encoding = Encoding.fit(theirs, Table(np.arange(100, 120)))
    held_out = Interactions([3, 3, 8, 55], [101, 102, 103, 104])
    a, b = encoding.targets(held_out, ours).seen, encoding.targets(held_out, theirs).seen
    assert np.array_equal(a.offsets, b.offsets) and np.array_equal(a.rows, b.rows)


def test_a_file_is_encoded_once_and_another_content_or_column_anew(tmp_path, monkeypatch):
    path = write(tmp_path, [1, 2, 3], [7, 7, 8])
    written = []
    whole = stored._write
    monkeypatch.setattr(stored, "_write", lambda *arguments: written.append(1) or whole(*arguments))
    encode(path), encode(path)
    assert len(written) == 1
    assert encode(path, query_id="item", candidate_id="user").query_ids.tolist() == [7, 7, 8]
    write(tmp_path, [1, 2, 4], [7, 7, 8])
    assert encode(path).query_ids.tolist() == [1, 2, 4]
    assert len(written) == 3


def test_an_interrupted_encoding_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    path = write(tmp_path, [1, 2, 3, 4, 5], [7, 7, 8, 9, 7])
    calls = []

    def interrupted(vocabulary, column):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(vocabulary, column)

    whole = stored._rows
    monkeypatch.setattr(stored, "_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(path)
    assert os.listdir(tmp_path / "cache") == []
    assert encode(path).query_ids.tolist() == [1, 2, 3, 4, 5]


def whole_cache(folder):
    path = write(folder, [1, 2, 3, 9], [70, 70, 80, 90])
    encode(path)
    (home,) = (folder / "cache").iterdir()
    return path, home


def is_warned(caplog, path):
    (record,) = caplog.records
    return record.levelname == "WARNING" and f"{path} is encoded again" in record.getMessage()


FILES = ["candidate_ids.npy", "candidate_rows.npy", "manifest.json", "query_ids.npy", "query_rows.npy"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_cache_changes_no_id(tmp_path, caplog, name, place, bit):
    path, home = whole_cache(tmp_path)
    content = bytearray((home / name).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    (home / name).write_bytes(content)
    caplog.clear()
    assert_same(encode(path), read_interactions(path, **NAMES))
    is_same_json = name == "manifest.json" and not caplog.records  # a flip in a blank, say
    assert is_same_json or is_warned(caplog, path)
    caplog.clear()
    assert_same(encode(path), read_interactions(path, **NAMES))
    assert is_same_json or not caplog.records  # it was mended


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "missing", "folder"])
def test_a_cache_with_half_a_file_is_encoded_again(tmp_path, caplog, name, damage):
    path, home = whole_cache(tmp_path)
    content = (home / name).read_bytes()
    (home / name).unlink()
    if damage == "truncated":
        (home / name).write_bytes(content[: len(content) // 2])
    elif damage == "folder":
        (home / name).mkdir()
    assert_same(encode(path), read_interactions(path, **NAMES))
    assert is_warned(caplog, path) and sorted(os.listdir(home)) == FILES
    assert os.listdir(tmp_path / "cache") == [home.name]


def test_the_cache_of_other_columns_under_this_name_is_not_used(tmp_path, caplog):
    path, home = whole_cache(tmp_path)
    encode(path, query_id="item", candidate_id="user")
    (other,) = set((tmp_path / "cache").iterdir()) - {home}
    shutil.rmtree(home)
    other.rename(home)
    assert_same(encode(path), read_interactions(path, **NAMES))
    assert is_warned(caplog, path)


def test_what_a_killed_encoding_leaves_goes(tmp_path):
    path, home = whole_cache(tmp_path)
    left = home.with_name(f".{home.name}-abcdefgh.partial")
    (left / "new").mkdir(parents=True)
    shutil.rmtree(home)
    encode(path)
    assert os.listdir(tmp_path / "cache") == [home.name]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, [1, 2, 3, 4], [7, 7, 8, 8])
    reads = [
        stored._read(path, ("user", "item")),
        stored._read(write(tmp_path, [1, 2, 3, 5], [7] * 4, "b"), ("user", "item")),
    ]
    monkeypatch.setattr(stored, "_read", lambda *_: reads.pop(0))
    with pytest.raises(DataError, match="row 4, column 'user': an id that the first pass did not find, got 5"):
        encode(path)


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([1, 2, 3, 4, None], "row 5, column 'user': missing id, got None"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "row 1, column 'user': ids must be integers or text"),
    ],
)
def test_a_mistake_is_reported_with_its_row(tmp_path, users, message):
    with pytest.raises(DataError, match=message):
        encode(write(tmp_path, users, [1] * 5))


def test_a_file_that_lacks_a_column_or_rows_or_is_none_is_refused(tmp_path):
    path = write(tmp_path, [1], [2])
    with pytest.raises(DataError, match="no column 'users', got 'user', 'item'; did you mean 'user'"):
        encode(path, query_id="users")
    with pytest.raises(DataError, match="need a column each, got 'user' for both"):
        encode(path, candidate_id="user")
    with pytest.raises(DataError, match="has no rows"):
        encode(write(tmp_path, pa.array([], pa.int64()), pa.array([], pa.int64()), "empty.parquet"))
    (tmp_path / "text.parquet").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        encode(tmp_path / "text.parquet")


def test_text_is_asked_for_of_each_column_by_itself(tmp_path):
    mixed = encode(write(tmp_path, ["a", "b"], [1, 2]))
    assert mixed.with_text_ids(True, False) is mixed and mixed.with_text_ids(False, False) is mixed
    for queries in (False, True):
        with pytest.raises(ValueError, match="the candidate ids of the train part are integers"):
            mixed.with_text_ids(queries, True)
