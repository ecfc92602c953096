"""Who may import what: the order of the rooms, the only homes of heavy packages, and the public names."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import retrieval

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = (  # each may import those before it
    *("common", "config", "sharding", "data", "features", "batching", "models", "losses", "objectives", "training"),
    *("ranking", "baselines", "evaluation", "index", "serving", "pipeline"),
)
ONLY_IN = {  # package -> the only files that may import it
    "absl": ("experiments/",),
    "ml_collections": ("experiments/",),
    "rich": ("experiments/",),
    "hnswlib": ("retrieval/index/hnsw/",),
    "jinja2": ("experiments/report/document.py",),
    "matplotlib": ("experiments/report/", "experiments/sweep/", "experiments/inspection/", "experiments/tune_index.py"),
    "optuna": ("experiments/sweep/",),
    "tensorboard": ("experiments/export_tensorboard.py",),
    "cryptography": ("retrieval/serving/bundle/signature.py",),
    "tensorflow": ("retrieval/serving/exports/savedmodel.py",),
    "pyarrow": (
        "retrieval/data/",
        "retrieval/evaluation/per_query.py",
        "retrieval/serving/exports/",
        "experiments/benchmarks/",
    ),
    "scipy": (
        "retrieval/evaluation/bootstrap.py",
        "retrieval/evaluation/bounded_mean.py",
        "retrieval/baselines/",
        "experiments/benchmarks/",
        "experiments/sweep/",
    ),
    "experiments": ("experiments/",),
    "pickle": (),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:  # programs import each other by relative names
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources():
    return [path for folder in ("retrieval", "experiments", "configs") for path in (ROOT / folder).rglob("*.py")]


def test_heavy_packages_have_one_home():
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for module in imports(path):
            allowed = ONLY_IN.get(module.split(".")[0])
            assert allowed is None or name.startswith(tuple(allowed)), f"{name} imports {module}"


def test_the_library_is_its_rooms():
    found = {path.name for path in (ROOT / "retrieval").iterdir() if path.name != "__pycache__"}
    assert found == {*ROOMS, "__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


def test_each_room_imports_those_before_it_alone():
    for path in (ROOT / "retrieval").rglob("*.py"):
        room = path.relative_to(ROOT / "retrieval").parts[0]
        if room == "__main__.py":  # starts the programs, which are installed beside the rooms
            continue
        allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ()
        for module in imports(path):
            if module.startswith("retrieval."):
                assert module.split(".")[1] in allowed, f"{path.relative_to(ROOT)} imports {module}"


def test_only_sharding_asks_for_devices():
    for path in (ROOT / "retrieval").rglob("*.py"):
        if path.relative_to(ROOT / "retrieval").parts[0] != "sharding":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"jax\.(local_)?devices|jax\.device_count|process_index", text), path


def test_importing_the_library_has_no_effect():
    code = "import jax, sys, retrieval, retrieval.serving.bundle; assert 'absl.flags' not in sys.modules\n"
    code += "assert 'tensorflow' not in sys.modules and not jax.config.jax_enable_x64"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_public_name_is_there_and_no_module_shares_it():
    modules = {path.stem for path in (ROOT / "retrieval").rglob("*.py") if path.stem != "__init__"}
    for name in retrieval.__all__:
        value = getattr(retrieval, name)
        assert name in dir(retrieval)
        assert not (callable(value) and name in modules), f"a module is named {name} as well"
    assert not hasattr(retrieval, "evalute")


def test_the_stub_for_editors_has_the_public_names():
    stub = ast.parse((ROOT / "retrieval/__init__.pyi").read_text(encoding="utf-8"))
    names = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                names[alias.asname] = getattr(module, alias.name)
    assert {name: getattr(retrieval, name) for name in retrieval.__all__} == names
