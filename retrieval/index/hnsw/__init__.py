"""hnsw."""
