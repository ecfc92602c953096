"""How XLA compiles: the cache of compiled programs on disk, for the next run, and deterministic operations."""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform

import jax

from retrieval.config.schema import Data

BACKEND_COMPILE = "/jax/core/compile/backend_compile_duration"  # of XLA, cache look-ups included
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class _Watch:
    """Sums the seconds of the compilations that JAX reports."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self, event: str, seconds: float, **details) -> None:
        if event == BACKEND_COMPILE:
            self.seconds += seconds


WATCH = _Watch()


def seconds() -> float:
    """Returns the seconds that JAX has compiled, or read from the cache, since `keep` was called."""
    return WATCH.seconds


def keep() -> None:
    """Turns on the compilation cache of JAX, in JAX_COMPILATION_CACHE_DIR or else in the cache folder of the data."""
    if jax.config.jax_compilation_cache_dir is None:
        folder = pathlib.Path(Data().cache).expanduser() / "compiled" / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.monitoring.register_event_duration_secs_listener(WATCH)


def be_deterministic() -> None:
    """Makes XLA use only deterministic operations on GPUs; call it before the first computation.

    XLA reads its flags once, from the environment, which the worker processes of a sweep inherit.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()


def _processor() -> str:
    """Returns a name for the processor and its features, since machines of several kinds may share a home folder."""
    description = platform.machine() + platform.processor()
    if (file := pathlib.Path("/proc/cpuinfo")).exists():
        lines = file.read_text(encoding="utf-8").splitlines()
        description += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return hashlib.sha256(description.encode()).hexdigest()[:12]
