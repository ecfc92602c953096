"""Runs are compared query by query, or refused with the reason: the program, on folders of files alone."""

import copy
import json

import numpy as np
import pytest
from program_cases import program

from experiments.compare import chosen_metrics, compare_systems
from experiments.seeds import summarize
from experiments.shared import comparison_tables
from experiments.shared.data_facts import data_facts
from experiments.shared.systems import read_slice, read_system, seed_runs
from experiments.shared.workdir import Workdir
from retrieval.common.storage import write_json
from retrieval.config.schema import Config, Data
from retrieval.config.serialization import to_json
from retrieval.data.dataset import load
from retrieval.evaluation.comparison import holm
from retrieval.evaluation.per_query import PerQuery, write_per_query
from retrieval.pipeline.evaluate_trained import create_evaluation

NDCG, RECALL = "excluding_seen/ndcg_at_10", "excluding_seen/recall_at_10"
QUERIES = np.random.default_rng(0).random((60, 2))


def make_run(path, gain=0.0, *, seed=0, system="test", test_set="abc", dimension=32, noise=0.0, config=None):
    """Writes the folder of a run, as far as a comparison reads it."""
    path.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config or Config())
    config.train.seed, config.model.embedding_dimension = seed, dimension
    workdir = Workdir(path)
    workdir.config_file.write_text(to_json(config))
    workdir.per_query_file(system).parent.mkdir(exist_ok=True)
    values = QUERIES + gain + np.random.default_rng(seed).normal(0, noise, QUERIES.shape)
    columns = {NDCG: values[:, 0], RECALL: values[:, 1], "excluding_seen/auc": values[:, 0]}
    per_query = PerQuery(np.arange(60), columns, {}, test_set)
    write_per_query(workdir.per_query_file(system), per_query)
    workdir.add_metrics({f"{system}/{name}": value for name, value in per_query.means().items()})
    return workdir


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Makes runs a and b and a folder of three seeds, and goes where they are."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a", noise=0.01)
    make_run(tmp_path / "a", gain=-0.2, noise=0.02, system="ease")
    make_run(tmp_path / "b", gain=0.1, noise=0.02)
    for seed in range(3):
        make_run(tmp_path / f"seeds/seed_{seed}", gain=0.05 * seed, seed=seed, noise=0.01)
    return tmp_path


def result(*names, metrics=(NDCG, RECALL)):
    return compare_systems({name: read_system(name) for name in names}, metrics, resamples=500)


def test_others_are_compared_with_the_first(runs):
    found = result("a", "b", "a:ease")
    pairs = [(c["system"], c["metric"]) for c in found["comparisons"]]
    assert pairs == [("b", NDCG), ("b", RECALL), ("a:ease", NDCG), ("a:ease", RECALL)]
    differences = [c["difference"] for c in found["comparisons"]]
    assert differences == pytest.approx([0.1, 0.1, -0.2, -0.2], abs=0.01)
    assert all(c["low"] < c["difference"] < c["high"] for c in found["comparisons"])
    assert found["reference"] == "a"


def test_p_values_are_corrected_for_all_that_is_compared(runs):
    make_run(runs / "c", seed=5, noise=0.3)
    comparisons = result("a", "b", "c")["comparisons"]
    for name in ("bootstrap_p", "permutation_p"):
        raw = np.array([c[name] for c in comparisons])
        assert [c[f"holm_{name}"] for c in comparisons] == holm(raw).tolist()
    b, c = (comparisons[i]["holm_permutation_p"] for i in (0, 2))
    assert b == 4 * comparisons[0]["permutation_p"] < 0.05 < c


def test_a_folder_of_seeds_is_one_system(runs):
    system = read_system("seeds")
    assert list(system.seeds) == [f"seeds/seed_{i}" for i in range(3)]
    single = [read_system(f"seeds/seed_{i}").per_query.values[NDCG] for i in range(3)]
    np.testing.assert_allclose(system.per_query.values[NDCG], np.mean(single, axis=0))
    described = result("a", "seeds")["systems"]
    assert (described["a"]["num_seeds"], described["seeds"]["num_seeds"]) == (1, 3)
    figure = described["seeds"]["figures"][NDCG]
    assert figure["mean"] == pytest.approx(np.mean(single))
    assert figure["sd"] == pytest.approx(np.std(np.mean(single, axis=1), ddof=1)) == pytest.approx(0.05, rel=0.1)
    assert figure["query_error"] == pytest.approx(np.std(np.mean(single, axis=0), ddof=1) / np.sqrt(60))
    assert np.isnan(described["a"]["figures"][NDCG]["sd"])


def test_ten_seeds_stand_in_the_order_of_their_numbers(tmp_path):
    for seed in (10, 2, 0):
        make_run(tmp_path / f"seed_{seed}", seed=seed)
    assert [run.path.name for run in seed_runs(tmp_path)] == ["seed_0", "seed_2", "seed_10"]


def test_seeds_of_different_configs_are_refused(runs):
    make_run(runs / "seeds/seed_3", seed=3, dimension=64)
    with pytest.raises(ValueError, match=r"seed_3 are no seeds of one config.*\n  model.embedding_dimension: 32, 64"):
        read_system("seeds")


def test_a_seed_that_is_there_twice_is_refused(runs):
    make_run(runs / "seeds/seed_3", seed=0)
    with pytest.raises(ValueError, match="seed_0 and seeds/seed_3 have one seed; remove one"):
        read_system("seeds")


def test_the_same_seed_among_the_later_ones_is_refused(runs):
    make_run(runs / "seeds/seed_3", seed=1)
    with pytest.raises(ValueError, match="seed_1 and seeds/seed_3 have one seed; remove one"):
        read_system("seeds")


def test_different_test_sets_are_refused_by_name(runs):
    make_run(runs / "other", test_set="def")
    with pytest.raises(ValueError, match=r"a and other were asked different things \(test sets abc and def\)"):
        result("a", "b", "other")
    make_run(runs / "seeds/seed_3", seed=3, test_set="def")
    with pytest.raises(ValueError, match="seeds/seed_0 and seeds/seed_3 were asked different things"):
        read_system("seeds")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: there is no folder missing"),
        ("missing:ease", "missing:ease: there is no folder missing"),
        (
            "a:ials",
            r"a has no values.*'ials': experiments.baselines --baselines=ials writes them.*\(there are ease, test\)",
        ),
        ("empty", "empty holds no run: .* experiments.seeds several"),
        ("begun", r"begun has no values.*'test': experiments.evaluate writes them \(there are none\)"),
    ],
)
def test_what_is_not_there_is_refused_with_who_writes_it(runs, name, message):
    (runs / "empty").mkdir()
    (runs / "begun").mkdir()
    Workdir("begun").config_file.write_text(to_json(Config()))
    with pytest.raises(ValueError, match=message):
        read_system(name)


def test_a_folder_may_have_a_colon_in_its_name(runs):
    make_run(runs / "at 12:30", gain=0.5)
    assert read_system("at 12:30").per_query.means()[NDCG] == pytest.approx(QUERIES[:, 0].mean() + 0.5)
    make_run(runs / "at 12:30", gain=0.7, system="ease")
    assert read_system("at 12:30:ease").per_query.means()[NDCG] == pytest.approx(QUERIES[:, 0].mean() + 0.7)


def test_metrics_are_those_named_or_what_there_is_at_ten():
    assert chosen_metrics(None, {NDCG, RECALL, "including_seen/ndcg_at_10"}) == [RECALL, NDCG]
    assert chosen_metrics(None, {"including_seen/ndcg_at_10"}) == ["including_seen/ndcg_at_10"]
    assert chosen_metrics(["auc"], {"auc", NDCG}) == ["auc"]
    with pytest.raises(ValueError, match=r"no 'excluding_seen/ndgc_at_10'; did you mean 'excluding_seen/ndcg_at_10'"):
        chosen_metrics(["excluding_seen/ndgc_at_10"], {NDCG})
    with pytest.raises(ValueError, match="no metric at 10 is known; choose --metrics of auc"):
        chosen_metrics(None, {"auc"})


def test_a_slice_of_the_queries_is_compared_alone(tmp_path):
    config = Config(data=Data(dataset="synthetic"))
    evaluation = create_evaluation(config, load(config.data))
    ids, members = evaluation.targets.query_ids, evaluation.query_slices[0].members
    for name, gain in (("a", 0.0), ("b", 0.25)):
        workdir = make_run(tmp_path / name, config=config)
        write_json(workdir.manifest_file, {"data": data_facts(load(config.data))})
        values = np.where(members, 0.5 + gain, 0.0)
        write_per_query(
            workdir.per_query_file("test"), PerQuery(ids, {NDCG: values}, {NDCG: 1.0 + np.arange(len(ids))}, "abc")
        )
    slice_flag = f"--queries={evaluation.query_slices[0].column}={evaluation.query_slices[0].value}"
    program(
        "compare", tmp_path / "a", tmp_path / "b", slice_flag, "--resamples=200", f"--out={tmp_path / 'found.json'}"
    )
    (comparison,) = json.loads((tmp_path / "found.json").read_text())["comparisons"]
    assert (comparison["difference"], comparison["num_queries"]) == (pytest.approx(0.25), members.sum())
    np.testing.assert_array_equal(read_slice(f"{tmp_path / 'a'}:ease", slice_flag.partition("=")[2]), ids[members])
    with pytest.raises(ValueError, match="no slice 'vocabulary=could'; did you mean 'vocabulary=cold'"):
        read_slice(str(tmp_path / "a"), "vocabulary=could")


def test_the_program_prints_and_writes_what_it_found(runs):
    output = program("compare", runs / "a", runs / "seeds", "--resamples=200", f"--out={runs / 'found.json'}")
    found = json.loads((runs / "found.json").read_text())
    assert found["resamples"] == 200 and found["metrics"] == [RECALL, NDCG]
    assert found["systems"][str(runs / "a")]["figures"][NDCG]["sd"] is None  # of one seed
    titles, lines = output.splitlines()[::3], output.splitlines()[5:6]
    assert [title.split()[0] for title in titles[:2]] == [RECALL, NDCG]
    figure, comparison = found["systems"][str(runs / "seeds")]["figures"][NDCG], found["comparisons"][1]
    shown = zip(("mean", "sd seeds", "se users"), ("mean", "sd", "query_error"), strict=True)
    parts = [f"{name} {figure[part]:.4f}" for name, part in shown]
    assert lines[0].startswith("  ".join([str(runs / "seeds"), *parts, "difference "]))
    assert f"{comparison['difference']:+.4f} [{comparison['low']:+.4f}, {comparison['high']:+.4f}]" in lines[0]
    assert lines[0].split("Holm ")[1].split("  ")[0].endswith(" *")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give two runs or more to compare, got none"),
        (["a"], "give two runs or more to compare, got a"),
        (["a", "a"], "give each run once"),
        (["a", "b"], "a: there is no folder a"),
    ],
)
def test_the_program_tells_what_is_wrong_with_its_arguments(arguments, message):
    assert message in program("compare", *arguments, fails=True)


def test_seeds_are_summarized_with_the_error_of_queries(runs):
    workdirs = [Workdir(runs / f"seeds/seed_{seed}") for seed in range(3)]
    for seed, workdir in enumerate(workdirs):
        workdir.add_metrics({"test/loss": 2.0 + seed, "index/recall_at_10": None})
    summary = summarize(workdirs)
    described = read_system(str(runs / "seeds")).summary()[NDCG]
    metric = summary[f"test/{NDCG}"]
    assert (metric.mean, metric.sd, metric.query_error) == pytest.approx(
        (described.mean, described.sd, described.query_error)
    )
    assert (summary["test/loss"].mean, summary["test/loss"].sd) == (3.0, 1.0)
    assert np.isnan(summary["test/loss"].query_error) and np.isnan(summary["index/recall_at_10"].mean)


def test_the_table_of_seeds_shows_both_spreads(runs, capsys):
    summary = summarize([Workdir(runs / f"seeds/seed_{seed}") for seed in range(3)])
    comparison_tables.print_seeds(summary, 3)
    output = capsys.readouterr().out
    metric = summary[f"test/{NDCG}"]
    assert f"mean {metric.mean:.4f}  sd of seeds {metric.sd:.4f}" in output
    assert f"standard error over users {metric.query_error:.4f}" in output
    assert "auc" not in output
