"""The towers of a model with additions have metrics of their own beside it."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthetic
from experiments.evaluate import evaluate
from experiments.report.records import Records
from experiments.shared import tables
from experiments.shared.run_data import load_data
from experiments.shared.workdir import Workdir
from experiments.train import train_or_restore
from retrieval.config.schema import Addition
from retrieval.models.binding import bind
from retrieval.pipeline.evaluate_trained import create_evaluation

NDCG = "excluding_seen/ndcg_at_10"


def run(path, *additions):
    config = synthetic.get_config()
    config.train.epochs, config.model.additions = 2, additions
    workdir = Workdir(path)
    dataset = load_data(config, workdir)
    trained = train_or_restore(config, dataset, workdir)
    evaluate(config, dataset, trained, workdir)
    return workdir, create_evaluation(config, dataset), trained


@pytest.fixture(scope="module")
def with_ease(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "ease", Addition("ease", weight=3.0, arguments={"rank": 8}))


def test_the_towers_are_ranked_by_their_own_dot_product(with_ease):
    workdir, evaluation, trained = with_ease
    recipe = trained.recipe
    towers = bind(recipe.model, trained.params)
    queries = towers.query(jnp.asarray(recipe.encoding.queries.rows(evaluation.targets.query_ids)))
    result = evaluation.measure(evaluation.rank(queries, towers.candidate(jnp.asarray(recipe.encoding.corpus_rows))))
    metrics = workdir.read_metrics()
    assert metrics[f"towers/{NDCG}"] == pytest.approx(result.metrics[NDCG], rel=1e-5)
    assert metrics[f"towers/{NDCG}"] != metrics[f"test/{NDCG}"]


def test_every_file_and_table_of_the_run_has_the_towers(with_ease, capsys):
    workdir, _, _ = with_ease
    assert workdir.systems() == ["popularity", "test", "towers"]
    assert {record["system"] for record in workdir.read_slices()} == {"popularity", "test", "towers"}
    assert f"towers/{NDCG}" in workdir.read_intervals()
    records = Records.read(workdir)
    assert [records.title(system) for system in records.systems] == ["towers + EASE", "towers alone", "most popular"]
    tables.print_metrics(workdir)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["towers + EASE", "towers alone", "most popular"]


def test_without_additions_the_model_is_the_towers(tmp_path):
    workdir, _, trained = run(tmp_path / "run")
    assert workdir.systems() == ["popularity", "test"] and Records.read(workdir).model == "two towers"
    assert not any(name.startswith("towers/") for name in workdir.read_metrics())
    np.testing.assert_array_equal(trained.without_additions().candidate_embeddings, trained.candidate_embeddings)
