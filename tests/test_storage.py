"""Files and folders are replaced whole."""

import pathlib

import pytest

from retrieval.storage import replace_folder, write_json


def folder_with(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_folder_takes_the_place_of_another(tmp_path):
    replace_folder(folder_with(tmp_path / "new", "new"), folder_with(tmp_path / "bundle", "old"))
    assert (tmp_path / "bundle/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_error_puts_the_old_folder_back(tmp_path):
    old = folder_with(tmp_path / "bundle", "old")
    with pytest.raises(OSError):
        replace_folder(tmp_path / "does not exist", old)
    assert (old / "file").read_text() == "old"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"figure": 1})
    with pytest.raises(TypeError):
        write_json(path, {"figure": pathlib.Path})
    assert path.read_text() == '{\n  "figure": 1\n}\n'


def test_others_may_read_what_is_written(tmp_path):
    write_json(tmp_path / "manifest.json", {})
    assert (tmp_path / "manifest.json").stat().st_mode & 0o044 == 0o044
