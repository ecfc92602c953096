"""The Pareto curve of the weights: which are on it, and what the program leaves."""

import json
import re

import pytest
from program_cases import program
from task_cases import LIKES, RATING, file_config

from experiments import pareto
from experiments.report.records import Records
from experiments.report.trade_off import weight_results
from experiments.shared.workdir import Workdir
from retrieval.config.schema import Config

METRIC = Config().train.metric


def records(validation, epoch=1):
    """Returns the records of a run with these values of nDCG and RMSE on validation, and others on test."""
    names = METRIC, "rating/rmse"
    log = [
        {"phase": "search", "epoch": e}
        | {f"validation/{n}": v + e - epoch for n, v in zip(names, validation, strict=True)}
        for e in (0, 1, 2)
    ]
    metrics = {f"test/{name}": -1.0 for name in names}
    return Records(log, metrics, {name: (-2.0, 0.0) for name in metrics}, [], {}, ("final", epoch))


def on_front(*validation):
    config = Config(tasks=(RATING,))
    results = weight_results(config, {float(i): records(values) for i, values in enumerate(validation)})
    return [bool(result.on_front) for result in results]


def test_the_front_holds_what_no_other_weight_beats_on_validation():
    assert on_front((0.4, 1.1), (0.39, 0.9), (0.38, 0.95), (0.3, 0.8)) == [True, True, False, True]
    assert on_front((0.4, 0.9), (0.4, 1.0), (0.3, 0.9)) == [True, False, False]
    assert on_front((0.4, 0.9), (0.4, 0.9)) == [True, True]  # neither is better
    assert on_front((0.4, 0.9)) == [True]


def test_without_a_validation_part_nothing_is_chosen():
    run = records((0.4, 1.0))
    empty = Records([{"phase": "final", "epoch": 1}], run.metrics, run.intervals, [], {}, ("final", 1))
    with pytest.raises(ValueError, match="compared on a validation part"):
        weight_results(Config(tasks=(RATING,)), {1.0: empty})


@pytest.mark.parametrize(
    ("tasks", "factors", "message"),
    [((), [1.0], "has no tasks"), ((RATING,), [1.0, 1.0], "each once, got 1, 1"), ((RATING,), [-1.0], "0 or more")],
)
def test_what_cannot_be_traded_is_refused_before_anything_is_written(tasks, factors, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pareto.run_weights(Config(tasks=tasks), tmp_path / "runs", factors)
    assert not (tmp_path / "runs").exists()


def test_factors_multiply_the_weights_of_all_tasks():
    config = pareto.with_weights(Config(tasks=(RATING, LIKES)), 0.1)
    assert [task.weight for task in config.tasks] == [0.1, 0.05]


@pytest.mark.slow
def test_the_program_leaves_runs_metrics_and_a_page(tmp_path):
    config = file_config(tmp_path, RATING, LIKES)
    config.name = "<b>stars"
    results = pareto.run_weights(config, tmp_path / "runs", [1.0, 0.0])
    assert [result.factor for result in results] == [0.0, 1.0]
    written = json.loads((tmp_path / "runs/pareto.json").read_text())
    assert [result["factor"] for result in written] == [0.0, 1.0]
    for result, folder in zip(results, ("weight_0", "weight_1"), strict=True):
        metrics = Workdir(tmp_path / "runs" / folder).read_metrics()
        assert result.test == {name: metrics[f"test/{name}"] for name in (METRIC, "rating/rmse", "likes/log_loss")}
        report = (tmp_path / "runs" / folder / "report.html").read_text()
        assert 'id="task_rating"' in report or folder == "weight_0"  # the loss of a head that is trained
        assert "RMSE" in report and "candidate mean" in report
    text = (tmp_path / "runs/report.html").read_text()
    names = {path.stem for path in (tmp_path / "runs/report").iterdir()}
    assert names == {f"pareto_{task}_{part}" for task in ("rating", "likes") for part in ("validation", "test")}
    assert all(f'id="{name}"' in text for name in names) and "<b>stars" not in text
    assert len(re.findall(r"<title>weight ×", text)) == 8  # of each weight in each plot
    alone = Workdir(tmp_path / "runs/weight_0").read_metrics()
    assert alone["test/rating/rmse"] == pytest.approx(alone["mean/rating/rmse"], rel=1e-5)  # the head knows the mean


def test_weights_that_are_no_numbers_are_refused():
    arguments = ["--config=configs/multitask.py", "--workdir=x", "--weights=a"]
    assert "--weights must be numbers, got a" in program("pareto", *arguments, fails=True)
