import dataclasses
import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_cases import reference

from retrieval.index import Certificate, ExactIndex, HnswIndex, LiveIndex, load, recall
from retrieval.index.certificate import least_queries, lower_bound
from retrieval.index.hnsw import plan
from retrieval.index.tuning import certification, graph_search
from retrieval.index.tuning.choices import Choices
from retrieval.index.tuning.search import tune


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2000, 8)).astype(np.float32), rng.standard_normal((400, 8)).astype(np.float32)


class Clock:
    """A clock by which a search of a graph takes `graph` seconds for each of its ef, and exact search one second."""

    def __init__(self, monkeypatch, graph):
        self.now = 0.0
        for cls, cost in ((ExactIndex, lambda _: 1.0), (HnswIndex, lambda index: graph * index.settings.ef)):
            self.watch(monkeypatch, cls, cls.search, cost)

    def watch(self, monkeypatch, cls, search, cost):
        def searched(index, *arguments):
            self.now += cost(index)
            return search(index, *arguments)

        monkeypatch.setattr(cls, "search", searched)

    def __call__(self):
        return self.now


@pytest.mark.slow
def test_a_fast_graph_is_chosen_at_the_least_ef_whose_bound_meets_the_target(corpus, monkeypatch):
    clock = Clock(monkeypatch, graph=1e-4)
    index = tune(*corpus, clock=clock, target=0.95)
    certificate = index.certificate
    assert isinstance(index, HnswIndex) and certificate.is_reached
    assert index.graph.ef == index.settings.ef == certificate.chosen.ef
    assert certificate.lower_bound >= 0.95 and certificate.num_queries == 300
    assert certificate.chosen in certificate.curve
    own = [p for p in certificate.curve if (p.space, p.M) == (index.settings.space, index.settings.M)]
    assert [p.ef for p in own] == sorted(p.ef for p in own)
    good = [p for p in certificate.curve if p.lower_bound >= 0.95 and p.kind == "hnsw"]
    assert certificate.chosen.ef in sorted({p.ef for p in good})[:2]  # the held-out queries may ask for one more
    held_out = corpus[1][np.sort(np.random.default_rng(0).permutation(400)[100:])]
    exact = reference(corpus[0], held_out, 10)[1]
    assert recall(index, held_out, exact) == pytest.approx(certificate.recall)
    assert index.metrics == {"recall_at_10": certificate.recall, "recall_at_10_lower_bound": certificate.lower_bound}
    assert {(p.space, p.M) for p in certificate.curve} >= set(itertools.product(["inner_product", "euclidean"], [16]))
    assert "exact search" in certificate.reason and certificate.curve[0].kind == "exact"


@pytest.mark.parametrize("graph", [0.06, 10.0])  # at ef 10 faster than exact search but not half; slower
def test_exact_search_is_chosen_where_no_graph_is_much_faster(corpus, monkeypatch, graph):
    index = tune(*corpus, clock=Clock(monkeypatch, graph))
    assert isinstance(index, ExactIndex) and index.metrics == {"recall_at_10": 1.0, "recall_at_10_lower_bound": 1.0}
    assert index.certificate.reason.startswith("exact search takes") and index.certificate.is_reached
    assert [p.ef for p in index.certificate.curve] == [0, 10, 10, 10]  # one graph of each space, and no further ef


def test_exact_search_is_chosen_where_no_graph_is_sure_enough(corpus, monkeypatch):
    index = tune(corpus[0], corpus[1][:20], clock=Clock(monkeypatch, graph=1e-9))
    assert isinstance(index, ExactIndex)  # fifteen queries cannot certify .99, however many are found
    assert "15 held-out queries cannot certify 0.99, 444 can" in index.certificate.reason


def test_the_measured_time_of_exact_search_chooses_and_not_the_size_of_the_corpus(corpus, monkeypatch):
    small = corpus[0][:300], corpus[1]
    index = tune(*small, clock=Clock(monkeypatch, graph=1e-6), target=0.9)
    assert isinstance(index, HnswIndex) and index.certificate.is_reached
    clock = Clock(monkeypatch, graph=0.0)
    monkeypatch.setattr(graph_search, "FAST", 1.01 / 100)  # seconds of one of the hundred queries that choose
    index = tune(*corpus, clock=clock, target=0.9)
    assert isinstance(index, ExactIndex) and "less than the other work for an answer" in index.certificate.reason
    assert {(p.space, p.M) for p in index.certificate.curve[1:]} == {("inner_product", 16)}
    assert isinstance(tune(*corpus, clock=clock, target=0.9, choices=Choices("hnsw")), HnswIndex)


@pytest.mark.slow
@pytest.mark.parametrize(("busy", "kind"), [(1, HnswIndex), (3, ExactIndex)])
def test_searches_in_turn_decide_whatever_was_measured_before(corpus, monkeypatch, busy, kind):
    """Exact search seems slow while the machine does something else; in turn it is slow in `busy` rounds of five."""
    now, exact_searches = 0.0, 0

    def clock():
        return now

    def slow(index, *arguments, search=ExactIndex.search):
        nonlocal now, exact_searches
        exact_searches += len(index) == len(corpus[0])
        now += 1.0 if exact_searches <= before or exact_searches > before + busy else 1e-3
        return search(index, *arguments)

    def quick(index, *arguments, search=HnswIndex.search):
        nonlocal now
        now += 2e-3
        return search(index, *arguments)

    before = 5  # two or three for the time of exact search, one for the truth of each part of the queries
    monkeypatch.setattr(ExactIndex, "search", slow)
    monkeypatch.setattr(HnswIndex, "search", quick)
    index = tune(*corpus, clock=clock, target=0.9)
    assert isinstance(index, kind)
    if kind is ExactIndex:
        assert "measured in turn, the graph takes 20 µs a query, exact search 10" in index.certificate.reason


def test_a_large_corpus_is_compared_on_a_sample_and_certified_whole(corpus, monkeypatch):
    monkeypatch.setattr(graph_search, "MOST_COMPARED", 500)
    index = tune(*corpus, clock=Clock(monkeypatch, graph=1e-4), target=0.9)
    sizes = [p.num_candidates for p in index.certificate.curve]
    assert sizes[0] == 2000 and set(sizes[1:]) == {500, 2000} and sizes[1:] == sorted(sizes[1:])
    whole = {(p.space, p.M) for p in index.certificate.curve[1:] if p.num_candidates == 2000}
    assert whole == {(index.settings.space, index.settings.M)} and len(index) == 2000


def test_what_is_asked_for_is_what_is_built(corpus, monkeypatch):
    clock = Clock(monkeypatch, graph=1.0)
    assert isinstance(tune(*corpus, clock=clock, choices=Choices("exact")), ExactIndex)
    fixed = Choices("hnsw", space="euclidean", M=4, ef_construction=20, ef=15)
    index = tune(*corpus, clock=clock, choices=fixed, seed=3)
    assert dataclasses.asdict(index.settings) == {
        "M": 4, "ef_construction": 20, "ef": 15, "seed": 3, "space": "euclidean",
    }  # fmt: skip
    assert not index.certificate.is_reached and "a graph was asked for" in index.certificate.reason
    assert index.certificate.recall < 0.9 and len(index.certificate.curve) == 2
    widest = tune(
        *corpus, clock=clock, choices=Choices("hnsw", space="euclidean", M=2, ef_construction=2), target=0.999
    )
    assert widest.settings.ef == widest.graph.ef == 1000 and not widest.certificate.is_reached


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "hnsw"])
def test_a_fixed_ef_does_not_choose_a_graph_of_little_recall_for_its_speed(kind):
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((5000, 16)) * rng.lognormal(0, 0.5, (5000, 1))
    now, step = 0.0, 1.0

    def clock():  # each search seems faster than the one before
        nonlocal now, step
        now, step = now + step, 0.999 * step
        return now

    index = tune(candidates, rng.standard_normal((800, 16)), clock=clock, target=0.9, choices=Choices(kind, ef=50))
    assert index.certificate.is_reached
    if kind:
        assert index.settings.ef == 50 and index.certificate.lower_bound >= 0.9
        assert min(point.recall for point in index.certificate.curve) < 0.6


@pytest.mark.slow
def test_few_queries_that_find_all_need_no_wider_search(corpus, monkeypatch):
    index = tune(corpus[0], corpus[1][:100], clock=Clock(monkeypatch, graph=1e-4), choices=Choices("hnsw"))
    assert not index.certificate.is_reached and index.certificate.recall > 0.9
    complete = [point.ef for point in index.certificate.curve if point.recall == 1.0]
    assert complete and max(complete) < 500


@pytest.mark.slow
def test_the_certified_recall_holds_for_what_is_left_however_many_of_the_best_are_excluded(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    candidates, queries = (centres[rng.integers(40, size=n)] + 0.7 * rng.standard_normal((n, 16)) for n in (8000, 1200))
    candidates = np.float32(candidates * rng.lognormal(0, 0.3, (8000, 1)))
    index = tune(
        candidates,
        queries[:800],
        clock=Clock(monkeypatch, graph=2e-3),  # beyond an ef of 500 slower than exact search
        target=0.95,
        choices=Choices("hnsw", space="inner_product", M=16, ef_construction=40),
    )
    certificate, reaches = index.certificate, index.costs.reaches
    assert certificate.is_reached and reaches[0][:2] == (10, index.settings.ef) and 10 < reaches[-1][0] < 160
    held_out = np.float32(queries[800:])
    best = np.argsort(-(held_out @ candidates.T), axis=1, kind="stable")
    for few, many in ((0, 1), (1, 10), (11, 50), (51, 200)):
        counts = rng.integers(few, many, 400)
        excluded = [own[:count] for own, count in zip(best, counts, strict=True)]
        left = np.array([own[count : count + 10] for own, count in zip(best, counts, strict=True)])
        assert recall(index, held_out, left, excluded) >= 0.95
    unmeasured = dataclasses.replace(index, costs=plan.Costs())
    assert recall(unmeasured, held_out, left, excluded) < 0.9  # why it is measured how far a graph reaches


def test_the_certificate_is_saved_and_loaded(corpus, monkeypatch, tmp_path):
    for kind in ("exact", "hnsw"):
        index = tune(*corpus, clock=Clock(monkeypatch, graph=1e-4), choices=Choices(kind), target=0.9)
        index.save(tmp_path / kind)
        loaded = load(tmp_path / kind)
        assert loaded.certificate == index.certificate and isinstance(loaded.certificate, Certificate)
        LiveIndex.build(np.arange(2000), index).save(tmp_path / kind)
        assert LiveIndex.load(tmp_path / kind).snapshot.base.certificate == index.certificate
        if kind == "hnsw":
            assert loaded.costs == index.costs and loaded.graph.ef == index.settings.ef


def test_fewer_candidates_than_k(monkeypatch):
    index = tune(np.eye(3), np.eye(3), clock=Clock(monkeypatch, graph=1e-9), choices=Choices("hnsw"))
    assert index.certificate.k == 3 and index.search(np.eye(3)[:1], 5)[1].tolist() == [[0, 1, 2, -1, -1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 1.0}, "target must be in"),
        ({"target": 0.0}, "target must be in"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"threads": -1}, "threads must be an integer, at least 0 .all cores., got -1"),
        ({"seed": -1}, "seed must be an integer in .0, 4294967295., got -1"),
        ({"queries": np.ones((0, 8))}, "one at least, got none"),
        ({"queries": np.ones((1, 8)), "choices": Choices("hnsw")}, "two queries at least .* got 1"),
        ({"queries": np.ones((5, 7))}, "shape .n, 8."),
        ({"embeddings": np.full((5, 8), np.nan)}, "nan in row 0"),
    ],
)
def test_what_cannot_be_tuned_is_refused(corpus, changes, message):
    arguments = {"embeddings": corpus[0], "queries": corpus[1]} | changes
    with pytest.raises(ValueError, match=message):
        tune(**arguments, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "tree"}, "kind must be"),
        ({"space": "cosine"}, "space must be one of '', 'inner_product', .*, got 'cosine'"),
        ({"M": 1}, "M must be an integer in .2, 10000., or 0 for any, got 1"),
        ({"ef_construction": -5}, "ef_construction must be an integer in .*, got -5"),
    ],
)
def test_what_cannot_be_chosen_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        Choices(**choice)


@pytest.mark.parametrize("kind", ["", "exact"])
def test_one_query_is_answered_exactly_and_needs_no_certificate(corpus, kind):
    index = tune(corpus[0], corpus[1][:1], clock=time.perf_counter, choices=Choices(kind))
    assert isinstance(index, ExactIndex) and index.certificate.num_queries == 0
    assert index.certificate.reason == "a graph is certified on two queries at least that are not zero, got 1"


def test_queries_of_zeros_neither_choose_nor_certify(corpus, monkeypatch):
    with_zeros = np.concatenate([corpus[1], np.zeros((300, 8), np.float32)])
    index = tune(corpus[0], with_zeros, clock=Clock(monkeypatch, graph=1e-4), target=0.95)
    assert isinstance(index, HnswIndex) and index.certificate.num_queries == 300 and index.certificate.recall > 0.95
    index = tune(corpus[0], np.zeros((50, 8)), clock=time.perf_counter)
    assert isinstance(index, ExactIndex) and index.certificate.reason.endswith("got 0")


def test_each_look_at_the_held_out_queries_has_its_own_part_of_the_error(corpus, monkeypatch):
    errors = []
    monkeypatch.setattr(certification, "lower_bound", lambda shares, error: errors.append(error) or 0.0)
    tune(*corpus, clock=Clock(monkeypatch, graph=1e-4), choices=Choices("hnsw"), target=0.9)
    assert len(errors) > 2 and errors == pytest.approx([0.0225 * 0.1**look for look in range(len(errors))])
    assert sum(errors) <= 0.025


def plain_bound(shares, error):
    """The largest mean on a grid at which the capital of the bets, multiplied share by share, reaches 1 / error."""
    means = np.linspace(1e-3, 1, 1000, endpoint=False)
    capital = sum(
        stake * np.prod([1 + fraction * (share / means - 1) for share in shares], axis=0)
        for fraction, stake in ((0.995, 0.5), (0.6, 0.1), (0.3, 0.1), (0.12, 0.1), (0.05, 0.1), (0.02, 0.1))
    )
    return max(means[capital >= 1 / error], default=0.0)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1), min_size=1, max_size=60),
    st.sampled_from([0.3, 0.025, 0.001]),
)
def test_the_bound_is_the_largest_mean_against_which_the_bets_win(shares, error):
    shares = np.array(shares)
    assert lower_bound(shares, error) == pytest.approx(plain_bound(shares, error), abs=1.1e-3)
    assert lower_bound(shares[::-1], error) == pytest.approx(lower_bound(shares, error))
    assert lower_bound(shares, error, 3 * len(shares)) == pytest.approx(lower_bound(np.tile(shares, 3), error))


def test_queries_that_find_nothing_bound_nothing():
    assert lower_bound(np.zeros(10)) == 0.0


@pytest.mark.parametrize("target", [0.5, 0.95, 0.99, 0.9999])
def test_the_least_number_of_queries_certifies_and_one_less_does_not(target):
    least = least_queries(target)
    assert lower_bound(np.ones(least)) >= target > lower_bound(np.ones(least - 1))


@pytest.mark.slow
@pytest.mark.parametrize("queries", [20, 100, 500, 2000])
def test_the_bound_holds_for_recalls_of_any_distribution(queries):
    """Simulation: also where a few queries have all that is missed, of which a sample of a hundred may see none."""
    rng, samples = np.random.default_rng(0), 1000
    chances = {
        "alike": np.full((samples, queries), 0.995),
        "spread": rng.beta(1.98, 0.02, (samples, queries)),
        "concentrated": (rng.random((samples, queries)) > 0.01).astype(float),
        "middling": rng.beta(2, 1, (samples, queries)),
    }
    means = {"alike": 0.995, "spread": 0.99, "concentrated": 0.99, "middling": 2 / 3}
    for name, chance in chances.items():
        shares = rng.binomial(10, chance) / 10
        missed = np.mean([lower_bound(sample) > means[name] for sample in shares])
        assert missed <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / samples), name
