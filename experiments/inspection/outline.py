"""Outline of a model: its parts in the order of computation, with their shapes and numbers of parameters.

`nnx.tabulate` does not do this for these towers: it replaces the tables of entities that a tower holds by their hashes
and cannot follow candidate embeddings that both towers share, raising TypeError and KeyError; and it lists calls in the
order of attribute names, without the columns that a feature reads. Modules without a class of their own here are walked
by `nnx.iter_modules`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from retrieval.models.binding import flatten_params
from retrieval.models.embedding_table import EmbeddingTable
from retrieval.models.feature_embeddings import Dense, Lookup
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.history_tower import HistoryTower
from retrieval.models.layers import MLP, Dropout, FeatureDropout
from retrieval.models.two_tower import TwoTower

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
      name: within its parent; the name of the feature for a feature.
      path: in the model; prefix of the names of its parameters.
      kind: the name of its class, or the operation on the outputs of the parts before: "sum" or "concat".
      detail: lookups, dropout and the like in a few words; "" for none.
      output: shape of the output for one query or candidate; () where unknown.
      parts: in the order of computation.
      own: shape and type of the parameters outside of its parts, by the rest of their names.
    """

    name: str
    path: str
    kind: str
    detail: str = ""
    output: Shape = ()
    parts: tuple[Part, ...] = ()
    own: Mapping[str, jax.ShapeDtypeStruct] = dataclasses.field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        """The number of parameters, those of its parts included."""
        return sum(math.prod(leaf.shape) for leaf in self._leaves())

    @property
    def num_bytes(self) -> int:
        """The bytes of these parameters."""
        return sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize for leaf in self._leaves())

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Part]]:
        """Yields the part and then all parts in it, each with its depth."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)

    def _leaves(self) -> Iterator[jax.ShapeDtypeStruct]:
        for _, part in self.walk():
            yield from part.own.values()


def outline(model: TwoTower, length: int = 0) -> Part:
    """Returns the parts of a model, each parameter counted once; computes no array.

    Parameters that both towers share, as the candidate embeddings in histories, count in the candidate tower.

    Args:
      model: the two towers. A tower that is neither a `FeatureTower` nor a `HistoryTower` shows its modules.
      length: L, the interactions of a history.
    """
    like = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    rows = jax.ShapeDtypeStruct((1,), jnp.int32)
    dimension = jax.eval_shape(model.candidate_tower, rows).shape[1]
    parts = [_tower(side, getattr(model, side), (dimension,), length) for side in ("query_tower", "candidate_tower")]
    if model.candidate_bias is not None:
        parts.append(Part("candidate_bias", "candidate_bias", "EmbeddingTable", output=(1,)))
    parts += [_module(f"head {name}", f"heads/{name}", model.heads[name], (1,)) for name in model.heads]
    embedding = jax.eval_shape(model.candidate, rows).shape[1:]
    return _filled(Part("model", "", "TwoTower", output=embedding, parts=tuple(parts)), flatten_params(like))


def _tower(name: str, tower: nnx.Module, output: Shape, length: int) -> Part:
    if isinstance(tower, HistoryTower):
        return _history_tower(name, tower, output, length)
    if isinstance(tower, FeatureTower):
        return _feature_tower(name, name, tower, output)
    return _module(name, name, tower, output)


def _feature_tower(name: str, path: str, tower: FeatureTower, output: Shape) -> Part:
    parts = [_feature(f"{path}/features/{name}", tower, name) for name in tower.names]
    width = sum(part.output[0] for part in parts) if tower.combine == "concat" else parts[0].output[0]
    if len(parts) > 1:
        parts.append(Part("combine", f"{path}/combine", tower.combine, f"{len(parts)} parts", (width,)))
    if tower.cross is not None:
        parts.append(_module("cross", f"{path}/cross", tower.cross, (width,)))
    if tower.mlp is not None:
        parts.append(_module("mlp", f"{path}/mlp", tower.mlp, output))
    return Part(name, path, "FeatureTower", _dropped(tower.output_dropout), output, tuple(parts))


def _feature(path: str, tower: FeatureTower, name: str) -> Part:
    module = tower.features[name]
    if isinstance(module, Dense):
        size, dimension = module.linear.kernel.shape
        details = [f"{size} values"]
    else:
        dimension = module.table.embedding.shape[1]
        details = [_looked_up(module, tower, name)]
    detail = ", ".join(filter(None, [*details, _dropped(module.dropout)]))
    return Part(name, path, type(module).__name__, detail, (dimension,))


def _looked_up(module: Lookup, tower: FeatureTower, name: str) -> str:
    """Returns how many rows a feature looks up; rows in the context of an example are not counted."""
    width = tower.entities[name].rows.shape[1] if name in tower.entities else 1
    if name in tower.context:
        return f"rows of {module.num_rows:,}"
    return (
        f"1 of {module.num_rows:,} rows"
        if width == 1
        else f"{module.combiner} of up to {width} of {module.num_rows:,} rows"
    )


def _history_tower(path: str, tower: HistoryTower, output: Shape, length: int) -> Part:
    sharing = "" if isinstance(tower.items, EmbeddingTable) else "shared"
    dropped = [_dropped(tower.tokens.dropout), f"noise {tower.tokens.noise:g}" if tower.tokens.noise else ""]
    parts = [
        Part("items", f"{path}/items", type(tower.items).__name__, sharing, (length, *output)),
        Part("tokens", f"{path}/tokens", "Tokens", ", ".join(filter(None, dropped)), (length + 1, *output)),
        _module("encoder", f"{path}/encoder", tower.encoder, (length + 1, *output)),
    ]
    if tower.last is not None:
        parts.append(Part("last", f"{path}/last", "LastEmbedding", _dropped(tower.last.dropout), output))
    if tower.features is not None:
        parts.append(_feature_tower("features", f"{path}/features", tower.features, output))
    if len(parts) > 3:
        parts.append(Part("combine", f"{path}/combine", "sum", f"{len(parts) - 2} parts", output))
    return Part(path, path, "HistoryTower", "", output, tuple(parts))


def _module(name: str, path: str, module: nnx.Module, output: Shape = ()) -> Part:
    """Returns a module with its child modules that have parameters, layers in the order of their numbers."""
    found = {inner: child for inner, child in nnx.iter_modules(module) if jax.tree.leaves(nnx.state(child, nnx.Param))}
    children = [  # a child may be in a dictionary, which is a module too
        inner
        for inner, child in found.items()
        if not isinstance(child, nnx.Dict)
        and (len(inner) == 1 or (len(inner) == 2 and isinstance(found[inner[:1]], nnx.Dict)))
    ]
    parts = (
        Part(
            str(inner[-1]), "/".join([path, *map(str, inner)]), type(found[inner]).__name__, output=_width(found[inner])
        )
        for inner in sorted(children, key=lambda inner: _layer_number(str(inner[-1])))
    )
    return Part(name, path, type(module).__name__, _layer_details(module), output, tuple(parts))


def _layer_number(name: str) -> float:
    """Returns the number of a layer; infinity for modules without a number, which follow all layers."""
    number = re.search(r"_(\d+)$", name)
    return float(number[1]) if number else math.inf


def _width(module: nnx.Module) -> Shape:
    return (module.out_features,) if isinstance(module, nnx.Linear) else ()


def _layer_details(module: nnx.Module) -> str:
    facts = [f"{module.heads} heads" if getattr(module, "heads", 1) > 1 else ""]
    if isinstance(module, MLP):
        facts.append("relu" if len(module.layers) > 1 else "")
    dropouts = {child.rate for _, child in nnx.iter_modules(module) if isinstance(child, Dropout) and child.rate}
    facts += [f"dropout {rate:g}" for rate in sorted(dropouts)]
    return ", ".join(filter(None, facts))


def _dropped(dropout: Dropout | FeatureDropout) -> str:
    return f"dropout {dropout.rate:g}" if dropout.rate else ""


def _filled(part: Part, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> Part:
    """Returns the part in which each leaf belongs to the innermost part whose path begins its name."""
    inner: dict[str, dict[str, jax.ShapeDtypeStruct]] = {child.path: {} for child in part.parts}
    own = {}
    for path, leaf in leaves.items():
        owners = [owner for owner in inner if path.startswith(f"{owner}/")]
        if owners:  # the longest: the name of a feature may begin with that of another
            inner[max(owners, key=len)][path] = leaf
        else:
            own[path.removeprefix(f"{part.path}/")] = leaf
    parts = tuple(_filled(child, inner[child.path]) for child in part.parts)
    return dataclasses.replace(part, parts=parts, own=own)
