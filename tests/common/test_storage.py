"""Files are replaced whole."""

import os
import pathlib

import pytest

from retrieval.common.storage import read_json, write_chunks, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"figure": 1})
    with pytest.raises(TypeError):
        write_json(path, {"figure": pathlib.Path})
    assert path.read_text() == '{\n  "figure": 1\n}\n'


def test_others_may_read_what_is_written(tmp_path):
    write_json(tmp_path / "manifest.json", {})
    assert (tmp_path / "manifest.json").stat().st_mode & 0o044 == 0o044


def test_the_bytes_are_on_disk_before_the_file_takes_its_place(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        events.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    def replaced(source, target):
        events.append(pathlib.Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_chunks(tmp_path / "file", [b"half", b"rest"])
    assert events == [8, "file"] and (tmp_path / "file").read_bytes() == b"halfrest"


def test_a_write_that_fails_leaves_nothing_beside(tmp_path):
    def chunks():
        yield b"half"
        raise OSError("No space left on device")

    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_chunks(tmp_path / "file", chunks())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_file_above_the_limit_is_not_read(tmp_path):
    write_json(tmp_path / "values.json", [1, 2])
    size = (tmp_path / "values.json").stat().st_size
    assert read_json(tmp_path / "values.json", size) == [1, 2]
    with pytest.raises(ValueError, match=f"{size} bytes, above the limit of {size - 1}"):
        read_json(tmp_path / "values.json", size - 1)
