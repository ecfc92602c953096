"""The flags that the programs share, and errors in them that help."""

from __future__ import annotations

import copy
import functools
import logging as python_logging
import os
import pathlib
import runpy
import sys
from collections.abc import Callable, Mapping

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from retrieval.common.disk_errors import describe
from retrieval.config.schema import Config, Index
from retrieval.config.space import Space
from retrieval.config.values import check_values
from retrieval.pipeline.checks import check_experiment
from retrieval.serving.bundle import read_private_key

from . import compilation, console
from .arguments import as_typed, check_overrides, parse, running_config, writable

OUT_OF_MEMORY, INTERRUPTED = "RESOURCE_EXHAUSTED", 130  # how XLA names it; the status of a shell
MISTAKES = (ValueError, OSError, FloatingPointError, ImportError)


def define_config() -> None:
    """Defines --config, required."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: a file whose get_config() returns a retrieval Config, as configs/movielens_100k.py. "
        "FILE:VARIANT picks a variant; --config.SECTION.FIELD=VALUE overrides a field.",
    )
    flags.mark_flag_as_required("config")


def define_workdir() -> None:
    """Defines --workdir, required."""
    flags.DEFINE_string("workdir", None, "Folder of the run; all that it writes lies there.", required=True)


def define_tensorflow() -> None:
    """Defines --tensorflow."""
    flags.DEFINE_bool("tensorflow", False, "Write a TensorFlow SavedModel for TF Serving besides the bundle.")


def define_roll_back() -> None:
    """Defines --roll_back."""
    flags.DEFINE_bool("roll_back", False, "Let the bundle and the one before it change places, and do nothing else.")


def define_sign_key() -> None:
    """Defines --sign_key."""
    text = "PEM file of an Ed25519 private key, which signs the bundle; see experiments.verify --verify_key."
    flags.DEFINE_string("sign_key", None, text)


def define_index() -> None:
    """Defines --index.FIELD of each field."""
    text = "How the candidates are searched; --index.FIELD=VALUE overrides a field of the run's config.index."
    check_overrides(sys.argv)  # the next line reads them already
    config_flags.DEFINE_config_dataclass("index", Index(), text)


def define_out() -> None:
    """Defines --out."""
    flags.DEFINE_string("out", None, "JSON file of what is found; none: the table alone.")


def define_quiet() -> None:
    """Defines --quiet, of every program."""
    flags.DEFINE_bool("quiet", False, "No progress, and plain lines instead of tables.")


def define_deterministic() -> None:
    """Defines --deterministic, of every program."""
    text = "On GPUs, use only operations that give the same bits in every run; slower."
    flags.DEFINE_bool("deterministic", False, text)


def define_profile() -> None:
    """Defines --profile."""
    flags.DEFINE_bool("profile", False, "Record a few epochs of training into WORKDIR/profile, for XProf.")


def define_verbose() -> None:
    """Defines --verbose."""
    text = "Print all metrics, recommendations for three users and the place of each file, before the summary."
    flags.DEFINE_bool("verbose", False, text)


def config() -> Config:
    """Returns the experiment that --config names, its values checked.

    Raises:
      ValueError: the file cannot be read, does not return a Config, or a value in it is wrong.
    """
    experiment = flags.FLAGS.config
    if not isinstance(experiment, Config):
        try:
            getattr(experiment, "name", None)  # where the file could not be loaded, any attribute raises why
        except OSError as error:
            raise ValueError(f"--config: {' '.join(str(error).split())}") from None
        raise ValueError(f"--config: get_config() must return a retrieval Config, got {experiment!r}")
    check_experiment(experiment)
    return experiment


def space() -> Space | None:
    """Returns what `get_space` of the config file declares, for the variant that --config names; None without it.

    Raises:
      ValueError: it does not return a search space.
    """
    path, *variant = config_flags.get_config_filename(flags.FLAGS["config"]).split(":", 1)
    with running_config():
        namespace = runpy.run_path(path)
        if "get_space" not in namespace:
            return None
        declared = namespace["get_space"](*variant)
    if not isinstance(declared, Mapping):
        raise ValueError(f"--config: get_space() must return a dictionary, got {declared!r}")
    return declared


def workdir() -> str:
    """Returns the value of --workdir."""
    return flags.FLAGS.workdir


def out() -> pathlib.Path | None:
    """Returns the file that --out names, checked by `writable`: call it before the work."""
    return writable(flags.FLAGS.out, ".json") if flags.FLAGS.out else None


def tensorflow() -> bool:
    """Returns the value of --tensorflow."""
    return flags.FLAGS.tensorflow


def index(settings: Index) -> Index:
    """Returns the settings of a run's index with the fields that --index overrides.

    Raises:
      ValueError: a value is wrong.
    """
    settings = copy.deepcopy(settings)
    for path, value in config_flags.get_override_values(flags.FLAGS["index"]).items():
        *sections, name = path.split(".")
        setattr(functools.reduce(getattr, sections, settings), name, value)
    check_values(settings, "index")
    return settings


def roll_back() -> bool:
    """Returns the value of --roll_back."""
    return flags.FLAGS.roll_back


def sign_key() -> str | None:
    """Returns the file that --sign_key names, which holds a key: call it before the work; None: nothing is signed."""
    if flags.FLAGS.sign_key is not None:
        read_private_key(flags.FLAGS.sign_key)
    return flags.FLAGS.sign_key


def profile() -> bool:
    """Returns the value of --profile."""
    return flags.FLAGS.profile


def verbose() -> bool:
    """Returns the value of --verbose."""
    return flags.FLAGS.verbose


def run(main: Callable[[], None]) -> None:
    """Runs `main`; a user's mistake ends it with one message and exit status 1, without a traceback."""

    def without_arguments(arguments: list[str]) -> None:
        if arguments:
            raise ValueError(f"flags begin with --, got {arguments[0]!r}")
        main()

    run_on(without_arguments)


def run_on(main: Callable[[list[str]], None]) -> None:
    """Runs `main` on the arguments that are no flags, as `run` does."""

    def checked(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
            logging.get_absl_handler().setFormatter(_Plain())
        compilation.keep()
        if flags.FLAGS.deterministic:
            compilation.be_deterministic()
        if flags.FLAGS.quiet:
            console.be_quiet()
        try:
            main(argv[1:])
            sys.stdout.flush()
        except OSError as error:
            drop_output()
            if isinstance(error, BrokenPipeError):  # the reader of the output, as `head`, has enough
                sys.exit(1)
            sys.exit(f"error: {console.printable(as_typed(describe(error)))}")
        except MISTAKES as error:
            sys.exit(f"error: {console.printable(as_typed(str(error)))}")
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and OUT_OF_MEMORY not in str(error):
                raise
            first = (str(error).splitlines() or ["no more can be had"])[0]
            sys.exit(f"error: not enough memory: {first}; lower the sizes that are set, or use a larger machine")
        except KeyboardInterrupt:
            console.say(console.interruption())
            sys.exit(INTERRUPTED)

    define_quiet()
    define_deterministic()
    app.run(checked, flags_parser=parse)


class _Plain(python_logging.Formatter):
    """Shows a record as "warning: ...", without the time and place that a log file needs."""

    def format(self, record: python_logging.LogRecord) -> str:
        return console.printable(f"{record.levelname.lower()}: {record.getMessage()}")


def drop_output() -> None:
    """Sends what could not be printed nowhere, so that Python does not fail on it once more as it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
