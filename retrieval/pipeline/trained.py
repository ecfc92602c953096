"""A trained model with the recipe that it was trained by."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Array, Float, Int

from retrieval.data.dataset import Dataset
from retrieval.data.fingerprint import Fingerprint
from retrieval.data.ids import Ids
from retrieval.data.interactions import Interactions
from retrieval.models.binding import Params
from retrieval.pipeline.recipe import Recipe

SEARCH, FINAL = "search", "final"  # the phases of a training


@dataclasses.dataclass(frozen=True)
class ChosenEpoch:
    """The state that a training ended with: the one after `epoch` epochs of `phase`."""

    phase: str
    epoch: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model with the recipe that it was trained by.

    Attributes:
      recipe: vocabularies, model and objective of the chosen phase.
      params: the trained parameters.
      train: the interactions that the model was trained on.
      choice: the phase and the epoch of the parameters.
      data: the fingerprint of the whole data set; None: not known, as of a model that is put together by hand.
    """

    recipe: Recipe
    params: Params
    train: Interactions
    choice: ChosenEpoch
    data: Fingerprint | None = None

    @functools.cached_property
    def candidate_embeddings(self) -> Float[Array, "N D"]:
        """The embeddings of the whole corpus, in its order; computed once, and then kept in memory."""
        return self.recipe.candidate_embeddings(self.params)

    def check_data(self, dataset: Dataset) -> None:
        """Checks that a data set is the one that the model was trained on, where that is known.

        Raises:
          ValueError: a column differs; the message names file and column.
        """
        if self.data is not None and (lines := dataset.differences(self.data)):
            raise ValueError("the model was trained on other data:\n  " + "\n  ".join(lines) + "\ntrain it again")

    def without_additions(self) -> Trained:
        """Returns the trained towers alone: the additions take no part in training, only in the scores."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, additions=()))

    def query_embeddings(
        self, query_ids: Ids, before: Interactions, times: Int[np.ndarray, "Q"] | None = None
    ) -> Float[Array, "Q D"]:
        """Returns the embeddings of queries; see `Recipe.query_embeddings`."""
        return self.recipe.query_embeddings(self.params, query_ids, before, times)
