"""Evaluation of a trained model on the test part, beside the baselines that need no tuning."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from retrieval.baselines.popularity import by_counts
from retrieval.config.remedies import naming_fields
from retrieval.config.schema import Config
from retrieval.config.values import check_values
from retrieval.data import leakage
from retrieval.data.dataset import Dataset
from retrieval.data.interactions import Interactions
from retrieval.evaluation.heads import Labelled
from retrieval.evaluation.measure import evaluate
from retrieval.evaluation.protocol import Evaluation, Result
from retrieval.pipeline.trained import Trained
from retrieval.training.held_out_loss import mean_loss

POPULARITY = "popularity"  # name of the most-popular baseline
BATCH_SIZE = 4096  # examples whose test loss is computed at a time; an in-batch loss grows with it


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """What the evaluation of an experiment found.

    Attributes:
      model: the metrics of the trained model, those of its heads included.
      towers: the metrics of its towers without the additions of `config.model.additions`; None without additions.
      baselines: likewise of the most-popular baseline, and for the heads of predictions from means, by name.
      metrics: other metrics of the model, by name: its loss on test, its metrics on train, and the number of test
        queries, all and unknown ones.
    """

    model: Result
    towers: Result | None
    baselines: Mapping[str, Result]
    metrics: Mapping[str, float]


@naming_fields()
def create_evaluation(config: Config, dataset: Dataset) -> Evaluation:
    """Returns the evaluation on the test part, the same for the model of an experiment and for its baselines.

    Raises:
      ValueError: a value of the config is wrong, or the data cannot be evaluated on.
    """
    check_values(config)
    return Evaluation.of(
        dataset.parts.train_and_validation(),
        dataset.parts.test,
        dataset.corpus,
        dataset.queries,
        ks=config.evaluate.ks,
        top_k_accuracies=config.evaluate.top_k_accuracies,
        dislike_at_most=config.data.dislike_at_most or None,
        repeats=not config.data.drop_duplicates,
    )


def evaluate_trained(config: Config, dataset: Dataset, trained: Trained) -> EvaluatedModel:
    """Evaluates a trained model and the most-popular baseline on test, and the model on train too.

    Raises:
      LeakageError: a ValueError; training has seen interactions of the test part.
      ValueError: the model was trained on other data.
    """
    trained.check_data(dataset)
    recipe, any_vocabulary = trained.recipe, config.data.vocabulary == "all"
    leakage.check_encoding(recipe.encoding, recipe.negatives.counts, trained.train, any_vocabulary=any_vocabulary)
    evaluation, before = create_evaluation(config, dataset), dataset.parts.train_and_validation()
    baselines = {POPULARITY: evaluate_popularity(evaluation)}
    queries = trained.query_embeddings(evaluation.targets.query_ids, before)
    model = evaluation.measure(evaluation.rank(queries, trained.candidate_embeddings))
    if recipe.tasks.entries:
        labelled = Labelled.of(recipe.tasks.entries, recipe.encoding, dataset.parts.test)
        predict = functools.partial(recipe.predict, trained.params)
        by_heads = labelled.by_heads(predict, queries, trained.candidate_embeddings)
        model = model.beside(Result.of(labelled.measure(by_heads, evaluation.test_set)))
        for name, predictions in labelled.by_baselines(recipe.encoding, before).items():
            baselines[name] = Result.of(labelled.measure(predictions, evaluation.test_set))
    unknown = int((evaluation.targets.query_rows == 0).sum())
    metrics = {
        "test/loss": _test_loss(dataset, trained),
        "test/num_queries": len(evaluation.targets.query_ids),
        "test/num_unknown_queries": unknown,
        **{f"train/{name}": value for name, value in _on_train(config, trained).items()},
    }
    towers = evaluate_model(evaluation, trained.without_additions(), before) if recipe.additions else None
    return EvaluatedModel(model, towers, baselines, metrics)


def evaluate_model(evaluation: Evaluation, trained: Trained, before: Interactions) -> Result:
    """Returns the metrics of a model's rankings.

    Args:
      evaluation: the queries and what is relevant to them.
      trained: the model.
      before: interactions that the histories of the queries are taken from.
    """
    queries = trained.query_embeddings(evaluation.targets.query_ids, before)
    return evaluation.measure(evaluation.rank(queries, trained.candidate_embeddings))


def evaluate_popularity(evaluation: Evaluation) -> Result:
    """Returns the metrics of the most-popular baseline."""
    return evaluation.measure(evaluation.rank_by(by_counts(evaluation.catalogue.counts)))


def _test_loss(dataset: Dataset, trained: Trained) -> float:
    """Returns the loss an example on the test part."""
    recipe = trained.recipe
    examples = recipe.held_out_examples(dataset.parts.test, dataset.parts.train_and_validation())
    return mean_loss(
        recipe.model,
        trained.params,
        recipe.loss,
        examples,
        batch_size=BATCH_SIZE,
        negatives=recipe.negatives,
    )


def _on_train(config: Config, trained: Trained) -> dict[str, float]:
    """Returns the metrics on the interactions that the model was trained on: how well it fits them."""
    targets = trained.recipe.encoding.targets(trained.train, None)
    queries = trained.query_embeddings(targets.query_ids, trained.train)
    return evaluate(queries, trained.candidate_embeddings, targets, ks=config.evaluate.ks)
