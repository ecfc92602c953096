"""Facts about the model of an experiment: its parts, their inputs, and its totals."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from retrieval.config.schema import Config, Loss, Regularization
from retrieval.index.tuning.choices import GRAPHS
from retrieval.models.feature_inputs import ID
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.recipe import Recipe

from ..shared.labels import addition_title
from .outline import Part, outline

MILLION = 1_000_000
HEADER = ["part", "", "", "own", "output", "parameters", "share"]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Facts about a model.

    Attributes:
      root: its parts.
      reads: the data that a part reads, by the path of the part.
      facts: score, loss, data and totals, by subject.
    """

    root: Part
    reads: Mapping[str, str]
    facts: Mapping[str, str]

    def rows(self) -> list[list[str]]:
        """Returns a row of `HEADER` for each part, the names indented as a tree."""
        total, rows = max(self.root.num_parameters, 1), []
        for depth, part in self.root.walk():
            number = part.num_parameters
            counted = [f"{number:,}", f"{100 * number / total:.1f} %"] if number else ["", ""]
            name = "  " * (depth - 1) + "└ " * bool(depth) + part.name
            rows.append([name, part.kind, self.text(part), own_text(part), shape_text(part.output), *counted])
        return rows

    def text(self, part: Part) -> str:
        """Returns the input of a part and its details, in a few words."""
        return ", ".join(filter(None, [self.reads.get(part.path, ""), part.detail]))


def inspect(config: Config, recipe: Recipe) -> Inspection:
    """Returns the facts about the model of a recipe."""
    root = outline(recipe.model, recipe.context.length)
    return Inspection(root, _reads(recipe, root), _facts(config, recipe, root))


def shape_text(shape: tuple[int, ...]) -> str:
    """Returns a shape as text.

    >>> shape_text((1682, 32))
    '1,682 x 32'
    """
    return " x ".join(f"{size:,}" for size in shape)


def own_text(part: Part) -> str:
    """Returns the parameters of a part outside of its parts: the matrices, and the number of vectors."""
    matrices = {name: leaf.shape for name, leaf in part.own.items() if len(leaf.shape) > 1}
    texts = [f"{re.sub('/?(embedding|kernel)$', '', name)} {shape_text(shape)}" for name, shape in matrices.items()]
    others = [name for name in part.own if name not in matrices]
    texts += [", ".join(others) if len(others) < 3 else f"{len(others)} vectors"] if others else []
    return ", ".join(text.strip() for text in texts)


def bytes_text(number: float) -> str:
    """Returns a number of bytes as text.

    >>> bytes_text(400), bytes_text(338_816), bytes_text(132e6)
    ('400 B', '339 kB', '132 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def graph_bytes(number: int, dimension: int, M: int) -> int:
    """Returns the approximate bytes of an hnswlib graph, on disk and in memory.

    Each node has a copy of its embedding, 2 M neighbours in the lowest layer, M in each higher layer, of which
    it has 1 / (M - 1) on average, and a label. A neighbour and the number of neighbours of a layer take 4 bytes.

    Args:
      number: of embeddings.
      dimension: of the embeddings, in float32.
      M: of the graph.
    """
    lowest, higher = 4 * (2 * M + 1), 4 * (M + 1) / (M - 1)
    return round(number * (4 * dimension + lowest + higher + 8 + 4))


def _reads(recipe: Recipe, root: Part) -> dict[str, str]:
    """Returns the inputs of parts: kind and column of a feature, number of ids in train, length of a history."""
    towers, encoding = recipe.architecture, recipe.encoding
    sides = {
        "query_tower": (encoding.queries, {**towers.query_features, **towers.context.encoders}),
        "candidate_tower": (encoding.candidates, towers.candidate_features),
    }
    found = {}
    for _, part in root.walk():
        if part.kind in ("Lookup", "Dense"):
            vocabulary, encoders = sides[part.path.partition("/")[0]]
            encoder = encoders.get(part.name)
            is_id = part.name == ID
            found[part.path] = f"{len(vocabulary.ids):,} ids" if is_id else f"{encoder.kind} {encoder.column}"
        elif part.path == "query_tower/items":
            found[part.path] = f"the last {recipe.context.length} interactions"
    return found


def _facts(config: Config, recipe: Recipe, root: Part) -> dict[str, str]:
    encoding, tasks = recipe.encoding, [f"{t.name} ({t.kind}, weight {t.weight:g})" for t in config.tasks]
    unit = "windows" if recipe.examples.are_windows else "examples"
    width, score = _score(config, recipe, root)
    counts = [len(encoding.queries.ids), len(encoding.candidates.ids), len(encoding.corpus)]
    M = config.index.hnsw.M or GRAPHS[-1][0]
    graph = bytes_text(graph_bytes(MILLION, width, M))
    return {
        "score": score,
        "loss": _loss(config.loss, config.regularization),
        **({"heads": ", ".join(tasks)} if tasks else {}),
        "an epoch": f"{recipe.num_examples:,} interactions, batches of {recipe.batch_size:,} {unit}",
        "data": "{:,} users and {:,} items in train, {:,} items in the corpus".format(*counts),
        "parameters": f"{root.num_parameters:,}, {bytes_text(root.num_bytes)}",
        "a million items": f"{bytes_text(4 * width * MILLION)} of embeddings and a graph of M {M} of {graph}",
    }


def _score(config: Config, recipe: Recipe, root: Part) -> tuple[int, str]:
    """Returns the number of dimensions of the dot product, and where they come from."""
    model, (width,) = recipe.model, root.output
    added = {"popularity prior": model.log_prior, "learned bias": model.candidate_bias}
    added = [name for name, term in added.items() if term is not None]
    terms = [f"{width - bool(added)} of the towers"] + [f"1 of {' and '.join(added)}"] * bool(added)
    for addition, added_towers in zip(config.model.additions, recipe.additions, strict=True):
        terms.append(f"{added_towers.candidates.shape[1]} of {addition_title(addition)}")
        width += added_towers.candidates.shape[1]
    text = f"dot product of {width} dimensions: {', '.join(terms)}"
    if model.log_temperature is None:
        return width, text
    return width, f"{text}; outputs at length 1, over a learned temperature"


def _loss(loss: Loss, regularization: Regularization) -> str:
    settings = [f"{field} {getattr(loss, field):g}" for field in OBJECTIVES[loss.name].options]
    settings.append(f"embedding_l2 {regularization.embedding_l2:g}")
    return ", ".join([loss.name.replace("_", " "), *settings, f"{loss.reduction} over the batch"])
