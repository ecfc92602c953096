"""The loss from a batch's distinct rows is the loss of the batch: in value, and in every gradient."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval import losses
from retrieval.batching.assembly import batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.losses.row_sets import KnownPositives, RowSets
from retrieval.models.binding import bind, init
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax

# The two forms add the same terms in another order, and the folded one subtracts up to 7 copies of the positive
# from a sum that has them. Scores here are below 32, which float32 holds to 2e-6; losses and gradients are off by
# some of these errors, up to 8 times as large where the copies outweigh all else.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
# In float64 rounding is out of sight, and no wrong term can hide in the tolerance.
FLOAT64 = {"rtol": 1e-12, "atol": 1e-12}

SIZE, DIMENSION = 8, 3  # examples of a batch, and rows in the tables of distinct ones, padding included

COMBINATIONS = tuple(
    {"temperature": t, "log_q": q, "scale_log_q": scale, "own": own, "smooth": smooth, "hits": hits, "known": known}
    for (t, q, scale, own, smooth), hits, known in itertools.product(
        [
            (1.0, False, False, False, 0.0),
            (0.5, False, False, True, 0.2),
            (0.5, True, False, False, 0.0),
            (0.5, True, True, True, 0.1),
        ],
        [False, True],
        [False, True],
    )
)
SCALED = len(COMBINATIONS) - 4  # from here on: with temperature and scaled logQ


@dataclasses.dataclass
class Case:
    """A batch in distinct rows; `pytree` is what the compiled comparison takes."""

    queries: np.ndarray
    candidates: np.ndarray
    query_indices: np.ndarray
    candidate_indices: np.ndarray
    real: np.ndarray
    probabilities: np.ndarray
    known: np.ndarray
    known_sets: RowSets
    own: np.ndarray
    own_log_weights: np.ndarray
    weights: np.ndarray


jax.tree_util.register_dataclass(Case)


def folded(case, queries, candidates, combination, reduction, scores_per_block=SIZE * SIZE):
    counts = jnp.zeros(len(candidates), candidates.dtype)
    return losses.folded_softmax(
        queries,
        candidates,
        case.query_indices,
        case.candidate_indices,
        counts.at[case.candidate_indices].add(case.real.astype(candidates.dtype)),
        temperature=combination["temperature"],
        sampling_probabilities=case.probabilities if combination["log_q"] else None,
        scale_log_q=combination["scale_log_q"],
        remove_accidental_hits=combination["hits"],
        known_positives=KnownPositives(case.known_sets, jnp.arange(SIZE, dtype=jnp.int32))
        if combination["known"]
        else None,
        own_negatives=losses.OwnNegatives(case.own, case.own_log_weights) if combination["own"] else None,
        label_smoothing=combination["smooth"],
        weights=case.weights,
        reduction=reduction,
        scores_per_block=scores_per_block,
    )


def blocked(case, queries, candidates, combination, reduction):
    """The folded form in blocks of 3 queries, the last of which is not full."""
    return folded(case, queries, candidates, combination, reduction, scores_per_block=3 * SIZE)


def unfolded(case, queries, candidates, combination, reduction):
    q, c = case.query_indices, case.candidate_indices
    own = jnp.sum(queries[q][:, None, :] * candidates[case.own], axis=2) / combination["temperature"]
    own += case.own_log_weights
    return losses.sampled_softmax(
        queries[q],
        candidates[c],
        temperature=combination["temperature"],
        sampling_probabilities=case.probabilities[c] if combination["log_q"] else None,
        scale_log_q=combination["scale_log_q"],
        accidental_hits_of=c if combination["hits"] else None,
        known_positives=case.known[q][:, c] if combination["known"] else None,
        mask=jnp.broadcast_to(case.real[None, :], (len(q), len(c))),
        own_negatives=own if combination["own"] else None,
        label_smoothing=combination["smooth"],
        weights=case.weights,
        reduction=reduction,
    )


@functools.partial(jax.jit, static_argnames="start")
def of_combinations(case, start):
    """Returns {combination: the terms and the gradients of their sum, of all forms} from `start` on."""

    def terms_and_gradients(form, combination):
        def value(queries, candidates):
            return form(case, queries, candidates, combination, "none")

        terms, pull_back = jax.vjp(value, case.queries, case.candidates)
        return {"terms": terms, "gradients": pull_back(jnp.ones_like(terms))}

    return {
        str(combination): [terms_and_gradients(form, combination) for form in (unfolded, folded, blocked)]
        for combination in COMBINATIONS[start:]
    }


def assert_forms_agree(case, tolerance, start=0):
    for combination, (plain, *others) in of_combinations(case, start).items():
        for actual in others:
            jax.tree.map(
                lambda a, b, name=combination: np.testing.assert_allclose(a, b, err_msg=name, **tolerance),
                actual,
                plain,
            )


def row_sets(known):
    """Returns the sets that a table marks, in arrays of one size, for which the comparison is compiled once."""
    sets = RowSets.from_lists(Lists.from_pairs(*np.nonzero(known), SIZE))
    return sets._replace(rows=jnp.pad(sets.rows, (0, SIZE * SIZE + 1 - len(sets.rows)), constant_values=-1))


def make_case(query_indices, candidate_indices, *, num_real=SIZE, seed=0, scale=1.0, known=None, weights=None):
    rng = np.random.default_rng(seed)
    real = np.arange(SIZE) < num_real
    known = rng.random((SIZE, SIZE)) < 0.3 if known is None else np.full((SIZE, SIZE), known)
    return Case(
        scale * rng.uniform(-2, 2, (SIZE, DIMENSION)),
        rng.uniform(-1, 1, (SIZE, DIMENSION)),
        np.where(real, query_indices, 0).astype(np.int32),
        np.where(real, candidate_indices, 0).astype(np.int32),
        real,
        rng.choice([0.0, 0.001, 0.1, 0.5, 1.0], SIZE),
        known,
        row_sets(known),
        rng.integers(0, SIZE, (SIZE, 2)).astype(np.int32),
        rng.choice([-np.inf, -0.7, 1.1], (SIZE, 2)),
        np.where(real, rng.uniform(0, 2, SIZE) if weights is None else weights, 0.0),
    )


@st.composite
def cases(draw):
    """Draws indices among few or many distinct rows; the rows that no place names are padding."""

    def indices(num_real):
        drawn = draw(st.lists(st.integers(0, draw(st.integers(0, SIZE - 1))), min_size=SIZE, max_size=SIZE))
        drawn[draw(st.integers(0, num_real - 1))] = 0  # row 0, which padding entries name, is a real one
        return np.array(drawn)

    num_real = draw(st.integers(1, SIZE))
    return make_case(
        indices(num_real),
        indices(num_real),
        num_real=num_real,
        seed=draw(st.integers(0, 2**31)),
        scale=draw(st.sampled_from([0.0, 0.1, 1.0])),
        known=draw(st.sampled_from([None, None, True])),
    )


ONE_ROW = np.zeros(SIZE, int)
ALL_DISTINCT = np.arange(SIZE)


def adversarial(test):
    for case in (
        make_case(ONE_ROW, ONE_ROW),
        make_case(ONE_ROW, ONE_ROW, num_real=1, known=True),
        make_case(ONE_ROW, ALL_DISTINCT, known=True),
        make_case(ALL_DISTINCT, ONE_ROW),
        make_case(ALL_DISTINCT, ALL_DISTINCT, known=False),
        make_case(ALL_DISTINCT, ALL_DISTINCT, num_real=5),
    ):
        test = example(case=case)(test)
    return test


def cast(case, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, case)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(case=cases())
@adversarial
def test_folding_changes_neither_losses_nor_gradients(case):
    with jax.enable_x64(True):
        assert_forms_agree(case, FLOAT64)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(case=cases())
@adversarial
def test_folding_changes_losses_and_gradients_by_no_more_than_rounding_in_float32(case):
    assert_forms_agree(cast(case, np.float32), FLOAT32, SCALED)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_folding_does_not_change_the_reduced_loss(reduction):
    case = cast(make_case([0, 1, 1, 2, 0, 3, 1, 0], [0, 1, 2, 1, 1, 3, 0, 0], num_real=7), np.float32)

    @jax.jit
    def losses_and_gradients(case):
        def of(form):
            def loss(queries, candidates):
                return form(case, queries, candidates, COMBINATIONS[-1], reduction)

            return jax.value_and_grad(loss, (0, 1))(case.queries, case.candidates)

        return of(folded), of(blocked), of(unfolded)

    *forms, plain = losses_and_gradients(case)
    for actual in forms:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **FLOAT32), actual, plain)


def test_padding_rows_get_no_gradient_at_all():
    case = cast(make_case([0, 1, 1, 2, 0, 2, 1, 0], [0, 1, 2, 1, 1, 0, 0, 0], num_real=6), np.float32)
    case.own = np.minimum(case.own, 2)
    for _, *others in of_combinations(case, SCALED).values():
        for actual in others:
            d_queries, d_candidates = actual["gradients"]
            assert np.all(d_queries[3:] == 0) and np.all(d_candidates[3:] == 0)
            assert np.any(d_queries[:3] != 0) and np.any(d_candidates[:3] != 0)


def test_a_thousand_copies_of_a_negative_weigh_a_thousand_times():
    loss = losses.folded_softmax(
        jnp.ones((1, 1)),
        jnp.zeros((2, 1)),
        query_indices=jnp.array([0]),
        candidate_indices=jnp.array([0]),
        counts=jnp.array([1.0, 1000.0]),
    )
    assert loss == pytest.approx(np.log(1001))


def test_a_positive_that_no_column_holds_is_one_of_its_own_example():
    indices = {"query_indices": jnp.array([0, 0]), "candidate_indices": jnp.array([0, 1])}
    for hits in (False, True):
        terms = losses.folded_softmax(
            jnp.ones((1, 1)),
            jnp.log(jnp.array([[1.0], [2.0], [5.0]])),
            **indices,
            counts=jnp.array([0.0, 1.0, 1.0]),
            remove_accidental_hits=hits,
            reduction="none",
        )
        assert terms.tolist() == pytest.approx([np.log(8), np.log(7 / 2)])


def test_a_thousand_copies_of_a_positive_are_removed_up_to_the_bits_that_subtracting_them_costs():
    loss = losses.folded_softmax(
        jnp.ones((1, 1)),
        jnp.array([[np.log(3.0)], [0.0]], jnp.float32),
        query_indices=jnp.array([0]),
        candidate_indices=jnp.array([0]),
        counts=jnp.array([1000.0, 1.0]),
        remove_accidental_hits=True,
    )
    assert loss == pytest.approx(np.log(4 / 3), abs=1e-3)  # 10 bits of 24; with the copies it were 6.9


@functools.cache
def of_copies(temperature, scores_per_block):
    """Returns the compiled loss, with gradients, of one example whose positive has some copies in the batch."""

    def loss(queries, candidates, copies):
        return losses.folded_softmax(
            queries,
            candidates,
            query_indices=jnp.array([0]),
            candidate_indices=jnp.array([0]),
            counts=jnp.stack([copies, jnp.ones(())]),
            temperature=temperature,
            remove_accidental_hits=True,
            scores_per_block=scores_per_block,
        )

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


@settings(max_examples=100, deadline=None)
@given(
    score=st.floats(2000, 9000, width=32),
    sign=st.sampled_from([1.0, -1.0]),
    form=st.sampled_from([(1.0, 100), (0.01, 100), (0.5, 1)]),
    copies=st.integers(2, 5000),
)
@example(score=8191.5, sign=1.0, form=(1.0, 100), copies=1000)
@example(score=8500.0, sign=1.0, form=(1.0, 100), copies=4999)  # the share rounds to more than 1
@example(score=4500.25, sign=1.0, form=(0.01, 100), copies=4777)
def test_many_copies_of_a_positive_with_a_huge_score_leave_a_finite_loss(score, sign, form, copies):
    # the other candidate scores 60 less: the loss is exp(-60), and what is found is the rounding of the log-partition
    candidates = jnp.array([[1.0], [1.0 - sign * 60 / score]], jnp.float32)
    queries = jnp.array([[sign * score * form[0]]], jnp.float32)
    value, gradients = of_copies(*form)(queries, candidates, jnp.float32(copies))
    assert 0 <= value < 16
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


# Through the objective: few rows, repeated, with weights (one is 0) and with popularity in the embeddings.
EXAMPLES = Examples(
    np.array([1, 2, 1, 3, 1], np.int32),
    np.array([4, 4, 2, 1, 4], np.int32),
    np.array([1.0, 0.5, 2.0, 1.0, 0.0], np.float32),
)
PROBABILITIES = np.array([0.0, 0.1, 0.3, 0.1, 0.5], np.float32)  # shares of 10 examples
KNOWN = {1: {2, 4}, 2: {3, 4}, 3: {1}}
KNOWN_SETS = RowSets.from_lists(Lists.from_sequences([[], [4, 2], [3, 4], [1]]))

OBJECTIVES = [
    {},
    {"log_q": True, "temperature": 0.5, "scale_log_q": True, "known": True},
    {"log_q": True, "remove_accidental_hits": True, "reduction": "mean", "embedding_l2": 0.3},
    {"log_q": True, "num_hard_negatives": 1, "remove_accidental_hits": True, "embedding_l2": 0.3},
    {"log_q": True, "num_hard_negatives": 2, "temperature": 0.5, "scale_log_q": True, "known": True},
]


@pytest.fixture(scope="module")
def model():
    rngs = nnx.Rngs(0)
    return TwoTower(
        IdTower(4, 3, initial_scale=1.0, rngs=rngs),
        IdTower(5, 3, initial_scale=1.0, rngs=rngs),
        log_prior=np.array([0.0, 1.0, 0.5, 0.0, 2.0], np.float32),
    )


def make_objective(options):
    options = dict(options)
    known = KNOWN_SETS if options.pop("known", False) else None
    return InBatchSoftmax(known, **options)


def one_batch(batch_size):
    sampler = Sampler(Negatives(10 * PROBABILITIES))
    epoch = batches(EXAMPLES, np.arange(len(EXAMPLES.weights)), batch_size, sampler=sampler)
    return jax.tree.map(lambda leaf: leaf[0], epoch)


def by_hand(model, params, options):
    """Returns the objective from one column per example, and the penalty from the tables themselves."""
    q, c, weights = EXAMPLES[:3]
    known = [[row in KNOWN[query] for row in c.tolist()] for query in q.tolist()]
    softmax = losses.sampled_softmax(
        bind(model, params).query(jnp.asarray(q)),
        bind(model, params).candidate(jnp.asarray(c)),
        temperature=options.get("temperature", 1.0),
        sampling_probabilities=jnp.asarray(PROBABILITIES[c]) if "log_q" in options else None,
        scale_log_q=options.get("scale_log_q", False),
        accidental_hits_of=jnp.asarray(c) if "remove_accidental_hits" in options else None,
        known_positives=jnp.asarray(known) if "known" in options else None,
        num_hard_negatives=options.get("num_hard_negatives", 0),
        reduction="none",
    )
    tables = [params[tower]["embedding"]["embedding"] for tower in ("query_tower", "candidate_tower")]
    norms = jnp.sum(tables[0][q] ** 2, axis=1) + jnp.sum(tables[1][c] ** 2, axis=1)
    total = jnp.sum(weights * (softmax + options.get("embedding_l2", 0.0) * norms))
    total = total / 4.5 if options.get("reduction") == "mean" else total  # weights add up to 4.5
    return total, {"loss": jnp.sum(weights * softmax), "examples": jnp.asarray(4.5)}


@pytest.mark.parametrize("options", OBJECTIVES, ids=str)
def test_the_objective_of_a_batch_is_that_of_its_examples_whatever_fills_it_up(model, options):
    objective = make_objective(options)

    @jax.jit
    def all_forms(params, *filled):
        def with_gradients(value):
            return jax.value_and_grad(value, has_aux=True)(params)

        expected = with_gradients(lambda params: by_hand(model, params, options))
        return expected, [with_gradients(lambda p, b=b: objective(bind(model, p), b)) for b in filled]

    expected, found = all_forms(init(model), one_batch(5), one_batch(8))
    for actual in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **FLOAT32), actual, expected)


def test_the_penalty_is_the_squared_norms_of_both_towers_for_each_example_and_not_of_the_prior(model):
    params = init(model)
    params["query_tower"]["embedding"]["embedding"] = jnp.full((4, 3), 2.0)  # squared norm 12
    params["candidate_tower"]["embedding"]["embedding"] = jnp.full((5, 3), 1.0)  # squared norm 3
    objective = jax.jit(lambda batch: InBatchSoftmax(embedding_l2=0.1)(bind(model, params), batch))
    value, sums = objective(one_batch(5))
    assert value - sums["loss"] == pytest.approx(0.1 * 15 * 4.5, rel=1e-5)
