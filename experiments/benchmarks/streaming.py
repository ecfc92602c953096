"""Measures streaming: the time of an epoch, and the memory of a process whose data do not fit into memory."""

from __future__ import annotations

import itertools
import multiprocessing
import pathlib
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from flax import nnx

from retrieval.batching.device import device_blocks
from retrieval.common.environment import peak_rss
from retrieval.config.schema import Config, Data
from retrieval.data.dataset import load
from retrieval.data.encoding import Examples
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.pipeline.recipe import prepare
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import create
from retrieval.training.step import create_state, train_block

from .measure import Measurement, share

MEMORY = 4e9  # bytes
ROW_GROUP = 1_000_000
SCHEMA = pa.schema({"user_id": pa.int64(), "item_id": pa.int64()})


def epoch(
    num_examples: int = 20_000_000,
    num_queries: int = 100_000,
    num_candidates: int = 20_000,
    dimension: int = 32,
    batch_size: int = 2048,
    rounds: int = 2,
) -> list[Measurement]:
    """Measures a streamed epoch beside one whose batches are on the device; both include the preparation of batches.

    The first epoch of each is left out, since it compiles. It takes about 40 minutes on two cores.
    """
    rng = np.random.default_rng(0)
    queries, candidates = _pairs(rng, num_examples, num_queries, num_candidates)
    examples = Examples(queries + 1, candidates + 1, np.broadcast_to(np.float32(1.0), num_examples))
    model = _model(num_queries, num_candidates, dimension)

    def seconds_an_epoch(placement):
        times = []
        settings = {"batch_size": batch_size, "epochs": rounds + 1, "seed": 0, "placement": placement}
        for _ in fit(model, examples, InBatchSoftmax(), create("adagrad", 0.1), **settings):
            times.append(time.perf_counter())
        return min(later - earlier for earlier, later in itertools.pairwise(times))

    device, streamed = seconds_an_epoch("device"), seconds_an_epoch("stream")
    return [share("stream/epoch", streamed, device, "s an epoch", "the batches of the epoch on the device", 1.3)]


def memory(
    num_examples: int = 200_000_000, num_queries: int = 2_000_000, num_candidates: int = 200_000, steps: int = 300
) -> list[Measurement]:
    """Measures the peak memory of a process that encodes a Parquet file out of core and trains on the stream.

    The process runs as `experiments.train` with `data.placement=stream` and a default config, up to the given number
    of steps. 200 million rows take 3.3 GB of disk in the temporary folder and about 10 minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_interactions(pathlib.Path(folder), num_examples, num_queries, num_candidates)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:  # a fresh process
            stages = process.submit(train_streamed, folder, steps).result()
    peak = float(max(peak for _, peak in stages.values()))
    return [share("stream/memory", peak, MEMORY, "bytes", "4 GB", 1.0)]


def write_interactions(folder: pathlib.Path, num_examples: int, num_queries: int, num_candidates: int) -> None:
    """Writes `train.parquet`, a million rows at a time, and a small `test.parquet`."""
    rng = np.random.default_rng(0)
    for name, rows in (("train", num_examples), ("test", max(num_examples // 100_000, 1))):
        with pa.parquet.ParquetWriter(folder / f"{name}.parquet", SCHEMA) as file:
            for start in range(0, rows, ROW_GROUP):
                pairs = _pairs(rng, min(ROW_GROUP, rows - start), num_queries, num_candidates)
                columns = [pa.array(column.astype(np.int64) * 7 + 11) for column in pairs]  # ids with gaps
                file.write_table(pa.table(columns, schema=SCHEMA))


def train_streamed(folder: str, steps: int) -> dict[str, tuple[float, int]]:
    """Encodes and trains; returns for each stage its seconds and the peak memory of the process so far, in bytes."""
    stages = {}
    started = time.perf_counter()

    def done(stage):
        nonlocal started
        stages[stage] = time.perf_counter() - started, peak_rss()["peak_rss_bytes"]
        started = time.perf_counter()

    files = {"train": f"{folder}/train.parquet", "test": f"{folder}/test.parquet", "cache": folder}
    config = Config(data=Data(**files, placement="stream", drop_duplicates=False))
    dataset = load(config.data)
    done("encode")
    _ = dataset.fingerprint
    done("fingerprint")
    recipe = prepare(config, dataset.parts.train, dataset.corpus)
    initial = create_state(recipe.model, recipe.optimizer)
    done("prepare")
    step = jax.jit(
        lambda state, loss, block: train_block(state, block, loss, recipe.model, recipe.optimizer), donate_argnums=0
    )
    state = jax.tree.map(jax.numpy.copy, initial)  # as `fit` does, which keeps the state of its caller
    settings = {"batch_size": config.train.batch_size, "epochs": range(1), "seed": 0, "placement": "stream"}
    taken = 0
    for block in device_blocks(recipe.examples, **settings):
        if taken == 0:
            done("first block")
        state, sums = jax.block_until_ready(step(state, recipe.loss, block))
        taken += len(sums["loss"])
        if taken >= steps:
            break
    done(f"{taken} steps")
    return stages


def _pairs(rng, num_pairs, num_queries, num_candidates):
    """Returns int32 columns of queries and candidates; candidates follow Zipf's law."""
    queries = num_queries * rng.random(num_pairs) ** 2
    candidates = (num_candidates + 1) ** rng.random(num_pairs) - 1
    return queries.astype(np.int32), np.minimum(candidates, num_candidates - 1).astype(np.int32)


def _model(num_queries, num_candidates, dimension):
    rngs = nnx.Rngs(0)
    return TwoTower(*(IdTower(n + 1, dimension, initial_scale=0.02, rngs=rngs) for n in (num_queries, num_candidates)))
