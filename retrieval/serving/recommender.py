"""`Recommender`: from raw ids, histories and features to candidates, by towers, vocabularies, corpus and index."""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.common.manifest import digest
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.features.context import QueryContext
from retrieval.features.entities import EntityFeatures, Raw
from retrieval.index import Filter, IdIndex, LiveIndex, Searcher
from retrieval.index.checks import check_flag
from retrieval.serving.answers import Neighbours, Recommendations, lookup
from retrieval.serving.corpus_search import CorpusSearch, CosineSearch, search_by_id
from retrieval.serving.request import Request, is_single_request, lists_of, named, one_list_each

Encode = Callable[..., Float32[np.ndarray, "n D"]]
ENCODED_AT_A_TIME = 4096
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Answers queries by their raw ids, histories or features; `retrieval.load` makes one from a bundle.

    All methods take one query or many: for a single id the answer has one dimension less than for a sequence of ids.
    Without ids, one flat history or one mapping of features is a single query; `[[]]` is one query with an empty
    history, `[]` is no query. Any number of threads may call at the same time.

    One that was loaded can be pickled, as for a worker process: by the path of its folder and the hash of its manifest,
    which must be there unchanged where it is loaded again.

    Attributes:
      encode: maps query rows, and the columns that the query tower reads, to embeddings.
      index: searches the embeddings of the corpus, in its order; exact or approximate.
      queries: vocabulary of the queries.
      candidates: vocabulary of the candidates; histories hold its rows.
      corpus: all candidates, with a "title" column if titles are known.
      seen: positions of the candidates in the training part of each query row; empty for row 0 and for unseen queries.
      encode_candidates: maps candidate rows, and the columns of their features, to embeddings.
      context: makes the context columns that the query tower reads.
      histories: history of each query row; None: the query tower reads none.
      query_features: features that the query tower reads from the table of queries.
      candidate_features: features that the candidate tower reads from the corpus.
      similarity_dimension: number of leading columns of the embeddings that `similar` compares; the rest is popularity.
      manifest: of the bundle: config, metrics with their intervals, versions.
      folder: of the bundle, absolute; None: it is in memory alone.
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
    folder: pathlib.Path | None = None

    def __repr__(self) -> str:
        place = "in memory" if self.folder is None else f"from {self.folder}"
        return (
            f"Recommender of {len(self.corpus):,} candidates for {len(self.queries.ids):,} known queries, "
            f"{self.embeddings.shape[1]} dimensions, {type(self.index).__name__}, {place}"
        )

    def __reduce__(self):  # compiled programs and graphs cannot be pickled
        from retrieval.serving.bundle.reading import load_unchanged  # which imports this module

        if self.folder is None:
            raise TypeError("a Recommender that is in memory alone cannot be pickled; save a bundle, and load that")
        return load_unchanged, (str(self.folder), digest(self.manifest))

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
          user_id: raw query id, or ids [Q]; an unseen one is answered by the unknown row, with `known` False. None: all
            queries are unseen, and described by `history` or `features`.
          k: length of the lists, at least 1.
          history: raw candidate ids of each query's interactions, oldest first, any number or none; the query tower
            reads the last of them. Ids that are not in train and have no features are skipped; ratings and times of the
            interactions count as unknown. None: the history in train.
          features: raw columns of each query, see `EntityFeatures.of_raw`, in place of those in the table of queries.
            None: those in the table. A table, or mappings with an "id", may give the ids too.
          times: of the requests in Unix seconds [Q], or one for all, if the query tower reads them; None: the end of
            train.
          exclude: raw candidate ids to leave out, a list for each query; ids outside of the corpus are ignored.
          exclude_seen: leaves out the candidates in the query's training part, and those in `history`.
          filter: restricts the candidates of all queries, by columns of `corpus` or by ids; a filter that is used again
            is compiled once. None: all candidates.
          index: searched in place of the corpus: it has the candidates that were added, changed and removed since the
            export, see `live_index`. Filters, exclusions and titles are then by its ids and attributes; candidates
            outside of the corpus have position -1.

        Raises:
          ValueError: neither ids, history nor features are given; the query tower reads no history or no features and
            some are given; arguments have different lengths or wrong types; k is below 1; ids are strings and the known
            ones integers, or the reverse; or the filter names no column of the corpus.
        """
        check_flag("exclude_seen", exclude_seen)
        request = self._request(user_id, history, features, times)
        left_out = {} if exclude is None else {"exclude": one_list_each("exclude", exclude, request)}
        if exclude_seen and request.history is not None:
            left_out["history"] = request.history
        if index is not None:
            if exclude_seen:
                left_out["seen"] = self._seen_ids(request.rows)
            found, positions = search_by_id(index, self.corpus, self._encoded(request), k, left_out, filter)
        else:
            excluded = self.seen.take(request.rows) if exclude_seen else Lists.empty(len(request.rows))
            for name, lists in left_out.items():
                excluded = excluded.join(self._search.positions(name, lists))
            found, positions = self._search.search(self._encoded(request), k, excluded, filter)
        return Recommendations.from_search(found, positions, request.known, request.shaped)

    def embed_queries(
        self, user_id: Any = None, *, history=None, features: Raw | None = None, times: Any = None
    ) -> Float32[np.ndarray, "*Q D"]:
        """Returns the embeddings of queries [Q, D], of a single one [D]; arguments and errors as of `recommend`."""
        request = self._request(user_id, history, features, times)
        return request.shaped(self._encoded(request))

    def embed_candidates(self, candidate_id: Any = None, *, features: Raw | None = None) -> Float32[np.ndarray, "*n D"]:
        """Returns the embeddings of candidates [n, D], of a single one [D], in the corpus or not.

        Args:
          candidate_id: raw id, or ids [n]; an unseen candidate is embedded by the unknown row and its features. None:
            all are unseen.
          features: raw columns of each candidate, as of `recommend`.

        Raises:
          ValueError: neither ids nor features are given, the tower reads no features and some are given, or a value
            cannot be encoded.
        """
        request = Request.from_arguments(self.candidates, candidate_id, None, features, None, "candidate_id")
        return request.shaped(self._encoded_candidates(request))

    def score(
        self, user_id: Any = None, candidate_ids: Any = (), *, history=None, features: Raw | None = None, times=None
    ) -> Float32[np.ndarray, "*Q n"]:
        """Returns the scores of pairs: of one query and n candidates [n], or of Q queries and n candidates each [Q, n].

        Raises:
          ValueError: a candidate is not in the corpus, or as `recommend`.
        """
        request = self._request(user_id, history, features, times)
        listed = [np.asarray(ids) for ids in one_list_each("candidate_ids", candidate_ids, request)]
        with named("candidate_ids"):
            positions = [self.corpus.positions(ids) for ids in listed]
        if len(set(counts := [len(ids) for ids in listed])) > 1:
            raise ValueError(f"candidate_ids must be equally many for each query, got {counts}")
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
        """Returns the k candidates of the corpus with the largest cosine to each candidate, without itself; exact.

        The columns of the embeddings that hold popularity are not compared. Candidates with neither training data nor
        features are never found, and nothing is similar to them: their lists are padding. O(N D) time a candidate; the
        first call copies the embeddings.

        Args:
          candidate_id: raw id, or ids [Q]; see `embed_candidates`.
          k: length of the lists, at least 1.
          features: raw columns of each, for candidates that are not in the corpus.
          exclude: raw candidate ids to leave out, a list for each.
          filter: as of `recommend`.

        Raises:
          ValueError: as `embed_candidates`, or a candidate is not in the corpus and has no features.
        """
        request = Request.from_arguments(self.candidates, candidate_id, None, features, None, "candidate_id")
        number = len(request.rows)
        positions_asked = np.full(number, PADDING_ROW) if request.ids is None else self.corpus.positions(request.ids)
        if features is None and (unseen := (positions_asked < 0) & (request.rows == UNKNOWN_ROW)).any():
            first = request.ids[np.argmax(unseen)].item()
            raise ValueError(f"candidate id {first!r} is not in the corpus; give its features")
        excluded = Lists.from_sequences([[position] if position >= 0 else [] for position in positions_asked.tolist()])
        if exclude is not None:
            excluded = excluded.join(self._search.positions("exclude", one_list_each("exclude", exclude, request)))
        is_undescribed = (request.rows == UNKNOWN_ROW) & (features is None)
        vectors = np.where(is_undescribed[:, None], np.float32(0), self._encoded_candidates(request))
        scores, positions = self._similar_candidates.search(vectors, k, excluded, self._search.subset(filter))
        found = self._search.answers(scores, positions)
        return Recommendations.from_search(found, positions, request.known, request.shaped)

    def similar_users(
        self, user_id: Any = None, k: int = 10, *, history=None, features: Raw | None = None, times=None
    ) -> Neighbours:
        """Returns the k queries of train with the largest cosine to each query, without itself; exact.

        A query of which nothing is known, neither in train nor by features or a candidate in its history, has no
        neighbours: its answer is padding. The first call embeds all M queries of train; later ones take O(M D) time a
        query. Arguments and errors are those of `recommend`.
        """
        request = self._request(user_id, history, features, times)
        themselves = [[row - 1] if 0 < row < self.queries.num_rows else [] for row in request.rows.tolist()]
        vectors = np.where(self._is_described(request)[:, None], self._encoded(request), np.float32(0))
        scores, positions = self._similar_queries.search(vectors, k, Lists.from_sequences(themselves))
        fields = (lookup(self.queries.ids, positions), scores, request.known)
        return Neighbours(*map(request.shaped, fields))

    def seen_ids(self, user_id: Any) -> Ids | list[Ids]:
        """Returns the raw candidate ids in the training part of a query, or of each of many; none for an unseen query.

        Raises:
          ValueError: as `recommend`.
        """
        request = self._request(user_id, None, None, None)
        listed = self._seen_ids(request.rows)
        return listed[0] if request.is_single else listed

    def live_index(self) -> LiveIndex:
        """Returns the corpus as an index by raw id, to which candidates can be added, over the index of the bundle.

        Both give the same answers until it is changed. Candidates with neither training data nor features, whose
        embeddings are zero, score 0; `LiveIndex.add` refuses such candidates.
        """
        return LiveIndex.build(self.corpus.ids, self.index, self.corpus.columns, zeros=True)

    @property
    def embeddings(self) -> Float32[np.ndarray, "N D"]:
        """The embeddings of the corpus, in its order."""
        return self.index.embeddings

    @property
    def titles(self) -> Shaped[np.ndarray, "N"]:
        """The title of each candidate of the corpus; its id if the title is unknown."""
        return self._search.titles

    def _request(self, user_id, history, features, times) -> Request:
        if history is not None and self.histories is None:
            number = 1 if is_single_request(user_id, history, features) else len(history)
            raise ValueError(
                f"history was given for {number} queries, and the query tower reads none; leave it out, or train "
                "a model with a history encoder"
            )
        if times is not None and not self.context.encoders:
            self._tell_of_times()
        return Request.from_arguments(self.queries, user_id, history, features, times, "user_id")

    @functools.cached_property
    def _tell_of_times(self) -> Callable[[], None]:
        return functools.cache(lambda: LOG.warning("times are given, and the query tower reads none: nothing changes"))

    def _is_described(self, request: Request) -> Bool[np.ndarray, "Q"]:
        """Tells of each query whether the tower reads anything of it: its row in train, features, or a history."""
        if request.features is not None:
            return np.ones(len(request.rows), bool)
        has_features = (request.rows != UNKNOWN_ROW) & bool(self.query_features.encoders)
        return request.known | has_features | (self._histories(request).lists.lengths > 0)

    def columns_of_rows(self, rows: Int32[np.ndarray, "n"]) -> Mapping[str, Shaped[np.ndarray, "n ..."]]:
        """Returns the columns that the query tower reads for query rows, as of the end of train."""
        return self.context.of_queries(self._histories_of(rows)) | self.query_features.of_rows(rows)

    def _encoded(self, request: Request) -> Float32[np.ndarray, "Q D"]:
        columns = self.context.of_queries(self._histories(request), request.times)
        return self.encode(request.rows, **columns, **request.table_columns(self.query_features))

    def _encoded_candidates(self, request: Request) -> Float32[np.ndarray, "Q D"]:
        return self.encode_candidates(request.rows, **request.table_columns(self.candidate_features))

    def _histories(self, request: Request) -> Histories:
        """Returns the histories of a request, or those of its rows in train if it has none."""
        if request.history is not None:
            return Histories(lists_of("history", request.history, self.candidates.rows, UNKNOWN_ROW))
        return self._histories_of(request.rows)

    def _histories_of(self, rows: Int32[np.ndarray, "n"]) -> Histories:
        return Histories(Lists.empty(len(rows))) if self.histories is None else self.histories.take(rows)

    def _seen_ids(self, rows: Int32[np.ndarray, "Q"]) -> list[Ids]:
        seen = self.seen.take(rows)
        return np.split(self.corpus.ids[seen.rows], seen.offsets[1:-1])[: len(rows)]

    @functools.cached_property
    def _search(self) -> CorpusSearch:
        return CorpusSearch(self.corpus, self.index)

    @functools.cached_property
    def _similar_candidates(self) -> CosineSearch:
        return CosineSearch.build(self.embeddings, self.similarity_dimension)

    @functools.cached_property
    def _similar_queries(self) -> CosineSearch:
        ids = self.queries.ids
        pieces = [self.embed_queries(ids[i : i + ENCODED_AT_A_TIME]) for i in range(0, len(ids), ENCODED_AT_A_TIME)]
        return CosineSearch.build(np.concatenate(pieces), self.similarity_dimension)
