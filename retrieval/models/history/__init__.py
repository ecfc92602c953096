"""History encoders: what a query's past interactions say of the next one, at all positions in one pass.

An encoder is a module called `encoder(tokens, real, times=None)`, from tokens [B, M, D] to outputs [B, M, D] with
M = L + 1. Token 0 and padding are the learned START vector with `real` False, see `Tokens`; histories are
right-aligned, padding first. Output p is scored against the candidate that comes as token p + 1, and the last output
answers at serving time.

- Output p depends on no token after p (`visible="past"`), or on every token but p + 1 ("others": leave one out).
- Only real tokens are visible to others. More padding before a history, or other values in it, change no output of a
  real token. A position that sees no real token answers with a function of START alone, the same wherever it is:
  that is what training learns of first interactions, and what an empty history is answered with.
- `times` [B, M] are int32 seconds of the tokens, ascending; `hstu` alone looks at them.
- Parameters and outputs have the `dtype` of the encoder, as tokens must; sums are accumulated in float32.
"""

from retrieval.models.history.encoders import ENCODERS, create
from retrieval.models.history.tokens import Tokens, log_buckets

__all__ = ["ENCODERS", "Tokens", "create", "log_buckets"]
