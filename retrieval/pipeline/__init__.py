"""A config and data become a trained, evaluated, indexed and bundled model; only this room takes a whole `Config`."""
