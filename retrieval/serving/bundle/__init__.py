"""What leaves the lab: one folder with towers, vocabularies, features, corpus, embeddings and index, verified on load.

Loading needs jax, flatbuffers, jaxtyping, numpy and hnswlib, and none of the model's code: the towers are StableHLO
programs over the arrays of their parameters. They read the features of their entities from columns, which the encoders
in the bundle make, as in training: of entities that train knows once, when it is written, and of any others when they
are asked for. The histories of train, and what encodes the time of a request, lie beside.
"""

from retrieval.serving.bundle.checking import Finding, inspect
from retrieval.serving.bundle.layout import CANDIDATE_TOWER, EMBEDDINGS, EXPORTS, QUERY_TOWER
from retrieval.serving.bundle.manifest import FORMAT_VERSION, MANIFEST, BundleFiles, read_manifest
from retrieval.serving.bundle.reading import load
from retrieval.serving.bundle.signature import read_private_key
from retrieval.serving.bundle.stablehlo import PLATFORMS, by_row, export_towers, lift, load_tower
from retrieval.serving.bundle.swap import previous, roll_back
from retrieval.serving.bundle.writing import Towers, save

__all__ = [
    "CANDIDATE_TOWER",
    "EMBEDDINGS",
    "EXPORTS",
    "FORMAT_VERSION",
    "BundleFiles",
    "read_manifest",
    "Finding",
    "MANIFEST",
    "PLATFORMS",
    "QUERY_TOWER",
    "Towers",
    "by_row",
    "export_towers",
    "inspect",
    "lift",
    "load",
    "load_tower",
    "previous",
    "read_private_key",
    "roll_back",
    "save",
]
