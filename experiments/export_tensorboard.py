"""Writes the scalars and the item embeddings of a run for TensorBoard. Needs the `tensorboard` extra.

    python -m experiments.export_tensorboard --workdir=runs/movielens_100k
    tensorboard --logdir=runs/movielens_100k/tensorboard

Scalars have the names of `metrics.jsonl`, with a curve for each phase, and of `metrics.json`, at the chosen epoch. The
projector has the item embeddings with ids, titles and the other columns of the corpus.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from retrieval.common.disk_errors import writing
from retrieval.common.folders import replace_folder, scratch_folder
from retrieval.data.interactions import Table
from retrieval.pipeline import search_and_fit

from .shared import console, flags
from .shared.run_data import load_data
from .shared.workdir import Workdir

METRICS_RUN = "figures"  # has the values of metrics.json
TENSORS, METADATA, PROJECTOR = "tensors.tsv", "metadata.tsv", "projector_config.pbtxt"
MOST_POINTS = 100_000  # of the projector
PROJECTOR_CONFIG = f"""embeddings {{
  tensor_name: "candidates"
  tensor_path: "{TENSORS}"
  metadata_path: "{METADATA}"
}}
"""


def import_writer() -> type:
    """Returns the scalar writer of TensorBoard, which needs no TensorFlow.

    Raises:
      ImportError: TensorBoard is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] != "tensorboard":
            raise
        raise ImportError(
            "the export needs TensorBoard, which is not installed: pip install -e '.[tensorboard]'"
        ) from None
    return Writer


def write_scalars(
    folder: pathlib.Path, log: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], epoch: int
) -> None:
    """Writes the records of each phase by epoch, and the metrics at `epoch`, as runs of TensorBoard.

    Raises:
      ImportError: as `import_writer`.
    """
    writer_of_run = import_writer()
    runs: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for record in log:
        runs.setdefault(record["phase"], []).append((record["epoch"], record))
    runs[METRICS_RUN] = [(epoch, metrics)]
    for run, records in runs.items():
        writer = writer_of_run(str(folder / run))
        for step, record in records:
            for name, value in record.items():
                if name not in ("phase", "epoch"):
                    writer.add_scalar(name, np.float32(value), step)
        writer.close()


def write_projector(
    folder: pathlib.Path, embeddings: Float[np.ndarray, "N D"], counts: Float[np.ndarray, "N"], corpus: Table
) -> None:
    """Writes embeddings and their columns for the projector: of the 100,000 most popular items, in that order."""
    kept = np.argsort(-counts, kind="stable")[:MOST_POINTS]
    columns = {"id": corpus.ids} | {"title": corpus.ids} | dict(corpus.columns) | {"interactions in train": counts}
    texts = [[_field(value) for value in column[kept].tolist()] for column in columns.values()]
    lines = ["\t".join(map(_field, columns)), *map("\t".join, zip(*texts, strict=True))]
    (folder / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.savetxt(folder / TENSORS, embeddings[kept], fmt="%.7g", delimiter="\t")
    (folder / PROJECTOR).write_text(PROJECTOR_CONFIG, encoding="utf-8")


def _field(value: object) -> str:
    """Returns a value as a field of a tab-separated line."""
    return " ".join(f"{value:g}".split() if isinstance(value, float) else str(value).split()) or "-"


def export(workdir: Workdir) -> None:
    """Writes the folder `tensorboard` of a trained run, replacing an older one.

    Raises:
      ImportError: as `import_writer`.
      ValueError: the run is not trained yet.
    """
    import_writer()  # fails before the work, not after it
    config, choice = workdir.read_config(), workdir.read_choice()
    dataset = load_data(config, workdir)
    trained = search_and_fit.restore(config, dataset, workdir.checkpoints, choice)
    log = workdir.read_log()
    embeddings = np.asarray(trained.candidate_embeddings)
    counts = trained.recipe.encoding.of_corpus(trained.recipe.negatives.counts)
    with scratch_folder(workdir.tensorboard) as scratch:
        new = scratch / "new"
        new.mkdir()
        with writing(new):
            write_scalars(new, log, workdir.read_metrics(), choice.epoch)
            write_projector(new, embeddings, counts, dataset.corpus)
        replace_folder(new, workdir.tensorboard)


def main() -> None:
    workdir = Workdir(flags.workdir())
    with workdir.claimed("exports for TensorBoard"):
        export(workdir)
    console.say(f"TensorBoard: tensorboard --logdir={workdir.tensorboard}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
