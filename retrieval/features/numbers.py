"""Numbers and timestamps: standardized, in buckets, or as periodic functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from retrieval.features.base import Encoder, FeatureSettings, require
from retrieval.features.encoded import Encoded, Spec
from retrieval.features.values import to_numbers


@dataclasses.dataclass(frozen=True)
class Number(Encoder):
    """A standardized number, (x - mean) / standard deviation of the training part, and the missing indicator: [n, 2].

    Numbers are clipped to the range of the training part, because towers have not learned values outside of it. A
    column that is constant in train is therefore 0 everywhere, and a time after train counts as the end of train.

    >>> Number("age", mean=2.0, deviation=1.0, least=1.0, largest=3.0).encode([2.5, None, 9]).values
    array([[0.5, 0. ],
           [0. , 1. ],
           [1. , 0. ]], dtype=float32)

    Attributes:
      mean: mean of the numbers in the training part; 0 without any.
      deviation: standard deviation of the numbers; 1 in place of 0.
      least: smallest number.
      largest: largest number.
    """

    kind = "number"

    mean: float
    deviation: float
    least: float
    largest: float

    def __post_init__(self):
        require(self.deviation > 0, "deviation must be above 0", self.deviation)
        bounds = (self.least, self.mean, self.largest)
        require(self.least <= self.mean <= self.largest, "least, mean and largest must ascend", bounds)

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Number:
        """Fits mean, deviation and range to the numbers of the training part [n]; O(n) time."""
        numbers = _present(values, feature.column)
        if not len(numbers):
            return cls(feature.column, mean=0.0, deviation=1.0, least=0.0, largest=0.0)
        least, largest = float(numbers.min()), float(numbers.max())
        mean = min(max(float(numbers.mean()), least), largest)  # rounding must not leave the range
        return cls(feature.column, mean, float(numbers.std()) or 1.0, least, largest)

    @property
    def spec(self) -> Spec:
        """Two dense values: the number and the missing indicator."""
        return Spec(0, 2, "")

    def _encode(self, values, weights) -> Encoded:
        numbers = to_numbers(values, self.column)
        missing = np.isnan(numbers)
        inside = np.clip(np.where(missing, self.mean, numbers), self.least, self.largest)
        return _dense(((inside - self.mean) / self.deviation)[:, None], missing)


@dataclasses.dataclass(frozen=True)
class Buckets(Encoder):
    """The row of the bucket that holds a number; buckets have about equal numbers of training values (quantiles).

    Equal values fall into one bucket, so that repeated values may make fewer buckets than `size`. Row 0 stands for
    missing numbers, rows from 1 on ascend, and each bucket has a training value.

    >>> Buckets("age", bounds=(2.0, 4.0)).encode([2, 2.5, 99, None]).rows.ravel()
    array([1, 2, 3, 0], dtype=int32)

    Attributes:
      bounds: largest value of each bucket except the last, ascending.
    """

    kind = "buckets"
    settings = ("size",)

    bounds: tuple[float, ...]

    def __post_init__(self):
        require(all(np.diff(self.bounds) > 0), "bounds must ascend", self.bounds)

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Buckets:
        """Fits `feature.size` quantiles to the numbers of the training part [n]; O(n log n) time."""
        require(feature.size >= 2, "the number of buckets, size, must be at least 2", feature.size)
        numbers = np.sort(_present(values, feature.column))
        if not len(numbers):
            return cls(feature.column, ())
        ends = np.arange(1, feature.size) * len(numbers) // feature.size  # in integers: no quantile is off by rounding
        bounds = np.unique(numbers[np.maximum(ends - 1, 0)])
        return cls(feature.column, tuple(bounds[bounds < numbers[-1]].tolist()))

    @property
    def spec(self) -> Spec:
        """One row of a table: the bucket's, or row 0 for a missing number."""
        return Spec(len(self.bounds) + 2, 1, "mean")

    def _encode(self, values, weights) -> Encoded:
        numbers = to_numbers(values, self.column)
        rows = np.searchsorted(np.array(self.bounds, np.float64), numbers) + 1
        rows = np.where(np.isnan(numbers), 0, rows).astype(np.int32)
        return Encoded(rows[:, None], np.ones((len(rows), 1), np.float32), None)


@dataclasses.dataclass(frozen=True)
class Periodic(Encoder):
    """Sines and cosines of a number with periods from `period` to period / size: [n, 2 size + 1].

    The columns are the sines, the cosines, each from the longest period on, and the missing indicator. For timestamps
    in Unix seconds (UTC), the period 86400 gives the hour of the day and 604800 the day of the week; whole seconds keep
    their precision in any year.

    >>> midnight = 1_700_006_400
    >>> Periodic("timestamp", size=1, period=86400.0).encode([midnight, midnight + 21_600, None]).values.round(3)
    array([[0., 1., 0.],
           [1., 0., 0.],
           [0., 0., 1.]], dtype=float32)

    Attributes:
      size: number of frequencies: 1 / period, 2 / period, ..., size / period.
      period: longest period, in units of the column.
    """

    kind = "periodic"
    settings = ("size", "period")

    size: int
    period: float

    def __post_init__(self):
        require(self.size >= 1, "the number of frequencies, size, must be at least 1", self.size)
        require(0 < self.period < np.inf, "period must be above 0, in units of the column", self.period)

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Periodic:
        """Creates the encoder, which depends on no value; the values are only checked to be numbers."""
        to_numbers(values, feature.column)
        return cls(feature.column, feature.size, float(feature.period))

    @property
    def spec(self) -> Spec:
        """A sine and a cosine of each frequency, and the missing indicator."""
        return Spec(0, 2 * self.size + 1, "")

    def _encode(self, values, weights) -> Encoded:
        numbers = to_numbers(values, self.column)
        missing = np.isnan(numbers)
        turns = (
            np.mod(np.where(missing, 0.0, numbers), self.period) / self.period
        )  # `mod` is exact, unlike the sine of a large angle
        angles = 2 * np.pi * turns[:, None] * np.arange(1, self.size + 1)[None, :]
        waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        return _dense(np.where(missing[:, None], 0.0, waves), missing)


def _present(values: Sequence | np.ndarray, column: str) -> Float64[np.ndarray, "m"]:
    """Returns the numbers that are not missing."""
    numbers = to_numbers(values, column)
    return numbers[~np.isnan(numbers)]


def _dense(values: Float64[np.ndarray, "n F"], missing: Bool[np.ndarray, "n"]) -> Encoded:
    """Appends the missing indicator to dense values."""
    marked = np.concatenate([values, missing[:, None]], axis=1)
    return Encoded(None, None, marked.astype(np.float32))
