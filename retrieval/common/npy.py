"""Arrays of numbers in the `.npy` format, parsed from bytes in memory: never pickled, never copied."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped

_PIECE = 1 << 24  # bytes of a chunk
_MOST_ITEM_BYTES = 8
_PARSING = threading.Lock()


def parse_npy(content: bytes | memoryview) -> Shaped[np.ndarray, "..."]:
    """Returns the array that `np.save` wrote, read-only and over the bytes of `content`; O(1) time.

    Only what this library writes is accepted: format version 1.0, little-endian booleans, integers or floats of at most
    8 bytes, rows in C order, and exactly as many bytes as the header says. The bytes may be damaged in any way.

    Raises:
      ValueError: the bytes are not such an array.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    shape, is_fortran, dtype = _parse_header(bytes(content[:start]))
    is_number = dtype.kind in "biuf" and dtype.itemsize <= _MOST_ITEM_BYTES and dtype.byteorder in "=|"
    if is_fortran or not is_number or min(shape, default=0) < 0:
        raise ValueError(f"expected little-endian numbers in C order, got {dtype} of shape {shape}, {is_fortran=}")
    count = math.prod(shape)
    if count * dtype.itemsize != len(content) - start:
        raise ValueError(f"the header says {dtype} of shape {shape}, and {len(content) - start} bytes follow it")
    return np.frombuffer(content, dtype, count, start).reshape(shape)


def npy_chunks(array: np.ndarray) -> Iterator[bytes | memoryview]:
    """Yields the bytes that `np.save` writes for an array of numbers: the header, then pieces of the data."""
    header = io.BytesIO()
    array = np.asarray(array, order="C")
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    yield header.getvalue()
    if array.nbytes:
        data = memoryview(array.reshape(-1).view(np.uint8))
        yield from (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))


def _parse_header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, whether the order is Fortran's, and type, as NumPy parses them.

    NumPy parses the header as a Python literal, which in CPython 3.11 raises SystemError at times where several threads
    do so at once (python/cpython#106905). The lock keeps callers of this function apart; a second attempt covers a
    thread that parses elsewhere at the same moment.
    """
    try:
        with _PARSING:
            try:
                return _read_header(content)
            except SystemError:
                return _read_header(content)
    except Exception as error:  # whatever Python's parser meets in damaged bytes
        raise ValueError(f"not an array in the .npy format, version 1.0: {str(error)[:200]}") from None


def _read_header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    stream = io.BytesIO(content)
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise ValueError(f"got version {version}")
    return np.lib.format.read_array_header_1_0(stream)
