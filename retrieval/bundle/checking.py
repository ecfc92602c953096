"""Whether a bundle is what was exported, and answers as it did then: each check by itself, each mismatch named."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from retrieval.bundle import golden, layout
from retrieval.bundle.manifest import Files
from retrieval.bundle.reading import read
from retrieval.recommend import Recommender

TOLERANCE = 1e-4  # of an embedding's values, relative and absolute
AT_A_TIME = 4096  # candidates


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
      check: what was looked at.
      problems: what is wrong, a sentence each; empty: nothing.
      facts: what was found out where nothing is wrong.
    """

    check: str
    problems: list[str]
    facts: str


def inspect(folder: pathlib.Path | str) -> Iterator[Finding]:
    """Yields the findings of each check of a bundle, in order, up to one that leaves nothing for those after it.

    The manifest, then names and sizes, then hashes of all files; whether they go together; whether the candidate tower
    makes the stored embeddings of them; whether golden queries get the answers of the export.
    """
    made: list[Files] = []
    yield (finding := _checked("manifest", lambda: _manifest(folder, made)))
    if finding.problems:
        return
    (files,) = made
    problems = files.problems()
    yield Finding("files", problems, f"{len(files.names())} files, {_bytes(files) / 2**20:.1f} MiB, none besides")
    if problems:
        return
    problems = [problem for name in files.names() for problem in _problem(lambda name=name: files.check(name))]
    yield Finding("hashes", problems, "SHA-256 of every file as listed")
    if problems:
        return
    served: list[Recommender] = []
    yield (finding := _checked("pairing", lambda: _pairing(files, served)))
    if finding.problems:
        return
    yield _checked("candidate tower", lambda: _embeddings(files, served[0]))
    yield _checked("golden queries", lambda: _golden(files, served[0]))


def _manifest(folder: pathlib.Path | str, made: list[Files]) -> str:
    made.append(Files.of(folder))
    manifest = made[0].manifest
    of = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items() if name != "python")
    return f"format {manifest['format_version']}, written by {of}"


def _pairing(files: Files, served: list[Recommender]) -> str:
    served.append(read(files))
    (recommender,) = served
    number, dimension = recommender.embeddings.shape
    return (
        f"{recommender.queries.num_rows - 1} queries, {number} candidates of {dimension} dimensions in towers, "
        "vocabularies, corpus, embeddings and index"
    )


def _embeddings(files: Files, recommender: Recommender) -> str:
    worst = 0.0
    for start in range(0, len(recommender.corpus), AT_A_TIME):
        ids, stored = recommender.corpus.ids[start:][:AT_A_TIME], recommender.embeddings[start:][:AT_A_TIME]
        made = recommender.embed_candidates(ids)
        if made.shape != stored.shape:
            raise ValueError(f"the candidate tower makes {made.shape[1]} dimensions, stored are {stored.shape[1]}")
        off = np.abs(made - stored) - TOLERANCE * np.abs(stored)
        if not (off <= TOLERANCE).all():
            first = np.flatnonzero((~(off <= TOLERANCE)).any(axis=1))[0]
            raise ValueError(
                f"{files.folder / layout.EMBEDDINGS}: the embedding of candidate {ids[first].item()!r} is not what "
                f"{layout.CANDIDATE_TOWER} makes of it"
            )
        worst = max(worst, float(np.abs(made - stored).max(initial=0.0)))
    return f"makes the stored embeddings, to {worst:.1e}"


def _golden(files: Files, recommender: Recommender) -> str:
    records = files.json(layout.GOLDEN)
    try:
        problems = golden.differences(recommender, records)
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise _Several([f"{files.folder / layout.GOLDEN}: {problem}" for problem in problems])
    return f"{sum(len(record['answer']['known']) for record in records)} answered as in the export"


class _Several(ValueError):
    """Several problems."""

    def __init__(self, problems: list[str]):
        super().__init__(problems[0])
        self.problems = problems


def _checked(check: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(check, [], run())
    except _Several as error:
        return Finding(check, error.problems, "")
    except ValueError as error:
        return Finding(check, [str(error)], "")


def _problem(run: Callable[[], None]) -> list[str]:
    try:
        run()
    except ValueError as error:
        return [str(error)]
    return []


def _bytes(files: Files) -> int:
    return sum(facts["size"] for facts in files.manifest["files"].values())
