"""Evaluates the trained model of a run on its test part, beside the most-popular baseline.

python -m experiments.evaluate --workdir=runs/movielens_100k
"""

from __future__ import annotations

import numpy as np

from experiments import console, flags
from experiments.workdir import Workdir, load_data
from retrieval import phases
from retrieval.baselines import most_popular
from retrieval.config import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluate import evaluate as evaluate_embeddings
from retrieval.evaluate import mean_loss


def evaluate(config: Config, dataset: Dataset, trained: phases.Trained) -> dict[str, float]:
    """Returns the figures of the model on test and train, and of the baseline on test, by name."""
    recipe, parts, settings = trained.recipe, dataset.parts, config.evaluate
    encoding, candidates = recipe.encoding, recipe.candidate_embeddings(trained.params)
    test = encoding.targets(parts.test, parts.train_and_validation())
    train = encoding.targets(trained.train, None)
    counts = recipe.negatives.counts[encoding.corpus_rows]
    popular = most_popular(counts, len(test.query_ids))
    loss = mean_loss(
        recipe.model,
        trained.params,
        recipe.loss,
        encoding.examples(parts.test),
        batch_size=settings.batch_size,
        negatives=recipe.negatives,
    )

    def figures(name, queries, candidates, targets, accuracies=()):
        results = evaluate_embeddings(queries, candidates, targets, ks=settings.ks, top_k_accuracies=accuracies)
        return {f"{name}/{metric}": value for metric, value in results.items()}

    rows = np.arange(encoding.queries.num_rows, dtype=np.int32)  # train asks for all but the unknown
    queries = np.asarray(recipe.query_embeddings(trained.params, rows))
    return {
        **figures("test", queries[test.query_rows], candidates, test, settings.top_k_accuracies),
        "test/loss": loss,
        "test/num_queries": len(test.query_ids),
        "test/num_unknown_queries": int((test.query_rows == 0).sum()),
        **figures("train", queries[train.query_rows], candidates, train),
        **figures("popularity", *popular, test, settings.top_k_accuracies),
    }


def main() -> None:
    workdir = Workdir(flags.workdir())
    config = workdir.read_config()
    dataset = load_data(config, workdir)
    trained = phases.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    workdir.add_metrics(evaluate(config, dataset, trained))
    console.print_metrics(workdir.read_metrics())
    console.say(f"all figures: {workdir.metrics_file}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
