"""Arrays come back from `.npy` bytes as they were written, and anything else is refused."""

import concurrent.futures
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.npy import npy_chunks, parse_npy


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["<i4", "<i8", "<f4", "<f8", "|b1", "|u1"]), st.lists(st.integers(0, 13), max_size=3))
def test_arrays_come_back_as_they_were(dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    content = saved(array)
    back = parse_npy(content)
    assert back.dtype == array.dtype and np.array_equal(back, array) and not back.flags.writeable
    assert b"".join(npy_chunks(array)) == content


def test_the_array_is_over_the_bytes_that_are_given():
    content = bytearray(saved(np.arange(3)))
    array = parse_npy(memoryview(content))
    content[-8] = 9
    assert array.tolist() == [0, 1, 9]


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array(["text"]),
        np.asfortranarray(np.ones((2, 3))),
        np.ones(3, ">f4"),
        np.ones(3, complex),
        np.ones(3, np.longdouble),
        np.zeros(2, [("a", "<f4")]),
        np.zeros(2, "datetime64[s]"),
    ],
)
def test_arrays_that_are_no_numbers_in_rows_are_refused(array):
    file = io.BytesIO()
    np.save(file, array)
    with pytest.raises(ValueError, match=r"expected little-endian numbers in C order, got"):
        parse_npy(file.getvalue())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 127), st.integers(0, 255))
def test_a_damaged_header_is_refused_or_still_says_the_same_number_of_bytes(place, byte):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    content = bytearray(saved(array))
    content[place] = byte
    try:
        found = parse_npy(bytes(content))
    except ValueError:
        return
    assert found.nbytes == array.nbytes


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"0", lambda content: b""])
def test_bytes_too_few_or_too_many_are_refused(change):
    with pytest.raises(ValueError, match="bytes follow it|not an array"):
        parse_npy(change(saved(np.arange(4))))


def test_many_threads_parse_at_once():
    content = saved(np.arange(4))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(len(array) == 4 for array in pool.map(parse_npy, [content] * 2000))
