"""A whole training: the search for the number of epochs, and the fit whose parameters are used.

The *search* phase trains on the train part and evaluates on the validation part; the *final* phase trains anew on
both parts for the best number of epochs. Without a validation part, or without evaluations on it, there is only the
final phase. Each phase resumes from its last intact checkpoint.

A schedule of the learning rate spans `train.epochs` epochs of either phase. An epoch of the final phase has more steps
and the same share of the schedule: the final phase ends at the learning rate at which the search found its best.
"""

from __future__ import annotations

import pathlib

from retrieval.common.claims import claimed
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.models.binding import Params
from retrieval.pipeline.checks import check_parts
from retrieval.pipeline.phase import OnEpoch, Phase, best_validated_epoch
from retrieval.pipeline.trained import FINAL, SEARCH, ChosenEpoch, Trained


def train(config: Config, dataset: Dataset, folder: pathlib.Path, on_epoch: OnEpoch) -> Trained:
    """Trains as the config says, with checkpoints in `folder`, and returns the trained model.

    Called again after an interruption, the training continues from the last intact checkpoint to the same result. Each
    phase prepares vocabularies, examples and additions of the model once.

    Args:
      config: the experiment.
      dataset: its data.
      folder: where the checkpoints of both phases lie; created if missing.
      on_epoch: called after each epoch with the phase's records so far.

    Raises:
      FloatingPointError: the loss or the parameters are not finite any more; the last finite state is on disk.
      ValueError: `folder` holds checkpoints of another config or other data, another process trains there, or the
        config does not fit the data.
    """
    check_parts(config, dataset.parts)
    with claimed(folder, "trains"):
        return _train(config, dataset, folder, on_epoch)


def _train(config: Config, dataset: Dataset, folder: pathlib.Path, on_epoch: OnEpoch) -> Trained:
    epochs = config.train.epochs
    if dataset.parts.validation is not None and config.train.evaluate_every > 0:
        search = Phase(SEARCH, config, dataset)
        history, _ = search.run(folder, epochs, on_epoch)
        epochs = best_validated_epoch(history, config.train.metric)
        if not config.train.refit:
            _, state = search.run(folder, epochs, _ignore)  # the best epoch, from its checkpoint
            return _trained(search, dataset, state.kept, epochs)
        del search  # frees its examples before those of the final phase are made
    final = Phase(FINAL, config, dataset)
    _, state = final.run(folder, epochs, on_epoch)
    return _trained(final, dataset, state.kept, epochs)


def restore(config: Config, dataset: Dataset, folder: pathlib.Path, choice: ChosenEpoch) -> Trained:
    """Loads the trained model that `train` returned, in another process.

    If its checkpoint is lost, the phase is trained to the same bits again, from the last intact checkpoint before or
    from the start, with a warning in the log.

    Raises:
      ValueError: `folder` holds checkpoints of another config or other data.
    """
    phase = Phase(choice.phase, config, dataset)
    state = phase.find(folder, choice.epoch)
    if state is None:
        with claimed(folder, "trains"):
            _, state = phase.run(folder, choice.epoch, _ignore)
    return _trained(phase, dataset, state.kept, choice.epoch)


def _ignore(history: list[Record]) -> None:
    """Takes the place of `on_epoch` where the epochs were told before."""


def _trained(phase: Phase, dataset: Dataset, params: Params, epoch: int) -> Trained:
    return Trained(phase.recipe, params, phase.interactions, ChosenEpoch(phase.name, epoch), dataset.fingerprint)
