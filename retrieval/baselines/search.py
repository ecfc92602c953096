"""The search for a baseline's settings on validation data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = dict[str, Any]


def climb(
    score: Callable[[Settings], float], axes: Mapping[str, Sequence[Any]], start: Settings
) -> tuple[Settings, float, int]:
    """Returns the best settings found, their score, and how many were tried.

    From `start` on, one setting at a time moves to the next or the last value of its axis as long as the score rises,
    until no such move makes it rise. Deterministic; no settings are tried twice.

    Args:
      score: of settings; the highest is the best.
      axes: the values of each setting, in their order.
      start: a value of each axis.

    >>> climb(lambda settings: -abs(settings["x"] - 3.0), {"x": (0, 1, 2, 3, 4)}, {"x": 1})
    ({'x': 3}, -0.0, 4)
    """
    tried: dict[tuple, float] = {}

    def score_of(settings: Settings) -> float:
        key = tuple(settings[name] for name in axes)
        if key not in tried:
            tried[key] = score(settings)
        return tried[key]

    best, moved = dict(start), True
    while moved:
        moved = False
        for name, values in axes.items():
            for step in (1, -1):
                while 0 <= (position := values.index(best[name]) + step) < len(values):
                    candidate = best | {name: values[position]}
                    if not score_of(candidate) > score_of(best):  # equal scores would move it to and fro without end
                        break
                    best, moved = candidate, True
    return best, score_of(best), len(tried)
