"""Folders are replaced and exchanged whole."""

import pytest

from retrieval.common import folders
from retrieval.common.folders import exchange, replace_folder


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


@pytest.mark.parametrize("at_once", [True, False])
def test_two_folders_change_places(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(folders, "_exchange_at_once", lambda first, second: False)
    first, second = folder_with(tmp_path / "first", "1"), folder_with(tmp_path / "second", "2")
    exchange(first, second)
    assert (first / "file").read_text() == "2" and (second / "file").read_text() == "1"
    with pytest.raises(OSError):
        exchange(tmp_path / "missing", second)
    assert (second / "file").read_text() == "1" and len(list(tmp_path.iterdir())) == 2


def test_the_folder_before_is_kept_where_it_is_asked_for(tmp_path):
    for text in ("1", "2", "3"):
        replace_folder(folder_with(tmp_path / "new", text), tmp_path / "folder", tmp_path / "kept")
    assert (tmp_path / "folder/file").read_text() == "3" and (tmp_path / "kept/file").read_text() == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "kept"]
