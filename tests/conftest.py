"""Settings of every test: strict types, checked shapes, several devices."""

import importlib.metadata
import os
import tempfile

# most of the tests' time is compilation; programs that they start compile alike, and what one has compiled all have
FLAGS = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # a third less time; XLA ends where it lacks a flag
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="compiled-")  # of the process that starts the others, and theirs
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook  # noqa: E402

HOOK = install_import_hook("retrieval", "beartype.beartype")  # every annotation is checked at every call

import jax  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# what is right on a busy machine does not fail there for being slow
settings.register_profile("any_speed", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
