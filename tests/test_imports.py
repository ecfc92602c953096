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
        "retrieval.common.choices",
        "retrieval.common.storage",
        "retrieval.config.schema",
        "retrieval.config.checks",
        "retrieval.config.space",
        "retrieval.common.lists",
        "retrieval.losses.log_partition",
    ),
    ("retrieval.data",),
    ("retrieval.features",),
    ("retrieval.features.context",),
    (
        "retrieval.batching.device",
        "retrieval.models",
        "retrieval.losses",
        "retrieval.data.popularity",
        "retrieval.training.optimizers.by_name",
        "retrieval.training.optimizers.parameter_average",
        "retrieval.training.optimizers.row_penalty",
        "retrieval.training.optimizers.schedules",
        "retrieval.ranking.blocks",
    ),
    ("retrieval.training.optimizers.touched_rows",),
    ("retrieval.pipeline.architecture", "retrieval.pipeline.examples", "retrieval.data.labels"),
    (
        "retrieval.ranking.ranks",
        "retrieval.ranking.topk",
        "retrieval.metrics",
        "retrieval.list_metrics",
        "retrieval.evaluation.pointwise_metrics",
        "retrieval.objectives",
        "retrieval.training.step",
        "retrieval.evaluation.bootstrap",
    ),
    (
        "retrieval.ranking.ranking",
        "retrieval.evaluation.per_query",
        "retrieval.evaluation.slices",
        "retrieval.leakage",
        "retrieval.pipeline.tasks",
    ),
    ("retrieval.baselines", "retrieval.training.ensemble"),
    (
        "retrieval.evaluate",
        "retrieval.evaluation.heads",
        "retrieval.pipeline.additions",
        "retrieval.pipeline.recipe",
        "retrieval.training.checkpoint",
        "retrieval.index",
        "retrieval.common.environment",
    ),
    (
        "retrieval.evaluation.protocol",
        "retrieval.evaluation.comparison",
        "retrieval.serving.request",
        "retrieval.serving.answers",
        "retrieval.pipeline.search_and_fit",
    ),
    ("retrieval.serving.recommender",),
    ("retrieval.serving.bundle",),
    ("retrieval.serving.exports.savedmodel",),
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
    code = "import jax, sys, retrieval; import retrieval.serving.bundle; assert 'absl.flags' not in dir(retrieval)\n"
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
