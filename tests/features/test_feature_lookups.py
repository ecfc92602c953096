"""Categories, bags and text: which rows they look up, with which weights."""

import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from feature_cases import BAGS, TEXTS, Feature, canonical
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.features import fit
from retrieval.features.categories import tokenize
from retrieval.features.encoded import Encoded
from retrieval.features.lookup import Hashed, Known, hash_texts

MASK = 2**64 - 1


def plain_hash(text):
    """FNV-1a over code points."""
    value = 0xCBF29CE484222325
    for character in text:
        value = (value ^ ord(character)) * 0x100000001B3 & MASK
    return value


def plain_rows(text, size, hashes):
    """The rows of one value, by SplitMix64 of its hash and of a stream for each row."""
    rows = []
    for stream in range(1, hashes + 1):
        x = (plain_hash(text) + stream * 0x9E3779B97F4A7C15) & MASK
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
        rows.append((x ^ (x >> 31)) % (size - 1) + 1 if text else 0)
    return rows


def plain_grams(text):
    """The words and trigrams of one text, one after the other."""
    found = []
    for word in re.split(r"\W+", unicodedata.normalize("NFKC", text).lower()):
        if word:
            marked = f"<{word}>"
            found += [marked] * (len(word) > 1) + [marked[at : at + 3] for at in range(len(word))]
    return found


@settings(deadline=None)
@given(st.lists(TEXTS), st.integers(2, 1000), st.integers(1, 4))
def test_hashes_and_rows_are_those_of_the_plain_form(texts, size, hashes):
    array = np.array(texts, np.str_)
    assert hash_texts(array).tolist() == [plain_hash(text) for text in texts]
    assert Hashed(size, hashes).rows(array).tolist() == [plain_rows(text, size, hashes) for text in texts]


def test_hashes_depend_neither_on_the_process_nor_on_byte_order_or_layout():
    texts = np.array(["Toy Story", "漢字", "", "a"])
    golden = [0x2F9332F5713685F2, 0x936761082B6B4A76, 0xCBF29CE484222325, 0xAF63DC4C8601EC8C]
    code = "import numpy as np; from retrieval.features.lookup import hash_texts; "
    code += f"print(hash_texts(np.array({texts.tolist()})).tolist())"
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert {result.stdout.strip() for result in run} == {str(golden)}
    assert hash_texts(texts).tolist() == golden
    assert hash_texts(texts.astype(texts.dtype.newbyteorder(">"))).tolist() == hash_texts(texts).tolist()
    assert hash_texts(np.repeat(texts, 2)[::2]).tolist() == hash_texts(texts).tolist()
    assert hash_texts(texts.astype("U40")).tolist() == hash_texts(texts).tolist()


def test_hashed_rows_are_spread_evenly_and_independently():
    rows = Hashed(101, 2).rows(np.arange(100_000).astype(str))
    assert rows.min() == 1 and rows.max() == 100
    cells = np.bincount((rows[:, 0] - 1) * 100 + rows[:, 1] - 1, minlength=10_000)
    chi = ((cells - 10.0) ** 2 / 10.0).sum()
    assert abs(chi - 9_999) < 5 * np.sqrt(2 * 9_999)  # five standard deviations
    pairs = Hashed(10_000, 2).rows(np.arange(5_000).astype(str))
    assert len(np.unique(pairs, axis=0)) == 5_000  # no two of 5,000 values share both rows


@settings(deadline=None)
@given(st.lists(TEXTS.filter(bool), unique=True), st.lists(TEXTS))
def test_known_values_have_the_rows_of_their_order(values, asked):
    rows = Known(tuple(values)).rows(np.array(asked, np.str_))[:, 0]
    assert rows.tolist() == [values.index(text) + 1 if text in values else 0 for text in asked]


def test_categories_are_numbered_as_numbers_where_they_are_numbers():
    category = fit(Feature(), [10, 9, 10, 100])
    assert category.known == ("9", "10", "100") and category.spec == (4, 1, "mean")
    assert fit(Feature(), np.array([10.0, np.nan, 9.0])).known == ("9", "10")
    assert fit(Feature(), ["10", "9", ""]).known == ("10", "9")


def test_a_category_is_the_same_whatever_the_type_of_its_column():
    category = fit(Feature(), [7, 2**62 + 1])
    for asked in ([7, 2**62 + 1, 8], ["7", str(2**62 + 1), "8"], [7, 2**62 + 1, None]):
        assert category.encode(asked).rows.ravel().tolist() == [1, 2, 0]
    assert category.encode([7.0, 7.5]).rows.ravel().tolist() == [1, 0]


def test_hashed_categories_know_every_value_but_the_missing():
    encoded = fit(Feature(size=1000, hashes=3), []).encode(["never seen", None])
    assert encoded.rows[0].tolist() == plain_rows("never seen", 1000, 3) and encoded.weights[0].tolist() == [1, 1, 1]
    assert encoded.rows[1].tolist() == [0, 0, 0] and encoded.weights[1].tolist() == [1, 0, 0]


def test_bags_by_hand():
    bag = fit(Feature(kind="bag", combiner="sqrtn"), ["War|Drama", "Drama", ""])
    assert bag.known == ("Drama", "War") and bag.spec == (3, 2, "sqrtn")
    encoded = bag.encode([" War | Drama|War", "Sport|Drama", "Sport", "", "|"])
    assert encoded.rows.tolist() == [[2, 1, 2], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert encoded.weights.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_bags_of_numbers_are_bags_of_their_text():
    bag = fit(Feature(kind="bag"), np.array([3, 12]))
    assert bag.encode(["12|3"]).rows.tolist() == [[1, 2]] and bag.encode([3.0]).rows.tolist() == [[2]]


def test_equally_many_weights_of_each_bag_may_be_an_array():
    bags, nan = ["a|b", "", "b|a"], np.nan
    bag = fit(Feature(kind="bag", weights="w"), bags, np.array([[1.5, 2], [nan, nan], [0.25, 1]], np.float32))
    as_text = bag.encode(bags, ["1.5|2", "", "0.25|1"])
    as_array = bag.encode(bags, np.array([[1.5, 2], [nan, nan], [0.25, 1]], np.float32))
    np.testing.assert_array_equal(as_array.rows, as_text.rows)
    np.testing.assert_array_equal(as_array.weights, as_text.weights)


def test_weights_of_bags_by_hand():
    bag = fit(Feature(kind="bag", weights="w"), ["a|b|c", "b"], ["1|1|1", ""])
    assert bag.weights == "w" and bag.spec.size == 3
    values = ["a|b|c", "a|b", "b|x|c", "a", "", "b||c"]
    encoded = bag.encode(values, ["2|0|.5", "", "1|9|4", "0", "", "1|7|2"])
    assert [canonical(encoded, row) for row in range(6)] == [
        [(1, 2.0), (3, 0.5)],  # a weight of 0 leaves its value out
        [(1, 1.0), (2, 1.0)],  # no weights are weights of 1
        [(2, 1.0), (3, 4.0)],  # what is unknown takes its weight along
        [(0, 1.0)],
        [(0, 1.0)],
        [(2, 1.0), (3, 2.0)],
    ]
    numbers = bag.encode(["a", "b", "b|c"], [0.5, np.nan, None])
    assert [canonical(numbers, row) for row in range(3)] == [[(1, 0.5)], [(2, 1.0)], [(2, 1.0), (3, 1.0)]]


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        (["a", "a|b"], ["1", "1"], r"feature 'w', row 1: 2 values need 2 weights joined by '\|', got '1'"),
        (["", "a"], ["1", "1"], "row 0: 0 values need 0 weights"),
        (["a", "a|b"], ["1", "1|-2"], "row 1: a weight must be a number of at least 0, got '-2'"),
        (["a", "a|b"], ["", "1|"], "row 1: a weight must be a number of at least 0, got ''"),
        (["a", "a|b"], ["", "1|x"], "row 1: must be a number, got 'x'"),
        (["a"], [np.inf], "row 0: a number must be finite and fit float32, got 'inf'"),
        (["a"], ["1", "1"], "'w' must have 1 rows, got 2"),
    ],
)
def test_weights_that_do_not_go_with_their_bag_are_refused(values, weights, message):
    bag = fit(Feature(kind="bag", weights="w"), ["a|b"], ["1|1"])
    with pytest.raises(ValueError, match=message):
        bag.encode(values, weights)


@settings(deadline=None)
@given(st.lists(BAGS, max_size=8), st.lists(BAGS, max_size=8), st.booleans())
def test_bags_look_up_what_a_loop_does(train, asked, hashed):
    bag = fit(Feature(kind="bag", **({"size": 20, "hashes": 2} if hashed else {})), train)
    known = sorted({part.strip() for text in train for part in text.split("|")} - {""})
    encoded = bag.encode(asked)
    for row, text in enumerate(asked):
        parts = [part.strip() for part in text.split("|")]
        if hashed:
            rows = [row for part in parts if part for row in plain_rows(part, 20, 2)]
        else:
            rows = [known.index(part) + 1 for part in parts if part in known]
        assert canonical(encoded, row) == [(row, 1.0) for row in rows or [0]]


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("Toy, Story!", ["<toy>", "<to", "toy", "oy>", "<story>", "<st", "sto", "tor", "ory", "ry>"]),
        ("a ab", ["<a>", "<ab>", "<ab", "ab>"]),
        ("ＡÉ", ["<aé>", "<aé", "aé>"]),  # wide letters
        ("ae\u0301", ["<aé>", "<aé", "aé>"]),  # an accent of its own
        ("漢字", ["<漢字>", "<漢字", "漢字>"]),
    ],
)
def test_text_has_words_and_trigrams(text, grams):
    assert plain_grams(text) == grams
    rows = fit(Feature(kind="text", size=1000, hashes=1), []).encode([text]).rows[0]
    assert rows.tolist() == [plain_rows(gram, 1000, 1)[0] for gram in grams]


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_text_looks_up_the_rows_of_its_grams(texts):
    encoded = fit(Feature(kind="text", size=60, hashes=2), []).encode(texts)
    for row, text in enumerate(texts):
        rows = [row for gram in plain_grams(text) for row in plain_rows(gram, 60, 2)]
        assert canonical(encoded, row) == [(row, 1.0) for row in rows or [0]]


def test_a_misspelt_word_shares_rows_with_the_right_one():
    words = fit(Feature(kind="text", size=100_000, hashes=1), [])
    right, wrong, other = (set(rows) for rows in words.encode(["Terminator", "Terminater", "Jaws"]).rows.tolist())
    assert len(right & wrong) >= 7 and not (right & other) - {0}


@settings(deadline=None)
@given(st.lists(st.text("ab ", max_size=5), max_size=8))
def test_tokens_are_those_of_each_text_in_order(texts):
    tokens = tokenize(np.array(texts, np.str_), str.split)
    pairs = [(i, token) for i, text in enumerate(texts) for token in text.split()]
    assert list(zip(tokens.owners.tolist(), tokens.distinct[tokens.codes].tolist(), strict=True)) == pairs
    assert len(set(tokens.distinct.tolist())) == len(tokens.distinct)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.5, 1.0, 3.0])), max_size=4), max_size=6))
def test_rows_are_gathered_with_their_weights_and_padded_at_the_end(lists):
    flat = [(owner, *pair) for owner, pairs in enumerate(lists) for pair in pairs]
    owners, rows, weights = (np.array([entry[i] for entry in flat]) for i in range(3))
    encoded = Encoded.of_rows(owners.astype(int), rows.astype(int), weights.astype(np.float32), len(lists))
    assert encoded.rows.shape == (len(lists), max([1, *map(len, lists)]))
    assert [canonical(encoded, row) for row in range(len(lists))] == [pairs or [(0, 1.0)] for pairs in lists]
