import gc
import json
import re
import signal
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import reference

from retrieval.index import ExactIndex, Filter, HnswIndex, IdIndex, LiveIndex
from retrieval.index.live.background import BackgroundWork

GRAPH = {"M": 8, "ef_construction": 40, "ef": 30, "seed": 0}


@pytest.fixture(autouse=True)
def bounded():
    """Fails a test that waits for a rebuild which never ends, rather than to wait with it."""

    def stop(*_):
        raise TimeoutError("a test of a live index takes more than 120 seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def live(vectors, ids=None, kind="exact", **rest):
    base = ExactIndex.build(vectors) if kind == "exact" else HnswIndex.build(vectors, **GRAPH)
    return LiveIndex.build(np.arange(len(base)) if ids is None else ids, base, **rest)


def plain(state, queries, k, exclude, wanted=None):
    """Returns the scores of the best k in a dictionary of id -> (vector, year), where `wanted` is the least year."""
    left = [i for i, (_, year) in state.items() if wanted is None or year >= wanted]
    if not left:
        return np.full((len(queries), k), -np.inf, np.float32)
    vectors = np.array([state[i][0] for i in left], np.float32)
    excluded = [[left.index(i) for i in own if i in left] for own in exclude]
    return reference(vectors, queries, k, excluded)[0]


vectors_of = st.tuples(*[st.integers(-3, 3).map(float)] * 3).filter(any)
changes = st.lists(
    st.tuples(st.just("add"), st.dictionaries(st.integers(0, 12), st.tuples(vectors_of, st.integers(1, 3)), min_size=1))
    | st.tuples(st.just("remove"), st.lists(st.integers(0, 12), unique=True))
    | st.tuples(st.just("rebuild"), st.none())
    | st.tuples(st.just("save"), st.none()),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(changes, st.booleans(), st.booleans(), st.data())
def test_whatever_is_changed_the_answers_are_those_of_what_is_there(tmp_path_factory, steps, is_graph, are_text, data):
    name = (lambda i: f"id {i}") if are_text else int
    state = {name(i): ((float(i + 1), 1.0, -float(i)), 1 + i % 3) for i in range(6)}
    index = live(
        [vector for vector, _ in state.values()],
        list(state),
        "graph" if is_graph else "exact",
        attributes={"year": np.array([year for _, year in state.values()])},
        rebuild_at=np.inf,
    )
    for step, what in steps:
        if step == "add":
            state |= {name(i): value for i, value in what.items()}
            index.add([*map(name, what)], [v for v, _ in what.values()], {"year": [y for _, y in what.values()]})
        elif step == "remove" and (ids := [name(i) for i in what if name(i) in state]):
            state = {i: value for i, value in state.items() if i not in ids}
            index.remove(ids)
        elif step == "rebuild" and state:
            index.rebuild()
        elif step == "save":
            folder = tmp_path_factory.mktemp("live")
            index.save(folder)
            index = LiveIndex.load(folder)
    k, queries = data.draw(st.integers(1, 15)), np.array([[1, 2, 3], [-1, 0, 2]], np.float32)
    exclude = data.draw(st.lists(st.lists(st.integers(0, 14).map(name)), min_size=2, max_size=2))
    wanted = data.draw(st.none() | st.integers(1, 4))
    condition = None if wanted is None else Filter(between={"year": (wanted, None)})
    answers = index.search(queries, k, exclude=exclude, filter=condition)
    np.testing.assert_array_equal(answers.scores, plain(state, queries, k, exclude, wanted))
    assert len(index) == len(state) and set(index.ids.tolist()) == set(state)
    for query in range(2):
        found = answers.ids[query][answers.found[query]].tolist()
        assert len(set(found)) == len(found) and not set(found) & set(exclude[query])
        scores = [np.float32(np.dot(state[i][0], queries[query])) for i in found]
        np.testing.assert_array_equal(scores, answers.scores[query, : len(found)])
        assert all(answers.ids[query][len(found) :] == ("" if are_text else 0))
    if state:
        ids = sorted(state)[:3]
        np.testing.assert_array_equal(index.vectors(ids), [state[i][0] for i in ids])
        similar = index.similar(ids, 2)
        own = plain(state, np.array([state[i][0] for i in ids], np.float32), 2, [[i] for i in ids])
        np.testing.assert_array_equal(similar.scores, own)


def versioned(ids, version):
    """Returns vectors that say by their last number which version of which id they are."""
    vectors = np.random.default_rng(version).standard_normal((len(ids), 4))
    return np.concatenate([vectors, 1000.0 * version + np.asarray(ids)[:, None]], axis=1)


@pytest.mark.parametrize("kind", ["exact", "graph"])
def test_no_reader_sees_half_of_a_change(kind):
    """Each change gives a block of 20 ids one version: a search of that block alone must find one version, and all."""
    blocks = [np.arange(20 * b, 20 * b + 20) for b in range(15)]
    index = live(versioned(np.arange(300), 1), None, kind, attributes={"block": np.arange(300) // 20}, rebuild_at=0.3)
    stop, wrong, searches = threading.Event(), [], [0, 0]
    query = np.array([[0, 0, 0, 0, 1.0]])

    def read(reader):
        rng = np.random.default_rng(reader)
        while not stop.is_set():
            block = int(rng.integers(15))
            answers = index.search(query, 20, filter=Filter(one_of={"block": [block]}))
            values = answers.scores[0] - answers.ids[0]
            if set(answers.ids[0].tolist()) != set(blocks[block].tolist()) or len(set(values.tolist())) != 1:
                wrong.append((block, answers))
            searches[reader] += 1

    readers = [threading.Thread(target=read, args=(reader,)) for reader in range(2)]
    for reader in readers:
        reader.start()
    version = 1
    while version < 60 or min(searches) < 20:
        version += 1
        block = version % 15
        index.add(blocks[block], versioned(blocks[block], version), {"block": np.full(20, block)})
    stop.set()
    for reader in readers:
        reader.join()
    index.wait()
    assert not wrong and min(searches) >= 20
    assert index.snapshot.base is not None and len(index) == 300


def test_enough_changes_rebuild_in_the_background_and_a_slow_rebuild_loses_nothing(monkeypatch):
    index = live(np.eye(10), rebuild_at=0.5)
    started, go_on = threading.Semaphore(0), threading.Semaphore(0)
    plain_rebuilt = ExactIndex.rebuilt

    def rebuilt(self, embeddings):
        started.release()
        assert go_on.acquire(timeout=10)
        return plain_rebuilt(self, embeddings)

    monkeypatch.setattr(ExactIndex, "rebuilt", rebuilt)
    index.remove([0, 1, 2, 3, 4])
    assert not started.acquire(blocking=False)
    index.remove([5])
    assert started.acquire(timeout=10)
    index.add([6, 20, 21], 2 * np.eye(10)[:3])  # replaced, new, and removed again while the base is built
    index.remove([21, 7])
    index.add([7], [np.full(10, 3.0)])  # removed and back
    assert index.search(np.ones((1, 10)), 9).ids.tolist() == [[7, 6, 20, 8, 9, 0, 0, 0, 0]]
    go_on.release()
    assert started.acquire(timeout=10)  # again, without another change: enough of them came meanwhile
    assert len(index.snapshot.base) == 4 and index.snapshot.alive.tolist() == [False, False, True, True]
    assert index.search(np.ones((1, 10)), 9).ids.tolist() == [[7, 6, 20, 8, 9, 0, 0, 0, 0]]
    go_on.release()
    index.wait()
    assert index.snapshot.changed == 0 and len(index.snapshot.base) == 5
    assert index.search(np.ones((1, 10)), 9).ids.tolist() == [[7, 6, 20, 8, 9, 0, 0, 0, 0]]


def test_an_error_of_the_rebuild_in_the_background_is_told_and_changes_nothing(monkeypatch):
    index = live(np.eye(4), rebuild_at=0.1)

    def rebuilt(self, embeddings):
        raise MemoryError("no room")

    monkeypatch.setattr(ExactIndex, "rebuilt", rebuilt)
    index.remove([0])
    with pytest.raises(MemoryError, match="no room"):
        index.wait()
    index.wait()
    assert index.search(np.ones((1, 4)), 4).ids.tolist() == [[1, 2, 3, 0]]


def test_the_next_change_tries_to_rebuild_again_and_the_error_of_before_is_told_no_more(monkeypatch, caplog):
    index, plain_rebuilt = live(np.eye(9), rebuild_at=0.1), ExactIndex.rebuilt

    def rebuilt(self, embeddings):
        if len(embeddings) == 8:
            raise MemoryError("no room")
        return plain_rebuilt(self, embeddings)

    monkeypatch.setattr(ExactIndex, "rebuilt", rebuilt)
    index.remove([0])
    while index._background._worker is not None:
        time.sleep(0.001)
    assert caplog.messages == ["the index was not rebuilt, the next change tries again: MemoryError('no room')"]
    index.remove([1])
    index.wait()
    assert index.snapshot.changed == 0 and len(index.snapshot.base) == 7


def test_a_change_is_made_where_no_thread_can_be_had_to_rebuild(monkeypatch):
    index = live(np.eye(4), rebuild_at=0.1)

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        index.remove([0])
    with pytest.raises(RuntimeError, match="can't start new thread"):
        index.wait()
    index.remove([1])
    index.wait()
    assert sorted(index.ids.tolist()) == [2, 3] and len(index.snapshot.base) == 2


def test_all_may_be_removed_while_the_background_begins(monkeypatch):
    index = live(np.eye(4), rebuild_at=0.1)
    continues = BackgroundWork._continues

    def continues_after_all_are_removed(work, is_due):
        answer = continues(work, is_due)
        if len(index):
            index.remove(index.ids)
        return answer

    monkeypatch.setattr(BackgroundWork, "_continues", continues_after_all_are_removed)
    index.remove([0])
    index.wait()
    assert len(index) == 0 and len(index.snapshot.base) == 4


def test_what_is_replaced_leaves_memory_at_once():
    index = live(np.eye(10), attributes={"year": np.arange(10)}, rebuild_at=np.inf)
    years = Filter(between={"year": (1, 8)})
    gc.disable()
    try:
        for change in (lambda: index.remove([0]), lambda: index.add([0], [np.ones(10)], {"year": [3]}), index.rebuild):
            index.search(np.eye(10), 3, filter=years)
            old = [weakref.ref(part) for part in (index.snapshot, index.snapshot.recent)]
            base, filters = weakref.ref(index.snapshot.base), weakref.ref(index.snapshot.filters)
            change()
            assert not any(reference() for reference in old)
        assert base() is None and filters() is None
    finally:
        gc.enable()


def test_nothing_may_be_added():
    index = live(np.eye(3), ["a", "b", "c"], attributes={"year": np.arange(3)})
    before = index.snapshot
    index.add([], np.zeros((0, 3)))
    assert index.snapshot is before


def test_what_is_saved_and_loaded_at_the_same_time_is_whole(tmp_path):
    first, second, stop = live(np.eye(30)), live(np.eye(20)), threading.Event()
    first.save(tmp_path)
    wrong = []

    def save(index):
        try:
            while not stop.is_set():
                index.save(tmp_path)
        except OSError as error:
            wrong.append(error)

    savers = [threading.Thread(target=save, args=(index,)) for index in (first, second)]
    for saver in savers:
        saver.start()
    try:
        sizes = [len(LiveIndex.load(tmp_path)) for _ in range(60)]
    finally:
        stop.set()
        for saver in savers:
            saver.join()
    assert set(sizes) <= {20, 30} and not wrong
    names = {entry["file"] for entry in json.loads((tmp_path / "index.json").read_text())["arrays"].values()}
    assert {path.name for path in tmp_path.iterdir()} == {"index.json", *names}


def test_it_is_an_index():
    assert isinstance(live(np.eye(2)), IdIndex)


def test_a_graph_is_rebuilt_with_its_settings():
    index = live(np.random.default_rng(0).standard_normal((200, 5)), kind="graph", rebuild_at=np.inf)
    index.remove(np.arange(50))
    index.rebuild()
    base = index.snapshot.base
    assert isinstance(base, HnswIndex) and base.settings.M == 8 and base.settings.ef == 30 and len(base) == 150
    again = HnswIndex.build(base.embeddings, **GRAPH)
    np.testing.assert_array_equal(base.parts()[1]["neighbours"], again.parts()[1]["neighbours"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.add([7], [[1, np.nan]]), "the vector of candidate 7 is not finite .1 such"),
        (lambda i: i.add([7, 8, 9], [[1, 2], [0, 0], [0, 0]]), "the vector of candidate 8 is zero .2 such"),
        (lambda i: i.add([7, 7], [[1, 2], [1, 2]]), "7 more than once"),
        (lambda i: i.add([7], [[1, 2, 3]]), r"shape \[1, 2\], got \(1, 3\)"),
        (lambda i: i.add(["x"], [[1, 2]]), "attributes must match: the id is integers in the index, got text"),
        (
            lambda i: i.add([7], [[1, 2]], {"year": [3]}),
            "attributes must match: 'year' is nothing in the index, got integers",
        ),
        (lambda i: i.add([7], [["x", 2]]), "embeddings must be vectors in rows, an array of numbers"),
        (lambda i: i.add([7], [[1, 2], [3]]), "embeddings must be vectors in rows, an array of numbers"),
        (
            lambda i: i.search([[1, 2]], 1, exclude="a"),
            "exclude must be a list with an entry for each of 1 q.* got 'a'",
        ),
        (lambda i: i.remove([0, 7]), "no candidate 7 to remove"),
        (lambda i: i.vectors([0, 9]), "no candidate 9 in the index"),
        (lambda i: i.similar([9], 3), "no candidate 9 in the index"),
        (lambda i: i.search([[1, 2]], 0), "k must be at least 1"),
        (lambda i: i.search([[1, 2]], 1, exclude=[]), "each of 1 queries, got 0"),
        (lambda i: i.search([[1, 2, 3]], 1), r"shape \[n, 2\]"),
        (lambda i: i.search([[1, 2]], 1, filter=Filter(one_of={"x": [1]})), "no attribute 'x'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(change, message):
    index = live(np.eye(2))
    before = index.snapshot
    with pytest.raises(ValueError, match=message):
        change(index)
    assert index.snapshot is before


@pytest.mark.parametrize(
    ("vectors", "message"), [([[1, 0], [0, 0]], "'b' is zero"), ([[1, 0]], "each of the 1 vectors")]
)
def test_build_refuses_by_id(vectors, message):
    with pytest.raises(ValueError, match=message):
        live(vectors, ["a", "b"])


@pytest.mark.parametrize("kind", ["exact", "graph"])
def test_zero_vectors_of_the_base_are_kept_where_that_is_said(tmp_path, kind):
    base = live([[1, 0], [0, 2], [3, 3]], kind=kind).snapshot.base.rebuilt([[0, 0], [-1, 0], [2, 1]])
    index = LiveIndex.build(["zero", "b", "c"], base, zeros=True)
    assert index.search([[1, 0]], 3).ids.tolist() == [["c", "zero", "b"]]
    with pytest.raises(ValueError, match="the vector of candidate 'zero' is zero"):
        index.add(["zero"], [[0, 0]])
    index.add(["d"], [[3, 0]])
    index.rebuild()
    index.save(tmp_path / "index")
    assert LiveIndex.load(tmp_path / "index").search([[1, 0]], 5).ids.tolist() == [["d", "c", "zero", "b", ""]]


def test_vectors_as_attributes_are_of_one_length():
    index = live(np.eye(2), attributes={"colour": np.ones((2, 3))})
    with pytest.raises(ValueError, match="'colour' is vectors of 3 numbers in the index, got vectors of 2 numbers"):
        index.add([7], [[1, 2]], {"colour": np.ones((1, 2))})
    with pytest.raises(ValueError, match="attribute 'genre', row 0: a list with a missing element, got .'War', None."):
        live(np.eye(2), attributes={"genre": [["War", None], []]})


@pytest.mark.parametrize("rebuild_at", [-0.1, np.nan])
def test_the_share_that_starts_a_rebuild_is_checked(rebuild_at):
    with pytest.raises(ValueError, match="rebuild_at must be a share, 0 at least"):
        live(np.eye(2), rebuild_at=rebuild_at)


def test_attributes_may_be_lists_of_text_or_numbers():
    base = ExactIndex.build(np.eye(2))
    index = LiveIndex.build(["a", "b"], base, {"year": [1990, 2000], "genre": ["War", ""]})
    assert index.search([[1, 1]], 1, filter=Filter(one_of={"genre": ["War"]})).ids.tolist() == [["a"]]
    index = LiveIndex.build(["a", "b"], base, {"year": [1990.0, np.nan]})
    index.add(["c"], [[2, 2]], {"year": [2000]})
    assert index.search([[1, 1]], 1, filter=Filter(between={"year": (2000, None)})).ids.tolist() == [["c"]]
    with pytest.raises(ValueError, match="attribute 'year', row 1: text among integers, got '1990'"):
        LiveIndex.build(["a", "b"], base, {"year": [1990, "1990"]})


ATTRIBUTES = {
    "seller": [2**53 + 3, None, 2**53 + 4],
    "in_stock": [True, None, False],
    "flag": [True, False, True],
    "tags": [["a|b", "c"], [], ["a"]],
    "price": [0.5, None, 2.0],
}


def found(index, **conditions):
    answer = index.search([[1.0] * 3], 9, filter=Filter(**conditions))
    return set(answer.ids[answer.found].tolist())


def test_attributes_keep_their_types_through_changes_files_and_rebuilds(tmp_path):
    index = LiveIndex.build(["x", "y", "z"], ExactIndex.build(np.eye(3)), ATTRIBUTES, rebuild_at=np.inf)
    new = {"seller": [2**53 + 5], "in_stock": [True], "flag": [None], "tags": [["b", "a|b"]], "price": [3]}
    index.add(["new"], [[1, 1, 1]], new)
    index.add(["bare"], [[1, 2, 1]], {name: [None] for name in ATTRIBUTES})
    index.save(tmp_path / "changed")
    rebuilt = LiveIndex.load(tmp_path / "changed")
    rebuilt.rebuild()
    rebuilt.save(tmp_path / "rebuilt")
    for state in (index, LiveIndex.load(tmp_path / "changed"), rebuilt, LiveIndex.load(tmp_path / "rebuilt")):
        for seller, name in ((2**53 + 3, "x"), (2**53 + 4, "z"), (2**53 + 5, "new")):
            assert found(state, one_of={"seller": [seller]}) == {name}
            assert found(state, between={"seller": (seller, seller)}) == {name}
        assert found(state, one_of={"seller": [0]}) == set()
        assert found(state, between={"seller": (None, None)}) == {"x", "z", "new"}
        assert found(state, one_of={"in_stock": [True]}) == {"x", "new"}
        assert found(state, one_of={"in_stock": [False]}) == {"z"}
        assert found(state, one_of={"flag": [False]}) == {"y"}
        assert found(state, one_of={"tags": ["a|b"]}) == {"x", "new"}
        assert found(state, one_of={"tags": ["a"]}) == {"z"}
        assert found(state, between={"price": (2, 3)}) == {"z", "new"}
        answer = state.search([[3.0, 0, 0], [0, 1, 0]], 6)
        sellers = answer.attribute("seller")
        values = dict(zip(answer.ids.ravel().tolist(), sellers.ravel().tolist(), strict=True))
        assert values["x"] == (2**53 + 3, True) and values["bare"] == values[""] == (0, False)
        assert answer.attribute("tags")[0][0] == ("a|b", "c") and answer.attribute("tags")[0][-1] == ()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seller", "7", "'seller' is integers in the index, got text"),
        ("seller", 7.5, "'seller' is integers in the index, got numbers"),
        ("in_stock", 1, "'in_stock' is booleans in the index, got integers"),
        ("in_stock", "True", "'in_stock' is booleans in the index, got text"),
        ("tags", "a|b", "'tags' is lists of text in the index, got text"),
        ("price", 2**53 + 1, f"attribute 'price', row 0: {2**53 + 1} would lose digits, as the column is float64"),
        ("tags", ["a\0"], "attribute 'tags', row 0: a list must hold text without NUL"),
    ],
)
def test_an_added_attribute_of_another_type_is_refused(name, value, message):
    index = LiveIndex.build(["x", "y", "z"], ExactIndex.build(np.eye(3)), ATTRIBUTES)
    new = {**{name: [None] for name in ATTRIBUTES}, name: [value]}
    with pytest.raises(ValueError, match=re.escape(message)):
        index.add(["new"], [[1, 1, 1]], new)


def test_lists_join_a_column_of_joined_text():
    index = LiveIndex.build(["x"], ExactIndex.build(np.eye(1)), {"tags": ["a|b"]}, rebuild_at=np.inf)
    index.add(["new"], [[2]], {"tags": [["a|b", "c"]]})
    for value, expected in (("a", ["x"]), ("b", ["x"]), ("c", ["new"]), ("a|b", ["new", "x"])):
        answer = index.search([[1]], 2, filter=Filter(one_of={"tags": [value]}))
        assert answer.ids[answer.found].tolist() == expected


def test_all_may_be_removed_and_nothing_is_found_then():
    index = live(np.eye(2), rebuild_at=np.inf)
    index.remove([0, 1])
    assert len(index) == 0 and not index.search(np.eye(2), 3).found.any()
    with pytest.raises(ValueError, match="all were removed"):
        index.rebuild()
    index.add([5], [[1, 1]])
    assert index.search([[1, 0]], 2).ids.tolist() == [[5, 0]]


def test_a_damaged_file_is_refused(tmp_path):
    index = live(np.eye(3), ["a", "b", "c"], attributes={"year": np.arange(3)})
    index.remove(["a"])
    index.save(tmp_path)
    record = json.loads((tmp_path / "index.json").read_text())
    del record["sha256"]  # as earlier versions wrote it
    swapped = record["arrays"] | {"alive": record["arrays"]["base/ids"]}
    for change in ({"arrays": swapped}, {"searcher": {}}, {"searcher": {"kind": "tree"}}, {"kind": "exact"}):
        (tmp_path / "index.json").write_text(json.dumps(record | change))
        with pytest.raises(ValueError, match="index.json|must fit"):
            LiveIndex.load(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps(record))
    assert sorted(LiveIndex.load(tmp_path).ids.tolist()) == ["b", "c"]
