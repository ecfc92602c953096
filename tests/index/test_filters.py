import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import reference

from retrieval.data.interactions import Table
from retrieval.index import Filter, Filters, HnswIndex
from retrieval.index.hnsw import plan

GENRES = ["Comedy", "War", "Film-Noir", ""]


def plain_mask(table, wanted):
    """Looks at one candidate after the other."""
    kept = []
    for place, candidate_id in enumerate(table.ids.tolist()):
        row = {name: column[place].item() for name, column in table.columns.items()}
        good = wanted.allow is None or candidate_id in list(wanted.allow)
        good &= candidate_id not in list(wanted.deny)
        for name, values in wanted.one_of.items():
            has = row[name].split("|") + [row[name]] if isinstance(row[name], str) else [row[name]]
            good &= any(value in has for value in values)
        for name, (low, high) in wanted.between.items():
            good &= row[name] not in ("",) and row[name] == row[name]
            good &= (low is None or row[name] >= low) and (high is None or row[name] <= high)
        kept.append(good)
    return np.array(kept, bool)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_a_compiled_filter_is_a_look_at_each_candidate(data, n):
    def draw(elements):
        return data.draw(st.lists(elements, min_size=n, max_size=n))

    table = Table(
        np.arange(n) * 2,
        {
            "genres": np.array(draw(st.lists(st.sampled_from(GENRES[:3]), unique=True).map("|".join))),
            "year": np.array(draw(st.integers(1990, 1995))),
            "price": np.array(draw(st.floats(0, 2) | st.just(float("nan")))),
            "date": np.array(draw(st.sampled_from(["", "1999-01-02", "1998-12-31"]))),
        },
    )
    bound = st.none() | st.integers(1989, 1996)

    def in_order(bounds):
        return None in bounds or bounds[0] <= bounds[1]

    wanted = Filter(
        one_of=data.draw(st.dictionaries(st.just("genres"), st.lists(st.sampled_from(GENRES))))
        | data.draw(st.dictionaries(st.just("year"), st.lists(st.integers(1990, 1996)))),
        between=data.draw(st.dictionaries(st.just("year"), st.tuples(bound, bound).filter(in_order)))
        | data.draw(st.dictionaries(st.just("price"), st.tuples(st.none() | st.floats(0, 2), st.none())))
        | data.draw(st.dictionaries(st.just("date"), st.tuples(st.none(), st.none() | st.just("1999-01-01")))),
        allow=data.draw(st.none() | st.lists(st.integers(0, 2 * n))),
        deny=data.draw(st.lists(st.integers(0, 2 * n))),
    )
    np.testing.assert_array_equal(Filters(table).subset(wanted).mask, plain_mask(table, wanted))


def test_filters_that_say_the_same_are_compiled_once():
    table = Table(["a", "b"], {"genres": np.array(["War", "Comedy"]), "year": np.array([1, 2])})
    filters = Filters(table)
    first = filters.subset(Filter(one_of={"genres": ["War", "Comedy"], "year": [2]}, deny=["b", "c"]))
    assert (
        filters.subset(Filter(one_of={"year": (2,), "genres": ["Comedy", "War"]}, deny=np.array(["c", "b"]))) is first
    )
    assert filters.subset(Filter(one_of={"genres": ["War"], "year": [2]}, deny=["b", "c"])) is not first
    assert Filter(one_of={"year": [2]}) != Filter(one_of={"year": ["2"]})  # one fits the column, one does not
    assert Filter(one_of={"price": [np.float32(0.1)]}) != Filter(one_of={"price": [0.1]})  # they print alike
    assert Filter() != Filter(allow=[]) and Filter() == Filter(allow=None)
    assert filters.subset(Filter()).mask.all() and not filters.subset(Filter(allow=[])).mask.any()


def test_what_a_filter_was_made_of_may_change_and_the_filter_does_not():
    filters = Filters(Table([1, 2, 3], {"genres": np.array(["War", "Comedy", ""])}))
    genres, deny, allow = ["War", "Comedy"], [1], np.array([1, 2])
    wanted = Filter(one_of={"genres": genres}, deny=deny, allow=allow)
    genres.append("")
    deny.append(2)
    allow[1] = 3
    assert filters.mask(wanted).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"one_of": {"genre": ["War"]}}, "no attribute 'genre' to filter by; did you mean 'genres'"),
        ({"between": {"month": (1, 2)}}, r"known are \['genres', 'vector', 'year'\]"),
        ({"one_of": {"year": ["1990"]}}, "'year' holds integers, got '1990'"),
        ({"one_of": {"genres": [3]}}, "'genres' holds text, got 3"),
        ({"between": {"genres": (3, None)}}, "'genres' holds text, got 3"),
        ({"between": {"vector": (3, None)}}, "holds vectors of 2"),
        ({"deny": [3]}, "ids are int64"),
    ],
)
def test_a_filter_that_does_not_fit_the_corpus_is_refused(wanted, message):
    columns = {"genres": np.array(["War"]), "year": np.array([1990]), "vector": np.ones((1, 2))}
    with pytest.raises(ValueError, match=message):
        Filters(Table(["a"], columns)).subset(Filter(**wanted))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"one_of": {"genres": "War"}}, "one_of.'genres'. must be a list of values, got 'War'"),
        ({"allow": "abc"}, "allow must be a list or an array of ids, as .*, got 'abc'"),
        ({"allow": [1, "a"]}, "allow must be all integers or all strings, got 1 among strings"),
        ({"allow": ["a", None]}, "allow, row 1: missing id, got None"),
        ({"deny": [[1], [1, 2]]}, "deny must be one-dimensional"),
        ({"allow": [1.5]}, "allow must be integers or strings"),
        ({"deny": [[1]]}, "deny must be one-dimensional"),
        ({"one_of": {"year": [None]}}, "one_of.'year'. must hold text or numbers, got None"),
        ({"between": {"year": ([1990], None)}}, r"between.'year'. must hold text or numbers, got \[1990\]"),
    ],
)
def test_what_is_no_filter_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        Filter(**wanted)


LARGE = 2**53
TYPED = {
    "seller": [LARGE + 3, None, LARGE + 4, -(2**63)],
    "in_stock": [True, False, None, True],
    "tags": [["a|b", "c"], ["a", "b"], [], ["a|b|c"]],
    "year": [1, 2, 3, None],
    "text": [r"a\|b|c", "a|b", "", r"C:\dir"],
    "price": np.array([0.1, np.nan, 2, 3], np.float32),
}


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"one_of": {"seller": [LARGE + 3]}}, [0]),
        ({"one_of": {"seller": [LARGE + 4, 0]}}, [2]),
        ({"one_of": {"seller": [float(LARGE + 4), LARGE + 0.5, 2**70, math.inf]}}, [2]),
        ({"between": {"seller": (LARGE + 3, LARGE + 3)}}, [0]),
        ({"between": {"seller": (None, LARGE + 3)}}, [0, 3]),
        ({"between": {"seller": (None, LARGE + 2)}}, [3]),
        ({"between": {"seller": (float(LARGE + 4), 2**2000)}}, [2]),
        ({"between": {"seller": (-math.inf, math.inf)}}, [0, 2, 3]),
        ({"between": {"seller": (0.5, None)}}, [0, 2]),
        ({"one_of": {"seller": [-(2**63), 2**63]}}, [3]),
        ({"between": {"year": (1.5, 2.5)}}, [1]),
        ({"between": {"year": (1, 2)}}, [0, 1]),
        ({"between": {"year": (np.float32(2.0), np.int8(3))}}, [1, 2]),
        ({"one_of": {"year": [2.0, 2.5]}}, [1]),
        ({"one_of": {"in_stock": [True]}}, [0, 3]),
        ({"one_of": {"in_stock": [np.False_]}}, [1]),
        ({"one_of": {"tags": ["a|b"]}}, [0]),
        ({"one_of": {"tags": ["b", "a|b|c"]}}, [1, 3]),
        ({"one_of": {"text": ["a|b"]}}, [0, 1]),
        ({"one_of": {"text": ["a"]}}, [1]),
        ({"one_of": {"text": ["c", r"C:\dir"]}}, [0, 3]),
        ({"one_of": {"text": [""]}}, [2]),
        ({"between": {"text": ("a", "a|b")}}, [0, 1]),
        ({"one_of": {"price": [0.1]}}, [0]),
        ({"between": {"price": (0.1, 2)}}, [0, 2]),
        ({"between": {"price": (None, 2)}}, [0, 2]),
        ({"between": {"price": (3, 2**2000)}}, [3]),
        ({"one_of": {"seller": []}}, []),
        ({"one_of": {"text": []}}, []),
    ],
)
def test_values_are_found_exactly_in_the_type_of_their_column(wanted, kept):
    assert Filters(Table([0, 1, 2, 3], TYPED)).subset(Filter(**wanted)).positions.tolist() == kept


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"one_of": {"in_stock": [1]}}, "'in_stock' holds booleans, got 1"),
        ({"one_of": {"in_stock": ["True"]}}, "'in_stock' holds booleans, got 'True'"),
        ({"one_of": {"seller": [True]}}, "'seller' holds integers, got True"),
        ({"one_of": {"seller": ["7"]}}, "'seller' holds integers, got '7'"),
        ({"one_of": {"tags": [7]}}, "'tags' holds lists of text, got 7"),
        (
            {"one_of": {"price": [2**24 + 1]}},
            "'price' holds float32, which cannot be 16777217; make it",
        ),
        ({"between": {"in_stock": (False, True)}}, "'in_stock' holds booleans, which have no order; use one_of"),
        ({"between": {"tags": ("a", None)}}, "'tags' holds lists of text, which have no order"),
    ],
)
def test_a_value_of_another_type_than_its_column_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        Filters(Table([0, 1, 2, 3], TYPED)).subset(Filter(**wanted))


def test_a_filter_that_fits_does_not_let_an_equal_one_of_another_type_pass():
    filters = Filters(Table([0, 1, 2, 3], TYPED))
    filters.subset(Filter(one_of={"in_stock": [True]}))
    with pytest.raises(ValueError, match="holds booleans, got 1"):
        filters.subset(Filter(one_of={"in_stock": [1]}))


@pytest.mark.parametrize("wanted", [{"one_of": {"text": ["a\0"]}}, {"between": {"text": ("a\0", None)}}])
def test_text_with_a_nul_character_is_no_value_of_a_filter(wanted):
    with pytest.raises(ValueError, match="must hold no NUL character, got 'a"):
        Filter(**wanted)


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((4000, 16)).astype(np.float32)
    return HnswIndex.build(embeddings, M=16, ef_construction=80, ef=60, seed=0), rng.standard_normal((30, 16))


REACHES = tuple((10 << i, 60 << i, 1e-9) for i in range(6))  # of the graph, and it costs nothing


@pytest.mark.parametrize("share", [1.0, 0.999, 0.5, 0.1, 0.01, 0.001, 1 / 4000, 0.0])
@pytest.mark.parametrize("reaches", [REACHES, ()])
def test_filtered_search_finds_nearly_all_at_every_selectivity(graph, reaches, share):
    index, queries = graph
    index = dataclasses.replace(index, costs=plan.Costs(reaches=reaches))
    rng = np.random.default_rng(3)
    allowed = np.zeros(4000, bool)
    allowed[rng.permutation(4000)[: round(share * 4000)]] = True
    excluded = [rng.integers(0, 4000, 20 * (query % 3)) for query in range(30)]
    scores, positions = index.search(queries, 10, excluded, allowed)
    expected = reference(index.embeddings, queries, 10, excluded, allowed)
    np.testing.assert_array_equal((positions >= 0).sum(axis=1), (expected[1] >= 0).sum(axis=1))
    found = [set(own) for own in positions.tolist()]
    wanted = [set(own) - {-1} for own in expected[1].tolist()]
    assert sum(len(a & b) for a, b in zip(found, wanted, strict=True)) >= 0.97 * sum(map(len, wanted))
    assert allowed[positions[positions >= 0]].all()
    assert not any(found[query] & set(excluded[query].tolist()) for query in range(30))
    if share < 0.9 and not reaches:
        np.testing.assert_array_equal(positions, expected[1])
        np.testing.assert_array_equal(scores, expected[0])


def test_a_filter_against_the_query_falls_back_to_exact_search(graph):
    index = dataclasses.replace(graph[0], costs=plan.Costs(reaches=REACHES))
    query = graph[1][:1]
    allowed = index.embeddings @ query[0].astype(np.float32) < 0  # the graph looks among the others
    scores, positions = index.search(query, 10, None, allowed)
    expected = reference(index.embeddings, query, 10, None, allowed)
    np.testing.assert_array_equal(positions, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


def test_the_cheaper_of_graph_and_exact_search_is_asked(graph, monkeypatch):
    index, queries = graph
    asked = []
    traverse = HnswIndex._traverse
    monkeypatch.setattr(
        HnswIndex, "_traverse", lambda index, *arguments: asked.append(arguments[1]) or traverse(index, *arguments)
    )
    for share, seconds, wide in ((0.5, 1e-9, 240), (0.5, 1.0, None), (0.01, 1e-9, None), (0.95, 1.0, 64)):
        costs = plan.Costs(reaches=((20, 60, seconds), (40, 240, seconds)))
        allowed = np.arange(4000) < share * 4000
        dataclasses.replace(index, costs=costs).search(queries, 10, None, allowed)
        assert asked == ([] if wide is None else [wide])
        asked.clear()


def test_exclusions_widen_the_search_as_far_as_the_graph_is_known_to_need(graph, monkeypatch):
    index, queries = graph
    asked = []
    traverse = HnswIndex._traverse
    monkeypatch.setattr(
        HnswIndex, "_traverse", lambda index, *arguments: asked.append(arguments[1]) or traverse(index, *arguments)
    )
    index = dataclasses.replace(index, costs=plan.Costs(reaches=((20, 60, 1.0), (40, 240, 1.0))))
    index.search(queries[:3], 10, [[], range(15), range(300)])
    assert asked == [60, 240]  # 300 are beyond its reach: exact search
    asked.clear()
    dataclasses.replace(index, costs=plan.Costs()).search(queries[:3], 10, [[], range(15), range(300)])
    assert asked == [60, 60 + 15, 60 + 511]  # nothing is known


def test_exact_search_costs_less_the_fewer_are_left_and_once_they_are_gathered():
    times = [plan.exact_seconds(plan.Costs(), 64, numbers, True) for numbers in (1, 1000, 10**6)]
    assert times == sorted(times) and plan.exact_seconds(plan.Costs(), 64, 1000, False) > times[1]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_the_candidates_up_to_the_planned_depth_contain_k_allowed_ones_nearly_always(share):
    depth = plan.depth(10, round(share * 1e6), 1_000_000)
    counts = np.random.default_rng(0).binomial(depth, share, 20_000)
    assert 0.98 < (counts >= 10).mean() < 1


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_is_a_time(value):
    with pytest.raises(ValueError, match="costs.stream must be a time above 0"):
        plan.Costs(stream=value)
