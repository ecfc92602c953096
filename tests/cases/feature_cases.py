"""Features for tests: settings of every kind, and columns with missing values, odd text and huge numbers."""

import dataclasses

import numpy as np
from hypothesis import strategies as st


@dataclasses.dataclass
class Feature:
    """The settings of a feature."""

    column: str = "x"
    kind: str = "category"
    dimension: int = 0
    size: int = 0
    hashes: int = 0
    combiner: str = "mean"
    weights: str = ""
    period: float = 0.0
    dropout: float = 0.0


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
BAGS = st.lists(st.sampled_from(["War", "Drama", "é", " 7 ", "", "漢字"]), max_size=4).map("|".join)
NUMBERS = st.floats(-1e38, 1e38) | st.integers(1 - 2**53, 2**53 - 1) | st.sampled_from([1_700_000_000, 0, 5e-324])
OPTIONAL_NUMBERS = NUMBERS | st.just(float("nan")) | st.none()
VECTORS = st.just("") | st.lists(st.floats(-1e38, 1e38), min_size=3, max_size=3).map(
    lambda numbers: " ".join(map(repr, numbers))
)
KINDS = [  # settings, and the values of a column for them
    (Feature(kind="category"), TEXTS | st.none()),
    (Feature(kind="category"), OPTIONAL_NUMBERS),
    (Feature(kind="category"), st.integers(-(2**63), 2**63 - 1)),
    (Feature(kind="category", size=50, hashes=2), TEXTS | st.none()),
    (Feature(kind="bag", combiner="sqrtn"), BAGS),
    (Feature(kind="bag", size=30, hashes=3, combiner="sum"), BAGS),
    (Feature(kind="number"), OPTIONAL_NUMBERS),
    (Feature(kind="buckets", size=4), OPTIONAL_NUMBERS),
    (Feature(kind="periodic", size=3, period=604800.0), OPTIONAL_NUMBERS),
    (Feature(kind="text", size=100, hashes=2), TEXTS),
    (Feature(kind="vector"), VECTORS),
]
COLUMNS = st.sampled_from(KINDS).flatmap(
    lambda case: st.tuples(st.just(case[0]), st.lists(case[1], max_size=8), st.lists(case[1], max_size=8))
)  # the settings, a column of the training part, and another one


def canonical(encoded, row):
    """Returns what `row` of an encoded feature says, without padding."""
    if encoded.rows is None:
        return encoded.values[row].tolist()
    kept = encoded.weights[row] > 0
    assert not encoded.rows[row][~kept].any()
    return list(zip(encoded.rows[row][kept].tolist(), encoded.weights[row][kept].tolist(), strict=True))


def equal(one, other):
    """Returns whether two encoded features are equal to the bit, types included."""
    pairs = list(zip(one, other, strict=True))
    return all(
        (a is None and b is None) or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
        for a, b in pairs
    )


def missing(encoder):
    """Returns what an entity that misses the feature is encoded as."""
    spec = encoder.spec
    return [(0, 1.0)] if spec.num_rows else [*np.zeros(spec.size - 1), 1.0]
