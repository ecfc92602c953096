"""The fingerprint of a data set covers every column of every file, and tells which one has changed."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.config.schema import Columns, Data, Split
from retrieval.data.dataset import Dataset, load
from retrieval.data.fingerprint import Fingerprint
from retrieval.data.interactions import Interactions, Table
from retrieval.data.splits import Parts

FILES = {  # the columns of each file, with another value for a cell of each
    "events.csv": {"user": "u9", "item": "i6", "stars": "1.5", "time": "77"},
    "items.csv": {"item": "i9", "name": "Other", "genres": "War", "price": "9.5"},
    "users.csv": {"user": "u8", "age": "99", "city": "Ulm"},
}
FIELDS = {"events.csv": "interactions", "items.csv": "candidates", "users.csv": "queries"}


def make_rows():
    events = [[f"u{i % 5}", f"i{(i % 5 + i // 5) % 6}", f"{1 + i % 4}.0", str(1000 + i)] for i in range(20)]
    items = [[f"i{i}", f"Item {i}", ["Comedy|Drama", "Drama"][i % 2], f"{i}.25"] for i in range(7)]
    users = [[f"u{i}", str(20 + i), ["Kiel", "Bonn"][i % 2]] for i in range(6)]
    return {"events.csv": events, "items.csv": items, "users.csv": users}


def load_rows(folder, rows, strategy="random"):
    for name, content in rows.items():
        lines = [",".join(row) for row in [list(FILES[name]), *content]]
        (folder / name).write_text("\n".join(lines) + "\n")
    files = {field: str(folder / name) for name, field in FIELDS.items()}
    columns = Columns(query_id="user", candidate_id="item", rating="stars", timestamp="time", title="name")
    return load(Data(**files, columns=columns, split=Split(strategy, test_fraction=0.2, validation_fraction=0.2)))


CELLS = [(name, column) for name, columns in FILES.items() for column in columns]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cell=st.sampled_from(CELLS), row=st.integers(0, 5), strategy=st.sampled_from(["random", "temporal"]))
def test_one_changed_cell_of_any_file_is_told_by_file_and_column(tmp_path, cell, row, strategy):
    name, column = cell
    rows = make_rows()
    before = load_rows(tmp_path, rows, strategy).fingerprint
    row = 6 if cell == ("items.csv", "item") else row  # the last item has no events, which the corpus could lack
    rows[name][row][list(FILES[name]).index(column)] = FILES[name][column]
    now = load_rows(tmp_path, rows, strategy)
    assert now.fingerprint.sha256 != before.sha256
    changed = f"data.{FIELDS[name]} ({tmp_path / name}): column {column!r} has changed"
    lines = now.differences(Fingerprint.from_record(json.loads(json.dumps(before.to_record()))))
    if cell != ("events.csv", "time") and (strategy, name) != ("temporal", "events.csv"):
        assert changed in lines and all(line.startswith(f"data.{FIELDS[name]} ") for line in lines)
    else:  # another time may move an event to another part
        assert any(line.startswith(f"data.{FIELDS[name]} ({tmp_path / name}): ") for line in lines)


def test_the_same_files_have_no_differences(tmp_path):
    before = load_rows(tmp_path, make_rows()).fingerprint
    again = load_rows(tmp_path, make_rows())
    assert again.differences(before) == [] and again.fingerprint.sha256 == before.sha256


def test_columns_and_rows_that_come_or_go_are_told(tmp_path):
    whole = load_rows(tmp_path, make_rows())
    fewer = Table(whole.corpus.ids, {name: whole.corpus.columns[name] for name in ("name", "title", "price")})
    place = f"data.candidates ({tmp_path / 'items.csv'}): "
    lines = Dataset(whole.parts, fewer, whole.queries, 0, whole.sources).differences(whole.fingerprint)
    assert lines == [place + "column 'genres' is not there any more"]
    fewer = Dataset(whole.parts, fewer, whole.queries, 0).fingerprint
    assert whole.differences(fewer) == [place + "column 'genres' is new"]
    rows = make_rows()
    rows["users.csv"].append(["u7", "44", "Ulm"])
    assert load_rows(tmp_path, rows).differences(whole.fingerprint) == [
        f"data.queries ({tmp_path / 'users.csv'}): 6 rows of queries before, 7 now"
    ]
    assert Dataset(whole.parts, whole.corpus, None, 0).differences(whole.fingerprint) == [
        "the table 'queries': is not there any more"
    ]


def test_the_order_of_candidates_counts():
    events = Interactions([1, 2, 3], [7, 8, 7])
    one, other = (Dataset(Parts(events, None, events), Table(ids), None, 0) for ids in ([7, 8], [8, 7]))
    assert one.differences(other.fingerprint) == ["the table 'candidates': the column of ids has changed"]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array(["1", "2"]), np.array([1, 2])),
        (np.array([["a", "b"], ["c", "d"]]), np.array([["a", "c"], ["b", "d"]])),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 5.0]])),
        (np.array([True, False]), np.array([1, 0], np.int8)),
        (np.array([1.0, 2.0]), np.array([[1.0], [2.0]])),
    ],
)
def test_types_and_shapes_count_as_values_do(before, now):
    one, other = (Table([7, 8], {"x": column}).digests() for column in (before, now))
    assert one[""] == other[""] and one["x"] != other["x"]


def test_a_record_of_another_form_is_refused():
    for record in ([], {"train": 3}, {"train": {"query_ids": "ab"}}):
        with pytest.raises(ValueError, match="not a digest of each column"):
            Fingerprint.from_record(record)
