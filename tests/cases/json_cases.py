"""JSON values of any type in the place of each value of a file."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yields the keys that lead to each value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (key,)
        yield from ((key, *keys) for keys in places(item))


@st.composite
def of_another_type(draw, content: dict[str, Any]) -> dict[str, Any]:
    """Returns the content with a value of another type in one place."""
    content = copy.deepcopy(content)
    *keys, last = draw(st.sampled_from(list(places(content))))
    parent = content
    for key in keys:
        parent = parent[key]
    old = parent[last]
    parent[last] = draw(JSON.filter(lambda value: type(value) is not type(old)))
    return content
