"""What XLA is told by --deterministic."""

import os
import subprocess
import sys

import pytest
from program_cases import ROOT

PROGRAM = """
import jax
import experiments.run, experiments.sweep.__main__  # a computation at import would make XLA read its flags too early
from experiments.shared import flags
flags.run(lambda: jax.jit(lambda x: x + 1)(1.0))
"""


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["--deterministic", "--nodeterministic"])
def test_the_flag_reaches_xla_beside_flags_of_the_user(tmp_path, argument):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_dump_to={tmp_path}"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")  # a program from the cache is not dumped
    command = [sys.executable, "-c", PROGRAM, argument]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=300)
    options = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*debug_options*")]
    assert options
    for text in options:
        assert ("xla_gpu_deterministic_ops: true" in text) == (argument == "--deterministic")
