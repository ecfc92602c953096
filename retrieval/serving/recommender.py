"""From raw ids, histories and features to candidates: towers, vocabularies, corpus and search put together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32, Shaped

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.features.context import QueryContext
from retrieval.features.entities import EntityFeatures, Raw
from retrieval.index import ExactIndex, Filter, Filters, IdIndex, LiveIndex, Searcher, Subset
from retrieval.index.checks import check_flag
from retrieval.serving.answers import Neighbours, Recommendations, lookup
from retrieval.serving.request import Request, is_one, lists_of, named, one_each

Encode = Callable[..., Float32[np.ndarray, "n D"]]
ENCODED_AT_A_TIME = 4096


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Answers queries by their raw ids, their histories or their features; `retrieval.load` makes one of a bundle.

    All methods take one or many: a single id gives an answer of one dimension less than a sequence of ids does. Where
    there is no id, one flat history, or one mapping of features, is a single query; `[[]]` is one without a history,
    `[]` is no query. Threads may ask at the same time.

    Attributes:
      encode: query rows, and the columns of their context by name -> embeddings.
      index: searches the embeddings of the corpus, in its order; exactly or about.
      queries: vocabulary of the queries.
      candidates: vocabulary of the candidates, whose rows histories hold.
      corpus: all candidates, with a "title" column where titles are known.
      seen: positions of the candidates in the training part of each query row; those of row 0 and of queries that train
        has not are empty.
      encode_candidates: candidate rows, and the columns of their features -> embeddings.
      context: makes the columns that the query tower reads.
      histories: of each query row, likewise; None: the query tower reads none.
      query_features: what the query tower reads of the queries' table.
      candidate_features: likewise of the corpus.
      similarity_dimension: how many of the embeddings' first columns `similar` compares; the others tell popularity.
      manifest: what the bundle records of itself: config, figures with their intervals, versions.
    """

    encode: Encode
    index: Searcher
    queries: Vocabulary
    candidates: Vocabulary
    corpus: Table
    seen: Lists
    encode_candidates: Encode
    context: QueryContext = dataclasses.field(default_factory=QueryContext)
    histories: Histories | None = None
    query_features: EntityFeatures = dataclasses.field(default_factory=EntityFeatures)
    candidate_features: EntityFeatures = dataclasses.field(default_factory=EntityFeatures)
    similarity_dimension: int | None = None
    manifest: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def recommend(
        self,
        user_id: Any = None,
        k: int = 10,
        *,
        history: Sequence | np.ndarray | None = None,
        features: Raw | None = None,
        times: Any = None,
        exclude: Sequence | np.ndarray | None = None,
        exclude_seen: bool = True,
        filter: Filter | None = None,
        index: IdIndex | None = None,
    ) -> Recommendations:
        """Returns the k best candidates of each query.

        Args:
          user_id: raw query id, or ids [Q]; an unknown one gets the answer of the unknown row and a flag. None: all are
            unknown, and `history` or `features` is what is known of them.
          k: how many, at least 1.
          history: raw ids of what each query did last, oldest first, any number, perhaps none; the last ones that the
            query tower reads count. Ids that train does not know and that have no features are skipped; ratings and
            times of the interactions count as unknown. None: what the query did in train.
          features: raw columns of each query, see `EntityFeatures.of_raw`; they count in place of those in the table.
            None: those in the table. A table, or mappings with an "id", may tell the ids too.
          times: of the requests in Unix seconds [Q], or of all of them, where the query tower reads them; None: the end
            of train.
          exclude: raw candidate ids to leave out, any number for each query; ids outside the corpus are ignored.
          exclude_seen: leaves out the candidates in the query's training part, and those of `history`.
          filter: what all queries choose from, by the columns of `corpus` or by ids; one that is used again is compiled
            once. None: all.
          index: what is searched in place of the corpus: candidates that came, changed and went since the export, see
            `live_index`. Filters, exclusions and titles are then by its ids and attributes, and positions -1 for
            candidates that the corpus has not.

        Raises:
          ValueError: nothing is said of the queries, the query tower reads no history or no features and some are
            given, arguments are of different lengths or of other types, k is below 1, ids are strings where the known
            ones are integers or the reverse, or the filter names no column of the corpus.
        """
        check_flag("exclude_seen", exclude_seen)
        request = self._request(user_id, history, features, times)
        given = {} if exclude is None else {"exclude": one_each("exclude", exclude, request)}
        if exclude_seen and request.history is not None:
            given["history"] = request.history
        if index is not None:
            seen = {"seen": self._seen_ids(request.rows)} if exclude_seen else {}
            return self._from(index, request, k, given | seen, filter)
        excluded = self.seen.take(request.rows) if exclude_seen else Lists.empty(len(request.rows))
        for name, lists in given.items():
            excluded = excluded.join(self._positions(name, lists))
        scores, positions = self.index.search(self._encoded(request), k, excluded, self._allowed(filter))
        return self._answer(request, scores, positions)

    def embed_queries(
        self, user_id: Any = None, *, history=None, features: Raw | None = None, times: Any = None
    ) -> Float32[np.ndarray, "*Q D"]:
        """Returns the embeddings of queries [Q, D], of a single one [D]; see `recommend`."""
        request = self._request(user_id, history, features, times)
        return request.shaped(self._encoded(request))

    def embed_candidates(self, candidate_id: Any = None, *, features: Raw | None = None) -> Float32[np.ndarray, "*n D"]:
        """Returns the embeddings of candidates [n, D], of a single one [D], whether they are in the corpus or not.

        Args:
          candidate_id: raw id, or ids [n]; an unknown one has the embedding of the unknown row and its features. None:
            all are unknown.
          features: raw columns of each candidate, see `recommend`.

        Raises:
          ValueError: nothing is said of the candidates, the tower reads no features and some are given, or a value
            cannot be encoded.
        """
        request = Request.of(self.candidates, candidate_id, None, features, None, "candidate_id")
        return request.shaped(self._encoded_candidates(request))

    def score(
        self, user_id: Any = None, candidate_ids: Any = (), *, history=None, features: Raw | None = None, times=None
    ) -> Float32[np.ndarray, "*Q n"]:
        """Returns the scores of pairs: of one query and candidates [n], or of queries and n candidates each [Q, n].

        Raises:
          ValueError: a candidate is not in the corpus, or as `recommend`.
        """
        request = self._request(user_id, history, features, times)
        listed = [np.asarray(ids) for ids in one_each("candidate_ids", candidate_ids, request)]
        with named("candidate_ids"):
            positions = [self.corpus.positions(ids) for ids in listed]
        if len({len(of) for of in positions}) > 1:
            raise ValueError(f"candidate_ids must be equally many for each query, got {[len(of) for of in positions]}")
        for ids, found in zip(listed, positions, strict=True):
            if (found < 0).any():
                raise ValueError(
                    f"candidate id {ids[np.argmin(found)].item()!r} is not in the corpus; embed_candidates"
                )
        vectors = self._encoded(request)
        number = len(positions[0]) if positions else 0
        positions = np.array(positions, np.int32).reshape(len(vectors), number)
        return request.shaped(np.vecdot(vectors[:, None], self.embeddings[positions]))

    def similar(
        self,
        candidate_id: Any = None,
        k: int = 10,
        *,
        features: Raw | None = None,
        exclude: Sequence | np.ndarray | None = None,
        filter: Filter | None = None,
    ) -> Recommendations:
        """Returns the k candidates of the corpus most similar to each candidate, without itself: by cosine, exactly.

        Popularity is left out of the comparison. O(N D) a candidate; the first call copies the embeddings.

        Args:
          candidate_id: raw id, or ids [Q]; see `embed_candidates`.
          k: how many, at least 1.
          features: raw columns of each, as of a candidate that is not in the corpus.
          exclude: raw candidate ids to leave out, any number for each.
          filter: as of `recommend`.

        Raises:
          ValueError: as `embed_candidates`, or nothing is known of a candidate.
        """
        request = Request.of(self.candidates, candidate_id, None, features, None, "candidate_id")
        own = np.full(len(request.rows), PADDING_ROW) if request.ids is None else self.corpus.positions(request.ids)
        if features is None and (nothing := (own < 0) & (request.rows == UNKNOWN_ROW)).any():
            first = request.ids[np.argmax(nothing)].item()
            raise ValueError(f"candidate id {first!r} is not in the corpus; give its features")
        excluded = Lists.from_sequences([[position] if position >= 0 else [] for position in own.tolist()])
        if exclude is not None:
            excluded = excluded.join(self._positions("exclude", one_each("exclude", exclude, request)))
        vectors = _unit(self._encoded_candidates(request), self.similarity_dimension)
        return self._answer(request, *self._unit_candidates.search(vectors, k, excluded, self._allowed(filter)))

    def similar_users(
        self, user_id: Any = None, k: int = 10, *, history=None, features: Raw | None = None, times=None
    ) -> Neighbours:
        """Returns the k queries of train most similar to each query, without itself: by cosine, exactly.

        The first call embeds all queries of train; from then on O(M D) a query, M of them. Arguments and errors are
        those of `recommend`.
        """
        request = self._request(user_id, history, features, times)
        own = [[row - 1] if 0 < row < self.queries.num_rows else [] for row in request.rows.tolist()]
        vectors = _unit(self._encoded(request), self.similarity_dimension)
        scores, places = self._unit_queries.search(vectors, k, Lists.from_sequences(own))
        return Neighbours(request.shaped(lookup(self.queries.ids, places)), request.shaped(scores))

    def seen_ids(self, user_id: Any) -> Ids | list[Ids]:
        """Returns the raw candidate ids in the training part of a query, or of each of queries; none of an unknown one.

        Raises:
          ValueError: as `recommend`.
        """
        request = self._request(user_id, None, None, None)
        listed = self._seen_ids(request.rows)
        return listed[0] if request.one else listed

    def live_index(self) -> LiveIndex:
        """Returns the corpus as an index by raw id that takes new candidates, over the index of the bundle.

        Both give the same answers until it is changed. Candidates of which train and features tell nothing, whose
        embeddings are zero, are there and score 0; to `add` such a one is refused, see `LiveIndex`.
        """
        return LiveIndex.build(self.corpus.ids, self.index, self.corpus.columns, zeros=True)

    @property
    def embeddings(self) -> Float32[np.ndarray, "N D"]:
        """Those of the corpus, in its order."""
        return self.index.embeddings

    @functools.cached_property
    def titles(self) -> Shaped[np.ndarray, "N"]:
        """The title of each candidate: its id where that is not known."""
        return self.corpus.titles

    def _request(self, user_id, history, features, times) -> Request:
        if history is not None and self.histories is None:
            number = 1 if is_one(user_id, history, features) else len(history)
            raise ValueError(
                f"history was given for {number} queries, and the query tower reads none; leave it out, or train "
                "with model.history.encoder"
            )
        return Request.of(self.queries, user_id, history, features, times, "user_id")

    def columns_of_rows(self, rows: Int32[np.ndarray, "n"]) -> Mapping[str, Shaped[np.ndarray, "n ..."]]:
        """Returns the columns that the query tower reads of query rows, in the state and at the end of train."""
        return self.context.of_queries(self._histories_of(rows)) | self.query_features.of_rows(rows)

    def _encoded(self, request: Request) -> Float32[np.ndarray, "Q D"]:
        columns = self.context.of_queries(self._histories(request), request.times)
        return self.encode(request.rows, **columns, **request.table_columns(self.query_features))

    def _encoded_candidates(self, request: Request) -> Float32[np.ndarray, "Q D"]:
        return self.encode_candidates(request.rows, **request.table_columns(self.candidate_features))

    def _histories(self, request: Request) -> Histories:
        """Returns the histories that are given, or else those of the rows."""
        if request.history is not None:
            return Histories(lists_of("history", request.history, self.candidates.rows, UNKNOWN_ROW))
        return self._histories_of(request.rows)

    def _histories_of(self, rows: Int32[np.ndarray, "n"]) -> Histories:
        return Histories(Lists.empty(len(rows))) if self.histories is None else self.histories.take(rows)

    def _positions(self, name: str, ids: Sequence[Sequence | Ids]) -> Lists:
        """Returns the positions in the corpus of lists of raw candidate ids, without those outside it."""
        return lists_of(name, ids, self.corpus.positions, PADDING_ROW)

    def _answer(self, request: Request, scores, positions) -> Recommendations:
        answer = (positions, lookup(self.corpus.ids, positions), lookup(self.titles, positions), scores)
        return Recommendations(*map(request.shaped, (*answer, request.known)))

    def _from(self, index: IdIndex, request: Request, k: int, left_out: Mapping[str, Sequence], filter: Filter | None):
        """Returns the best candidates of an index by raw id, without the ids in the lists of each query."""
        if not isinstance(index, IdIndex):
            raise ValueError(f"index must be one by raw id, as `live_index()` returns, got {type(index).__name__}")
        for name, lists in left_out.items():
            lists_of(name, lists, self.corpus.positions, PADDING_ROW)  # refuses what are no lists of its kind of ids
        each = zip(*left_out.values(), strict=True)
        none = np.zeros(0, self.corpus.ids.dtype)
        excluded = [np.concatenate([none, *(of for of in lists if len(of))]) for lists in each] if left_out else None
        found = index.search(self._encoded(request), k, exclude=excluded, filter=filter)
        positions = self.corpus.positions(found.ids.ravel()).reshape(found.ids.shape)
        answer = (np.where(found.found, positions, PADDING_ROW), found.ids, found.titles, found.scores, request.known)
        return Recommendations(*map(request.shaped, answer))

    def _seen_ids(self, rows: Int32[np.ndarray, "Q"]) -> list[Ids]:
        seen = self.seen.take(rows)
        return np.split(self.corpus.ids[seen.rows], seen.offsets[1:-1])[: len(rows)]

    def _allowed(self, filter: Filter | None) -> Subset | None:
        return None if filter is None else self._filters.subset(filter)

    @functools.cached_property
    def _filters(self) -> Filters:
        return Filters(self.corpus)

    @functools.cached_property
    def _unit_candidates(self) -> ExactIndex:
        return ExactIndex.build(_unit(self.embeddings, self.similarity_dimension))

    @functools.cached_property
    def _unit_queries(self) -> ExactIndex:
        ids = self.queries.ids
        pieces = [self.embed_queries(ids[i : i + ENCODED_AT_A_TIME]) for i in range(0, len(ids), ENCODED_AT_A_TIME)]
        return ExactIndex.build(_unit(np.concatenate(pieces), self.similarity_dimension))


def _unit(embeddings: Float[np.ndarray, "n D"], dimension: int | None) -> Float32[np.ndarray, "n d"]:
    """Returns the first columns of embeddings at length 1, zero where they are zero."""
    vectors = embeddings[:, :dimension]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
