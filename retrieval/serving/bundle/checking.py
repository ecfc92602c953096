"""Checks whether a bundle is unchanged since its export and answers as it did then; each mismatch is named."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from retrieval.serving.bundle import golden, layout
from retrieval.serving.bundle.manifest import BundleFiles
from retrieval.serving.bundle.reading import read
from retrieval.serving.recommender import Recommender

TOLERANCE = 1e-4  # of an embedding's values, relative and absolute
AT_A_TIME = 4096  # candidates


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
      check: name of the check.
      problems: a sentence for each problem; empty: the check passed.
      facts: what the check found, if it passed.
    """

    check: str
    problems: list[str]
    facts: str = ""


def inspect(folder: pathlib.Path | str) -> Iterator[Finding]:
    """Yields the finding of each check of a bundle, in order, until one makes the next checks impossible.

    The manifest, then names and sizes, then hashes of all files; whether they go together; whether the candidate tower
    makes the stored embeddings of them; whether golden queries get the answers of the export.
    """
    try:
        files = BundleFiles.open(folder)
    except ValueError as error:
        yield Finding("manifest", [str(error)])
        return
    yield Finding("manifest", [], _origin(files))
    yield (names := Finding("files", files.problems(), _size(files)))
    if names.problems:
        return
    yield (hashes := Finding("hashes", _changed(files), "SHA-256 of every file as listed"))
    if hashes.problems:
        return
    try:
        recommender = read(files)
    except ValueError as error:
        yield Finding("pairing", [str(error)])
        return
    yield Finding("pairing", [], _sizes(recommender))
    yield _embeddings(files, recommender)
    yield _golden(files, recommender)


def _origin(files: BundleFiles) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in files.manifest.get("versions", {}).items())
    return f"format {files.manifest['format_version']}, written by {versions}"


def _size(files: BundleFiles) -> str:
    size = sum(file.size for file in files.files.values())
    return f"{len(files.files)} files, {size / 2**20:.1f} MiB, none besides but exports"


def _changed(files: BundleFiles) -> list[str]:
    """Returns a sentence for each file whose hash differs."""
    problems = []
    for name in files.files:
        try:
            files.check(name)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _sizes(recommender: Recommender) -> str:
    number, dimension = recommender.embeddings.shape
    return (
        f"{recommender.queries.num_rows - 1} queries, {number} candidates of {dimension} dimensions in towers, "
        "vocabularies, corpus, embeddings and index"
    )


def _embeddings(files: BundleFiles, recommender: Recommender) -> Finding:
    """Compares the outputs of the candidate tower for the corpus with the stored embeddings."""
    check, worst = "candidate tower", 0.0
    for start in range(0, len(recommender.corpus), AT_A_TIME):
        ids, stored = recommender.corpus.ids[start:][:AT_A_TIME], recommender.embeddings[start:][:AT_A_TIME]
        off = np.abs(recommender.embed_candidates(ids) - stored)
        near = off <= TOLERANCE * (1 + np.abs(stored))
        if not near.all():
            first = ids[np.argmin(near.all(axis=1))].item()
            problem = f"the embedding of candidate {first!r} is not what {layout.CANDIDATE_TOWER} makes of it"
            return Finding(check, [f"{files.folder / layout.EMBEDDINGS}: {problem}"])
        worst = max(worst, float(off.max(initial=0.0)))
    return Finding(check, [], f"makes the stored embeddings, to {worst:.1e}")


def _golden(files: BundleFiles, recommender: Recommender) -> Finding:
    """Answers the golden queries again, and compares."""
    check, path = "golden queries", files.folder / layout.GOLDEN
    try:
        records = files.json(layout.GOLDEN)
    except ValueError as error:
        return Finding(check, [str(error)])
    try:
        problems = golden.differences(recommender, records)
    except ValueError as error:
        return Finding(check, [f"{path}: {error}"])
    if problems:
        return Finding(check, [f"{path}: {problem}" for problem in problems])
    return Finding(check, [], f"{sum(len(record['answer']['known']) for record in records)} answered as in the export")
