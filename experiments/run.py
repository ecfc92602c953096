"""Runs an experiment: data -> trained model -> evaluation -> index -> bundle -> report.

    python -m experiments.run --config=configs/movielens_100k.py --workdir=runs/movielens_100k

If it is interrupted, the same command resumes; once the run is finished, the command says so and changes nothing.
"""

from __future__ import annotations

import numpy as np

from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.pipeline.index_trained import build_index
from retrieval.pipeline.trained import Trained
from retrieval.serving.recommender import Recommender

from .evaluate import evaluate
from .export import export, index_metrics
from .report import write_report
from .shared import console, flags, tables
from .shared.baseline_runs import evaluate_baselines, standard_baselines
from .shared.run_data import load_data
from .shared.stopwatch import Stopwatch
from .shared.summary import print_line, print_summary
from .shared.workdir import MODEL, Workdir
from .train import train_or_restore

NUM_SHOWN_QUERIES, NUM_SHOWN_TITLES = 3, 10


def run(config: Config, workdir: Workdir, profile: bool = False, verbose: bool = False, line: str = "") -> None:
    """Runs all stages of an experiment and keeps what they make in the folder of the run.

    Args:
      config: the experiment.
      workdir: the folder; a run that was interrupted there resumes.
      profile: records a few epochs of training.
      verbose: prints all metrics, recommendations for three users and the place of each file, before the summary.
      line: begins the one line that is printed in place of the summary; "": the summary is printed.

    Raises:
      ValueError: the folder holds another run, or the config or the data cannot be used.
    """
    with workdir.claimed("trains"):
        _run(config, workdir, profile, verbose, line)


def _run(config: Config, workdir: Workdir, profile: bool, verbose: bool, line: str) -> None:
    workdir.check(config)
    watch = Stopwatch()
    with watch.stage("data", "reading the data"):
        dataset = load_data(config, workdir)  # checks that the data are those of a run that began before
    if "seconds/total" in workdir.read_metrics():
        return console.say(f"{workdir.path} holds this run, finished; nothing to do")
    with watch.stage("train", "preparing and compiling the training"):
        trained = train_or_restore(config, dataset, workdir, profile)
    with watch.stage("evaluate", "evaluating on the test part"):
        evaluate(config, dataset, trained, workdir)
    with watch.stage("baselines", "evaluating baselines"):
        evaluate_baselines(config, dataset, workdir, standard_baselines(dataset), tuned=False)
    with watch.stage("index", "building the index"):
        index = build_index(config.index, trained)
    with watch.stage("export", "exporting the bundle"):
        recommender = export(config, dataset, trained, index, workdir)
    workdir.add_metrics(index_metrics(index) | watch.seconds)  # the report shows them
    with watch.stage("report", "writing the report"):
        write_report(config, dataset, trained, index, workdir)
    workdir.add_metrics(watch.total())  # the last to be written: marks the run as finished
    if verbose:
        show_recommendations(dataset, trained, recommender)
        tables.print_metrics(workdir)
        say_where(workdir)
    print_line(config, workdir, line) if line else print_summary(config, workdir)


def show_recommendations(dataset: Dataset, trained: Trained, recommender: Recommender) -> None:
    """Prints what the exported bundle recommends to a few test queries, beside their history in train."""
    query_ids = np.intersect1d(dataset.parts.test.query_ids, trained.train.query_ids)[:NUM_SHOWN_QUERIES]
    recommended = recommender.recommend(query_ids, NUM_SHOWN_TITLES)
    for query_id, titles in zip(query_ids, recommended.titles, strict=True):
        history = trained.train.take(trained.train.query_ids == query_id)
        has_times = history.timestamps is not None
        if has_times:
            history = history.take(history.order_by_time()[::-1])
        positions = dataset.corpus.positions(history.candidate_ids[:NUM_SHOWN_TITLES])
        tables.print_recommendations(str(query_id), recommender.titles[positions], titles, has_times)


def say_where(workdir: Workdir) -> None:
    """Prints the path of everything that the run has written."""
    for what, path in (
        ("metrics", workdir.metrics_file),
        ("intervals of the metrics", workdir.intervals_file),
        ("metrics of the slices", workdir.slices_file),
        ("metrics of each query", workdir.per_query_file(MODEL).parent),
        ("log of epochs", workdir.log_file),
        ("config", workdir.config_file),
        ("manifest", workdir.manifest_file),
        ("checkpoints", workdir.checkpoints),
        ("bundle", workdir.bundle),
        ("report", workdir.report_file),
    ):
        console.say(f"{what}: {path}")


def main() -> None:
    run(flags.config(), Workdir(flags.workdir()), flags.profile(), flags.verbose())


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.define_profile()
    flags.define_verbose()
    flags.run(main)
