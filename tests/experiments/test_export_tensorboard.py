"""What TensorBoard finds in an export."""

import csv
import json
import os
import sys

import numpy as np
import pytest

from experiments import export_tensorboard
from experiments.shared.workdir import Workdir
from retrieval.data.interactions import Table

LOG = [
    {"phase": "search", "epoch": 0, "step": 0, "validation/auc": 0.5},
    {"phase": "search", "epoch": 1, "step": 8, "loss": 7.5, "validation/auc": 0.75},
    {"phase": "final", "epoch": 1, "step": 9, "loss": 7.25},
]


@pytest.fixture
def tensorboard():
    """TensorBoard's reader; required where the environment says CI."""
    if "CI" not in os.environ:
        pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator


def scalars(reader, folder):
    events = reader(str(folder))
    events.Reload()
    return {
        name: [(event.step, float(event.tensor_proto.float_val[0])) for event in events.Tensors(name)]
        for name in events.Tags()["tensors"]
    }


@pytest.mark.slow
def test_scalars_read_back_are_those_of_the_run(tensorboard, tmp_path):
    export_tensorboard.write_scalars(tmp_path, LOG, {"test/auc": 0.25}, epoch=7)
    assert scalars(tensorboard, tmp_path / "search") == {
        "step": [(0, 0.0), (1, 8.0)],
        "validation/auc": [(0, 0.5), (1, 0.75)],
        "loss": [(1, 7.5)],
    }
    assert scalars(tensorboard, tmp_path / "final") == {"step": [(1, 9.0)], "loss": [(1, 7.25)]}
    assert scalars(tensorboard, tmp_path / "figures") == {"test/auc": [(7, 0.25)]}


def test_the_projector_has_a_line_for_each_candidate_whatever_its_title(tmp_path):
    titles = np.array(["tab\there", "line\nbreak", ""])
    corpus = Table(np.array(["a", "b", "c"]), {"title": titles, "genres": np.array(["War|Drama", "", "War"])})
    embeddings = np.array([[1, 2], [3, 4], [5.5, -1e-9]], np.float32)
    export_tensorboard.write_projector(tmp_path, embeddings, np.array([3, 9, 0], np.float32), corpus)
    with (tmp_path / "metadata.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [
        ["id", "title", "genres", "interactions in train"],
        ["b", "line break", "-", "9"],
        ["a", "tab here", "War|Drama", "3"],
        ["c", "-", "War", "0"],
    ]
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "tensors.tsv", dtype=np.float32), embeddings[[1, 0, 2]])
    assert 'tensor_path: "tensors.tsv"' in (tmp_path / "projector_config.pbtxt").read_text()


def test_without_titles_the_id_stands_for_one(tmp_path):
    export_tensorboard.write_projector(tmp_path, np.ones((1, 2)), np.ones(1), Table(np.array([7])))
    assert (tmp_path / "metadata.tsv").read_text().splitlines()[1] == "7\t7\t1"


def test_a_missing_extra_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorboard.summary", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    (tmp_path / "config.json").write_text(json.dumps("not read"))
    with pytest.raises(ImportError, match=r"pip install -e '.\[tensorboard\]'"):
        export_tensorboard.export(Workdir(tmp_path))
