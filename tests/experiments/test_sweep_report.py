"""The page of a sweep, drawn from trials that are made up."""

import dataclasses
import re

import matplotlib as mpl
import numpy as np
import pytest

from experiments.report.palette import SETTINGS, to_svg
from experiments.sweep import plots
from experiments.sweep.folder import SweepFolder, Trial
from experiments.sweep.report import write_sweep
from retrieval.config.schema import Config, Data
from retrieval.config.space import Choice, LogUniform, Uniform
from retrieval.data.dataset import load

SPACE = {
    "regularization.embedding_l2": LogUniform(0.005, 0.5),
    "model.query.mlp.hidden_sizes": Choice((), (64,), (64, 32)),
    "optimizer.name": Choice("<b>", "adagrad"),
    "loss.temperature": Uniform(0.5, 2.0),
    "train.batch_size": LogUniform(256, 4096),
}
METRIC = Config().train.metric


def made_up(num_trials, seed=0):
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(1, num_trials + 1):
        settings = {
            "regularization.embedding_l2": float(np.exp(rng.uniform(np.log(0.005), np.log(0.5)))),
            "model.query.mlp.hidden_sizes": SPACE["model.query.mlp.hidden_sizes"].values[rng.integers(3)],
            "optimizer.name": SPACE["optimizer.name"].values[rng.integers(2)],
            "loss.temperature": float(rng.uniform(0.5, 2)),
            "train.batch_size": int(rng.integers(256, 4097)),
        }
        top = 0.4 - 0.05 * np.log(settings["regularization.embedding_l2"] / 0.05) ** 2
        curve = [(epoch, float(top * (1 - np.exp(-epoch)))) for epoch in range(rng.integers(1, 9))]
        state = ("complete", "pruned", "diverged")[rng.choice(3, p=[0.5, 0.4, 0.1])]
        trials.append(Trial(number, state, settings, curve, 1.0))
    return trials


@pytest.fixture
def folder(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.begin(Config(name="made <up>"), SPACE, load(Data(dataset="synthetic")))
    return folder


def page(folder, trials):
    write_sweep(Config(name="made <up>"), SPACE, folder, trials)
    return folder.report_file.read_text()


def test_the_page_is_whole_and_escaped(folder):
    text = page(folder, made_up(40))
    best = max(made_up(40), key=lambda trial: trial.best[1])
    assert f"--config.regularization.embedding_l2={best.settings['regularization.embedding_l2']}" in text
    assert "Sweep of made &lt;up&gt;" in text and "<b>" not in text and "made <up>" not in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)
    names = {path.stem for path in folder.report_plots.iterdir()}
    assert names == {"progress", "curves", "importance"} | {f"slice_{field.replace('.', '_')}" for field in SPACE}
    assert all(f'id="{name}"' in text for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("num_trials", [1, 2, 7])
def test_of_few_trials_no_importance_is_claimed(folder, num_trials):
    assert 'id="importance"' not in page(folder, made_up(num_trials))


def test_repeats_do_not_count_for_importance(folder):
    assert 'id="importance"' not in page(folder, [made_up(1)[0]] * 20)


def test_equal_metrics_and_no_complete_trial_are_drawn(folder):
    same = [Trial(i, "pruned", trial.settings, [(0, 0.25)], 0.0) for i, trial in enumerate(made_up(12), 1)]
    assert "0.2500" in page(folder, same)


def test_every_trial_is_drawn_once_and_says_what_it_was():
    trials = made_up(40)
    trials[3] = dataclasses.replace(trials[3], curve=[(0, -1.0)])
    with mpl.rc_context(SETTINGS):
        for plot in (plots.progress(trials, METRIC), *plots.slices(trials, SPACE, METRIC)):
            said = [title for titles in plot.titles.values() for title in titles]
            assert sorted(int(re.match(r"trial (\d+),", title)[1]) for title in said) == list(range(1, 41))
            svg = to_svg(plot)
            assert svg.count("<title>trial ") == 40
            floor = plot.figure.axes[0].get_ylim()[0]
            below = [trial for trial in trials if trial.best[1] < floor]
            assert sum(len(titles) for group, titles in plot.titles.items() if "below" in group) == len(below) > 0


def test_what_decides_the_made_up_trials_matters_most():
    with mpl.rc_context(SETTINGS):
        (plot,) = plots.importances(made_up(60), SPACE)
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert labels[0] == "regularization.embedding_l2"
    widths = [bar.get_width() for bar in plot.figure.axes[0].patches]
    assert widths == sorted(widths, reverse=True) and widths[0] > 0.3 and all(width < 0.2 for width in widths[1:])
