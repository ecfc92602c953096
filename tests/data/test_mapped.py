"""Reading a memory-mapped column gives what indexing gives, and keeps no pages."""

import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.out_of_core import mapped
from retrieval.data.out_of_core.mapped import gather, windows

VALUES = np.random.default_rng(0).integers(0, 1 << 30, 1000).astype(np.int32)


@pytest.fixture(scope="module")
def column(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "column.npy"
    np.save(path, VALUES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "WINDOW", 64)
        yield np.load(path, mmap_mode="r")


@settings(deadline=None)
@given(places=st.lists(st.integers(-1000, 999), max_size=200))
def test_gathering_is_indexing_with_repeats_and_in_any_order(column, places):
    places = np.asarray(places, np.int32)
    assert np.array_equal(gather(column, places), VALUES[places])


@settings(deadline=None)
@given(first=st.integers(0, 999), places=st.lists(st.integers(0, 999), min_size=1, max_size=50))
def test_a_slice_of_a_mapped_column_is_read_from_its_own_start(column, first, places):
    part = column[first:]
    places = np.asarray(places) % len(part)
    assert np.array_equal(gather(part, places), VALUES[first:][places])


def test_a_place_outside_of_the_column_is_refused(column):
    with pytest.raises(IndexError):
        gather(column, np.array([0, 1000]))


def test_windows_are_the_column_in_order(column):
    parts = [part.copy() for part in windows(column)]
    assert [len(part) for part in parts] == [64] * 15 + [40]
    assert np.array_equal(np.concatenate(parts), VALUES)


def test_columns_in_memory_are_read_as_they_are():
    assert np.array_equal(gather(VALUES, np.array([7, 7, 3])), VALUES[[7, 7, 3]])
    assert np.array_equal(gather(np.broadcast_to(np.float32(1), 5), np.array([4, 0])), [1, 1])
    assert np.array_equal(np.concatenate(list(windows(VALUES))), VALUES)


def test_changes_to_a_private_copy_of_a_file_are_not_lost(tmp_path):
    np.save(tmp_path / "column.npy", VALUES)
    private = np.load(tmp_path / "column.npy", mmap_mode="c")
    private[5] = 7
    assert gather(private, np.array([5])) == 7 and private[5] == 7


def resident(path):
    """Returns the bytes of a mapped file that count as memory of this process."""
    lines = pathlib.Path("/proc/self/smaps").read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(str(path))]
    fields = [next(line for line in lines[i:] if line.startswith("Rss:")) for i in starts]
    assert fields
    return sum(1024 * int(field.split()[1]) for field in fields)


@pytest.mark.skipif(not pathlib.Path("/proc/self/smaps").exists(), reason="the system does not tell")
def test_pages_that_were_read_are_released(tmp_path):
    path = tmp_path / "column.npy"
    np.save(path, np.arange(1 << 20))
    column = np.load(path, mmap_mode="r")
    column.sum()
    assert resident(path) > 1 << 22
    gather(column, np.arange(0, 1 << 20, 100))
    assert resident(path) == 0
    assert sum(part.sum() for part in windows(column)) == sum(range(1 << 20))
    assert resident(path) == 0
