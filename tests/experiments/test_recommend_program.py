"""The program that asks a bundle: what it reads from the shell, and that it prints what the bundle answers."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from bundle_cases import save
from program_cases import program

from experiments.recommend import item_of, parse_features, parse_filter
from retrieval.data.interactions import Table
from retrieval.index import Filter
from retrieval.serving import bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture(scope="module")
def served(folder):
    return bundle.load(folder)


def ask(folder, *arguments, fails=False):
    return program("recommend", f"--bundle={folder}", *arguments, fails=fails)


def titles(lines):
    return [line.split("  ")[-1] for line in lines]


def test_features_and_filters_reach_the_bundle(folder, served):
    wanted = Filter(one_of={"genres": ["War", "Comedy"]}, between={"year": (1980.0, None)}, deny=[10])
    expected = served.recommend(features={"age": 33}, k=2, filter=wanted).titles.tolist()
    flags = ["--features=age=33", "--filter=genres=War,Comedy", "--filter=year>=1980", "--filter=id!=10"]
    assert titles(ask(folder, *flags, "--k=2").splitlines()) == expected
    assert set(expected) == {"thirty", "never trained"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("in_stock=true", {"thirty", "never trained"}),
        ("in_stock=False", {"ten", "forty"}),
        (f"seller={2**53 + 3}", {"thirty"}),
        (f"seller<={2**53 + 3}", {"thirty", "never trained", "forty"}),
        ("tags=a|b", {"thirty"}),
        ("tags=a,b", {"ten", "never trained"}),
    ],
)
def test_typed_attributes_are_found_in_the_shell(folder, condition, expected):
    lines = ask(folder, "--features=age=33", f"--filter={condition}", "--k=5").splitlines()
    assert set(titles(lines[:-1])) == expected


def test_similar_candidates_are_printed(folder, served):
    lines = ask(folder, "--similar_to=10", "--features=genres=Comedy", "--k=5").splitlines()
    expected = served.similar(10, 5, features={"genres": "Comedy"}).titles.tolist()
    assert titles(lines[:-1]) == expected[:4] and lines[-1] == "only 4 items are left, 5 were asked for"


def test_what_does_not_go_together_is_refused(folder):
    assert "--similar_to asks for items like another" in ask(folder, "--similar_to=10", "--user_id=ann", fails=True)
    assert "error: no column 'agee'" in ask(folder, "--user_id=ann", "--features=agee=3", fails=True)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["genres=War,Comedy", "genres=Drama"], Filter(one_of={"genres": ["War", "Comedy", "Drama"]})),
        (["year>=1980", "year<=1999.5"], Filter(between={"year": (1980.0, 1999.5)})),
        (["year=1990", "title=a|b"], Filter(one_of={"year": [1990.0], "title": ["a|b"]})),
        (["id=10,20", "id!=30"], Filter(allow=[10, 20], deny=[30])),
        (["genre=War"], Filter(one_of={"genre": ["War"]})),  # the bundle names what is not there
        (["genres"], "takes COLUMN=VALUE, .* got 'genres'"),
        (["year>=1,2"], "got 'year>=1,2'"),
        (["year>=x"], "column 'year' holds numbers, got 'x'"),
        (["in_stock=1"], "column 'in_stock' holds booleans, got '1'; write true or false"),
        (["seller=1_0"], "column 'seller' holds integers, got '1_0'"),
        (["year=\u0661"], "column 'year' holds numbers, got"),
        (["id>=4"], "got 'id>=4'"),
        (["id=x"], "ids of this vocabulary are integers, got 'x'"),
    ],
)
def test_filters_are_read_from_text(served, texts, expected):
    if isinstance(expected, Filter):
        assert parse_filter(texts, served) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            parse_filter(texts, served)


def test_features_are_read_from_text():
    assert parse_features(["age=3", "city=a=b"]) == {"age": "3", "city": "a=b"}
    for texts, message in ((["age"], "'age' has no ="), (["age=1", "age=2"], "'age=2' occurs twice")):
        with pytest.raises(ValueError, match=message):
            parse_features(texts)


def test_answers_are_a_table_with_ids_or_json_or_csv(folder, served):
    expected = served.recommend("ann", 2)
    lines = ask(folder, "--user_id=ann", "--k=2").splitlines()
    assert [line.split()[1] for line in lines] == list(map(str, expected.ids.tolist()))
    found = json.loads(ask(folder, "--user_id=ann", "--k=2", "--format=json"))
    assert found["known"] and [item["id"] for item in found["items"]] == expected.ids.tolist()
    assert [item["title"] for item in found["items"]] == expected.titles.tolist()
    rows = list(csv.DictReader(ask(folder, "--user_id=ann", "--k=2", "--format=csv").splitlines()))
    assert [(row["query"], row["rank"], row["id"]) for row in rows] == [
        ("ann", "1", str(expected.ids[0])),
        ("ann", "2", str(expected.ids[1])),
    ]


def test_padding_is_no_item_in_any_format(folder):
    found = json.loads(ask(folder, "--user_id=ann", "--k=50", "--format=json"))
    assert len(found["items"]) == 3
    assert len(ask(folder, "--user_id=ann", "--k=50", "--format=csv").splitlines()) == 4
    unknown = json.loads(ask(folder, "--user_id=nobody", "--k=1", "--format=json"))
    assert unknown["known"] is False and len(unknown["items"]) == 1


def test_users_of_a_file_are_answered_together(folder, served, tmp_path):
    (tmp_path / "users.txt").write_text("ann\n\n bob \nnobody\n")
    users = f"--users_file={tmp_path / 'users.txt'}"
    found = json.loads(ask(folder, users, "--k=2", "--format=json"))
    expected = served.recommend(["ann", "bob", "nobody"], 2)
    assert [[item["id"] for item in one["items"]] for one in found] == expected.ids.tolist()
    assert [one["query"] for one in found] == ["ann", "bob", "nobody"]
    assert "nobody (not in train)" in ask(folder, users, "--k=2").splitlines()
    (tmp_path / "users.txt").write_text("\n")
    assert "names no user" in ask(folder, users, fails=True)
    assert "leave out --user_id" in ask(folder, users, "--user_id=ann", fails=True)
    assert "No such file" in ask(folder, f"--users_file={tmp_path / 'none.txt'}", fails=True)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("10", 10),
        ("Ten", 10),
        ("tne", "no item has the id or the title 'tne'; did you mean 'ten'?"),
        ("77", "no item has the id or the title '77'"),
    ],
)
def test_an_item_is_named_by_its_id_or_title(served, text, expected):
    if isinstance(expected, int):
        assert item_of(text, served, is_new=False) == expected
    else:
        with pytest.raises(ValueError, match=re.escape(expected)):
            item_of(text, served, is_new=False)
    assert item_of("77", served, is_new=True) == 77


def test_a_title_of_several_items_asks_for_an_id(served):
    titles = {"title": np.array(["same", "Same", "other", "a", "b"])}
    corpus = Table(served.corpus.ids, {**served.corpus.columns, **titles})
    with pytest.raises(ValueError, match=r"2 items have the title 'SAME', give the id of one: \[30, 10\]"):
        item_of("SAME", dataclasses.replace(served, corpus=corpus), is_new=False)
