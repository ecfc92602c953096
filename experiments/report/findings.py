"""What the report measures itself, of a trained model and its data: no other program writes it down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from retrieval.baselines import most_popular
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Targets
from retrieval.index import Certificate, Searcher
from retrieval.pipeline.trained import Trained
from retrieval.ranking.ranks import rank_each
from retrieval.ranking.topk import top_k

from ..shared.labels import MODEL, POPULARITY
from .calibration import Calibration, calibrate
from .examples import Example, choose_examples
from .item_map import ItemMap, lay_out

LENGTH = 10  # of the recommended lists
MOST_QUERIES = 2000


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that the report measures.

    Attributes:
      num_queries: users of the test part.
      num_sampled: users among them that the rest of the findings is about.
      num_candidates: items of the corpus.
      calibration: popularity of the recommendations.
      ranks: of each relevant item, 1 is best, by system.
      item_map: the embeddings of the items in the plane.
      certificate: how the index was chosen.
      examples: a few users.
    """

    num_queries: int
    num_sampled: int
    num_candidates: int
    calibration: Calibration
    ranks: Mapping[str, Int[np.ndarray, "n"]]
    item_map: ItemMap
    certificate: Certificate
    examples: Sequence[Example]


def measure_findings(dataset: Dataset, trained: Trained, index: Searcher) -> Findings:
    """Measures the findings on at most 2,000 test users; O(users x items) time."""
    recipe, encoding = trained.recipe, trained.recipe.encoding
    whole = encoding.targets(dataset.parts.test, dataset.parts.train_and_validation())
    targets = _sample(whole)
    counts = encoding.of_corpus(recipe.negatives.counts)
    candidates = np.asarray(index.embeddings)
    queries = np.asarray(trained.query_embeddings(targets.query_ids, trained.train))
    systems = {MODEL: (queries, candidates), POPULARITY: most_popular(counts, len(queries))}
    length = min(LENGTH, len(candidates))
    lists = {name: top_k(*embeddings, length, targets.seen)[1] for name, embeddings in systems.items()}
    ranks = {
        name: rank_each(*embeddings, targets.relevant, [targets.seen])[0].ordinal + 1
        for name, embeddings in systems.items()
    }
    return Findings(
        num_queries=len(whole.query_ids),
        num_sampled=len(targets.query_ids),
        num_candidates=len(candidates),
        calibration=calibrate(counts, targets.relevant.rows, lists),
        ranks={name: np.minimum(found, len(candidates)) for name, found in ranks.items()},
        item_map=lay_out(candidates, counts, dataset.corpus),
        certificate=index.certificate,
        examples=choose_examples(dataset, trained.train, targets, lists[MODEL]),
    )


def _sample(targets: Targets) -> Targets:
    """Returns the targets of at most 2,000 users, evenly spaced in the order of their ids."""
    num_queries = len(targets.query_ids)
    kept = np.unique(np.linspace(0, num_queries - 1, min(num_queries, MOST_QUERIES)).astype(int))
    relevant, seen = targets.relevant.take(kept), targets.seen.take(kept)
    return Targets(targets.query_ids[kept], targets.query_rows[kept], relevant, seen)
