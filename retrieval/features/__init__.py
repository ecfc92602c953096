"""Features: raw columns -> the inputs of a tower, fitted on the training part, by the same code in serving.

A new kind of feature is a class derived from `base.Encoder` and its name in the tuple of `registry.KINDS`.
"""

from retrieval.features.base import Encoder, FeatureSettings
from retrieval.features.encoded import TABLE, Encoded, Spec, to_columns
from retrieval.features.fitting import encode_table, feature_names, fit_table
from retrieval.features.registry import encoder_from_json, fit

__all__ = [
    "TABLE",
    "Encoded",
    "Encoder",
    "FeatureSettings",
    "Spec",
    "encode_table",
    "encoder_from_json",
    "feature_names",
    "fit",
    "fit_table",
    "to_columns",
]
