"""What is written of each query is what is read, and nothing else passes for it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval.evaluation.per_query import PerQuery, read_per_query, write_per_query

NAN = float("nan")
TWO = PerQuery(
    query_ids=np.array([3, 8, 9]),
    values={"recall_at_2": np.array([1.0, NAN, 0.5]), "interactions/hit_rate_at_2": np.array([1.0, 0.25, 0.0])},
    weights={"interactions/hit_rate_at_2": np.array([1.0, 4.0, 3.0])},
    test_set="abc",
)


def assert_same(a, b):
    assert a.query_ids.tolist() == b.query_ids.tolist() and a.query_ids.dtype.kind == b.query_ids.dtype.kind
    assert a.test_set == b.test_set
    for ours, theirs in ((a.values, b.values), (a.weights, b.weights)):
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_figures_are_weighted_means_where_defined():
    # (1 + 0.5) / 2 of the queries that have a recall; one hit of one and one of four among eight interactions.
    assert TWO.means() == {"recall_at_2": 0.75, "interactions/hit_rate_at_2": 2 / 8}


def test_a_metric_that_no_query_has_is_nan():
    empty = PerQuery(np.array([1]), {"auc": np.array([NAN])}, {}, "")
    assert np.isnan(empty.means()["auc"])
    assert np.isnan(empty.intervals(resamples=5)["auc"]).all()


def test_no_queries_and_no_metrics_have_no_figures():
    none = PerQuery(np.array([], np.int64), {"auc": np.array([])}, {}, "")
    assert np.isnan([none.means()["auc"], *none.intervals(resamples=5)["auc"]]).all()
    assert PerQuery(np.array([1]), {}, {}, "").intervals(resamples=5) == {}


def test_an_interval_holds_its_figure():
    low, high = TWO.intervals(resamples=200)["interactions/hit_rate_at_2"]
    assert 0 <= low < 0.25 < high <= 1


@given(
    st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.text(st.characters(codec="ascii"), min_size=1))),
    st.data(),
)
def test_a_file_holds_what_was_written(tmp_path_factory, ids, data):
    ids = np.unique(np.array(ids, None if ids else np.int64))
    columns = arrays.arrays(np.float64, len(ids), elements=st.floats(allow_infinity=False))
    values = data.draw(st.dictionaries(st.sampled_from(["auc", "a/ndcg_at_10", "b/map_at_5"]), columns))
    weights = {name: np.ones(len(ids)) for name in list(values)[:1]}
    path = tmp_path_factory.mktemp("file") / "test.parquet"
    written = PerQuery(ids, values, weights, "0af")
    write_per_query(path, written)
    assert_same(read_per_query(path), written)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_any_reader_of_parquet_sees_a_row_a_query(tmp_path):
    write_per_query(tmp_path / "test.parquet", TWO)
    table = pa.parquet.read_table(tmp_path / "test.parquet")
    assert table.column_names == ["query_id", *TWO.values, "weight/interactions/hit_rate_at_2"]
    assert len(table) == 3


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.9, -1])
def test_a_damaged_file_is_named(tmp_path, place):
    path = tmp_path / "test.parquet"
    noise = np.random.default_rng(0).random((2, 500))
    write_per_query(path, PerQuery(np.arange(500), {"auc": noise[0], "mean_rank": noise[1]}, {}, "abc"))
    content = bytearray(path.read_bytes())
    content[-1 if place < 0 else int(place * len(content))] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"test.parquet: it is damaged.*evaluate the run again"):
        read_per_query(path)


def test_a_file_cut_short_is_named(tmp_path):
    path = tmp_path / "test.parquet"
    write_per_query(path, TWO)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        read_per_query(path)


def test_a_foreign_file_is_named(tmp_path):
    pa.parquet.write_table(pa.table({"query_id": [1, 2]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="other.parquet: it holds no values of an evaluation"):
        read_per_query(tmp_path / "other.parquet")


def test_another_format_is_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.evaluation.per_query.FORMAT", 7)
        write_per_query(tmp_path / "test.parquet", TWO)
    with pytest.raises(ValueError, match="has format 7, known is 1"):
        read_per_query(tmp_path / "test.parquet")


def test_a_missing_file_is_missing_and_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="test.parquet"):
        read_per_query(tmp_path / "test.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.array([2, 1]), {}, {}), "ascending"),
        ((np.array(["a", "a"]), {}, {}), "ascending"),
        ((np.array([1, 2]), {"auc": np.ones(3)}, {}), "3 values of 'auc' for 2 queries"),
        ((np.array([1, 2]), {}, {"auc": np.ones(2)}), "weights of 'auc', which has no values"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PerQuery(*arguments, "")
