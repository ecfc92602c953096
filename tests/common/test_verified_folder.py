"""Listed files are read once and verified; whatever differs from the list is refused by name."""

import concurrent.futures
import dataclasses
import hashlib

import numpy as np
import pytest

from retrieval.common import verified_folder
from retrieval.common.npy import npy_chunks
from retrieval.common.verified_folder import ListedFile, VerifiedFolder

CONTENTS = {
    "array.npy": b"".join(npy_chunks(np.arange(5))),
    "values.json": b'{"a": [1]}',
    "text": "\u00e9".encode(),
    "empty": b"",
}


@pytest.fixture
def files(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    listed = {name: ListedFile(len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items()}
    return VerifiedFolder(folder=tmp_path, files=listed, list_name="list", remedy="write it again", place=tmp_path)


def test_contents_come_back(files):
    assert files.array("array.npy").tolist() == [0, 1, 2, 3, 4]
    assert files.json("values.json") == {"a": [1]} and files.text("text") == "\u00e9"
    assert files.checked == {"array.npy", "values.json", "text"}
    files.check_rest()
    assert files.checked == set(CONTENTS) and not any(files.problem(name) for name in CONTENTS)


def test_pieces_that_threads_read_make_the_whole(files, monkeypatch):
    monkeypatch.setattr(verified_folder, "_PIECE", 7)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = files.read_unverified(CONTENTS, pool)
    assert {name: bytes(content) for name, content in found.items()} == CONTENTS


def test_a_file_that_is_not_listed_is_not_opened(files):
    (files.folder / "more").write_bytes(b"")
    for read in (files.read, files.check, files.check_later, files.array_checked_later):
        with pytest.raises(ValueError, match="list lists no 'more', which is needed; write it again"):
            read("more")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_is_named(files):
    flip(files.folder / "array.npy")
    for read in (files.read, files.check, files.array, files.check_later):
        with pytest.raises(ValueError, match="array.npy has changed since it was written .SHA-256 .*; write it again"):
            read("array.npy")


def test_another_size_is_refused_before_anything_is_read(files):
    huge = dataclasses.replace(files, files={"text": ListedFile(1 << 60, "")})
    for read in (huge.read, huge.array_checked_later, huge.array):
        with pytest.raises(ValueError, match=f"text has changed since it was written .2 bytes, expected {1 << 60}"):
            read("text")
    assert "2 bytes" in huge.problem("text")


def test_a_damage_that_is_checked_later_is_told_at_the_end(files):
    flip(files.folder / "array.npy")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        later = dataclasses.replace(files, executor=pool)
        assert later.array_checked_later("array.npy").shape == (5,)
        for finish in (later.wait, later.check_rest):
            with pytest.raises(ValueError, match="array.npy has changed"):
                finish()


def test_the_rest_is_checked_too(files):
    files.read("array.npy")
    flip(files.folder / "values.json")
    files.wait()
    with pytest.raises(ValueError, match="values.json has changed"):
        files.check_rest()


def test_missing_files_and_links_are_told(files):
    (files.folder / "empty").unlink()
    with pytest.raises(ValueError, match="empty is missing or cannot be read .No such file"):
        files.read("empty")
    assert "lacks 'empty', which its list lists" in files.problem("empty")
    (files.folder / "empty").symlink_to(files.folder / "text")
    assert "empty is not a plain file in this folder" in files.problem("empty")


def test_content_that_does_not_parse_is_named(files):
    for read, name in ((files.json, "text"), (files.array, "values.json"), (files.text, "array.npy")):
        with pytest.raises(ValueError, match=f"{name}: .*; write it again"):
            read(name)
