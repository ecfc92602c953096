"""History encoders: modules that predict the next interaction from a query's past ones, at all positions in one pass.

An encoder is a module called `encoder(tokens, real, times=None)`, from tokens [B, M, D] to outputs [B, M, D] with
M = L + 1. Token 0 and padding are the learned START vector with `real` False, see `Tokens`; histories are
right-aligned, padding first. Output p is scored against the candidate of token p + 1. In serving the last output is
the query's embedding.

- Output p depends on no token after p (`visible="past"`), or on every token except p + 1 ("others", leave one out).
- Only real tokens are visible. The amount of padding before a history, and the values in it, change no output of a
  real token. A position without visible real tokens has an output that depends on START alone and not on the position:
  training learns it from first interactions, and it is the embedding of an empty history.
- `times` [B, M] are int32 seconds of the tokens, ascending. Only encoders with `reads_times` in `ENCODERS` read them.
- Parameters, tokens and outputs have the `dtype` of the encoder; sums are accumulated in float32.

A new encoder is a module in a file of its own and an entry of `ENCODERS`.
"""

from retrieval.models.history.encoders import ENCODERS, create
from retrieval.models.history.tokens import Tokens, log_buckets

__all__ = ["ENCODERS", "Tokens", "create", "log_buckets"]
