"""What a folder records about the data that it was begun on, and the check that later data are the same."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from retrieval.data.dataset import Dataset
from retrieval.data.fingerprint import Fingerprint

from . import console


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Returns the facts that `check_same_data` compares: the fingerprint, whole and of each column."""
    return {"fingerprint": dataset.fingerprint.sha256, "columns": dataset.fingerprint.to_record()}


def check_same_data(folder: pathlib.Path, facts: Mapping[str, Any], dataset: Dataset) -> None:
    """Checks that a data set is the one that a folder was begun on.

    Folders of earlier versions have no digests of columns. The ids, ratings and times of their data are compared, and
    a line says that other attributes are not.

    Args:
      folder: that of the run or of the sweep.
      facts: what `data_facts` returned then.
      dataset: the data of now.

    Raises:
      ValueError: the data differ; the message names each file and column.
    """
    if "fingerprint" not in facts:
        raise ValueError(f"{folder} has no record of the data that it was begun on; use another --workdir")
    if "columns" in facts:
        lines = dataset.differences(Fingerprint.from_record(facts["columns"]))
    else:
        before, now = facts["fingerprint"], dataset.old_fingerprint()
        lines = [] if before == now else [f"fingerprint {before[:12]} before, {now[:12]} now"]
        console.say(f"{folder} has no digests of columns: changes of the attributes of users and items are not noticed")
    if lines:
        raise ValueError(
            f"{folder} was begun on other data:\n  "
            + "\n  ".join(lines)
            + "\nuse another --workdir, or the data of then"
        )
