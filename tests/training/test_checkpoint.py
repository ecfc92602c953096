"""Checkpoints come back as they were, or say why not."""

import contextlib
import json
import logging
import math
import pathlib
import re
import shutil
import tempfile
import threading
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.training import checkpoint as checkpoint_lib
from retrieval.training.checkpoint import Checkpoints
from retrieval.training.step import TrainState

OPTIMIZER = optax.adagrad(0.1)


def state(value):
    params = {"tower": {"embedding": jnp.full((3, 2), value, jnp.float32)}}
    return TrainState(jnp.asarray(7, jnp.int32), params, OPTIMIZER.init(params))


def save(folder, scores, fingerprint="same"):
    for epoch, score in enumerate(scores):
        with Checkpoints(folder, fingerprint) as checkpoints:
            checkpoints.last(state(0))
            checkpoints.save(epoch, state(epoch), [{"epoch": e} for e in range(epoch + 1)], score)


def last(folder, at_most=None, fingerprint="same"):
    with Checkpoints(folder, fingerprint) as checkpoints:
        return checkpoints.last(state(0), at_most)


def epochs(folder):
    return sorted(int(path.stem) for path in folder.glob("*.checkpoint"))


@contextlib.contextmanager
def warnings():
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("retrieval.training.checkpoint")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    save(folder, [0.1, 0.2])
    return folder


def test_the_last_state_and_its_history_come_back(two):
    restored = last(two)
    assert (restored.epoch, restored.history) == (1, [{"epoch": 0}, {"epoch": 1}])
    assert np.array_equal(restored.state.params["tower"]["embedding"], np.ones((3, 2)))
    assert int(restored.state.step) == 7


def test_arrays_of_every_kind_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    leaves = {
        "bfloat16": jnp.asarray(rng.normal(size=(4, 3)), jnp.bfloat16),
        "bool": jnp.asarray([True, False]),
        "column": jnp.asarray(np.asfortranarray(rng.normal(size=(3, 5)).astype(np.float32))),
        "empty": jnp.zeros((0, 3), jnp.float32),
        "infinite": jnp.asarray([np.nan, -np.inf, -0.0], jnp.float32),
        "int8": jnp.asarray([-128, 127], jnp.int8),
        "scalar": jnp.asarray(3, jnp.uint32),
    }
    whole = TrainState(jnp.asarray(2, jnp.int32), leaves, ())
    with Checkpoints(tmp_path, "same") as checkpoints:
        checkpoints.save(0, whole, [], 0.0)
    with Checkpoints(tmp_path, "same") as checkpoints:
        restored = checkpoints.last(jax.tree.map(jnp.zeros_like, whole)).state
    assert jax.tree.structure(restored) == jax.tree.structure(whole)
    for name, leaf in leaves.items():
        assert isinstance(restored.params[name], jax.Array)
        assert (restored.params[name].dtype, restored.params[name].shape) == (leaf.dtype, leaf.shape)
        assert np.asarray(restored.params[name]).tobytes() == np.asarray(leaf).tobytes()


def test_the_last_the_one_before_and_the_first_best_are_kept(tmp_path):
    save(tmp_path, [0.1, 0.9, 0.9, 0.3, 0.2])
    assert epochs(tmp_path) == [1, 3, 4]
    assert last(tmp_path).epoch == 4
    assert last(tmp_path, at_most=2).epoch == 1
    assert last(tmp_path, at_most=0) is None


def test_nan_is_no_best_score(tmp_path):
    save(tmp_path, [math.nan, 0.1, math.nan, 0.05])
    assert epochs(tmp_path) == [1, 2, 3]


def test_who_goes_on_from_an_earlier_epoch_removes_the_later_ones(tmp_path):
    save(tmp_path, [0.1, 0.2, 0.3, 0.4])
    with Checkpoints(tmp_path, "same") as checkpoints:
        assert checkpoints.last(state(0), at_most=2).epoch == 2
        assert epochs(tmp_path) == [2, 3]
        checkpoints.save(3, state(8), [], 0.0)
    assert epochs(tmp_path) == [2, 3]
    assert last(tmp_path).state.params["tower"]["embedding"][0, 0] == 8


def test_an_empty_folder_has_no_last_state_and_stays_empty(tmp_path):
    assert last(tmp_path) is None
    assert last(tmp_path / "missing") is None
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_experiment_is_refused(two):
    with pytest.raises(ValueError, match="trained with another config, vocabulary or data"):
        last(two, fingerprint="other")


def test_a_checkpoint_of_another_optimizer_is_refused_by_name(two):
    template = state(0)
    template = template._replace(opt_state=optax.sgd(0.1, momentum=0.9).init(template.params))
    with Checkpoints(two, "same") as checkpoints:
        with pytest.raises(ValueError, match="000001.checkpoint was written by other code.*sum_of_squares.*trace"):
            checkpoints.last(template)


def damaged_copy(folder, content):
    """A folder with an intact epoch 0 and the given bytes as epoch 1."""
    copy = pathlib.Path(tempfile.mkdtemp())
    shutil.copy(folder / "000000.checkpoint", copy)
    (copy / "000001.checkpoint").write_bytes(content)
    return copy


def check_the_one_before_is_used(two, content):
    copy = damaged_copy(two, content)
    with warnings() as messages:
        restored = last(copy)
    assert restored.epoch == 0 and restored.history == [{"epoch": 0}]
    assert len(messages) == 2
    assert f"{copy / '000001.checkpoint'} is damaged and not used" in messages[0]
    assert f"training resumes from the checkpoint before it, {copy / '000000.checkpoint'}" in messages[1]
    shutil.rmtree(copy)


def test_a_flipped_bit_in_any_byte_is_noticed(two):
    content = (two / "000001.checkpoint").read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        check_the_one_before_is_used(two, bytes(flipped))


@settings(deadline=None)
@given(data=st.data())
def test_other_damage_is_noticed(two, data):
    content = (two / "000001.checkpoint").read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    damaged = content[:start] + data.draw(st.binary(max_size=20)) + content[end:]
    if damaged != content:
        check_the_one_before_is_used(two, damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", r"its first line is not that of a checkpoint \(0 bytes\)"),
        (lambda content: content[:-5], "bytes after its first line, not"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its SHA-256 is"),
    ],
)
def test_the_log_says_what_is_wrong(two, change, message):
    copy = damaged_copy(two, change((two / "000001.checkpoint").read_bytes()))
    with warnings() as messages:
        last(copy)
    assert re.search(message, messages[0])


def test_where_none_is_left_the_log_says_that_training_starts_anew(two):
    copy = damaged_copy(two, b"")
    (copy / "000000.checkpoint").write_bytes(b"retrieval")
    with warnings() as messages:
        assert last(copy) is None
    assert len(messages) == 3 and "training starts anew" in messages[2]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    save(tmp_path, [0.1])
    scratch = tmp_path / ".000001.checkpoint.123"
    scratch.write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert last(tmp_path).epoch == 0 and scratch.exists()
    save(tmp_path, [0.1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.checkpoint", "notes.txt"]


@contextlib.contextmanager
def slow_disk(folder):
    """Yields a semaphore that each write waits for, and the epochs on disk after each write."""
    gate, seen = threading.Semaphore(0), []
    write_chunks = checkpoint_lib.write_chunks

    def write(path, chunks):
        gate.acquire()
        write_chunks(path, chunks)
        seen.append(epochs(folder))

    with mock.patch.object(checkpoint_lib, "write_chunks", write):
        yield gate, seen


def first_best(scores):
    """The plain form."""
    return max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 2)), min_size=1, max_size=12))
def test_on_a_slow_disk_states_are_left_out_but_never_the_best_nor_the_last(steps):
    scores = [score for score, _ in steps]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with slow_disk(folder) as (gate, seen), Checkpoints(folder, "same") as checkpoints:
            for epoch, (score, num_writes) in enumerate(steps):
                checkpoints.save(epoch, state(epoch), [{"epoch": e} for e in range(epoch + 1)], score)
                for _ in range(num_writes):
                    gate.release()
            gate.release(len(steps))
        for on_disk in seen:  # whenever it is killed
            assert first_best(scores[: max(on_disk) + 1]) in on_disk
        assert {first_best(scores), len(scores) - 1} <= set(epochs(folder))
        assert len(epochs(folder)) <= 3
        for epoch in epochs(folder):
            restored = last(folder, at_most=epoch)
            assert restored.state.params["tower"]["embedding"][0, 0] == epoch
            assert restored.history == [{"epoch": e} for e in range(epoch + 1)]


def test_a_blocked_disk_keeps_nobody_waiting(tmp_path):
    with slow_disk(tmp_path) as (gate, seen), Checkpoints(tmp_path, "same") as checkpoints:
        for epoch, score in enumerate([0.0, 0.1, 0.9, 0.2, 0.3]):
            checkpoints.save(epoch, state(epoch), [], score)
        gate.release(5)
    assert seen[-1][-1] == 4 and len(seen) <= 3
    assert {2, 4} <= set(epochs(tmp_path))


def test_what_is_saved_may_change_before_it_is_written(tmp_path):
    params, history = {"embedding": np.zeros((2, 2), np.float32)}, [{"epoch": 0}]
    changing = TrainState(jnp.asarray(0, jnp.int32), params, ())
    with slow_disk(tmp_path) as (gate, _), Checkpoints(tmp_path, "same") as checkpoints:
        checkpoints.save(0, changing, history, 0.0)
        params["embedding"] += 1
        history[0]["epoch"] = 5
        gate.release()
    with Checkpoints(tmp_path, "same") as checkpoints:
        restored = checkpoints.last(changing)
    assert np.array_equal(restored.state.params["embedding"], np.zeros((2, 2)))
    assert restored.history == [{"epoch": 0}]


def test_a_failed_write_is_raised_by_the_next_save_or_the_end(tmp_path):
    save(tmp_path, [0.1])
    failed = threading.Event()

    def write(path, chunks):
        failed.set()
        raise OSError("No space left on device")

    with mock.patch.object(checkpoint_lib, "write_chunks", write):
        with pytest.raises(OSError, match="No space left"):
            with Checkpoints(tmp_path, "same") as checkpoints:
                checkpoints.save(1, state(1), [], 0.2)
        failed.clear()
        with pytest.raises(OSError, match="No space left"):
            with Checkpoints(tmp_path, "same") as checkpoints:
                checkpoints.save(1, state(1), [], 0.2)
                failed.wait()
                for epoch in range(2, 10_000):
                    checkpoints.save(epoch, state(epoch), [], 0.3)
                pytest.fail("no save told of the failure")
    assert last(tmp_path).epoch == 0


def test_the_file_can_be_read_without_this_code(two):
    content = (two / "000001.checkpoint").read_bytes()
    first, header, arrays = content.split(b"\n", 2)
    assert first.startswith(b"retrieval checkpoint 1: ")
    names = [leaf["path"] for leaf in json.loads(header)["leaves"]]
    assert names[:2] == [".step", ".params['tower']['embedding']"]
    assert np.array_equal(np.frombuffer(arrays, np.float32, 6, offset=4), np.ones(6))
