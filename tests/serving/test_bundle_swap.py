"""A replacement that is killed at any point loses no version: the bundle before is the one that was replaced."""

import itertools

import pytest
from forks import run_killed

from retrieval.common.folders import scratch_folder
from retrieval.serving.bundle import MANIFEST, previous, swap


def made(path, version):
    path.mkdir()
    (path / MANIFEST).write_text(version)
    (path / "array.npy").write_text(version)
    return path


def versions(folder):
    return [(path / MANIFEST).read_text() if path.exists() else None for path in (folder, previous(folder))]


def save(folder, version):
    """The part of `bundle.save` that moves folders."""
    swap.recover(folder)
    with scratch_folder(folder) as scratch:
        swap.place(made(scratch / swap.NEW, version), folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_killed_replacement_keeps_each_version_in_order(tmp_path, number):
    outcomes = set()
    for last in itertools.count(1):
        home = tmp_path / str(last)
        home.mkdir()
        folder = home / "bundle"
        for version in range(number):
            save(folder, str(version))
        before = versions(folder)
        was_killed = run_killed(lambda folder=folder: save(folder, "new"), home, last)
        swap.recover(folder)
        after = versions(folder)
        assert after in (before, ["new", before[0]]), f"killed at {last}"
        outcomes.add(after[0])
        save(folder, "next")
        assert versions(folder) == ["next", after[0]]
        names = {"bundle", "bundle.previous"} if after[0] else {"bundle"}
        assert {path.name for path in home.iterdir()} == names
        assert not [path for path in home.rglob("*") if path.name.startswith(".")]
        if not was_killed:
            break
    assert last > 10 and outcomes == {before[0], "new"}


def test_the_scratch_folder_of_a_running_process_stays(tmp_path):
    folder = tmp_path / "bundle"
    with scratch_folder(folder) as first, scratch_folder(folder) as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_with_like_names_stay(tmp_path):
    names = [".bundle-abcdefgh", ".bundle-ABCDEFGH.partial", ".bundles-abcdefgh.partial", "bundle-abcdefgh.partial"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".bundle-01234567.partial").mkdir()  # of a killed process
    with scratch_folder(tmp_path / "bundle"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_an_exchange_that_fails_leaves_no_mark(tmp_path, monkeypatch):
    folder = made(tmp_path / "bundle", "1")

    def refuse(*_):
        raise PermissionError("no")

    monkeypatch.setattr(swap, "replace_folder", refuse)
    with pytest.raises(PermissionError):
        swap.place(made(tmp_path / "new", "2"), folder)
    assert not (folder / swap.REPLACED).exists()
