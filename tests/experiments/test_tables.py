"""Tables that programs print: what they mark as the best, and in which order they say that a history is."""

import json

import numpy as np
import pytest

from experiments.shared import tables
from experiments.shared.workdir import Workdir
from retrieval.config.schema import Config
from retrieval.config.serialization import to_json


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ({"test": 0.4, "ease": 0.4, "random": 0.1}, {"two towers", "EASE"}),
        ({"test": 0.4, "ease": 0.5, "random": 0.1}, {"EASE"}),
        ({"test": 0.4, "ease": 0.4, "random": 0.4}, set()),
        ({"test": 0.4}, set()),
        ({"test": None, "ease": 0.5, "random": 0.1}, {"EASE"}),
    ],
)
def test_every_system_that_is_as_good_as_the_best_has_a_star(tmp_path, capsys, values, marked):
    workdir = Workdir(tmp_path)
    workdir.config_file.write_text(to_json(Config()))
    workdir.metrics_file.write_text(json.dumps({f"{s}/excluding_seen/ndcg_at_10": v for s, v in values.items()}))
    tables.print_metrics(workdir)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert {line[0] for line in lines if line[-1].startswith("nDCG@10") and line[-1].endswith(" *")} == marked


@pytest.mark.parametrize(("has_times", "order"), [(True, "latest first"), (False, "in the order of the data")])
def test_a_history_says_its_order(capsys, has_times, order):
    tables.print_recommendations("7", np.array(["A"]), np.array(["B", "C"]), has_times)
    assert f"in train, {order} A  recommended B" in capsys.readouterr().out
