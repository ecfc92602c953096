"""Checks of ids that are text, the same for files and arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.data.columns import MISSING_TEXTS, Refuse

INTEGER = "^(0|-?[1-9][0-9]*)$"
FRACTION = r"^-?[0-9]+\.0*$|^[0-9](\.[0-9]+)?[eE]\+[0-9]{2}$"  # as floats are written: 12.0, 1.2e+01
MOSTLY = 0.9  # share of integers from which other ids are mistakes


def check_text_ids(texts: pa.Array | pa.ChunkedArray, refuse: Refuse, name: str = "") -> int | None:
    """Checks that text ids are ids, and each written in one way; O(n) time.

    Args:
      texts: n ids, none of them null.
      refuse: makes the error for a row, which names the value.
      name: name of the column in its file, which is no id.

    Returns:
      The first row with an id that is no integer, where at least one in ten is an integer; else None.

    Raises:
      DataError: an id is a spelling of a missing value, `name`, has a NUL character or blanks around it, is an integer
        written as a fraction, or is no integer where nine in ten are.
    """
    counted = pc.value_counts(texts)  # in the order of their first rows
    distinct_texts, counts = counted.field("values"), counted.field("counts").to_numpy()
    trimmed = pc.utf8_trim_whitespace(distinct_texts)
    integers, fractions = (pc.match_substring_regex(trimmed, form) for form in (INTEGER, FRACTION))
    others = pc.invert(integers).to_numpy(zero_copy_only=False)
    num_others, total = int(counts[others].sum()), len(texts)
    is_padded = pc.not_equal(trimmed, distinct_texts)
    num_padded = int(counts[is_padded.to_numpy(zero_copy_only=False)].sum())
    has_fractions = pc.any(integers).as_py() or pc.all(fractions).as_py()
    digits = pc.all(pc.match_substring_regex(trimmed, "^[0-9]*$")).as_py()  # "00501" beside "10001" is a code
    for is_bad, problem, remedy in (
        (
            pc.is_in(trimmed, pa.array(MISSING_TEXTS, trimmed.type)),
            "missing id",
            "give every row an id or drop the row",
        ),
        (pc.match_substring(distinct_texts, "\0"), "id with a NUL character", "remove it"),
        (pc.equal(trimmed, name), "the name of the column among its ids", "remove the repeated header line"),
        (is_padded, f"blanks around {num_padded} ids", "remove them"),
        (
            pc.and_(fractions, bool(has_fractions)),
            "ids written as fractions",
            f"write them as integers, in pandas: df[{name or 'ids'!r}].astype('int64')",
        ),
        (
            pa.array(others & (num_others <= (1 - MOSTLY) * total and not digits)),
            f"{num_others} of {total} ids are no integers",
            "correct them, or write a letter before all ids",
        ),
    ):
        at = pc.index(is_bad, True).as_py()
        if at >= 0:
            raise refuse(pc.index(texts, distinct_texts[at]).as_py(), problem, remedy)
    is_mixed = 0 < num_others <= MOSTLY * total
    return pc.index(texts, distinct_texts[int(np.argmax(others))]).as_py() if is_mixed else None
