"""A disk that is full, or a place that cannot be written, is told with the file and the remedy; nothing is lost."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest
from program_cases import ROOT

from retrieval.common import storage
from retrieval.common.claims import claimed
from retrieval.common.disk_errors import REMEDIES, DiskError, describe, writing
from retrieval.common.folders import scratch_folder
from retrieval.common.storage import scratch_files, write_atomically, write_chunks, write_json


@pytest.fixture
def small_files():
    """Files of more than 1,000 bytes cannot be written, as on a full disk."""
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_becomes_too_large_is_named_and_the_old_one_stays(tmp_path, small_files):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    message = rf"^{path}: cannot be written: File too large; raise the limit of file sizes \(ulimit -f\), or"
    with pytest.raises(DiskError, match=message) as found:
        write_chunks(path, [b"x" * 600, b"y" * 600])
    assert found.value.errno == errno.EFBIG and path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("code", sorted(REMEDIES))
def test_every_error_of_the_disk_has_file_and_remedy(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    path = tmp_path / "metrics.json"
    write_atomically(path, "old")
    monkeypatch.setattr(storage.os, "fsync", refuse)
    with pytest.raises(OSError) as found:
        write_atomically(path, "new")
    assert str(found.value) == f"{path}: cannot be written: {os.strerror(code)}; {REMEDIES[code]}"
    assert describe(found.value) == str(found.value) and found.value.errno == code
    assert path.read_text() == "old" and os.listdir(tmp_path) == [path.name]


def test_an_error_without_a_number_is_taken_for_a_full_disk(tmp_path):
    with pytest.raises(
        DiskError, match="rows.npy: cannot be written: 9 requested and 3 written; free space on the disk"
    ):
        with writing(tmp_path / "rows.npy"):
            raise OSError("9 requested and 3 written")  # as NumPy says it


def test_an_error_of_reading_is_described_with_its_files():
    assert describe(PermissionError(errno.EACCES, "denied", "events.csv")) == (
        "events.csv: Permission denied; give this user the right to it (chmod, chown), or choose another place"
    )
    assert describe(OSError(errno.EXDEV, "cross", "a", None, "b")).startswith(
        "a and b: Invalid cross-device link; check"
    )
    assert describe(OSError(errno.ENOSPC, "full")).startswith("a file or the output of the program: No space left")


def test_a_name_that_is_too_long_is_refused_in_each_place(tmp_path):
    long = tmp_path / ("x" * 300)
    for work in (
        lambda: write_atomically(long, "text"),
        lambda: claimed(long, "trains").__enter__(),
        lambda: scratch_folder(long).__enter__(),
    ):
        with pytest.raises(OSError) as found:
            work()
        assert "File name too long; choose a shorter name" in describe(found.value)
        assert describe(found.value).startswith(str(long)[:200])


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DiskError, match="run: cannot be written: File exists; choose another place"):
        claimed(tmp_path / "run", "trains").__enter__()
    with pytest.raises(DiskError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path, "text")


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "target.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "target.json")
    write_atomically(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "target.json").read_text() == "new"


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_atomically(pipe, "text")
    assert reader.communicate()[0] == b"text" and stat.S_ISFIFO(pipe.stat().st_mode)
    device = tmp_path / "full"
    device.symlink_to("/dev/full")
    with pytest.raises(DiskError, match="full: cannot be written: No space left on device; free space"):
        write_atomically(device, "text")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_scratch_files_are_those_of_the_named_files(tmp_path):
    for name in (".a.json.12", ".b.json.3", ".a.json.x", "a.json.12", ".a.json", ".12"):
        (tmp_path / name).write_text("")
    assert [path.name for path in scratch_files(tmp_path, ["a.json"])] == [".a.json.12"]
    assert [path.name for path in scratch_files(tmp_path, None)] == [".a.json.12", ".b.json.3"]
    assert scratch_files(tmp_path / "missing", None) == []


PRINTS = """
import sys
from experiments.shared import console, flags
flags.run(lambda: [console.say("a line") for _ in range(int(sys.stdin.read()))])
"""


@pytest.mark.parametrize(("output", "message"), [("full", "No space left on device; free space"), ("closed", "")])
def test_output_that_cannot_be_printed_ends_without_a_traceback(output, message):
    arguments = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    if output == "full":
        with open("/dev/full", "w") as full:
            process = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=full, **arguments)
    else:
        process = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, **arguments)
        process.stdout.close()
    errors = process.communicate("5")[1]
    assert process.returncode == 1 and message in errors
    assert "Traceback" not in errors and "Exception ignored" not in errors and len(errors.splitlines()) == bool(message)
