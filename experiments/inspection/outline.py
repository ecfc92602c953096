"""What a model consists of: its parts in the order of computation, with their shapes and numbers of parameters."""

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
      name: what it is called within what it is a part of; of a feature, that of the feature.
      path: in the model; the names of its parameters begin so.
      kind: the name of its class, or what is done to the outputs of the parts before it: "sum" or "concat".
      detail: a few words on what it looks up, combines and drops; "" where there is nothing to say.
      output: shape of what it returns for one query or candidate; () where that is not told.
      parts: in the order of computation.
      own: shape and type of the parameters that are not of its parts, by the rest of their names.
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
        return sum(math.prod(of.shape) for of in self._all())

    @property
    def num_bytes(self) -> int:
        """The bytes of these parameters."""
        return sum(math.prod(of.shape) * jnp.dtype(of.dtype).itemsize for of in self._all())

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Part]]:
        """Yields the part and, after it, those that it consists of, each with its depth."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)

    def _all(self) -> Iterator[jax.ShapeDtypeStruct]:
        for _, part in self.walk():
            yield from part.own.values()


def outline(model: TwoTower, length: int = 0) -> Part:
    """Returns the parts of a model, in which each parameter is counted once; no array is computed.

    Parameters that both towers share, as those of the candidates in histories, are counted in the candidate tower.

    Args:
      model: the two towers. Those that are neither a `FeatureTower` nor a `HistoryTower` are told by their modules.
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
    """Tells how many rows of how many a feature looks up; how many it is not told where the example does."""
    width = tower.entities[name].rows.shape[1] if name in tower.entities else 1
    if name in tower.context:
        return f"rows of {module.num_rows:,}"
    return (
        f"1 of {module.num_rows:,} rows"
        if width == 1
        else f"{module.combiner} of up to {width} of {module.num_rows:,} rows"
    )


def _history_tower(path: str, tower: HistoryTower, output: Shape, length: int) -> Part:
    of_items = "" if isinstance(tower.items, EmbeddingTable) else "shared"
    dropped = [_dropped(tower.tokens.dropout), f"noise {tower.tokens.noise:g}" if tower.tokens.noise else ""]
    parts = [
        Part("items", f"{path}/items", type(tower.items).__name__, of_items, (length, *output)),
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
    """Returns a module with those that it holds, one level deep, layers in the order of their numbers."""
    found = []
    for attribute, child in vars(module).items():
        if isinstance(child, nnx.Dict):
            held = [(entry, child[entry]) for entry in child]
            found += [(entry, f"{attribute}/{entry}", of) for entry, of in held if isinstance(of, nnx.Module)]
        elif isinstance(child, nnx.Module):
            found.append((attribute, attribute, child))
    parts = (
        Part(of_name, f"{path}/{rest}", type(child).__name__, output=_width(child))
        for of_name, rest, child in sorted(found, key=_number)
        if jax.tree.leaves(nnx.state(child, nnx.Param))
    )
    return Part(name, path, type(module).__name__, _of_layers(module), output, tuple(parts))


def _number(named: tuple[str, str, nnx.Module]) -> float:
    """Returns the number of a layer; what has none comes after all layers."""
    number = re.search(r"_(\d+)$", named[0])
    return float(number[1]) if number else math.inf


def _width(module: nnx.Module) -> Shape:
    return (module.out_features,) if isinstance(module, nnx.Linear) else ()


def _of_layers(module: nnx.Module) -> str:
    facts = [f"{module.heads} heads" if getattr(module, "heads", 1) > 1 else ""]
    if isinstance(module, MLP):
        facts += ["relu" if len(module.layers) > 1 else "", "residual" if module.residual else ""]
    dropouts = {of.rate for _, of in nnx.iter_modules(module) if isinstance(of, Dropout) and of.rate}
    facts += [f"dropout {rate:g}" for rate in sorted(dropouts)]
    return ", ".join(filter(None, facts))


def _dropped(dropout: Dropout | FeatureDropout) -> str:
    return f"dropout {dropout.rate:g}" if dropout.rate else ""


def _filled(part: Part, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> Part:
    """Returns the part with those of the leaves that are its own, and its parts with theirs."""
    of_parts: dict[str, dict[str, jax.ShapeDtypeStruct]] = {of.path: {} for of in part.parts}
    own = {}
    for path, leaf in leaves.items():
        owners = [owner for owner in of_parts if path.startswith(f"{owner}/")]
        if owners:  # the longest: a feature may be named as another and more
            of_parts[max(owners, key=len)][path] = leaf
        else:
            own[path.removeprefix(f"{part.path}/")] = leaf
    parts = tuple(_filled(of, of_parts[of.path]) for of in part.parts)
    return dataclasses.replace(part, parts=parts, own=own)
