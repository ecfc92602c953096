"""Who may import what: the direction of imports, and the only places of heavy packages."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
ONLY_IN = {  # package -> the only files that may import it
    "absl": ("experiments/",),
    "ml_collections": ("experiments/",),
    "rich": ("experiments/",),
    "hnswlib": ("retrieval/index/graph.py",),
    "matplotlib": ("experiments/report/", "experiments/tune_index.py"),
    "optuna": ("experiments/sweep/",),
    "tensorboard": ("experiments/export_tensorboard.py",),
    "tensorflow": ("retrieval/savedmodel.py",),
    "pyarrow": ("retrieval/data/", "retrieval/per_query.py", "experiments/benchmarks/"),
    "scipy": ("retrieval/uncertainty.py", "retrieval/baselines/", "experiments/benchmarks/"),
    "experiments": ("experiments/",),
    "pickle": (),
}
LAYERS = (  # each may import those before it and, within retrieval, its own
    (
        "retrieval.suggestions",
        "retrieval.storage",
        "retrieval.config",
        "retrieval.settings",
        "retrieval.space",
        "retrieval.lists",
        "retrieval.log_partition",
    ),
    ("retrieval.data",),
    ("retrieval.features",),
    ("retrieval.context",),
    (
        "retrieval.stream",
        "retrieval.models",
        "retrieval.losses",
        "retrieval.sampling",
        "retrieval.optimizers",
        "retrieval.averages",
        "retrieval.penalties",
        "retrieval.schedules",
        "retrieval.scoring",
    ),
    ("retrieval.touched",),
    ("retrieval.architecture", "retrieval.examples", "retrieval.labels"),
    (
        "retrieval.ranks",
        "retrieval.topk",
        "retrieval.metrics",
        "retrieval.list_metrics",
        "retrieval.label_metrics",
        "retrieval.objectives",
        "retrieval.train",
        "retrieval.uncertainty",
    ),
    ("retrieval.ranking", "retrieval.per_query", "retrieval.slices", "retrieval.leakage", "retrieval.tasks"),
    ("retrieval.baselines", "retrieval.replicas"),
    (
        "retrieval.evaluate",
        "retrieval.predictions",
        "retrieval.additions",
        "retrieval.recipe",
        "retrieval.checkpoint",
        "retrieval.index",
        "retrieval.logs",
    ),
    ("retrieval.evaluation", "retrieval.comparison", "retrieval.requests", "retrieval.answers", "retrieval.phases"),
    ("retrieval.recommend",),
    ("retrieval.bundle",),
    ("retrieval.savedmodel",),
)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources():
    return [path for folder in ("retrieval", "experiments", "configs") for path in (ROOT / folder).rglob("*.py")]


def layer(module):
    ranks = [i for i, names in enumerate(LAYERS) for name in names if (module + ".").startswith(name + ".")]
    return ranks[0] if ranks else None


def test_heavy_packages_have_one_home():
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for module in imports(path):
            allowed = ONLY_IN.get(module.split(".")[0])
            assert allowed is None or name.startswith(tuple(allowed)), f"{name} imports {module}"


def test_imports_in_the_library_go_one_way():
    for path in (ROOT / "retrieval").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "retrieval":
            continue
        own = layer(module)
        assert own is not None, f"{module} has no layer"
        for imported in imports(path):
            other = layer(imported)
            assert other is None or other <= own, f"{module} imports {imported}"


def test_importing_the_library_has_no_effect():
    code = "import jax, sys, retrieval; import retrieval.bundle; assert 'absl.flags' not in dir(retrieval)\n"
    code += "assert 'tensorflow' not in sys.modules"
    code += "; assert not jax.config.jax_enable_x64"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_public_name_is_there_and_no_module_hides_it():
    code = "import retrieval, retrieval.evaluate, retrieval.losses as losses\n"
    code += "for name in retrieval.__all__: assert getattr(retrieval, name) and name in dir(retrieval), name\n"
    code += "assert callable(retrieval.evaluate) and retrieval.losses is losses and not hasattr(retrieval, 'evalute')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
