"""Builds the index over the trained model of a run and exports both as a bundle.

    python -m experiments.export --workdir=runs/movielens_100k
    python -m experiments.export --workdir=runs/movielens_100k --index.target_recall=0.95 --index.kind=hnsw

In the bundle's folder `exports` lie its embeddings as Parquet, for any vector database, and with `--tensorflow` a
SavedModel: they go wherever the bundle goes. The bundle that was there before is kept as `bundle.previous`;
`--roll_back` lets the two change places.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable

import numpy as np

from experiments.shared import console, flags
from experiments.shared.run_data import load_data
from experiments.shared.workdir import MODEL, Workdir
from retrieval import index as index_lib
from retrieval.config import schema as config_lib
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.entities import EntityFeatures
from retrieval.index import Searcher
from retrieval.index.tuning import search
from retrieval.index.tuning.search import Choices
from retrieval.pipeline import search_and_fit
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle
from retrieval.serving.bundle import layout
from retrieval.serving.exports import savedmodel
from retrieval.serving.exports.parquet import write_vectors

RECALL_AT = 10
NUM_QUERIES = 4096  # of train, at most, that choose the index and certify it
SEED = 0  # of their choice and of the graph
QUERIES_A_CALL = 4096  # that the query tower embeds
NUM_RECOMMENDED = 100  # what the SavedModel returns for a query


def say_index(index: Searcher) -> None:
    """Says which index was chosen and why; it stands out where that has less recall than was meant."""
    certificate = index.certificate
    found = f"recall@{certificate.k} {certificate.recall:.4f}"
    console.say(f"index: {certificate.chosen.kind}, {found}; {certificate.reason}")
    if not certificate.is_reached:
        console.say(f"warning: {certificate.target} was meant; leave the settings of the index free, or ask for less")


def choices(settings: config_lib.Index) -> Choices:
    """Returns what the index may be, before any work is done for it.

    Raises:
      ValueError: a setting of the config is out of range.
    """
    try:
        search.check(k=settings.k, target=settings.target_recall, seed=SEED, threads=settings.threads)
        graph = settings.hnsw
        return Choices(settings.kind, graph.space, graph.M, graph.ef_construction, graph.ef)
    except ValueError as error:
        raise ValueError(f"config.index: {error}") from None


def build_index(config: Config, trained: search_and_fit.Trained) -> Searcher:
    """Chooses and builds the index as the config says; queries that train knows choose it and certify its recall."""
    recipe, settings = trained.recipe, config.index
    # that of a candidate which train does not know, and which has no features, may be zero: it is the least popular
    candidates = np.asarray(recipe.candidate_embeddings(trained.params))
    known = recipe.encoding.queries.ids
    sample = np.sort(np.random.default_rng(SEED).permutation(len(known))[:NUM_QUERIES])
    queries = np.asarray(recipe.query_embeddings(trained.params, known[sample], trained.train))
    index = index_lib.tune(
        candidates,
        queries,
        clock=time.perf_counter,
        k=settings.k,
        target=settings.target_recall,
        seed=SEED,
        threads=settings.threads,
        choices=choices(settings),
    )
    if f"recall_at_{RECALL_AT}" in index.figures:
        return index
    _, exact = top_k(queries, candidates, RECALL_AT)
    at_10 = {f"recall_at_{RECALL_AT}": index_lib.recall(index, queries, exact)}
    return dataclasses.replace(index, figures={**index.figures, **at_10})


def stored_index(config: Config, trained: search_and_fit.Trained, workdir: Workdir) -> Searcher:
    """Returns the index of the bundle, where that is of this model; else builds it.

    Raises:
      ValueError: the index of the bundle is damaged.
    """
    folder = workdir.bundle / layout.INDEX
    if folder.exists():
        index = index_lib.load(folder)
        candidates = np.asarray(trained.recipe.candidate_embeddings(trained.params))
        if index.certificate is not None and np.array_equal(index.embeddings, candidates):
            return index
    return build_index(config, trained)


def export(
    config: Config,
    dataset: Dataset,
    trained: search_and_fit.Trained,
    index: Searcher,
    workdir: Workdir,
    exports: Callable[[pathlib.Path], None] | None = None,
) -> None:
    """Writes the bundle of the run, and what is made of it for others, see `bundle.save`."""
    encoding, context = trained.recipe.encoding, trained.recipe.context
    done = dataset.parts.train_and_validation()
    encoders = trained.recipe.architecture
    queries = Table(encoding.queries.ids) if dataset.queries is None else dataset.queries
    figures = workdir.read_metrics() | {f"index/{name}": value for name, value in index.figures.items()}
    kept = (f"{MODEL}/", "index/")
    bundle.save(
        workdir.bundle,
        model=trained.recipe.bound(trained.params),
        queries=encoding.queries,
        candidates=encoding.candidates,
        corpus=dataset.corpus,
        seen=encoding.seen_by_row(done),
        index=index,
        facts={
            "config": dataclasses.asdict(config),
            "data_fingerprint": dataset.fingerprint(),
            "figures": {name: value for name, value in figures.items() if name.startswith(kept)},
            "intervals": {name: of for name, of in workdir.read_intervals().items() if name.startswith(kept)},
        },
        context=context,
        histories=histories_by_row(encoding, done) if context.length else None,
        query_features=EntityFeatures.of_table(encoders.query_features, queries, encoding.queries.entity_ids),
        candidate_features=EntityFeatures.of_table(
            encoders.candidate_features, dataset.corpus, encoding.candidates.entity_ids
        ),
        dimension=config.model.embedding_dimension,
        examples=dataset.queries,
        exports=exports,
    )


def write_exports(dataset: Dataset, workdir: Workdir, with_saved_model: bool, folder: pathlib.Path) -> None:
    """Writes the embeddings of the corpus, and of all queries that train knows, with their attributes, into a bundle.

    Args:
      dataset: has the attributes of the queries.
      workdir: where the bundle will be; tells the names.
      with_saved_model: writes a SavedModel too.
      folder: the bundle.
    """
    served, exports = bundle.load(folder), folder / bundle.EXPORTS
    write_vectors(exports / workdir.candidate_vectors.name, served.corpus.ids, served.embeddings, served.corpus)
    ids = served.queries.ids
    pieces = [served.embed_queries(ids[i : i + QUERIES_A_CALL]) for i in range(0, len(ids), QUERIES_A_CALL)]
    write_vectors(exports / workdir.query_vectors.name, ids, np.concatenate(pieces), dataset.queries)
    if with_saved_model:
        savedmodel.from_bundle(folder, exports / workdir.saved_model.name, k=NUM_RECOMMENDED)


def histories_by_row(encoding: Encoding, done: Interactions) -> Histories:
    """Returns what each query row has done, in candidate rows, without dislikes; row 0 nothing."""
    done = encoding.without_dislikes(done)
    rows, candidate_rows = done.rows_in(encoding.queries, encoding.candidates)
    owners = np.where(rows == UNKNOWN_ROW, -1, rows)
    return Histories.of(owners, candidate_rows, done, encoding.queries.num_entities)


def main() -> None:
    if flags.tensorflow():
        savedmodel.import_tensorflow()  # fails before the work, not after it
    workdir = Workdir(flags.workdir())
    if flags.roll_back():
        bundle.roll_back(workdir.bundle)
        figures = bundle.read_manifest(workdir.bundle)["figures"]
        workdir.add_metrics({name: value for name, value in figures.items() if name.startswith("index/")})
        return console.say(f"{workdir.bundle} is the bundle of before, the other is {bundle.previous(workdir.bundle)}")
    config = workdir.read_config()
    config.index = flags.index(config.index)
    choices(config.index)  # fails before the data are loaded, not after
    dataset = load_data(config, workdir)
    trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    index = build_index(config, trained)
    say_index(index)
    exports = functools.partial(write_exports, dataset, workdir, flags.tensorflow())
    export(config, dataset, trained, index, workdir, exports)
    workdir.add_metrics({f"index/{name}": value for name, value in index.figures.items()})
    console.say(f"bundle: {workdir.bundle}")
    console.say(f"embeddings for a vector database: {workdir.candidate_vectors}, {workdir.query_vectors}")
    if flags.tensorflow():
        console.say(f"SavedModel: {workdir.saved_model}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.define_tensorflow()
    flags.define_roll_back()
    flags.define_index()
    flags.run(main)
