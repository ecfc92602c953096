"""Builds the index over the trained model of a run and exports both as a bundle.

    python -m experiments.export --workdir=runs/movielens_100k
    python -m experiments.export --workdir=runs/movielens_100k --index.target_recall=0.95 --index.kind=hnsw

In the bundle's folder `exports` lie its embeddings as Parquet, for any vector database, and with `--tensorflow` a
SavedModel: they go wherever the bundle goes. The bundle that was there before is kept as `bundle.previous`;
`--roll_back` lets the two change places. `--sign_key` signs a bundle that travels.
"""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.index import Searcher
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.checks import index_choices
from retrieval.pipeline.export_trained import export_trained
from retrieval.pipeline.index_trained import build_index
from retrieval.pipeline.trained import Trained
from retrieval.serving import bundle
from retrieval.serving.exports import savedmodel
from retrieval.serving.recommender import Recommender

from .shared import console, flags
from .shared.run_data import load_data
from .shared.workdir import MODEL, Workdir

INDEX = "index/"  # prefix of the metrics of the index


def export(
    config: Config,
    dataset: Dataset,
    trained: Trained,
    index: Searcher,
    workdir: Workdir,
    exports: Sequence[str] = (),
    sign_key: str | None = None,
) -> Recommender:
    """Writes the bundle of a run and returns it, loaded; its manifest has the metrics of the model and the index."""
    kept = (f"{MODEL}/", INDEX)
    metrics = workdir.read_metrics() | index_metrics(index)
    return export_trained(
        config,
        dataset,
        trained,
        index,
        workdir.bundle,
        metrics={name: value for name, value in metrics.items() if name.startswith(kept)},
        intervals={name: ends for name, ends in workdir.read_intervals().items() if name.startswith(kept)},
        exports=exports,
        sign_key=sign_key,
    )


def index_metrics(index: Searcher) -> dict[str, float]:
    """Returns the metrics of an index by the names that they have in a run."""
    return {f"{INDEX}{name}": value for name, value in index.metrics.items()}


def say_index(index: Searcher) -> None:
    """Says which index was chosen and why; warns if its recall is below the target."""
    certificate = index.certificate
    found = f"recall@{certificate.k} {certificate.recall:.4f}"
    console.say(f"index: {certificate.chosen.kind}, {found}; {certificate.reason}")
    if not certificate.is_reached:
        console.say(f"warning: {certificate.target} was meant; leave the settings of the index free, or ask for less")


def roll_back(workdir: Workdir) -> None:
    """Exchanges the bundle and the one before it, and the metrics of their indexes with them."""
    bundle.roll_back(workdir.bundle)
    metrics = bundle.read_manifest(workdir.bundle)["figures"]
    workdir.add_metrics({name: value for name, value in metrics.items() if name.startswith(INDEX)})
    console.say(f"{workdir.bundle} is the bundle of before, the other is {bundle.previous(workdir.bundle)}")


def main() -> None:
    if flags.tensorflow():
        savedmodel.import_tensorflow()  # fails before the work, not after it
    workdir = Workdir(flags.workdir())
    with workdir.claimed("exports"):
        roll_back(workdir) if flags.roll_back() else export_anew(workdir)


def export_anew(workdir: Workdir) -> None:
    """Builds the index over the trained model of a run, and exports both."""
    config = workdir.read_config()
    config.index = flags.index(config.index)
    index_choices(config.index)  # fails before the data are loaded, not after
    sign_key = flags.sign_key()
    dataset = load_data(config, workdir)
    trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    index = build_index(config.index, trained)
    say_index(index)
    exports = ["parquet", *(["saved_model"] if flags.tensorflow() else [])]
    export(config, dataset, trained, index, workdir, exports, sign_key)
    workdir.add_metrics(index_metrics(index))
    console.say(f"bundle: {workdir.bundle}")
    console.say(f"embeddings for a vector database: {workdir.candidate_vectors}, {workdir.query_vectors}")
    if flags.tensorflow():
        console.say(f"SavedModel: {workdir.saved_model}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.define_tensorflow()
    flags.define_roll_back()
    flags.define_sign_key()
    flags.define_index()
    flags.run(main)
