"""Packaging of `retrieval`. Tool settings live in pyproject.toml.

The programs and configs of a checkout, `experiments/` and `configs/`, are installed as `retrieval.programs` and
`retrieval.configs`: no other name is taken at the top of site-packages.
"""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+?)"', (HERE / "retrieval/__init__.py").read_text(encoding="utf-8"), re.M)[1]
PROGRAMS = ["experiments", *(f"experiments.{name}" for name in find_packages("experiments"))]

TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "beartype>=0.18",
    "cryptography>=42",
    "ruff>=0.6",
    "ir-measures>=0.4.3",  # trec_eval, which the ranking metrics are compared with
    "optuna>=5",
    "pandas>=2.2",  # columns and frames as ids, times and histories
    "polars>=1.0",
    "selenium>=4.20",  # looks at the report in a browser
    "tensorboard>=2.18",
]

setup(
    name="retrieval",
    version=VERSION,
    description="Two-tower retrieval in JAX: train, evaluate on the full corpus, export, index and serve.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["retrieval", "retrieval.*"]),
        *(name.replace("experiments", "retrieval.programs", 1) for name in PROGRAMS),
        "retrieval.configs",
    ],
    package_dir={"": ".", "retrieval.programs": "experiments", "retrieval.configs": "configs"},
    package_data={"retrieval": ["*.pyi", "py.typed"], "retrieval.programs": ["*/*.html", "*/*.css", "*/*.js"]},
    entry_points={"console_scripts": ["retrieval = retrieval.__main__:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=[
        "recommender systems",
        "retrieval",
        "two-tower",
        "jax",
        "flax",
        "embeddings",
        "approximate nearest neighbours",
    ],
    install_requires=[
        "absl-py>=2.1",
        "flatbuffers>=24.3",  # jax.export serialises with it but does not install it
        "flax>=0.12",
        "hnswlib>=0.8,<0.9",  # index/hnsw/layout.py relies on the layout of its graphs
        "jax>=0.8",
        "jinja2>=3.1",
        "jaxtyping>=0.3",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.4",
        "pyarrow>=16",
        "rich>=13",
        "scipy>=1.13",
    ],
    extras_require={
        "test": TEST,
        "bench": [
            "implicit>=0.7.3",
            "annoy>=1.17.3",
            "faiss-cpu>=1.9",
            "scann>=1.4; platform_machine == 'x86_64' and sys_platform == 'linux'",
            "voyager>=2.1",
        ],
        "docs": [  # mkdocs-material 9 is made for mkdocs 1
            "mkdocs>=1.6,<2",
            "mkdocs-jupyter>=0.25",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.27",
            "nbclient>=0.10",  # executes the tutorial
            "ipykernel>=6.29",
        ],
        "sign": ["cryptography>=42"],  # signatures of bundles
        "sweep": ["optuna>=5"],
        "tensorboard": ["tensorboard>=2.18"],
        "tensorflow": [  # 2.20 is the first that runs the StableHLO of jax 0.8 and later
            "tensorflow-cpu>=2.20; platform_machine == 'x86_64'",
            "tensorflow>=2.20; platform_machine != 'x86_64'",
        ],
    },
)
