"""A bundle tells nothing of the machine that exported it: the same config gives the same bytes from any folder."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from bundle_cases import save
from program_cases import ROOT

PATH = re.compile(rb"(?:/[\w.@+-]+){2,}\.py|/(?:home|root|Users|tmp|work|usr)/[\w./-]+")


def test_programs_name_no_file_of_the_exporting_machine(tmp_path):
    folder = tmp_path / "bundle"
    save(folder)
    programs = list(folder.glob("*.stablehlo"))
    assert programs
    for path in programs:
        assert not PATH.search(path.read_bytes()), path.name


def export_from(folder):
    """Runs a copy of the code in `folder`, and returns the content of each file of its bundle."""
    for name in ("retrieval", "experiments", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "experiments.run", "--config=synthetic", "--workdir=runs/it"]
    command += ["--config.train.epochs=1", "--config.index.kind=exact"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment, timeout=600)
    files = [path for path in (folder / "runs/it/bundle").rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def without_times(name, content):
    """Returns a file of a bundle without the measured time of a search, and the hashes of the files that hold it."""
    if not name.endswith(("bundle/manifest.json", "index/index.json")):
        return content
    content = re.sub(rb'"microseconds": [0-9.e+-]+', b"", content)
    own = re.sub(rb'^  "sha256": "[0-9a-f]{64}"', b"", content, flags=re.M)
    return re.sub(rb'("index/index.json": {\s+"size": )\d+(,\s+"sha256": )"[0-9a-f]{64}"', rb"\1\2", own)


@pytest.mark.slow
def test_one_config_gives_the_same_bytes_from_two_folders(tmp_path):
    first = export_from(tmp_path / "a")
    second = export_from(tmp_path / "a folder of another name" / "deep" / "below")
    assert first.keys() == second.keys() and len(first) > 10
    for name, content in first.items():
        assert not PATH.search(content), name
        assert without_times(name, content) == without_times(name, second[name]), name
