import json

import numpy as np
import pytest
from program_cases import contents, program

from retrieval.index import Certificate


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    program("train", "--config=configs/synthetic.py", f"--workdir={workdir}", "--config.train.epochs=1")
    program("evaluate", f"--workdir={workdir}")
    program("export", f"--workdir={workdir}")
    return workdir


@pytest.mark.slow
def test_the_program_shows_what_it_would_choose_and_changes_no_bundle(finished, tmp_path):
    before = contents(finished / "bundle")
    common = [f"--workdir={finished}", "--quiet"]
    output = program("tune_index", *common)
    assert "chosen: exact search takes" in output and f"curve: {finished}/index/index.png" in output
    certificate = Certificate.from_record(json.loads((finished / "index" / "index.json").read_text()))
    assert certificate.chosen.kind == "exact" and (finished / "index" / "index.png").stat().st_size > 5000
    output = program(
        "tune_index", f"--bundle={finished}/bundle", "--quiet", "--kind=hnsw", "--target=0.9", "--k=5",
        f"--out={tmp_path}/out",
    )  # fmt: skip
    certificate = Certificate.from_record(json.loads((tmp_path / "out" / "index.json").read_text()))
    assert certificate.k == 5 and certificate.chosen.kind == "hnsw" and "queries that chose nothing" in output
    assert contents(finished / "bundle") == before
    np.testing.assert_array_equal([certificate.curve[0].recall], [1.0])


def test_one_folder_is_needed(tmp_path):
    assert "--bundle and --workdir is needed" in program("tune_index", fails=True)
    assert "--bundle and --workdir is needed" in program(
        "tune_index", f"--bundle={tmp_path}", f"--workdir={tmp_path}", fails=True
    )
