"""A bundle as a TensorFlow SavedModel, for TensorFlow Serving. Needs the `tensorflow` extra.

Serving it takes TensorFlow 2.20 or later, no jax and none of this library; mount the folder as
`/models/<name>/<version>`. Two signatures of raw query ids `query_id`, int64 [b] or string [b] as the
vocabulary has them, and one more where the query tower reads histories:

- `serving_default` returns `embedding` float32 [b, d] and `known` bool [b];
- `recommend` returns `ids`, `titles`, `scores` [b, k] and `known` [b]: what `Recommender.recommend` returns
  with exact search, without the candidates of the query in train. k is fixed, since a server that batches requests
  takes no input without a batch dimension; the best j < k are the first j;
- `recommend_history` takes raw candidate ids `history` [b, any], oldest first, and returns `ids`, `titles` and
  `scores`: what `Recommender.recommend(history=...)` returns. Shorter histories are filled up, anywhere, with
  an id that no candidate has.

Queries by id have the features and the history of train, and ask at its end. Raw features are not taken, as their
encoders are no TensorFlow.

TensorFlow compiles the tower anew for each size of batch, which takes 0.1 s. So batches are padded to powers of two;
warm a server up with those that it will get.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Float32, Int, Int32, Shaped

from retrieval.common.folders import replace_folder, scratch_folder
from retrieval.common.list_length import check_k
from retrieval.common.lists import PADDING_ROW
from retrieval.data.ids import Ids
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.features.context import HISTORY
from retrieval.ranking.blocks import dot
from retrieval.serving import bundle
from retrieval.serving.recommender import Recommender

SAVED_MODEL = "saved_model.pb"
BATCH_SIZES = 2 ** np.arange(31, dtype=np.int32)

Tower = Callable[[Int[Array, "B ..."]], Float[Array, "B D"]]
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


def from_bundle(bundle_folder: pathlib.Path | str, folder: pathlib.Path | str, *, k: int) -> None:
    """Writes the SavedModel of a bundle, see `save`; needs no model code.

    Raises:
      ValueError: the bundle is damaged, see `bundle.load`, or as `save`.
      ImportError: TensorFlow is not installed.
    """
    recommender = bundle.load(bundle_folder)
    tower = recommender.encode.tower
    columns = recommender.columns_of_rows(np.arange(recommender.queries.num_entities, dtype=np.int32))
    save(
        folder,
        recommender,
        tower=bundle.by_row(tower, columns),
        history_tower=_by_history(tower, columns) if recommender.context.length else None,
        embeddings=recommender.embeddings,
        k=k,
    )


def _by_history(tower: Callable[..., Float[Array, "B D"]], columns: Mapping[str, Shaped[np.ndarray, "V ..."]]) -> Tower:
    """Returns a tower that takes histories [b, L] alone and embeds them as those of the unknown query, row 0."""
    return Partial(_embed_histories, tower, {name: column[:1] for name, column in columns.items()})


def _embed_histories(
    tower: Callable[..., Float[Array, "B D"]],
    unknown: Mapping[str, Shaped[np.ndarray, "1 ..."]],
    history: Int[Array, "b L"],
) -> Float[Array, "b D"]:
    """Returns the embeddings of histories of unknown queries, whose other columns are those of row 0."""
    number = history.shape[0]
    filled = {name: jnp.broadcast_to(column, (number, *column.shape[1:])) for name, column in unknown.items()}
    return tower(jnp.zeros(number, jnp.int32), **filled | {HISTORY: history})


def save(
    folder: pathlib.Path | str,
    recommender: Recommender,
    *,
    tower: Tower,
    embeddings: Float32[np.ndarray, "N D"],
    k: int,
    history_tower: Tower | None = None,
) -> None:
    """Writes a SavedModel; an existing one is replaced once the new one is complete.

    Args:
      folder: where; its parent exists.
      recommender: has the vocabularies, the corpus and what is seen in train; its encoder and index are not used.
      tower: query rows -> embeddings, that jax can trace: a pytree, whose arrays become variables, as towers of a
        bundle are, or any other function, e.g. `model.query`, whose arrays the graph holds.
      embeddings: those of the corpus, in its order.
      k: how many candidates the signature `recommend` returns, at least 1; fewer if the corpus is smaller.
      history_tower: candidate rows of histories [b, L], right-aligned after rows 0 -> embeddings; None: there is no
        signature of histories.

    Raises:
      ValueError: k is below 1, `embeddings` are not those of the corpus, or `folder` holds something else.
      ImportError: TensorFlow is not installed.
    """
    folder = pathlib.Path(folder)
    k = check_k(k)
    if len(embeddings) != len(recommender.corpus):
        raise ValueError(f"{len(recommender.corpus)} embeddings needed, got shape {embeddings.shape}")
    if folder.exists() and not (folder / SAVED_MODEL).is_file():
        raise ValueError(f"{folder} is there and holds no SavedModel; move it or choose another folder")
    tf = import_tensorflow()
    module, k = tf.Module(), min(k, len(embeddings))
    arrays, join = bundle.lift((tower, history_tower))
    module.parameters = {name: tf.Variable(np.asarray(array), trainable=False) for name, array in arrays.items()}
    encode = _encode(tf, module, lambda arrays, rows: join(arrays)[0](rows), ())
    signatures = _id_signatures(tf, module, recommender, encode, embeddings, k)
    if history_tower is not None:
        encode = _encode(tf, module, lambda arrays, rows: join(arrays)[1](rows), (recommender.context.length,))
        signatures["recommend_history"] = _history_signature(tf, module, recommender, encode, k)
    with scratch_folder(folder) as scratch:
        new = scratch / "new"
        tf.saved_model.save(module, str(new), signatures=signatures)
        replace_folder(new, folder)


def _id_signatures(
    tf: ModuleType,
    module: Any,
    recommender: Recommender,
    encode: TensorFunction,
    embeddings: Float32[np.ndarray, "N D"],
    k: int,
) -> dict[str, TensorFunction]:
    """Returns the signatures that take query ids; stores the tables and variables they read in a `tf.Module`."""
    module.table = _table(tf, recommender.queries)
    num_known = recommender.queries.num_rows
    module.corpus = _corpus(tf, recommender, embeddings)
    best = _best(tf, module.corpus, k)
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
        seen = tf.RaggedTensor.from_row_splits(module.corpus.seen_rows, module.corpus.seen_offsets, validate=False)
        seen = tf.gather(seen, rows)  # [b, any]
        pairs = tf.stack([seen.value_rowids(), tf.cast(seen.values, tf.int64)], axis=1)
        return best(encode(rows), pairs) | {"known": are_known(rows)}

    return {"serving_default": embed, "recommend": recommend}


def _history_signature(
    tf: ModuleType, module: Any, recommender: Recommender, encode: TensorFunction, k: int
) -> TensorFunction:
    """Returns the signature that takes histories; stores the tables it reads in the `tf.Module` of `_id_signatures`."""
    module.candidates = _table(tf, recommender.candidates)
    ids = recommender.corpus.ids
    module.positions = _look_up(tf, ids, np.arange(len(ids), dtype=np.int32), PADDING_ROW)
    length = recommender.context.length
    best = _best(tf, module.corpus, k)

    @tf.function(input_signature=[tf.TensorSpec([None, None], module.candidates.key_dtype, "history")], autograph=False)
    def recommend_history(history):
        rows, positions = module.candidates.lookup(history), module.positions.lookup(history)
        # unknown ids go first, where padding is: the tower then reads the last known ones
        known_last = tf.argsort(tf.cast(rows != UNKNOWN_ROW, tf.int32), axis=1, stable=True)
        rows = tf.pad(tf.gather(rows, known_last, batch_dims=1), [[0, 0], [length, 0]])[:, -length:]
        in_corpus = tf.where(positions != PADDING_ROW)  # [pairs, 2]
        pairs = tf.stack([in_corpus[:, 0], tf.cast(tf.gather_nd(positions, in_corpus), tf.int64)], axis=1)
        return best(encode(rows), pairs)

    return recommend_history


def _table(tf: ModuleType, vocabulary: Vocabulary) -> Any:
    """Returns the table of raw ids to rows."""
    return _look_up(tf, vocabulary.entity_ids, vocabulary.rows(vocabulary.entity_ids), UNKNOWN_ROW)


def _look_up(tf: ModuleType, ids: Ids, values: Int32[np.ndarray, "n"], missing: int) -> Any:
    """Returns a `tf.lookup.StaticHashTable` of raw ids; strings are UTF-8."""
    keys = tf.constant(ids, tf.string if ids.dtype.kind == "U" else tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), missing)


def _corpus(tf: ModuleType, recommender: Recommender, embeddings: Float32[np.ndarray, "N D"]) -> Any:
    """Returns a `tf.Module` of variables, which do not count towards the 2 GiB of a graph as constants do."""
    corpus = tf.Module()
    corpus.embeddings = tf.Variable(embeddings, trainable=False)
    corpus.ids = tf.Variable(recommender.corpus.ids, trainable=False)
    corpus.titles = tf.Variable(recommender.titles, trainable=False)
    corpus.seen_offsets = tf.Variable(recommender.seen.offsets, trainable=False)
    corpus.seen_rows = tf.Variable(recommender.seen.rows, trainable=False)
    return corpus


def _encode(tf: ModuleType, module: Any, tower: Callable, shape: tuple[int, ...]) -> TensorFunction:
    """Returns the function rows [b, *shape] -> embeddings, a tf.function so that its callers share one program.

    The parameters of the `tf.Module` are the first argument of the tower.
    """
    from jax.experimental import jax2tf  # imports tensorflow

    convert = jax2tf.convert(
        tower,
        polymorphic_shapes=[None, "(b, ...)"],
        with_gradient=False,
        native_serialization_platforms=bundle.PLATFORMS,
    )

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.int32)], autograph=False)
    def encode(rows):
        size = tf.shape(rows)[0]
        padded = tf.gather(BATCH_SIZES, tf.searchsorted(BATCH_SIZES, [size]))[0]
        paddings = [[0, padded - size], *[[0, 0] for _ in shape]]
        return convert(module.parameters, tf.pad(rows, paddings, constant_values=UNKNOWN_ROW))[:size]

    return encode


def _best(tf: ModuleType, corpus: Any, k: int) -> TensorFunction:
    """Returns the function (embeddings, pairs) -> the k best candidates, without pairs of query and position."""
    from jax.experimental import jax2tf  # imports tensorflow

    # not `tf.matmul`, which GPUs compute in TF32
    score = jax2tf.convert(
        dot, polymorphic_shapes=["(b, _)", None], with_gradient=False, native_serialization_platforms=bundle.PLATFORMS
    )

    def best(queries, pairs):
        scores = score(queries, corpus.embeddings)  # [b, N]
        scores = tf.tensor_scatter_nd_update(scores, pairs, tf.fill([tf.shape(pairs)[0]], -np.inf))
        is_zero = tf.reduce_all(queries == 0, axis=1, keepdims=True)  # as every index pads it
        scores, positions = tf.math.top_k(tf.where(is_zero, -np.inf, scores), k)

        def look_up(values):
            found = tf.gather(values, positions)
            return tf.where(scores > -np.inf, found, tf.zeros_like(found))

        return {"ids": look_up(corpus.ids), "titles": look_up(corpus.titles), "scores": scores}

    return best
