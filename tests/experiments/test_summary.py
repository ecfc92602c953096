"""What a run says at its end: one screen, a model below a baseline is called that, and the choice is explained."""

import numpy as np
import pytest
from report_cases import plain_config

from experiments.run import run
from experiments.shared import summary
from experiments.shared.workdir import Workdir
from retrieval.evaluation.comparison import Comparison


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("summary") / "run")
    run(plain_config(), workdir)
    return workdir


def printed(config, workdir, capsys):
    summary.print_summary(config, workdir)
    return capsys.readouterr().out.splitlines()


def test_the_summary_fits_a_terminal(workdir, capsys):
    lines = printed(workdir.read_config(), workdir, capsys)
    assert len(lines) < 24 and all(len(line) <= 80 for line in lines if not line.startswith(("Bundle:", "Report:")))
    text = "\n".join(lines)
    assert "two towers" in text and "most popular" in text and "Report: " in text and "Epoch " in text


def record(phase, epoch, value):
    return {"phase": phase, "epoch": epoch, "validation/excluding_seen/ndcg_at_10": value}


@pytest.mark.parametrize(
    "values, most, told",
    [
        ([0.1, 0.3, 0.2, 0.1], 10, "Epoch 1 of 10 was best: validation nDCG@10 0.3000; 2 more brought none better."),
        ([0.1, 0.3, 0.2], 2, "Epoch 1 of 2 was best: validation nDCG@10 0.3000; all were tried."),
        ([0.1, 0.2, 0.3], 2, "WARNING: the last epoch was the best: raise --config.train.epochs above 2."),
    ],
)
def test_the_choice_of_the_epoch_is_explained(values, most, told):
    config = plain_config()
    config.train.epochs, config.train.metric = most, "excluding_seen/ndcg_at_10"
    history = [record("search", epoch, value) for epoch, value in enumerate(values)]
    assert told in summary._choice(config, history, 1)


def differing(difference, p):
    return Comparison(difference, difference - 0.01, difference + 0.01, p, p, 100), p


@pytest.mark.parametrize(
    "difference, p, told, mark",
    [
        (0.05, 0.0005, "Two towers: 0.0500 of nDCG@10 above EASE, the best baseline, p < .001.", "*"),
        (0.01, 0.2, "Two towers and EASE are not told apart in nDCG@10: difference +0.0100, p = .200.", " "),
        (-0.05, 0.003, "WARNING: Two towers is BELOW EASE, by 0.0500 of nDCG@10, p = .003.", "*"),
        (-0.05, np.nan, "Two towers and EASE are not told apart in nDCG@10: difference -0.0500.", " "),
    ],
)
def test_the_model_is_told_apart_from_the_best_baseline_or_not(difference, p, told, mark):
    differences = {"ease": differing(difference, p)}
    assert summary._verdict(plain_config(), ["test", "ease"], "excluding_seen/ndcg_at_10", differences)[0] == told
    best = "test" if difference > 0 else "ease"
    assert summary._mark(best, best, differences) == mark
    assert summary._mark("popularity", best, differences) == " "


def test_p_values_are_corrected_for_the_number_of_baselines(workdir):
    systems = ["test", *sorted(set(workdir.systems()) - {"test"})]
    found = summary._differences(workdir, systems, "excluding_seen/ndcg_at_10")
    assert all(p >= comparison.permutation_p for comparison, p in found.values())
    lowest = min(comparison.permutation_p for comparison, _ in found.values())
    assert min(p for _, p in found.values()) == pytest.approx(min(1, lowest * len(found)))


def test_a_seed_is_told_in_one_line(workdir, capsys):
    summary.print_line(workdir.read_config(), workdir, "seed 0")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("seed 0: nDCG@10 0.") and line.endswith(tuple("0123456789")) and "epoch" in line
    assert len(line) <= 80
