"""MovieLens 100K, retrieval and ratings together: which movies a user watches, and how many stars they get.

python -m experiments.run --config=configs/multitask.py --workdir=runs/multitask
"""

from retrieval.config import Config, Task


def get_config() -> Config:
    """Returns the experiment."""
    config = Config(name="multitask")
    config.data.dataset = "movielens-100k"
    config.tasks = (Task(name="rating", weight=0.1),)
    return config
