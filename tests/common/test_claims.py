"""One process at a time works in a folder; the lock of a dead one is taken over."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from retrieval.common import claims
from retrieval.common.claims import LOCK_FILE, FolderInUseError, claimed

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys
from retrieval.common.claims import claimed
with claimed(pathlib.Path(sys.argv[1]), "trains"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder until its input closes."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_with_the_id_of_the_first(holder, tmp_path):
    message = f"another process trains in {tmp_path}, pid {holder.pid}; wait for it to end, or use another folder"
    with pytest.raises(FolderInUseError, match=message), claimed(tmp_path, "trains"):
        pass
    assert (tmp_path / LOCK_FILE).exists()  # still that of the first


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_FILE).read_text().split()[0] == str(holder.pid)
    with claimed(tmp_path, "trains"):
        assert (tmp_path / LOCK_FILE).read_text().split()[0] == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_thread_of_the_same_process_is_refused_too(tmp_path):
    with claimed(tmp_path, "trains"):
        with (
            pytest.raises(FolderInUseError, match=f"this process trains in {tmp_path}, pid {os.getpid()}; wait"),
            claimed(tmp_path, "evaluates"),
        ):
            pass
    with claimed(tmp_path, "evaluates"):
        pass


def test_a_folder_that_is_new_stays_only_if_something_was_written(tmp_path):
    with claimed(tmp_path / "a/empty", "trains"):
        pass
    assert not (tmp_path / "a/empty").exists()
    with claimed(tmp_path / "full", "trains"):
        (tmp_path / "full/file").write_text("")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    (tmp_path / "old").mkdir()
    with claimed(tmp_path / "old", "trains"):
        pass
    assert (tmp_path / "old").exists()


def test_of_many_threads_one_at_a_time_holds_the_folder(tmp_path):
    held, most, refused, lock = 0, 0, 0, threading.Lock()

    def work():
        nonlocal held, most, refused
        for _ in range(200):
            try:
                with claimed(tmp_path, "trains"):
                    with lock:
                        held, most = held + 1, max(most, held + 1)
                    with lock:
                        held -= 1
            except FolderInUseError:
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and refused < 800 and list(tmp_path.iterdir()) == []


def test_a_lock_file_that_its_holder_removes_meanwhile_is_no_lock(tmp_path, monkeypatch):
    lock, calls = claims._lock, []

    def late(file, folder):
        if not calls:  # the holder removes the file after this process has opened it
            (tmp_path / LOCK_FILE).unlink()
        calls.append(1)
        lock(file, folder)

    monkeypatch.setattr(claims, "_lock", late)
    with claimed(tmp_path, "trains"):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f"{os.getpid()} trains")
    assert len(calls) == 2


def test_a_file_system_without_locks_holds_nobody_off(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(claims.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    with claimed(tmp_path, "trains"):
        pass


def test_an_error_of_the_lock_that_is_another_is_raised(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(claims.errno.EIO, "Input/output error")

    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), claimed(tmp_path, "trains"):
        pass
