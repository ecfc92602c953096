"""Categories, bags and text: features whose values look up rows of an embedding table."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int64

from retrieval.common.choices import check_choice
from retrieval.common.lists import Lists
from retrieval.data.column_values import as_column
from retrieval.data.columns import values_of
from retrieval.data.joined_values import join_values, split_values
from retrieval.features.base import Encoder, FeatureSettings, require
from retrieval.features.encoded import COMBINERS, Encoded, Spec
from retrieval.features.lookup import Hashed, Known
from retrieval.features.values import Text, refused, to_numbers, to_texts

GRAM = 3  # characters


@dataclasses.dataclass(frozen=True)
class LookupEncoder(Encoder):
    """The base class of features whose values look up rows, in a vocabulary or by hashes.

    Attributes:
      known: known values in the order of their rows; () for hashed values.
      size: number of rows of the hashed table; 0: a vocabulary.
      hashes: rows that a value looks up in the hashed table; 0: a vocabulary.
      combiner: how a model combines the rows of one entity, one of `COMBINERS`.
      width: largest number of rows that an entity of the training part looks up, at least 1.
    """

    settings = ("size", "hashes", "combiner")

    known: tuple[str, ...]
    size: int
    hashes: int
    combiner: str
    width: int

    def __post_init__(self):
        check_choice("combiner", self.combiner, COMBINERS)
        require(self.hashes >= 0, "hashes must be at least 0", self.hashes)
        require(not self.hashes or self.size >= 2, "the size of a hashed table must be at least 2 rows", self.size)
        require(bool(self.hashes) or not self.size, "size needs hashes: the size of a vocabulary is not set", self.size)
        require(self.width >= 1, "width must be at least 1", self.width)
        require(len(set(self.known)) == len(self.known), "known values must be unique", self.known[:5])
        require("" not in self.known, "a known value must not be missing", "")

    @property
    def spec(self) -> Spec:
        """Number of rows of the table, largest number of rows of an entity, and the combiner."""
        return Spec(self.table.num_rows, self.width, self.combiner)

    @functools.cached_property
    def table(self) -> Known | Hashed:
        """The function from values to rows."""
        return Hashed(self.size, self.hashes) if self.hashes else Known(self.known)

    def with_width_of(
        self, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None
    ) -> LookupEncoder:
        """Returns a copy of the encoder with the width that these values need."""
        return dataclasses.replace(self, width=self.encode(values, weights).rows.shape[1])


class Category(LookupEncoder):
    """One value per entity: text, or a number written as `values.to_texts` does.

    A vocabulary has one row for each value of the training part, in ascending order, and row 0 for unknown and missing
    values; one of booleans also knows "True" and "TRUE", as text may spell them. With hashes every value has rows, and
    row 0 stands for missing values.

    >>> category = Category("year", known=("9", "10"), size=0, hashes=0, combiner="mean", width=1)
    >>> category.encode([9, 10, 8, None]).rows.ravel(), category.encode(["10", "x"]).rows.ravel()
    (array([1, 2, 0, 0], dtype=int32), array([2, 0], dtype=int32))
    """

    kind = "category"

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Category:
        """Fits the vocabulary and the width to the values of the training part [n]; O(n log n) time."""
        known = () if feature.hashes else _known(values, feature.column)
        category = cls(feature.column, known, feature.size, feature.hashes, feature.combiner, 1)
        return category.with_width_of(values)

    @functools.cached_property
    def table(self) -> Known | Hashed:
        """The function from values to rows."""
        return Known(tuple(map(str.lower, self.known))) if self._are_booleans else super().table

    @property
    def _are_booleans(self) -> bool:
        words = {value.lower() for value in self.known}
        return bool(words) and words <= {"true", "false"} and len(words) == len(self.known)

    def _encode(self, values, weights) -> Encoded:
        texts = to_texts(values, self.column)
        texts = np.strings.lower(texts) if self._are_booleans else texts
        tokens = ColumnTokens(np.arange(len(texts)), np.arange(len(texts)), texts)
        return tokens.look_up(self.table, np.ones(len(texts), np.float32), len(texts))


@dataclasses.dataclass(frozen=True)
class Bag(LookupEncoder):
    """Any number of values per entity, as genres: a list, or text joined by "|", with an optional weight for each.

    Blanks around a value are stripped; a repeated value counts each time. Values that are unknown, empty or of weight 0
    are left out, and a bag without other values is missing. If all weights of an entity are missing, they are 1.

    >>> bag = Bag("genres", ("Drama", "War"), size=0, hashes=0, combiner="sum", width=2, weight_column="shares")
    >>> bag.encode(["Drama|never seen|War", ""], ["0.5|3|2", ""])[:2]
    (array([[1, 2],
           [0, 0]], dtype=int32), array([[0.5, 2. ],
           [1. , 0. ]], dtype=float32))

    Attributes:
      weight_column: name of the column of weights; "": all weights are 1.
    """

    kind = "bag"
    settings = (*LookupEncoder.settings, "weights")

    weight_column: str

    @property
    def weights(self) -> str:
        """Column of the weights that `encode` expects besides the values; "": none."""
        return self.weight_column

    @classmethod
    def fit(
        cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None
    ) -> Bag:
        """Fits the vocabulary and the width to the bags of the training part [n]; O(n log n) time."""
        tokens = tokenize(to_texts(values, feature.column), split_values)
        known = () if feature.hashes else tuple(np.sort(tokens.distinct[tokens.distinct != ""]).tolist())
        bag = cls(feature.column, known, feature.size, feature.hashes, feature.combiner, 1, feature.weights)
        return bag.with_width_of(values, weights)

    def _encode(self, values, weights) -> Encoded:
        texts = to_texts(values, self.column)
        tokens = tokenize(texts, split_values)
        ones = np.ones(len(tokens.owners), np.float32)
        read = ones if weights is None else self._weights(tokens, to_texts(_joined(weights), self.weights), len(texts))
        return tokens.look_up(self.table, read, len(texts))

    def _weights(self, tokens: ColumnTokens, texts: Text, num_entities: int) -> Float32[np.ndarray, "total"]:
        """Returns the weight of each token."""
        require(len(texts) == num_entities, f"{self.weights!r} must have {num_entities} rows", len(texts))
        given = tokenize(texts, split_values)
        expected = np.bincount(tokens.owners, minlength=num_entities)
        received = np.bincount(given.owners, minlength=num_entities)
        # An entity without any weight has weights 1; with some, each value needs one.
        wrong = np.flatnonzero((received != expected) & (texts != ""))
        if len(wrong):
            row = int(wrong[0])
            problem = f"{expected[row]} values need {expected[row]} weights joined by '|', got {texts[row].item()!r}"
            raise refused(self.weights, row, problem)
        numbers = to_numbers(given.distinct[given.codes], self.weights, given.owners)
        wrong = np.flatnonzero(~(numbers >= 0))
        if len(wrong):
            received = given.distinct[given.codes[wrong[0]]].item()
            problem = f"a weight must be a number of at least 0, got {received!r}"
            raise refused(self.weights, int(given.owners[wrong[0]]), problem)
        weights = np.ones(len(tokens.owners), np.float32)
        weights[(texts != "")[tokens.owners]] = numbers
        return weights


def _joined(weights: Sequence | np.ndarray) -> Sequence | np.ndarray:
    """Returns an array of weights [n, W], as lists of one length are read from Parquet, joined by "|" [n]."""
    if not (isinstance(weights, np.ndarray) and weights.ndim == 2):
        return weights
    return ["" if np.isnan(row).all() else join_values(map(str, row)) for row in weights.tolist()]


class Words(LookupEncoder):
    """Text, as a title: hashes of its words and of their letter trigrams, in order, repeats included.

    A word is a run of letters, digits and underscores in the text's normal form NFKC and lower case, between the marks
    "<" and ">". Trigrams include the marks: "Toy" has "<toy>", "<to", "toy" and "oy>". This is the word hashing of
    Huang et al. 2013 (DSSM), with the words themselves as in fastText (Bojanowski et al. 2017). A word that is not in
    train then still shares trigrams with words that are. A word of one letter is its own trigram and counts once.

    >>> words = Words("title", known=(), size=1000, hashes=1, combiner="mean", width=3)
    >>> words.encode(["Up", "UP!", ""]).rows.tolist()
    [[7, 5, 546], [7, 5, 546], [0, 0, 0]]
    """

    kind = "text"

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Words:
        """Fits the width to the texts of the training part [n]; nothing else depends on them."""
        require(feature.hashes >= 1, "text is always hashed: hashes must be at least 1", feature.hashes)
        words = cls(feature.column, (), feature.size, feature.hashes, feature.combiner, 1)
        return words.with_width_of(values)

    def _encode(self, values, weights) -> Encoded:
        texts = to_texts(values, self.column)
        tokens = tokenize(texts, words).split(_grams)
        return tokens.look_up(self.table, np.ones(len(tokens.owners), np.float32), len(texts))


class ColumnTokens(NamedTuple):
    """The values in a column of n entities, any number for each entity.

    Attributes:
      owners: entity of each token, ascending [total].
      codes: index of each token in `distinct` [total].
      distinct: the distinct tokens [m].
    """

    owners: Int64[np.ndarray, "total"]
    codes: Int[np.ndarray, "total"]
    distinct: Text

    def look_up(self, table: Known | Hashed, weights: Float32[np.ndarray, "total"], num_entities: int) -> Encoded:
        """Returns the rows of tokens that are known and have a weight above 0, with the tokens' weights."""
        rows = table.rows(self.distinct)[self.codes]  # each distinct token is looked up, or hashed, once
        kept = (rows[:, 0] > 0) & (weights > 0)
        owners, weights = (np.repeat(column[kept], table.width) for column in (self.owners, weights))
        return Encoded.of_rows(owners, rows[kept].ravel(), weights, num_entities)

    def split(self, split: Callable[[str], Sequence[str]]) -> ColumnTokens:
        """Splits each token into parts; `split` is called once for each distinct token."""
        parts = tokenize(self.distinct, split)
        lists = Lists.from_pairs(parts.owners, parts.codes, len(self.distinct)).take(self.codes)
        return ColumnTokens(self.owners[lists.owners], lists.rows, parts.distinct)


def tokenize(texts: Text, split: Callable[[str], Sequence[str]]) -> ColumnTokens:
    """Splits each text [n] into tokens; `split` is called once for each distinct text."""
    distinct, inverse = np.unique(texts, return_inverse=True)
    code_of: dict[str, int] = {}
    codes = [[code_of.setdefault(token, len(code_of)) for token in split(text)] for text in distinct.tolist()]
    lists = Lists.from_sequences(codes).take(inverse)
    return ColumnTokens(lists.owners, lists.rows, np.array(list(code_of), np.str_))


def words(text: str) -> list[str]:
    """Returns the words of a text, each between "<" and ">", in normal form NFKC and lower case.

    >>> words("Toy Story (1995)")
    ['<toy>', '<story>', '<1995>']
    """
    return [f"<{word}>" for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())]


def _grams(word: str) -> list[str]:
    parts = [word[start : start + GRAM] for start in range(len(word) - GRAM + 1)]
    return parts if len(parts) == 1 else [word, *parts]


def _known(values: Sequence | np.ndarray, column: str) -> tuple[str, ...]:
    """Returns the distinct values as text in ascending order, numbers in the order of numbers."""
    texts, first = np.unique(to_texts(values, column), return_index=True)
    array = values_of(as_column(values, f"feature {column!r}"))
    if array.dtype.kind in "if":
        texts = texts[np.argsort(array[first], kind="stable")]
    return tuple(texts[texts != ""].tolist())
