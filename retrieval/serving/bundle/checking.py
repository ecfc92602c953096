"""Checks whether a bundle is unchanged since its export and answers as it did then; each mismatch is named."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from retrieval.serving.bundle import golden, layout
from retrieval.serving.bundle.manifest import BundleFiles
from retrieval.serving.bundle.reading import read
from retrieval.serving.bundle.signature import check_signature
from retrieval.serving.recommender import Recommender

TOLERANCE = 1e-4  # of an embedding's values, relative and absolute
CANDIDATES_AT_A_TIME = 4096


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


def inspect(folder: pathlib.Path | str, verify_key: str | None = None) -> Iterator[Finding]:
    """Yields the finding of each check of a bundle, in order, until one makes the next checks impossible.

    The manifest; its signature, where a key is given or a signature is there; names and sizes, then hashes of all
    files; whether they go together; whether the candidate tower makes the stored embeddings of them; whether golden
    queries get the answers of the export.

    Args:
      folder: the bundle.
      verify_key: a PEM file of the public key whose owner must have signed it; None: nobody must.
    """
    try:
        files = BundleFiles.open(folder)
    except ValueError as error:
        yield Finding("manifest", [str(error)])
        return
    yield Finding("manifest", [], _origin(files))
    if verify_key is not None or (files.folder / layout.SIGNATURE).exists():
        yield (signature := _signature(files, verify_key))
        if signature.problems:
            return
    yield (names := Finding("files", files.problems(), _files(files)))
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
    yield Finding("pairing", [], _entities(recommender))
    yield _embeddings(files, recommender)
    yield _golden(files, recommender)


def _origin(files: BundleFiles) -> str:
    """Returns the format of a bundle and the versions of the libraries that wrote it."""
    versions = ", ".join(f"{name} {version}" for name, version in files.manifest.get("versions", {}).items())
    return f"format {files.manifest['format_version']}, written by {versions}"


def _signature(files: BundleFiles, verify_key: str | None) -> Finding:
    """Checks the signature of a bundle; without a key, says that nobody did."""
    if verify_key is None:
        return Finding("signature", [], "not checked: --verify_key=FILE names the public key of who signed it")
    try:
        check_signature(files.folder, files.place, files.manifest, verify_key)
    except (ValueError, ImportError) as error:
        return Finding("signature", [str(error)])
    return Finding("signature", [], f"by the owner of {verify_key}")


def _files(files: BundleFiles) -> str:
    """Returns number and total size of the listed files."""
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


def _entities(recommender: Recommender) -> str:
    """Returns the numbers of queries, candidates and dimensions, on which all files agree."""
    number, dimension = recommender.embeddings.shape
    return (
        f"{recommender.queries.num_rows - 1} queries, {number} candidates of {dimension} dimensions in towers, "
        "vocabularies, corpus, embeddings and index"
    )


def _embeddings(files: BundleFiles, recommender: Recommender) -> Finding:
    """Compares the outputs of the candidate tower for the corpus with the stored embeddings."""
    check, worst = "candidate tower", 0.0
    for start in range(0, len(recommender.corpus), CANDIDATES_AT_A_TIME):
        chunk = slice(start, start + CANDIDATES_AT_A_TIME)
        ids, stored = recommender.corpus.ids[chunk], recommender.embeddings[chunk]
        differences = np.abs(recommender.embed_candidates(ids) - stored)
        near = differences <= TOLERANCE * (1 + np.abs(stored))
        if not near.all():
            first = ids[np.argmin(near.all(axis=1))].item()
            problem = f"the embedding of candidate {first!r} is not what {layout.CANDIDATE_TOWER} makes of it"
            return Finding(check, [f"{files.folder / layout.EMBEDDINGS}: {problem}"])
        worst = max(worst, float(differences.max(initial=0.0)))
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
