"""The many Arrow types that hold one meaning become one each, before any reader looks at them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


def simplified(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Converts values to the simplest type of the same meaning; types without one stay as they are.

    Categories and run-end encoding are decoded, views and extension types become what they store, half floats become
    floats, and so do the elements of lists of any kind.

    Raises:
      pa.ArrowException: pyarrow has no such conversion.
    """
    if isinstance(values.type, pa.BaseExtensionType):
        is_boolean = values.type.extension_name == "arrow.bool8"
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
        values = pc.cast(values, pa.bool_()) if is_boolean else values
    if pt.is_run_end_encoded(values.type):
        values = pa.chunked_array([pc.run_end_decode(chunk) for chunk in values.chunks], values.type.value_type)
    if pt.is_dictionary(values.type):
        parts = [(simplified(pa.chunked_array([chunk.dictionary])), chunk.indices) for chunk in values.chunks]
        values = pa.chunked_array(
            [part.take(indices).combine_chunks() for part, indices in parts], _simple_type(values.type)
        )
    kind = _simple_type(values.type)
    if kind == values.type:
        return values
    if is_list(values.type) and pt.is_dictionary(values.type.value_type):
        return pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in values.chunks], kind)
    return pc.cast(values, kind)


def is_list(kind: pa.DataType) -> bool:
    """Tells whether a type holds lists."""
    tests = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(test(kind) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    """Tells whether a type holds text."""
    return pt.is_string(kind) or pt.is_large_string(kind)


def _simple_type(kind: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(kind):
        return _simple_type(kind.value_type)
    if pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_float16(kind):
        return pa.float32()
    if is_list(kind) and not (pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)):
        return pa.large_list(_simple_type(kind.value_type))
    if is_list(kind) and _simple_type(kind.value_type) != kind.value_type:
        return pa.large_list(_simple_type(kind.value_type))
    return kind


def _decoded(categories: pa.DictionaryArray) -> pa.Array:
    """Returns the values of categories; pyarrow does not decode those of views by itself."""
    return simplified(pa.chunked_array([categories.dictionary])).combine_chunks().take(categories.indices)
