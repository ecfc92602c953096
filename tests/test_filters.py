import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.interactions import Table
from retrieval.index import Filter, Filters, HnswIndex, plan
from tests.index_cases import reference

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
    wanted = Filter(
        one_of=data.draw(st.dictionaries(st.just("genres"), st.lists(st.sampled_from(GENRES))))
        | data.draw(st.dictionaries(st.just("year"), st.lists(st.integers(1990, 1996)))),
        between=data.draw(st.dictionaries(st.just("year"), st.tuples(bound, bound)))
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
    assert Filter() != Filter(allow=[]) and Filter() == Filter(allow=None)
    assert filters.subset(Filter()).mask.all() and not filters.subset(Filter(allow=[])).mask.any()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"one_of": {"genre": ["War"]}}, "no attribute 'genre' to filter by; did you mean 'genres'"),
        ({"between": {"month": (1, 2)}}, r"there are \['genres', 'vector', 'year'\]"),
        ({"one_of": {"year": ["1990"]}}, "'year' holds numbers, got '1990'"),
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
        ({"allow": [1.5]}, "allow must be integers or strings"),
        ({"deny": [[1]]}, "deny must be one-dimensional"),
    ],
)
def test_what_is_no_filter_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        Filter(**wanted)


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((4000, 16)).astype(np.float32)
    return HnswIndex.build(embeddings, M=16, ef_construction=80, ef=60, seed=0), rng.standard_normal((30, 16))


@pytest.mark.parametrize("share", [1.0, 0.999, 0.5, 0.1, 0.01, 0.001, 1 / 4000, 0.0])
@pytest.mark.parametrize("plan_of", ["graph", "exact", "own"])
def test_filtered_search_finds_nearly_all_at_every_selectivity(graph, monkeypatch, share, plan_of):
    index, queries = graph
    if plan_of != "own":
        monkeypatch.setattr(plan, "exact_is_cheaper", lambda *_: plan_of == "exact")
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
    if plan_of == "exact" and share < 1:
        np.testing.assert_array_equal(positions, expected[1])
        np.testing.assert_array_equal(scores, expected[0])


def test_a_filter_against_the_query_falls_back_to_exact_search(graph, monkeypatch):
    index, queries = graph
    monkeypatch.setattr(plan, "exact_is_cheaper", lambda *_: False)
    allowed = index.embeddings @ queries[0].astype(np.float32) < 0  # the graph looks among the others
    scores, positions = index.search(queries[:1], 10, None, allowed)
    expected = reference(index.embeddings, queries[:1], 10, None, allowed)
    np.testing.assert_array_equal(positions, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


def test_the_plan_follows_selectivity_and_the_size_of_the_batch():
    costs = plan.Costs(visit=1e-6, product=1e-10, stream=4e-10, gather=1e-9)

    def is_exact(num_queries, num_allowed, is_gathered=True):
        wide = plan.width(10, 100, num_allowed, 1_000_000)
        return plan.exact_is_cheaper(costs, num_queries, num_allowed * 64, wide, is_gathered)

    batch = [is_exact(1024, m) for m in (1, 100, 10_000, 100_000, 900_000)]
    single = [is_exact(1, m) for m in (1, 100, 10_000, 100_000, 900_000)]
    assert batch == [True, True, True, False, False] and single == [True, True, True, False, False]
    assert is_exact(1024, 10_000, is_gathered=False) and not is_exact(1, 40_000, is_gathered=False)
    assert is_exact(1024, 40_000, is_gathered=False) and not is_exact(1, 40_000)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_is_a_time(value):
    with pytest.raises(ValueError, match="costs.visit must be a time above 0"):
        plan.Costs(visit=value)
