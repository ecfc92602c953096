"""What an optimizer, a metric or an index cannot be made with is refused with the config, before data are loaded."""

import pytest

from retrieval.config.schema import OPTIMIZERS, Config, Data
from retrieval.config.space import with_settings
from retrieval.evaluation.registry import METRICS
from retrieval.pipeline.checks import check_experiment


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer.name": "adam", "optimizer.arguments": {"beta1": 0.9}},
            r"optimizer.name='adam' and optimizer.arguments=\{'beta1': 0.9\}: optax.adam has no argument 'beta1'",
        ),
        (
            {"optimizer.name": "adam", "optimizer.arguments": {"mu_dtype": 0.5}},
            "no step can be made .*mu_dtype.*dtype|data type",
        ),
        ({"optimizer.name": "radam", "optimizer.arguments": {"b2": 1.0}}, "no step can be made .*division by zero"),
        ({"optimizer.name": "sm3", "model.temperature": 1.0}, "no step can be made with optimizer.name='sm3'"),
        (
            {"train.metric": "excluding_seen/ndgc_at_10"},
            "'excluding_seen/ndgc_at_10'; did you mean 'excluding_seen/ndcg_at",
        ),
        ({"train.metric": ""}, "train.metric must name a metric as metrics.json does, as .*, got ''"),
        ({"index.k": 0}, "index.k must be 1 or more, at most 1,048,576, got 0"),
        ({"index.target_recall": 1.0}, "index.target_recall must be above 0, below 1, got 1.0"),
        ({"index.hnsw.M": 1}, r"index.hnsw.M must be an integer in \[2, 10000\], or 0 for any, got 1"),
    ],
)
def test_what_cannot_be_made_is_named_with_its_field(settings, message):
    with pytest.raises(ValueError, match=message):
        check_experiment(with_settings(Config(data=Data(interactions="no file is opened")), settings))


@pytest.mark.filterwarnings("ignore")  # of optax, that an optimizer will change
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_a_step_with_its_defaults(name):
    check_experiment(with_settings(Config(), {"optimizer.name": name}))


def test_every_metric_that_rises_may_choose_the_epoch():
    for metric in METRICS:
        if metric.level in ("query", "interaction") and metric.higher_is_better:
            group = "interactions/" * (metric.level == "interaction")
            check_experiment(with_settings(Config(), {"train.metric": f"including_seen/{group}{metric.name}_at_10"}))
