"""Attributes are the same values from a file to a filter: reader, table, bundle, live index and Parquet export."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundle_cases import CORPUS, save
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieval
from retrieval.config.schema import Feature
from retrieval.data.columns import to_list, type_of
from retrieval.data.interactions import Table
from retrieval.data.joined_values import join_values
from retrieval.data.readers import files
from retrieval.features.registry import fit
from retrieval.index import ExactIndex, Filter, Filters, LiveIndex
from retrieval.serving.bundle import layout
from retrieval.serving.exports.parquet import write_vectors

NEAR = st.integers(2**53 - 3, 2**53 + 5)  # neighbours that float64 takes for one
INTEGERS = NEAR | st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=4)
WORD = st.text("ab|\\ ", min_size=1, max_size=3) | TEXT
ROW = st.fixed_dictionaries(
    {
        "seller": st.none() | INTEGERS,
        "in_stock": st.none() | st.booleans(),
        "tags": st.lists(WORD, max_size=3),
        "price": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "name": TEXT.filter(lambda text: not text.strip() or not text.strip()[0].isdigit()).map(
            lambda text: f"x{text}"
        ),
    }
)
TYPES = {"seller": pa.int64(), "in_stock": pa.bool_(), "tags": pa.list_(pa.string()), "price": pa.float64()}
TYPES["name"] = pa.string()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chain")


def states(folder, rows):
    """Returns the table of rows after each step from a file on, by the name of the step."""
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    pq.write_table(pa.table({"item": range(len(rows)), **columns}), folder / "items.parquet")
    read = files.read_table(folder / "items.parquet", "item")
    vectors = np.eye(len(rows), dtype=np.float32) + 1
    write_vectors(folder / "vectors.parquet", read.ids, vectors, read)
    exported = files.read_table(folder / "vectors.parquet", "id")
    live = LiveIndex.build(read.ids[:1], ExactIndex.build(vectors[:1]), {n: c[:1] for n, c in read.columns.items()})
    live.add(read.ids[1:], vectors[1:], {name: [row[name] for row in rows[1:]] for name in TYPES})
    live.rebuild()
    live.save(folder / "live")
    return {
        "file": read,
        "Python": Table(range(len(rows)), {name: [row[name] for row in rows] for name in TYPES}),
        "bundle": layout.corpus_from_json(layout.corpus_to_json(read)),
        "live index": live.snapshot.filters.table,
        "saved live index": LiveIndex.load(folder / "live").snapshot.filters.table,
        "export": Table(exported.ids, {name: exported.columns[name] for name in TYPES}),
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=6), st.data())
def test_values_and_what_filters_find_are_the_same_at_each_step(folder, rows, data):
    sellers = [row["seller"] for row in rows if row["seller"] is not None]
    low, high = data.draw(st.none() | INTEGERS), data.draw(st.none() | INTEGERS)
    if None not in (low, high):
        low, high = sorted((low, high))
    seller = data.draw(st.sampled_from(sellers) | INTEGERS if sellers else INTEGERS)
    tag, flag = data.draw(WORD), data.draw(st.booleans())
    expected = {
        Filter(one_of={"seller": [seller]}): [row["seller"] == seller for row in rows],
        Filter(one_of={"in_stock": [flag]}): [row["in_stock"] is flag for row in rows],
        Filter(between={"seller": (low, high)}): [
            row["seller"] is not None
            and (low is None or row["seller"] >= low)
            and (high is None or row["seller"] <= high)
            for row in rows
        ],
    } | {
        Filter(one_of={"tags": [value]}): [value in row["tags"] for row in rows]
        for value in {tag, *(value for row in rows for value in row["tags"])}
    }
    for step, table in states(folder, rows).items():
        order = np.argsort(table.ids)
        for name in TYPES:
            if all(row[name] is None for row in rows):
                continue  # nothing tells the type in Python
            found = [to_list(table.columns[name])[i] for i in order]
            assert found == [None if row[name] is None else row[name] for row in rows] or name == "price", (step, name)
            if name == "price":
                np.testing.assert_array_equal(found, [np.nan if row[name] is None else row[name] for row in rows])
        for wanted, kept in expected.items():
            (name,) = wanted.one_of or wanted.between
            if all(row[name] is None for row in rows):
                continue
            assert Filters(table).mask(wanted)[order].tolist() == kept, (step, wanted)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | INTEGERS, min_size=1))
def test_categories_of_large_integers_have_a_row_each(values):
    column = Table(range(len(values)), {"seller": values}).columns["seller"]
    settings_ = Feature("seller")
    rows = fit(settings_, column).encode(column).rows.ravel().tolist()
    assert len({*zip(values, rows, strict=True)}) == len(set(values)) == len(set(rows))
    assert all((row == 0) == (value is None) for value, row in zip(values, rows, strict=True))
    assert fit(settings_, values).encode([None if v is None else str(v) for v in values]).rows.ravel().tolist() == rows


def test_a_bag_of_lists_has_the_values_of_the_lists():
    rows = [["a|b", "c"], [], ["a", " c"]]
    bag = fit(Feature("tags", kind="bag"), Table([1, 2, 3], {"tags": rows}).columns["tags"])
    assert bag.known == (" c", "a", "a|b", "c")
    joined = np.array([join_values(row) for row in rows])
    np.testing.assert_array_equal(bag.encode(joined).rows, bag.encode(rows).rows)


@pytest.mark.parametrize("known", [[True, False, None], ["True", "False", ""], ["TRUE", "FALSE", ""]])
def test_a_category_of_booleans_knows_each_spelling(known):
    category = fit(Feature("in_stock"), known)
    rows = category.encode([True, False, None]).rows.ravel().tolist()
    assert sorted(rows) == [0, 1, 2] and rows[2] == 0
    for spelled in (["true", "false", ""], ["True", "False", None], ["TRUE", "FALSE", ""]):
        assert category.encode(spelled).rows.ravel().tolist() == rows


def test_a_bundle_and_its_live_index_have_the_types_of_the_corpus(tmp_path):
    recommender = retrieval.load(save(tmp_path / "bundle"))
    live = recommender.live_index()
    for name, column in CORPUS.columns.items():
        loaded = recommender.corpus.columns[name]
        assert type_of(loaded) == type_of(column) and loaded.dtype == column.dtype
        np.testing.assert_array_equal(loaded, column)
    for conditions, expected in (
        ({"one_of": {"in_stock": [True]}}, {30, 99}),
        ({"one_of": {"seller": [2**53 + 3]}}, {30}),
        ({"between": {"seller": (2**53 + 3, 2**53 + 3)}}, {30}),
        ({"one_of": {"tags": ["a|b"]}}, {30}),
        ({"one_of": {"genres": ["Drama"]}}, {30, 99}),
    ):
        for index in (None, live):
            answer = recommender.recommend("nobody", 5, filter=Filter(**conditions), index=index)
            assert set(answer.ids[answer.scores > -np.inf].tolist()) == expected
    with pytest.raises(ValueError, match="attribute 'in_stock' holds booleans, got 'true' to compare it with"):
        recommender.recommend("nobody", filter=Filter(one_of={"in_stock": ["true"]}))


@pytest.mark.parametrize(
    "column",
    [
        {"dtype": "<i8", "values": [1.5]},
        {"dtype": "<i8", "values": ["1"]},
        {"dtype": "<i8", "values": [True]},
        {"dtype": "|b1", "values": [1]},
        {"dtype": "<i8", "values": [2**63]},
        {"dtype": "lists", "values": ["ab"]},
        {"dtype": "lists", "values": [["a", None]]},
        {"dtype": "U", "values": ["a\0"]},
        {"dtype": "U", "values": [7]},
        {"dtype": "<f8", "values": ["1.5"]},
        {"dtype": "<M8[s]", "values": [1]},
    ],
)
def test_values_of_another_type_than_a_corpus_names_are_refused(column):
    with pytest.raises(ValueError, match="not a corpus"):
        layout.corpus_from_json(json.dumps({"ids": [7], "columns": {"x": column}}))
