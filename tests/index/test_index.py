import concurrent.futures
import dataclasses
import json
import resource

import hnswlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from json_cases import of_another_type

from retrieval.common.lists import Lists
from retrieval.common.manifest import write_manifest
from retrieval.index import ExactIndex, HnswIndex, HnswSettings, load, recall
from retrieval.index.hnsw import hnsw_index

SETTINGS = {"M": 8, "ef_construction": 40, "ef": 30, "seed": 7}


def build(embeddings, **changes):
    return HnswIndex.build(embeddings, **(SETTINGS | changes))


def reference(embeddings, queries, k, excluded=None):
    """Sorts all inner products, in float64."""
    scores = np.asarray(queries, np.float64) @ np.asarray(embeddings, np.float64).T
    for query, rows in enumerate(excluded or []):
        scores[query, rows] = -np.inf
    scores[~np.asarray(queries).any(axis=1)] = -np.inf  # a query of zeros has no best
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, rows, axis=1)
    padding = ((0, 0), (0, k - rows.shape[1]))
    rows = np.pad(np.where(scores > -np.inf, rows, -1), padding, constant_values=-1)
    return np.pad(scores, padding, constant_values=-np.inf), rows


def assert_exact(answer, expected):
    np.testing.assert_array_equal(answer[1], expected[1])
    np.testing.assert_allclose(answer[0], expected[0], rtol=1e-5, atol=1e-5)
    assert answer[0].dtype == np.float32 and answer[1].dtype == np.int32


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3000, 16)).astype(np.float32), rng.standard_normal((40, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def index(corpus):
    return build(corpus[0])


@pytest.fixture
def saved(index, tmp_path):
    index.save(tmp_path, {"recall_at_10": 0.75})
    return tmp_path


small_integers = st.integers(-3, 3).map(float)  # inner products are exact, and often tie


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 25), st.integers(1, 4), st.integers(0, 4), st.integers(1, 30))
def test_with_an_ef_of_the_corpus_size_the_answer_is_exact(data, n, d, num_queries, k):
    embeddings = data.draw(hnp.arrays(np.float32, (n, d), elements=small_integers))
    queries = data.draw(hnp.arrays(np.float32, (num_queries, d), elements=small_integers))
    rows = st.lists(st.integers(0, n - 1), max_size=2 * n)
    excluded = data.draw(st.lists(rows, min_size=num_queries, max_size=num_queries))
    index = build(embeddings, M=2, ef_construction=1, ef=n)
    assert_exact(index.search(queries, k, excluded), reference(embeddings, queries, k, excluded))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 60), st.integers(1, 70), st.integers(1, 3))
def test_any_graph_gives_as_many_allowed_candidates_as_there_are(data, n, k, ef):
    embeddings = data.draw(hnp.arrays(np.float32, (n, 2), elements=small_integers))
    queries = data.draw(hnp.arrays(np.float32, (3, 2), elements=small_integers))
    excluded = data.draw(st.lists(st.lists(st.integers(0, n - 1)), min_size=3, max_size=3))
    scores, rows = build(embeddings, M=2, ef_construction=1, ef=ef).search(queries, k, excluded)
    for query in range(3):
        found = rows[query][rows[query] >= 0]
        left = min(k, n - len(set(excluded[query]))) if queries[query].any() else 0
        assert len(found) == len(set(found)) == left
        assert not set(found) & set(excluded[query])
        np.testing.assert_array_equal(scores[query, : len(found)], embeddings[found] @ queries[query])
        assert (scores[query, len(found) :] == -np.inf).all()
        order = list(zip(-scores[query], rows[query] % (n + 1), strict=True))  # padding after all rows
        assert order == sorted(order)


def test_the_graph_finds_most_of_the_truth_with_exact_scores(corpus, index):
    embeddings, queries = corpus
    scores, rows = index.search(queries, 10)
    exact_rows = reference(embeddings, queries, 10)[1]
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, exact_rows, strict=True)])
    assert 0.7 < overlap < 1  # the graph answers, not exact search
    assert recall(index, queries, exact_rows) == pytest.approx(overlap)
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, embeddings[rows]), rtol=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_a_larger_ef_finds_more(corpus):
    embeddings, queries = corpus
    exact_rows = reference(embeddings, queries, 10)[1]
    recalls = [recall(build(embeddings, ef=ef), queries, exact_rows) for ef in (10, 100, len(embeddings))]
    assert recalls[0] < recalls[1] <= recalls[2] == 1.0


def test_exclusions_of_any_length_leave_the_best_of_the_rest(corpus, index):
    embeddings, queries = corpus
    lengths = [0, 1, 9, 200, 2991, 2999, 3000]
    queries = queries[: len(lengths)]
    best = reference(embeddings, queries, 3000)[1]
    excluded = [best[query, :length] for query, length in enumerate(lengths)]  # the hardest: the best are taken
    scores, rows = index.search(queries, 10, excluded)
    for query, length in enumerate(lengths):
        assert not np.isin(rows[query], excluded[query]).any()
        assert (rows[query] >= 0).sum() == min(10, 3000 - length)
        rest = best[query, length : length + 10]
        assert len(rest) == 0 or np.isin(rest, rows[query]).mean() >= 0.6
    expected = reference(embeddings, queries, 10, excluded)
    assert_exact((scores[4:], rows[4:]), (expected[0][4:], expected[1][4:]))


def test_a_batch_in_pieces_is_answered_as_one(corpus, index, monkeypatch):
    excluded = [range(7 * query) for query in range(len(corpus[1]))]
    together = [index.search(corpus[1], 10, own) for own in (None, excluded)]
    monkeypatch.setattr(hnsw_index, "_FOUND", 200)
    for own, expected in zip((None, excluded), together, strict=True):
        for part, expected_part in zip(index.search(corpus[1], 10, own), expected, strict=True):
            np.testing.assert_array_equal(part, expected_part)


def test_exclusions_may_be_lists_of_the_library(corpus, index):
    excluded = [[5, 3], [], [2999]]
    answer = index.search(corpus[1][:3], 2000, Lists.from_sequences(excluded))
    np.testing.assert_array_equal(answer[1], index.search(corpus[1][:3], 2000, excluded)[1])
    assert 3 not in answer[1][0] and 5 not in answer[1][0] and 2999 not in answer[1][2]


def test_an_answer_depends_on_its_query_alone(corpus, index):
    queries = corpus[1]
    excluded = [np.arange(50 * query) for query in range(len(queries))]
    together = index.search(queries, 7, excluded)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda i: index.search(queries[i : i + 1], 7, [excluded[i]]), range(len(queries))))
    for part in range(2):
        np.testing.assert_array_equal(together[part], np.concatenate([answer[part] for answer in alone]))


def reaches(index, query, width):
    try:
        return index.graph.knn_query(query, k=width)[0].shape == (1, width)
    except RuntimeError as error:
        assert "contiguous 2D array" in str(error)
        return False


@pytest.mark.parametrize("excluded", [None, [range(0, 600, 50)] * 40])
def test_queries_for_which_the_graph_falls_apart_get_exact_answers(corpus, excluded):
    embeddings, queries = corpus[0][:600, :8], corpus[1][:, :8]
    index = build(embeddings, M=2, ef_construction=2, ef=10)
    width = 50 if excluded is None else 50 + 15
    lost = np.array([not reaches(index, query, width) for query in queries])
    assert 0 < lost.sum() < 40  # one batch holds both kinds
    scores, rows = index.search(queries, 50, excluded)
    expected = reference(embeddings, queries, 50, excluded)
    assert_exact((scores[lost], rows[lost]), (expected[0][lost], expected[1][lost]))
    assert (rows >= 0).all() and not np.array_equal(rows[~lost], expected[1][~lost])


def test_duplicates_that_crowd_the_graph_get_exact_answers():
    embeddings = np.concatenate([np.ones((300, 4)), 100 * np.eye(4), -np.ones((300, 4))])
    index = build(embeddings, M=2, ef_construction=2, ef=10)
    queries = np.vstack([np.eye(4), -np.eye(4), [[1, 2, 3, 4]]])
    assert not any(reaches(index, query, 500) for query in queries)
    assert_exact(index.search(queries, 500), reference(embeddings, queries, 500))


def test_ties_go_to_the_lower_row():
    scores, rows = build([[1, 0], [2, 0], [2, 5], [1, 0], [2, 0]]).search([[1, 0]], 5)
    assert rows.tolist() == [[1, 2, 4, 0, 3]]
    assert scores.tolist() == [[2, 2, 2, 1, 1]]


def test_one_candidate_and_k_beyond_the_corpus():
    scores, rows = build([[2.0, 1.0]]).search([[1.0, 1.0], [0.0, -1.0]], 3)
    assert rows.tolist() == [[0, -1, -1]] * 2
    assert scores.tolist() == [[3, -np.inf, -np.inf], [-1, -np.inf, -np.inf]]


def test_nothing_is_left_when_all_are_excluded():
    scores, rows = build(np.eye(3)).search(np.eye(3)[:2], 2, [[2, 0, 1, 1], []])
    assert rows.tolist() == [[-1, -1], [1, 0]]
    assert scores.tolist() == [[-np.inf, -np.inf], [1, 0]]


def test_zero_vectors_score_zero_between_positive_and_negative():
    index = build([[0, 0], [-1, 0], [1, 0], [0, 0]])
    scores, rows = index.search([[1, 0], [0, 0]], 4)
    assert rows.tolist() == [[2, 0, 3, 1], [-1, -1, -1, -1]]  # a query of zeros has no best
    assert scores.tolist() == [[1, 0, 0, -1], [-np.inf] * 4]
    many = build(np.zeros((500, 4)), M=2, ef_construction=1, ef=5).search(np.ones((2, 4)), 50)
    assert (many[0] == 0).all() and all(len(set(rows)) == 50 for rows in many[1])


def test_norms_of_many_magnitudes():
    rng = np.random.default_rng(3)
    embeddings = (rng.standard_normal((400, 8)) * 10.0 ** rng.integers(-15, 15, (400, 1))).astype(np.float32)
    queries = (rng.standard_normal((20, 8)) * 10.0 ** rng.integers(-15, 15, (20, 1))).astype(np.float32)
    index = build(embeddings, M=16, ef_construction=200)
    scores, rows = index.search(queries, 10)
    assert recall(index, queries, reference(embeddings, queries, 10)[1]) > 0.9
    exact = np.einsum("qd,qkd->qk", queries.astype(np.float64), embeddings[rows].astype(np.float64))
    np.testing.assert_allclose(scores, exact, rtol=1e-3)
    exact = ExactIndex.build(embeddings).search(queries, 1)[1]
    np.testing.assert_array_equal(exact, reference(embeddings, queries, 1)[1])


def test_no_queries_no_answers(index):
    for excluded in (None, [], Lists.empty(0)):
        scores, rows = index.search(np.empty((0, 16)), 5, excluded)
        assert scores.shape == rows.shape == (0, 5)
        assert (scores.dtype, rows.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_other_numbers_become_float32_and_are_copied(dtype):
    embeddings = np.array([[1, 2], [3, -4]], dtype)
    index = build(embeddings)
    embeddings[:] = 0
    assert index.embeddings.dtype == np.float32 and not index.embeddings.flags.writeable
    assert index.search(np.asfortranarray([[1, 1], [2, 0]], dtype), 2)[0].tolist() == [[3, -1], [6, 2]]


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.empty((0, 4)), r"shape \(0, 4\)"),
        (np.empty((4, 0)), r"shape \(4, 0\)"),
        (np.ones(4), r"shape \(4,\)"),
        (np.ones((2, 2, 2)), r"shape \(2, 2, 2\)"),
        ([[1, 2], [3, 4], [np.nan, 0]], "nan in row 2"),
        ([[1, 2], [np.inf, 4], [np.nan, 0]], r"inf in row 1 \(2 such rows\)"),
        ([[1, 2], [1e30, 4]], "inf in row 1"),  # squares beyond float32
        ([[1, 2], [1e300, 4]], "inf in row 1"),
    ],
)
def test_build_refuses_what_has_no_inner_products(embeddings, message):
    with pytest.raises(ValueError, match=message):
        build(embeddings)


@pytest.mark.parametrize("threads", [-1, True])
def test_threads_are_checked_before_any_work(threads):
    with pytest.raises(ValueError, match="threads must be an integer, at least 0 .all cores., got"):
        HnswIndex.build(np.eye(3), M=8, ef_construction=40, ef=30, seed=0, threads=threads)
    with pytest.raises(ValueError, match="threads must be"):
        dataclasses.replace(build(np.eye(3)), threads=threads)


@pytest.mark.parametrize(
    ("name", "value"),
    [("M", 1), ("M", 0), ("M", 10_001), ("ef_construction", 0), ("ef", 0), ("seed", -1)],
)
def test_build_refuses_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an integer in .*, got {value}"):
        build(np.eye(2), **{name: value})


@pytest.mark.parametrize(
    ("queries", "k", "excluded", "message"),
    [
        (np.ones((2, 15)), 3, None, r"\[n, 16\], got shape \(2, 15\)"),
        (np.ones(16), 3, None, r"got shape \(16,\)"),
        (np.full((2, 16), np.nan), 3, None, "queries .* nan in row 0"),
        (np.ones((2, 16)), 0, None, "k must be at least 1, got 0"),
        (np.ones((2, 16)), 3, [[1]], "each of 2 queries, got 1"),
        (np.ones((2, 16)), 3, [[1], [3000]], r"excluded\[1\] .* \[0, 3000\), got 3000"),
        (np.ones((2, 16)), 3, [[-1], []], r"excluded\[0\] .* got -1"),
        (np.ones((2, 16)), 3, [[0.5], []], r"excluded\[0\] must be integers .* float64"),
        (np.ones((2, 16)), 3, [[True], []], r"excluded\[0\] must be integers .* bool"),
        (np.ones((2, 16)), 3, [[[1]], []], r"excluded\[0\] .* shape \(1, 1\)"),
    ],
)
def test_search_refuses_what_it_cannot_answer(index, queries, k, excluded, message):
    with pytest.raises(ValueError, match=message):
        index.search(queries, k, excluded)


def test_recall_by_hand():
    index = build([[5], [4], [3], [3], [1]])
    query = [[1.0]]
    assert recall(index, query, [[0, 1]]) == 1
    assert recall(index, query, [[0, 1, 3]]) == 1  # finds 2 for 3: the same score
    assert recall(index, query, [[0, 1]], [[0]]) == 1 / 2  # finds 1 and 2
    assert recall(index, query, [[0, 1, 2]], [[0, 1]]) == 2 / 3  # 2 and 3 tie for the third place, 4 is below
    assert recall(index, query, [[2, -1, -1]]) == 1  # more are as good, one is wanted
    assert recall(index, query, [[1, 0, -1]], [[0]]) == 1 / 2  # two of three places are wanted
    assert recall(index, [[1.0]] * 3, [[0], [0], [-1]], [[0], [], []]) == 1 / 2  # the third does not count


@pytest.mark.parametrize("exact_rows", [[0, 1], [[0], [1]], [[5]], [[-2]], [[-1]], [[0.5]], np.empty((1, 0), int)])
def test_recall_refuses_rows_that_are_no_answer(exact_rows):
    with pytest.raises(ValueError, match="exact_rows"):
        recall(build(np.ones((5, 1))), [[1.0]], exact_rows)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes(corpus, saved, tmp_path_factory):
    files = {}
    for seed in (SETTINGS["seed"], 8):
        folder = tmp_path_factory.mktemp("again")
        build(corpus[0], seed=seed).save(folder, {"recall_at_10": 0.75})
        files[seed] = contents(folder)
    assert files[7] == contents(saved)
    assert files[8].keys() != files[7].keys()


def test_a_loaded_index_is_the_saved_one(corpus, index, saved):
    loaded = HnswIndex.load(saved)
    np.testing.assert_array_equal(loaded.embeddings, index.embeddings)
    assert loaded.settings == index.settings == HnswSettings(**SETTINGS)
    assert (loaded.graph.M, loaded.graph.ef_construction, loaded.graph.ef) == (8, 40, 30)
    assert loaded.metrics == {"recall_at_10": 0.75}
    for excluded in (None, [[1, 2, 3]] * 40):
        for expected, found in zip(
            index.search(corpus[1], 10, excluded), loaded.search(corpus[1], 10, excluded), strict=True
        ):
            np.testing.assert_array_equal(expected, found)


def array_files(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


def test_saving_again_replaces_and_keeps_figures(saved, tmp_path):
    before = array_files(saved)
    HnswIndex.load(saved).save(tmp_path / "new" / "folder")
    assert HnswIndex.load(tmp_path / "new" / "folder").metrics == {"recall_at_10": 0.75}
    build(np.eye(2)).save(saved)
    assert len(HnswIndex.load(saved)) == 2
    assert len(array_files(saved)) == 5 and not set(array_files(saved)) & set(before)
    assert {path.name for path in saved.iterdir()} == {"index.json", "new", *array_files(saved)}


def test_either_kind_is_loaded_by_one_function(corpus, saved, tmp_path):
    assert isinstance(load(saved), HnswIndex)
    ExactIndex.build(corpus[0]).save(tmp_path, {"recall_at_10": 1.0})
    loaded = load(tmp_path)
    assert isinstance(loaded, ExactIndex) and loaded.metrics == {"recall_at_10": 1.0}
    assert_exact(loaded.search(corpus[1], 10), reference(*corpus, 10))
    with pytest.raises(ValueError, match="of kind 'exact', not 'hnsw'"):
        HnswIndex.load(tmp_path)
    edit_record(tmp_path, kind="tree")
    with pytest.raises(ValueError, match="its kind must be one of 'exact', 'hnsw', got 'tree'"):
        load(tmp_path)


def test_a_record_is_read_up_to_the_limit_and_no_further(saved, monkeypatch):
    size = (saved / "index.json").stat().st_size
    monkeypatch.setattr("retrieval.common.manifest.MOST_BYTES", size)
    assert len(load(saved)) == len(HnswIndex.load(saved))
    monkeypatch.setattr("retrieval.common.manifest.MOST_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"index.json must be .*{size} bytes, above the limit of {size - 1}"):
        load(saved)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_a_record_whose_hash_is_right_and_whose_types_are_wrong_is_named(saved, data):
    path = saved / "index.json"
    whole = path.read_bytes()
    record = json.loads(whole)
    del record["sha256"]
    write_manifest(path, data.draw(of_another_type(record)))
    try:
        loaded = load(saved)
    except ValueError as error:
        assert str(saved) in str(error)
    else:
        assert loaded.search(np.ones((1, loaded.embeddings.shape[1])), 1)[1].shape == (1, 1)
    finally:
        path.write_bytes(whole)


def test_the_record_says_what_the_index_is(saved):
    record = json.loads((saved / "index.json").read_text())
    assert set(record.pop("arrays")) == {"vectors", "labels", "neighbours", "levels", "upper"}
    assert len(record.pop("sha256")) == 64
    assert record.pop("costs") and record.pop("entry")["max_level"] >= 1
    assert record == {
        "format_version": 2,
        "kind": "hnsw",
        "settings": SETTINGS | {"space": "inner_product"},
        "figures": {"recall_at_10": 0.75},
        "certificate": None,
    }


def test_a_save_that_fails_leaves_the_old_index(saved):
    before = contents(saved)
    with pytest.raises(ValueError, match="JSON"):
        build(np.eye(2)).save(saved, {"recall_at_10": float("nan")})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            build(np.ones((100, 4))).save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(saved) == before


def test_what_a_killed_save_leaves_behind_does_no_harm_and_goes(saved):
    before = contents(saved)
    (saved / "index-0123456789abcdef.npy").write_bytes(b"whole, but its record was never written")
    (saved / ".index-fedcba9876543210.npy.1").write_bytes(b"half")
    (saved / ".index.json.1").write_bytes(b"{")
    index = HnswIndex.load(saved)
    index.save(saved)
    assert contents(saved) == before


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def edit_record(folder, **fields):
    path = folder / "index.json"
    record = json.loads(path.read_text()) | fields
    record.pop("sha256", None)  # as earlier versions wrote it: other checks than the hash must notice
    path.write_text(json.dumps(record))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_record_changes_no_setting(index, saved, place, bit):
    path = saved / "index.json"
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        loaded = HnswIndex.load(saved)
    except ValueError as error:
        assert "index.json" in str(error) and "save it again" in str(error)
    else:  # a blank became another, or the name of the hash changed
        assert loaded.settings == index.settings and loaded.metrics == {"recall_at_10": 0.75}
        assert loaded.costs == index.costs
    finally:
        path.write_bytes(whole)


def edit_entry(folder, name, **fields):
    arrays = json.loads((folder / "index.json").read_text())["arrays"]
    edit_record(folder, arrays=arrays | {name: arrays[name] | fields})


def file_of(folder, name):
    return folder / json.loads((folder / "index.json").read_text())["arrays"][name]["file"]


def swap(folder, first, second):
    first, second = file_of(folder, first), file_of(folder, second)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


ARRAYS = ("vectors", "labels", "neighbours", "levels", "upper")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing or cannot be read"),
        (
            lambda path: edit(path, lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:]),
            "has changed .*SHA-256",
        ),
        (lambda path: edit(path, lambda b: b[:9] + b"\xff\xff" + b[11:]), "has changed .*SHA-256"),
        (
            lambda path: edit(path, lambda b: b[:128] + bytes(~byte & 255 for byte in b[128:])),
            "has changed .*SHA-256",
        ),
        (lambda path: edit(path, lambda b: b[:-1]), "has changed .* bytes, expected"),
        (lambda path: edit(path, lambda b: b + b"0"), "has changed .* bytes, expected"),
        (lambda path: edit(path, lambda b: b""), "written .0 bytes, expected"),
    ],
)
def test_load_refuses_a_damaged_array_whatever_has_been_made_of_it(saved, name, damage, message):
    damage(file_of(saved, name))
    with pytest.raises(ValueError, match=f"index-[0-9a-f]*.npy .*{message}"):
        HnswIndex.load(saved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "index.json").unlink(), "index.json is missing"),
        (lambda folder: edit(folder / "index.json", lambda b: b[:40]), "index.json must be"),
        (lambda folder: edit(folder / "index.json", lambda b: b"\xff\xfe"), "index.json must be"),
        (lambda folder: edit(folder / "index.json", lambda b: b"[]"), "index.json must be"),
        (lambda folder: edit(folder / "index.json", lambda b: b"[" * 100_000), "index.json must be"),
        (lambda folder: edit(folder / "index.json", lambda b: b + b" " * (1 << 24)), "bytes, above"),
        (lambda folder: edit(folder / "index.json", lambda b: b"{}"), "'format_version'"),
        (lambda folder: edit(folder / "index.json", lambda b: b.replace(b'"ef": ', b'"ef": 1')), "another SHA-256"),
        (lambda folder: edit_record(folder, format_version=1), "format_version 1, not 2"),
        (lambda folder: edit_record(folder, settings={"M": 8}), "ef_construction"),
        (lambda folder: edit_record(folder, settings=SETTINGS | {"ef": "30"}), "30"),
        (lambda folder: edit_record(folder, settings=SETTINGS | {"M": 9}), "shape .3000, 19., got int32 of .3000, 17"),
        (lambda folder: edit_record(folder, settings=SETTINGS | {"more": 1}), "more"),
        (lambda folder: edit_record(folder, settings=SETTINGS | {"space": "cosine"}), "cosine"),
        (lambda folder: edit_record(folder, figures=None), "index.json must be"),
        (lambda folder: edit_record(folder, arrays=None), "index.json must be"),
        (lambda folder: edit_record(folder, arrays={}), "vectors"),
        (lambda folder: edit_record(folder, entry={"max_level": 1, "enterpoint_node": 3000}), "cannot begin"),
        (lambda folder: edit_record(folder, entry={"max_level": 99, "enterpoint_node": 0}), "cannot begin"),
        (lambda folder: edit_record(folder, entry={}), "max_level|enterpoint"),
        (lambda folder: edit_record(folder, costs={"stream": 0.0, "reaches": []}), "costs.stream"),
        (lambda folder: edit_record(folder, costs={"reaches": [[1, 2]]}), "expected 3, got 2"),
        (lambda folder: edit_entry(folder, "vectors", sha256="00"), "expected 00"),
        (lambda folder: edit_entry(folder, "vectors", bytes=1 << 60), "bytes, expected 1152921504606846976"),
        (lambda folder: edit_entry(folder, "vectors", file="../index.json"), "'../index.json'"),
        (lambda folder: edit_entry(folder, "vectors", file="/etc/passwd"), "'/etc/passwd'"),
        (lambda folder: edit_entry(folder, "vectors", file=7), "index.json must be"),
        (
            lambda folder: swap(folder, "vectors", "neighbours"),
            "has changed .* bytes, expected",
        ),
        (lambda folder: swap(folder, "labels", "levels"), "has changed .*SHA-256"),
    ],
)
def test_load_refuses_a_damaged_record_before_hnswlib_sees_it(saved, monkeypatch, damage, message):
    damage(saved)
    monkeypatch.setattr(hnswlib, "Index", lambda **_: pytest.fail("handed to hnswlib"))
    with pytest.raises(ValueError, match=message):
        HnswIndex.load(saved)


def test_load_refuses_arrays_of_another_index_with_fitting_hashes(saved, tmp_path):
    build(np.ones((50, 16))).save(tmp_path / "other")
    other = json.loads((tmp_path / "other" / "index.json").read_text())["arrays"]["vectors"]
    (saved / other["file"]).write_bytes((tmp_path / "other" / other["file"]).read_bytes())
    edit_entry(saved, "vectors", **other)
    with pytest.raises(ValueError, match=r"shape \(50,\), got int32 of \(3000,\)"):
        HnswIndex.load(saved)
