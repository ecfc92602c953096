"""A small bundle of towers with features, and ways to damage it."""

import pathlib
import shutil

import jax
import numpy as np

from retrieval.config.schema import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.features.entities import EntityFeatures
from retrieval.index import HnswIndex
from retrieval.models.binding import init
from retrieval.pipeline.recipe import prepare
from retrieval.serving import bundle
from retrieval.serving.bundle.manifest import write_manifest

TRAIN = Interactions(["ann", "ann", "bob", "eve", "eve"], [10, 20, 20, 30, 40])
CORPUS = Table(
    np.array([30, 10, 20, 99, 40]),
    {
        "title": np.array(["thirty", "ten", "twenty", "never trained", "forty"]),
        "genres": np.array(["War|Drama", "War", "", "Drama|Comedy", "Comedy"]),
        "year": np.array([1990.0, 1985.0, np.nan, 2000.0, 1970.0]),
        "in_stock": [True, False, None, True, False],
        "seller": [2**53 + 3, 2**53 + 4, None, 2**53 + 2, 7],
        "tags": [["a|b", "c"], ["a"], [], ["b"], ["c"]],
    },
)
QUERIES = Table(
    np.array(["ann", "bob", "eve", "zoe"]), {"age": np.array([20, 30, 40, 50]), "zip": np.array(list("abcd"))}
)
CONFIG = Config()
CONFIG.model.embedding_dimension = 4
CONFIG.model.query.features = (Feature("id"), Feature("age", "number"))
CONFIG.model.candidate.features = (Feature("id"), Feature("genres", "bag"), Feature("year", "number"))
RECIPE = prepare(CONFIG, TRAIN, CORPUS, queries=QUERIES)
EVERYBODY = ["ann", "bob", "eve", "zoe", "nobody"]


def parameters():
    """Returns parameters off their initial values."""
    leaves, tree = jax.tree.flatten(init(RECIPE.model))
    rng = np.random.default_rng(0)
    return tree.unflatten([leaf + rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype) for leaf in leaves])


PARAMS = parameters()


def save(folder: pathlib.Path, scale: float = 1.0, exports=None, sign_key=None) -> pathlib.Path:
    """Writes the bundle, with embeddings of other lengths where `scale` is not 1."""
    encoding, architecture = RECIPE.encoding, RECIPE.architecture
    params = jax.tree.map(lambda leaf: leaf * scale, PARAMS)
    bundle.save(
        folder,
        model=RECIPE.bound(params),
        queries=encoding.queries,
        candidates=encoding.candidates,
        corpus=CORPUS,
        seen=encoding.seen_by_row(TRAIN),
        index=HnswIndex.build(np.asarray(RECIPE.candidate_embeddings(params)), M=8, ef_construction=50, ef=50, seed=0),
        facts={"figures": {"index/recall_at_10": 1.0}},
        query_features=EntityFeatures.of_table(architecture.query_features, QUERIES, encoding.queries.entity_ids),
        candidate_features=EntityFeatures.of_table(
            architecture.candidate_features, CORPUS, encoding.candidates.entity_ids
        ),
        dimension=4,
        examples=QUERIES,
        exports=exports,
        sign_key=sign_key,
    )
    return folder


def copy(folder: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """Returns a fresh copy of a bundle."""
    shutil.rmtree(to, ignore_errors=True)
    return pathlib.Path(shutil.copytree(folder, to))


def sign(folder: pathlib.Path) -> None:
    """Makes the manifest list the files as they are: what is wrong with them is then found by other means."""
    manifest = dict(bundle.BundleFiles.open(folder).manifest)
    write_manifest(folder, {name: value for name, value in manifest.items() if name not in ("files", "format_version")})
