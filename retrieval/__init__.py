"""Two-tower retrieval in JAX."""
