"""Which devices hold an array, and how much they hold. Only this room asks JAX for its devices; no model knows it."""
