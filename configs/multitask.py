"""MovieLens 100K, retrieval and ratings together: which movies a user watches, and how many stars they get.

python -m experiments.run --config=configs/multitask.py --workdir=runs/multitask
"""

from retrieval.config import Config, Task


def get_config() -> Config:
    """Returns the experiment."""
    config = Config(name="multitask")
    config.data.dataset = "movielens-100k"
    config.model.embedding_dimension = 64
    config.tasks = (Task(name="rating", weight=0.03),)
    config.optimizer.weight_decay = 0.1
    return config
