"""Which epochs a profile holds."""

import jax
import pytest

from experiments.shared.profiler import Profiler


@pytest.fixture
def recorded(monkeypatch):
    """Which of the epochs given to `train` were recorded."""
    traces, recording = [], []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: (traces.append([]), recording.append(folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", recording.clear)

    def train(profiler, *epochs):
        for epoch in epochs:
            if recording:
                traces[-1].append(epoch)
            profiler.after_epoch([{"phase": epoch[0], "epoch": epoch[1]}])
        return traces

    return train


def phase(name, first, last):
    return [(name, epoch) for epoch in range(first, last + 1)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (phase("search", 0, 9) + phase("final", 0, 9), [phase("search", 2, 4)]),
        (phase("search", 5, 9), [phase("search", 7, 9)]),  # resumed after epoch 5
        (phase("search", 0, 1) + phase("final", 0, 9), [[("final", 0)]]),
        ([("search", 9)] + phase("final", 0, 4), [phase("final", 2, 4)]),
    ],
)
def test_three_epochs_of_one_phase_are_recorded_after_those_that_compile(recorded, tmp_path, capsys, epochs, expected):
    with Profiler(tmp_path / "profile") as profiler:
        assert recorded(profiler, *epochs) == expected
    assert f"profile: {tmp_path / 'profile'}" in capsys.readouterr().out


def test_a_training_that_is_too_short_says_so(recorded, tmp_path, capsys):
    with Profiler(tmp_path) as profiler:
        assert recorded(profiler, ("final", 0)) == []
    assert "no profile" in capsys.readouterr().out


def test_an_error_ends_the_recording(recorded, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        with Profiler(tmp_path) as profiler:
            recorded(profiler, *phase("final", 0, 2))
            raise KeyboardInterrupt
    assert recorded(profiler, ("final", 3)) == [[("final", 2)]]
