"""Every value that the ranges of a config allow trains or is refused in words: none hangs or ends in a dependency."""

import time

import pytest

from retrieval.config.fields import check_field, field_types
from retrieval.config.schema import Config, Data, Train
from retrieval.config.values import check_text, check_values
from retrieval.data.dataset import load
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.checks import check_experiment

DATASET = load(Data(dataset="synthetic"))
SECONDS = 120  # of one epoch on a busy machine: the same training without the setting takes two
HOSTILE = (
    "",
    ",",
    "x",
    "inf",
    "-inf",
    "nan",
    "-1",
    "1e400",
    "2147483648",
    "99999999999999999999",
    "--",
    "\u0663",
    "1_0",
)
EXTREME = {
    "train.batch_size": [1, 2**20],
    "negatives.uniform": [2**12],
    "negatives.popular": [2**12],
    "negatives.queue": [2**20],
    "negatives.dislikes": [1],
    "loss.temperature": [1e-30, 1e30],
    "loss.num_hard_negatives": [2**20],
    "regularization.embedding_l2": [1e30],
    "regularization.candidate_power": [10.0],
    "optimizer.learning_rate": [1e-30, 1e30],
    "optimizer.weight_decay": [1e30],
    "optimizer.warmup": [0.999999],
    "train.average": [0.999999],
    "train.patience": [2**31 - 1],
    "train.evaluate_every": [2**31 - 1],
    "model.embedding_dimension": [1],
    "model.initial_scale": [1e-30, 1e30],
    "evaluate.ks": [(2**20,), (1,)],
}


def with_value(path, value):
    config = Config(data=Data(dataset="synthetic"), train=Train(batch_size=1024, epochs=1, refit=False))
    *sections, name = path.split(".")
    section = config
    for part in sections:
        section = getattr(section, part)
    setattr(section, name, value)
    return config


@pytest.mark.parametrize("path", field_types(Config))
def test_hostile_text_is_refused_in_one_line_that_names_the_field(path):
    check_field(Config, path)
    for text in HOSTILE:
        try:
            check_text(field_types(Config)[path], text, path)
        except ValueError as error:
            assert path in str(error) and "\n" not in str(error) and len(str(error)) < 400, text


@pytest.mark.slow
@pytest.mark.parametrize("path, value", [(path, value) for path, values in EXTREME.items() for value in values])
def test_extremes_train_or_are_refused_in_words(tmp_path, path, value):
    config, started = with_value(path, value), time.monotonic()
    try:
        check_values(config)
        check_experiment(config)
        search_and_fit.train(config, DATASET, tmp_path, lambda history: None)
    except (ValueError, FloatingPointError) as error:
        assert "\n" not in str(error).strip() and len(str(error)) < 600
    assert time.monotonic() - started < SECONDS
