"""A bundle as a TensorFlow SavedModel, for TensorFlow Serving. Needs the `tensorflow` extra.

Serving it takes TensorFlow 2.20 or later, no jax and none of this library; mount the folder as
`/models/<name>/<version>`. Two signatures, both of raw query ids `query_id`, int64 [b] or string [b] as the
vocabulary has them:

- `serving_default` returns `embedding` float32 [b, d] and `known` bool [b];
- `recommend` returns `ids`, `titles`, `scores` [b, k] and `known` [b]: what `Recommender.recommend` returns
  with exact search, without what the query has in train. k is fixed, since a server that batches requests
  takes no input without a batch dimension; the best j < k are the first j.

It serves query towers of the row alone: not those that read histories, or the time of the request.

TensorFlow compiles the tower anew for each size of batch, which takes 0.1 s with a thousand queries and 2 s
with a million. So batches are padded to powers of two; warm a server up with those that it will get.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Float32, Int

from retrieval import bundle
from retrieval.context import QueryContext
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.recommend import Recommender
from retrieval.storage import replace_folder

SAVED_MODEL = "saved_model.pb"
BATCH_SIZES = 2 ** np.arange(31, dtype=np.int32)

Tower = Callable[[Int[Array, "B"]], Float[Array, "B D"]]
TensorFunction = Callable[..., Any]


def import_tensorflow() -> ModuleType:
    """Returns the module `tensorflow`.

    Raises:
      ImportError: it is not installed.
    """
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise ImportError(
            "a SavedModel needs TensorFlow, which is not installed: pip install -e '.[tensorflow]'"
        ) from None
    return tensorflow


def check(context: QueryContext) -> None:
    """Checks that a query tower reads nothing besides its row.

    Raises:
      ValueError: it does; the message names the columns.
    """
    if context.names:
        raise ValueError(
            f"a SavedModel serves query towers of the row alone, and this one reads {', '.join(context.names)} too; "
            "serve the bundle with retrieval.load, or its StableHLO program"
        )


def from_bundle(bundle_folder: pathlib.Path | str, folder: pathlib.Path | str, *, k: int) -> None:
    """Writes the SavedModel of a bundle, see `save`; needs no model code.

    Raises:
      ValueError: the bundle is damaged, see `bundle.load`, or as `save`.
      ImportError: TensorFlow is not installed.
    """
    files, recommender = bundle.Files.of(bundle_folder), bundle.load(bundle_folder)
    features, rows = recommender.query_features, np.arange(recommender.queries.num_entities)
    save(
        folder,
        recommender,
        tower=bundle.by_row(bundle.load_tower(files.read(bundle.QUERY_TOWER)), features.of_rows(rows)),
        embeddings=recommender.embeddings,
        k=k,
    )


def save(
    folder: pathlib.Path | str,
    recommender: Recommender,
    *,
    tower: Tower,
    embeddings: Float32[np.ndarray, "N D"],
    k: int,
) -> None:
    """Writes a SavedModel; one that is there is replaced once all of the new one is written.

    Args:
      folder: where; its parent exists.
      recommender: has the vocabulary, the corpus and what to leave out; its encoder and search are not used.
      tower: query rows -> embeddings, a function that jax can trace, e.g. `model.query`.
      embeddings: those of the corpus, in its order.
      k: how many candidates the signature `recommend` returns, at least 1; fewer if the corpus is smaller.

    Raises:
      ValueError: k is below 1, `embeddings` are not those of the corpus, `folder` holds something else, or see
        `check`.
      ImportError: TensorFlow is not installed.
    """
    folder = pathlib.Path(folder)
    check(recommender.context)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if len(embeddings) != len(recommender.corpus):
        raise ValueError(f"{len(recommender.corpus)} embeddings needed, got shape {embeddings.shape}")
    if folder.exists() and not (folder / SAVED_MODEL).is_file():
        raise ValueError(f"{folder} is there and holds no SavedModel; move it or choose another folder")
    tf = import_tensorflow()
    module = _module(tf, recommender, tower, embeddings, min(k, len(embeddings)))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = pathlib.Path(scratch) / "new"
        signatures = {"serving_default": module.embed, "recommend": module.recommend}
        tf.saved_model.save(module, str(new), signatures=signatures)
        replace_folder(new, folder)


def _module(
    tf: ModuleType, recommender: Recommender, tower: Tower, embeddings: Float32[np.ndarray, "N D"], k: int
) -> Any:
    """Returns a `tf.Module` with the functions `embed` and `recommend`, and all that they read."""
    module = tf.Module()
    module.table = _table(tf, recommender.queries)
    num_known = recommender.queries.num_rows
    module.corpus = _corpus(tf, recommender, embeddings)
    encode, best = _encode(tf, tower), _best(tf, module.corpus, k)
    query_id = tf.TensorSpec([None], module.table.key_dtype, "query_id")

    def are_known(rows):
        return (rows != UNKNOWN_ROW) & (rows < num_known)

    @tf.function(input_signature=[query_id], autograph=False)
    def embed(query_id):
        rows = module.table.lookup(query_id)
        return {"embedding": encode(rows), "known": are_known(rows)}

    @tf.function(input_signature=[query_id], autograph=False)
    def recommend(query_id):
        rows = module.table.lookup(query_id)
        return best(encode(rows), rows) | {"known": are_known(rows)}

    module.embed, module.recommend = embed, recommend
    return module


def _table(tf: ModuleType, vocabulary: Vocabulary) -> Any:
    """Returns the `tf.lookup.StaticHashTable` of raw ids to rows; strings are UTF-8."""
    entity_ids = vocabulary.entity_ids
    ids = tf.constant(entity_ids, tf.string if entity_ids.dtype.kind == "U" else tf.int64)
    initializer = tf.lookup.KeyValueTensorInitializer(ids, vocabulary.rows(entity_ids))
    return tf.lookup.StaticHashTable(initializer, UNKNOWN_ROW)


def _corpus(tf: ModuleType, recommender: Recommender, embeddings: Float32[np.ndarray, "N D"]) -> Any:
    """Returns a `tf.Module` of variables, which do not count towards the 2 GiB of a graph as constants do."""
    corpus = tf.Module()
    corpus.embeddings = tf.Variable(embeddings, trainable=False)
    corpus.ids = tf.Variable(recommender.corpus.ids, trainable=False)
    corpus.titles = tf.Variable(recommender.titles, trainable=False)
    corpus.seen_offsets = tf.Variable(recommender.seen.offsets, trainable=False)
    corpus.seen_rows = tf.Variable(recommender.seen.rows, trainable=False)
    return corpus


def _encode(tf: ModuleType, tower: Tower) -> TensorFunction:
    """Returns the function rows -> embeddings, a tf.function so that its callers share one program."""
    from jax.experimental import jax2tf  # imports tensorflow

    convert = jax2tf.convert(
        tower,
        polymorphic_shapes=["(b,)"],
        with_gradient=False,
        native_serialization_platforms=bundle.PLATFORMS,
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def encode(rows):
        size = tf.shape(rows)[0]
        padded = tf.gather(BATCH_SIZES, tf.searchsorted(BATCH_SIZES, [size]))[0]
        return convert(tf.pad(rows, [[0, padded - size]], constant_values=UNKNOWN_ROW))[:size]

    return encode


def _best(tf: ModuleType, corpus: Any, k: int) -> TensorFunction:
    """Returns the function (embeddings, rows) -> the k best candidates that each row has not in `seen`."""

    def best(queries, rows):
        seen = tf.RaggedTensor.from_row_splits(corpus.seen_rows, corpus.seen_offsets, validate=False)
        seen = tf.gather(seen, rows)  # [b, any]
        pairs = tf.stack([seen.value_rowids(), tf.cast(seen.values, tf.int64)], axis=1)
        scores = tf.matmul(queries, corpus.embeddings, transpose_b=True)  # [b, N]
        scores = tf.tensor_scatter_nd_update(scores, pairs, tf.fill([tf.shape(pairs)[0]], -np.inf))
        scores, positions = tf.math.top_k(scores, k)

        def look_up(values):
            found = tf.gather(values, positions)
            return tf.where(scores > -np.inf, found, tf.zeros_like(found))

        return {"ids": look_up(corpus.ids), "titles": look_up(corpus.titles), "scores": scores}

    return best
