"""Features: raw columns -> what a tower reads, with statistics of train, the same in training and serving."""

from retrieval.features.encoded import TABLE, Encoded, Spec, to_columns
from retrieval.features.encoder import Encoder, Feature
from retrieval.features.kinds import encoder_from_json, fit
from retrieval.features.tables import encode_table, feature_names, fit_table

__all__ = [
    "TABLE",
    "Encoded",
    "Encoder",
    "Feature",
    "Spec",
    "encode_table",
    "encoder_from_json",
    "feature_names",
    "fit",
    "fit_table",
    "to_columns",
]
