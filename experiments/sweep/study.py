"""The optuna study of a sweep: the next settings to try, the trials to prune, and a journal of all trials.

Settings come from the tree-structured Parzen estimator (Bergstra et al. 2011), in its joint form (Falkner et al. 2018).
A trial is pruned where its best epoch is below the median of the other trials at the same epoch (the median rule of
Golovin et al. 2017).
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from retrieval.config.schema import Config
from retrieval.config.space import Choice, LogUniform, Space, is_whole, value_of

from .folder import Trial

NUM_UNPRUNED = 5  # complete trials before any is pruned
WARMUP = 10  # evaluations before a trial can be pruned: large batches and small steps begin slowly
ORIGIN, DIVERGED, ENQUEUED = "origin", "diverged", "enqueued"  # attributes of trials
DIGITS = 4  # significant digits of a setting


def open_study(journal: pathlib.Path, warmup: int) -> optuna.Study:
    """Opens the study of a journal, or creates it.

    Args:
      journal: a file of JSON lines; processes append to it in turn.
      warmup: epochs before a trial can be pruned.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=NUM_UNPRUNED, n_warmup_steps=warmup),
    )


def mend(journal: pathlib.Path) -> None:
    """Removes the half line and the lock that a crash leaves in a journal; no other process may have it open."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            journal.write_bytes(content[: content.rfind(b"\n") + 1])


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Returns a space as optuna declares it; the values of a choice become their texts."""
    declared = {}
    for field, declaration in space.items():
        if isinstance(declaration, Choice):
            declared[field] = CategoricalDistribution([repr(value) for value in declaration.values])
        else:
            kind = IntDistribution if is_whole(field) else FloatDistribution
            declared[field] = kind(declaration.low, declaration.high, log=isinstance(declaration, LogUniform))
    return declared


def settings_of(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Returns the values of fields from the parameters of optuna, numbers to four significant digits."""
    return {field: _setting(params[field], space[field]) for field in space}


def _setting(param: Any, declared: Any) -> Any:
    if isinstance(declared, Choice):
        return {repr(value): value for value in declared.values}[param]
    if isinstance(param, int):
        return param
    return min(max(float(f"{param:.{DIGITS}g}"), float(declared.low)), float(declared.high))


def begin(study: optuna.Study, config: Config, space: Space) -> None:
    """Enqueues the settings of the config, then those of interrupted trials; call it before any process starts.

    An interrupted trial does not count; its settings are tried anew, from its last checkpoint.
    """
    if not study.get_trials(deepcopy=False):
        _enqueue(study, _params(config, space))
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        is_complete = trial.params.keys() == space.keys()
        if params := trial.params if is_complete else trial.user_attrs.get(ENQUEUED):
            _enqueue(study, params, **{ORIGIN: origin(trial)})


def _enqueue(study: optuna.Study, params: Mapping[str, Any], **attributes: int) -> None:
    """Has these settings tried next; the trial keeps them, should it end before it has asked for all of them."""
    study.enqueue_trial(dict(params), user_attrs={ENQUEUED: dict(params), **attributes})


def _params(config: Config, space: Space) -> dict[str, Any]:
    """Returns the values of the config for the fields whose space contains them."""
    params = {}
    for field, declared in space.items():
        value = value_of(config, field)
        if not isinstance(declared, Choice) and declared.low <= value <= declared.high:
            params[field] = value
        elif isinstance(declared, Choice) and value in declared.values:
            params[field] = repr(value)
    return params


def origin(trial: FrozenTrial | optuna.Trial) -> int:
    """Returns the number of the first trial with these settings and this origin: it names their checkpoints."""
    return trial.user_attrs.get(ORIGIN, trial.number)


def limit(study: optuna.Study, trials: int) -> int:
    """Returns the largest number of trials of the study, failed ones included, for `trials` that count."""
    return trials + len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))


def claim(study: optuna.Study, space: Space, most: int, worker: int) -> optuna.Trial | None:
    """Returns the next trial with its settings; None once the study has `most` trials.

    With one worker, the settings depend only on the trials before, interrupted or not.

    Args:
      study: of the sweep.
      space: the fields that vary.
      most: see `limit`.
      worker: number of the process.
    """
    trials = study.get_trials(deepcopy=False)
    if len(trials) >= most and not any(trial.state == TrialState.WAITING for trial in trials):
        return None
    counted = sum(trial.state != TrialState.FAIL for trial in trials)
    study.sampler = optuna.samplers.TPESampler(seed=1000 * counted + worker)
    trial = study.ask(distributions(space))
    if trial.number < most:
        return trial
    study.tell(trial, state=TrialState.FAIL)  # another process was quicker
    return None


def finished(study: optuna.Study, space: Space) -> list[Trial]:
    """Returns the ended trials, in the order in which they began."""
    counted = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
    return [
        _record(number, trial, space)
        for number, trial in enumerate(counted, 1)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]


def _record(number: int, trial: FrozenTrial, space: Space) -> Trial:
    state = DIVERGED if DIVERGED in trial.user_attrs else trial.state.name.lower()
    curve = sorted(trial.intermediate_values.items())
    return Trial(number, state, settings_of(trial.params, space), curve, trial.duration.total_seconds())


def repeat(study: optuna.Study, trial: optuna.Trial, space: Space) -> bool:
    """Ends a trial with the result of an earlier trial with the same settings; tells whether one exists.

    A training is a function of its settings: repeating it gives the same result.
    """
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    settings = settings_of(trial.params, space)
    same = next((other for other in ended if settings_of(other.params, space) == settings), None)
    if same is None:
        return False
    for epoch, value in same.intermediate_values.items():
        trial.report(value, epoch)
    for name in same.user_attrs.keys() & {DIVERGED}:
        trial.set_user_attr(name, same.user_attrs[name])
    study.tell(trial, same.value if same.state == TrialState.COMPLETE else None, state=same.state)
    return True
