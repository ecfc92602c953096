"""Where the code relies on what a dependency keeps private, setup.py has an upper bound for its version."""

import ast
import pathlib
import re
import sys

import pytest

from retrieval.index.hnsw import layout

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = [path for room in ("retrieval", "experiments") for path in sorted((ROOT / room).rglob("*.py"))]
OWN = {"retrieval", "experiments", "configs", *sys.stdlib_module_names}
PICKLED = {"__getstate__", "__setstate__", "__reduce__", "__reduce_ex__"}  # the state of an object, of whatever class
KNOWN = {"hnswlib": {"retrieval/index/hnsw/layout.py", "experiments/benchmarks/loading.py"}}  # package -> files


def private_uses(source):
    """Returns (line, package, text) of each private name of a dependency, and of each state of an object of another."""
    tree, packages, found = ast.parse(source), {}, []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [(a.asname or a.name.split(".")[0], a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [(a.asname or a.name, f"{node.module}.{a.name}") for a in node.names]
        for name, path in names:
            packages[name] = package = path.split(".")[0]
            if package not in OWN and any(part.startswith("_") for part in path.split(".")):
                found.append((node.lineno, package, path))
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")):
        owner = node.value
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        name = owner.id if isinstance(owner, ast.Name) else ""
        package = packages.get(name, "")
        is_dunder = node.attr.startswith("__")
        if (package and package not in OWN and not is_dunder) or (
            node.attr in PICKLED and name not in ("self", "super")
        ):
            found.append((node.lineno, package, ast.unparse(node)))
    return found


def requirements():
    """Returns each requirement of setup.py by the name of its package."""
    texts = re.findall(r'"([A-Za-z][\w-]*)((?:[<>=!]=?[\d.]+,?)+)', (ROOT / "setup.py").read_text(encoding="utf-8"))
    return dict(texts)


def test_only_the_known_files_rely_on_what_a_dependency_keeps_private():
    relying = {}
    for path in SOURCES:
        for line, package, text in private_uses(path.read_text(encoding="utf-8")):
            relying.setdefault(path.relative_to(ROOT).as_posix(), []).append(f"{line}: {package} {text}")
    files = set().union(*KNOWN.values())
    assert {path: uses for path, uses in relying.items() if path not in files} == {}
    assert relying.keys() == files  # those that stopped relying on it leave the list


def test_what_they_rely_on_has_an_upper_bound():
    for package in KNOWN:
        assert "<" in requirements()[package], package
    assert layout.VERSIONS == f"hnswlib{requirements()['hnswlib']}"


@pytest.mark.parametrize(
    "source",
    [
        "import jax\njax._src.core.Tracer",
        "from jax._src import core",
        "import pyarrow._parquet",
        "import numpy as np\nnp.core._dtype",
        "import flax\nstate = flax.nnx._graph(x)",
        "graph.__getstate__()",
    ],
)
def test_a_private_name_is_found_however_it_is_reached(source):
    assert private_uses(source)


def test_public_names_and_own_private_ones_are_not_found():
    lines = ["import numpy as np", "from retrieval.index import _x", "np.__version__", "self._own", "row._replace()"]
    assert private_uses("\n".join([*lines, "self.__getstate__()"])) == []
