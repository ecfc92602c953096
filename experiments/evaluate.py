"""Evaluates the trained model of a run on its test part, beside the most-popular baseline.

python -m experiments.evaluate --workdir=runs/movielens_100k
"""

from __future__ import annotations

import functools

from experiments.shared import console, flags, tables
from experiments.shared.run_data import load_data
from experiments.shared.workdir import MODEL, Workdir
from retrieval.baselines.popularity import by_counts
from retrieval.config.schema import Config
from retrieval.data import leakage
from retrieval.data.dataset import Dataset
from retrieval.data.interactions import Interactions
from retrieval.data.splits import Parts
from retrieval.evaluation.heads import Labelled
from retrieval.evaluation.measure import evaluate as evaluate_embeddings
from retrieval.evaluation.protocol import Evaluation, Result
from retrieval.pipeline import search_and_fit
from retrieval.training.held_out_loss import mean_loss

BATCH_SIZE = 4096  # examples of the test loss at a time


def evaluation_of(config: Config, dataset: Dataset) -> Evaluation:
    """Returns what the model of an experiment and its baselines are asked: the test part."""
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


def evaluate(config: Config, dataset: Dataset, trained: search_and_fit.Trained, workdir: Workdir) -> None:
    """Evaluates the model and the most-popular baseline on test, the model on train too, into the run's folder.

    Raises:
      LeakageError: a ValueError; training has seen what the test part asks.
    """
    recipe, any_vocabulary = trained.recipe, config.data.vocabulary == "all"
    leakage.check_encoding(recipe.encoding, recipe.negatives.counts, trained.train, any_vocabulary=any_vocabulary)
    evaluation = evaluation_of(config, dataset)
    workdir.add_result("popularity", evaluate_popularity(evaluation))
    result = evaluate_model(evaluation, trained, dataset.parts.train_and_validation())
    for name, of_predictions in evaluate_predictions(evaluation, trained, dataset.parts).items():
        if name == MODEL:
            result = result.beside(of_predictions)
        else:
            workdir.add_result(name, of_predictions)
    workdir.add_result(MODEL, result)
    workdir.add_metrics(_of_model_alone(config, dataset, trained, evaluation))


def evaluate_model(evaluation: Evaluation, trained: search_and_fit.Trained, before: Interactions) -> Result:
    """Returns what the evaluation says of the model, whose queries come after what they did `before`."""
    recipe = trained.recipe
    queries = recipe.query_embeddings(trained.params, evaluation.targets.query_ids, before)
    return evaluation.measure(evaluation.rank(queries, recipe.candidate_embeddings(trained.params)))


def evaluate_predictions(evaluation: Evaluation, trained: search_and_fit.Trained, parts: Parts) -> dict[str, Result]:
    """Returns how far the heads of the model, and predictions without it, are off on test; empty without heads."""
    recipe, before = trained.recipe, parts.train_and_validation()
    labelled = Labelled.of(recipe.tasks.settings, recipe.encoding, parts.test)
    if not labelled.tasks:
        return {}
    queries = recipe.query_embeddings(trained.params, labelled.query_ids, before)
    candidates = recipe.candidate_embeddings(trained.params)
    by_model = labelled.by_heads(functools.partial(recipe.predict, trained.params), queries, candidates)
    systems = {MODEL: by_model} | labelled.by_baselines(recipe.encoding, before)
    return {name: Result.of(labelled.measure(of_system, evaluation.test_set)) for name, of_system in systems.items()}


def evaluate_popularity(evaluation: Evaluation) -> Result:
    """Returns what the evaluation says of the most-popular baseline."""
    return evaluation.measure(evaluation.rank_by(by_counts(evaluation.catalogue.counts)))


def _of_model_alone(
    config: Config, dataset: Dataset, trained: search_and_fit.Trained, evaluation: Evaluation
) -> dict[str, float]:
    """Returns the loss on test, who is asked there, and how well the model knows train."""
    recipe = trained.recipe
    loss = mean_loss(
        recipe.model,
        trained.params,
        recipe.loss,
        recipe.held_out_examples(dataset.parts.test, dataset.parts.train_and_validation()),
        batch_size=BATCH_SIZE,
        negatives=recipe.negatives,
    )
    train = recipe.encoding.targets(trained.train, None)
    queries = recipe.query_embeddings(trained.params, train.query_ids, trained.train)
    candidates = recipe.candidate_embeddings(trained.params)
    on_train = evaluate_embeddings(queries, candidates, train, ks=config.evaluate.ks)
    return {
        "test/loss": loss,
        "test/num_queries": len(evaluation.targets.query_ids),
        "test/num_unknown_queries": int((evaluation.targets.query_rows == 0).sum()),
        **{f"train/{name}": value for name, value in on_train.items()},
    }


def main() -> None:
    workdir = Workdir(flags.workdir())
    config = workdir.read_config()
    dataset = load_data(config, workdir)
    trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    evaluate(config, dataset, trained, workdir)
    tables.print_metrics(workdir)
    console.say(f"all figures: {workdir.metrics_file}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
