"""The report: what it measures, and what it shows."""

import html
import re
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from jinja2 import UndefinedError
from matplotlib.backends.backend_agg import FigureCanvasAgg
from program_cases import started
from report_cases import HOSTILE, KS, METRIC, contrast, hexadecimal, hostile_config, make, num_colours, plain_config

from experiments.report import bars, curves, page, palette, tables, tsne
from experiments.report.calibration import calibrate
from experiments.report.document import Tile, render
from experiments.report.findings import Findings
from experiments.report.item_map import groupings, lay_out
from experiments.report.records import Records
from experiments.report.searches import search_plot
from experiments.report.tables import Cell, HtmlTable
from experiments.shared.workdir import Workdir
from retrieval.config.schema import Config
from retrieval.data.interactions import Table
from retrieval.index import Certificate, CurvePoint, tune
from retrieval.index.hnsw.spaces import SPACES
from retrieval.index.tuning.search import Choices

SECTIONS = ("slices", "popularity", "map", "index", "training")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return make(folder / "run", hostile_config(folder))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make(tmp_path_factory.mktemp("plain") / "run", plain_config())


def test_groups_hold_equal_shares_of_train_and_shares_count_what_falls_into_them():
    counts = np.array([50.0, 10.0, 10.0, 10.0, 10.0, 10.0, 0.0], np.float32)
    found = calibrate(counts, np.array([0, 6, 6, 1]), {"test": np.array([[0, 0], [6, -1]])})
    assert found.sizes.tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 1, 2]  # by the middle of what a candidate takes of train
    np.testing.assert_allclose(found.train, [0, 0, 0.5, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.1], atol=1e-7)
    np.testing.assert_allclose(found.test, [0, 0, 0.25, 0, 0, 0.25, 0, 0, 0, 0.5])
    np.testing.assert_allclose(found.lists["test"], [0, 0, 2 / 3, 0, 0, 0, 0, 0, 0, 1 / 3])


def test_a_candidate_has_the_colour_of_its_rarest_common_value():
    genres = np.array(["Drama|Comedy", "Drama", "Drama|War", "", "Comedy"])
    by_genre, by_popularity = groupings(Table(np.arange(5), {"genres": genres}), np.arange(5))
    assert by_genre.names == ["Drama", "Comedy", "War", "other"]
    assert by_genre.groups.tolist() == [1, 0, 2, 3, 1]
    assert by_popularity.groups.tolist() == [0, 0, 1, 2, 3]
    assert [g.column for g in groupings(Table(np.arange(5)), np.arange(5))] == ["popularity"]


def test_the_most_popular_candidates_are_laid_out_by_their_directions():
    rng = np.random.default_rng(0)
    centres = np.eye(3)[rng.integers(3, size=60)]
    vectors = ((centres + 0.05 * rng.normal(size=(60, 3))) * rng.uniform(0.1, 9, size=(60, 1))).astype(np.float32)
    counts = rng.permutation(60).astype(np.float32)
    laid_out = lay_out(vectors, counts, Table(np.arange(60)))
    order = np.argsort(-counts)
    assert laid_out.titles.tolist() == order.astype(str).tolist()
    gaps = np.linalg.norm(laid_out.points[:, None] - laid_out.points, axis=2) + np.diag(np.full(60, np.inf))
    assert (centres[order] == centres[order][gaps.argmin(axis=1)]).all()  # the nearest has the same centre


@pytest.mark.parametrize("num_points", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_few_points_and_equal_ones_have_places(num_points, scale):
    vectors = scale * np.random.default_rng(0).normal(size=(num_points, 3))
    points = tsne.embed(vectors)
    assert points.shape == (num_points, 2) and np.isfinite(points).all()


def test_neighbourhoods_have_the_perplexity():
    vectors = np.random.default_rng(0).normal(size=(50, 4))
    distances = ((vectors[:, None] - vectors) ** 2).sum(axis=2)
    shared = tsne.affinities(distances, 7.0)
    assert shared.sum() == pytest.approx(1) and not shared.diagonal().any()
    np.testing.assert_allclose(shared, sum(plain_affinities(distances, 7.0)) / 100, atol=1e-8)


def plain_affinities(distances, perplexity):
    """Returns the conditional probabilities and their transpose, each row by a root finder."""
    rows = np.zeros_like(distances)
    for i, own in enumerate(distances):
        others = np.delete(own, i)

        def weights(log_precision, others=others):
            return scipy.special.softmax(-np.exp(log_precision) * others)

        def excess(log_precision):
            return 2 ** (scipy.stats.entropy(weights(log_precision), base=2)) - perplexity

        rows[i, np.arange(len(own)) != i] = weights(scipy.optimize.brentq(excess, -20, 20, xtol=1e-13))
    return rows, rows.T


def test_the_gradient_is_that_of_the_divergence():
    rng = np.random.default_rng(1)
    shared = rng.uniform(size=(9, 9)) * (1 - np.eye(9))
    shared = jnp.asarray((shared + shared.T) / (2 * shared.sum()), jnp.float32)
    points = jnp.asarray(rng.normal(size=(9, 2)), jnp.float32)

    def divergence(points):
        near = 1 / (1 + jnp.sum((points[:, None, :] - points[None, :, :]) ** 2, axis=2))
        near = near * (1 - jnp.eye(9, dtype=jnp.float32))
        return jnp.sum(shared * (jnp.log(shared + 1e-30) - jnp.log(near / jnp.sum(near) + 1e-30)))

    np.testing.assert_allclose(tsne.gradient(shared, points, 1.0), jax.grad(divergence)(points), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_the_index_is_drawn_and_told_as_it_was_chosen(kind):
    rng = np.random.default_rng(0)
    choices = Choices(kind, M=4, ef_construction=20)
    vectors, queries = rng.normal(size=(300, 4)), rng.normal(size=(50, 4))
    certificate = tune(vectors, queries, clock=time.perf_counter, target=0.5, choices=choices).certificate
    plot, table = search_plot(certificate), tables.searches_table(certificate)
    assert certificate.reason in plot.caption
    assert len(table.rows) == len(certificate.curve) and sum(row[0].endswith(", chosen") for row in table.rows) == 1
    said = [text for titles in plot.titles.values() for text in titles]
    assert len(said) == len(certificate.curve)
    assert all(any(f"{point.microseconds:.3g} µs" in text for text in said) for point in certificate.curve)
    svg = palette.to_svg(plot)
    assert all(html.escape(text) in svg for text in said)


@pytest.mark.parametrize("sizes", [(1682,), (30_000, 1682)])
def test_the_legend_of_the_searches_covers_nothing(sizes):
    curve = [CurvePoint("exact", "", 0, 0, 0, 1682, 1.0, 1.0, 170.0)]
    curve += [
        CurvePoint("hnsw", s, M, 100, 20, size, 0.9, 0.8, 20.0) for s in SPACES for M in (16, 32) for size in sizes
    ]
    plot = search_plot(Certificate(10, 0.99, 1.0, 1.0, 0, True, "", curve[0], tuple(curve)))
    (axes,), canvas = plot.figure.axes, FigureCanvasAgg(plot.figure)
    canvas.draw()
    legend = axes.get_legend().get_window_extent()
    for text in axes.texts:
        assert not legend.overlaps(text.get_window_extent()), text.get_text()
    assert not legend.overlaps(axes.get_window_extent())
    assert legend.y1 <= plot.figure.bbox.y1 and legend.x0 >= 0


def test_the_systems_stand_in_one_order_and_unknown_ones_behind(plain):
    assert Records.read(plain).systems == ["test", "ease", "popularity", "<b>own"]
    assert Records.read(plain).ks("recall") == list(KS)


def test_the_best_of_a_column_is_the_highest_and_of_mean_ranks_the_lowest():
    def best(name, **values):
        metrics = {f"{system}/excluding_seen/{name}": value for system, value in values.items()}
        table = tables.systems_table(Records([], metrics, {}, [], {}, ("final", 1)), [f"excluding_seen/{name}"], True)
        return [cell.text for row in table.rows for cell in row if cell.role == "best"]

    assert best("auc", test=0.5, ease=0.7, random=float("nan")) == ["0.7000"]
    assert best("mean_rank", test=30.0, ease=20.0) == ["20.0"]
    assert best("auc", test=0.5) == []
    assert best("auc", test=0.7, ease=0.7, random=0.5) == ["0.7000", "0.7000"]  # all that are as good, or none
    assert best("auc", test=0.7, ease=0.7) == []


def test_the_seconds_of_training_stand_last_those_of_a_search_included():
    metrics = {f"{system}/excluding_seen/auc": 0.5 for system in ("test", "ease", "random")}
    metrics |= {"seconds/train": 12.34, "ease/seconds/fit": 1.0, "ease/seconds/tune": 2.25, "random/seconds/fit": 1.0}
    records = Records([], metrics, {}, [], {}, ("final", 1))
    table = tables.systems_table(records, ["excluding_seen/auc"], True)
    last = [row[-1].text for row in table.rows]
    assert dict(zip(records.systems, last, strict=True)) == {"test": "12.3", "ease": "3.2", "random": "–"}
    assert [name for name in table.header if "training" in name] == ["training, s"]
    assert not any("training" in name for name in tables.systems_table(records, ["excluding_seen/auc"], False).header)


def test_marks_get_their_titles_in_order_and_colours_follow_the_page(plain):
    (plot, _) = curves.curves_over_k(Records.read(plain))
    svg = palette.to_svg(plot)
    assert svg == palette.to_svg(plot)
    assert re.findall(r"<title>(EASE[^<]*)</title>", svg) == [f"EASE: 0.3900 at {k} [0.3510, 0.4290]" for k in KS]
    assert "var(--model)" in svg and "var(--ink)" in svg
    assert not re.search("<metadata>|<g id=|20[0-9][0-9]-", svg)
    left = set(re.findall(r"#[0-9a-f]{6}\b", " ".join(re.findall(r'style="([^"]*)"', svg))))
    assert left == set()  # what is no role would not follow


def test_every_text_is_legible_in_both_schemes():
    for scheme in (0, 1):
        for role in ("ink", "muted", "model"):
            for ground in ("paper", "ground", "soft"):
                if (role, ground) != ("muted", "soft"):  # never together
                    assert contrast(*(hexadecimal(palette.COLOURS[r][scheme]) for r in (role, ground))) >= 4.5
        for role in ("vermillion", "green", "pink", "sky", "orange", "violet", "grey"):
            assert contrast(*(hexadecimal(palette.COLOURS[r][scheme]) for r in (role, "paper"))) >= 3


def test_a_template_escapes_every_text_and_refuses_a_value_that_is_missing():
    cells = [Cell(HOSTILE[0], role, HOSTILE[1]) for role in ("", "best", "strong", "code", "quiet")]
    table = HtmlTable([HOSTILE[2], *[""] * 5], [[HOSTILE[3], *cells], [Cell(HOSTILE[0])] * 6], "facts")
    values = {"title": HOSTILE[0], "subtitle": HOSTILE[1], "tiles": [Tile(*HOSTILE[:2], HOSTILE[2:])]}
    values |= {"sections": dict.fromkeys(("task-0", "figures", "run"), HOSTILE[1]), "plots": {}}
    text = render("report/pareto.html", **values, weights=table, config=table)
    assert not any(raw in text for raw in HOSTILE[:3]) and text.count(html.escape(HOSTILE[0], quote=False)) > 10
    with pytest.raises(UndefinedError, match="'weights' is undefined"):
        render("report/pareto.html", **values, config=table)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_page_names_nothing_outside_itself(name, request):
    text = request.getfixturevalue(name).report_file.read_text(encoding="utf-8")
    references = re.findall(r"""<[a-z][^>]*?\s(?:src|href|xlink:href|action|srcset)=["']?([^"'\s>]*)""", text)
    assert all(reference.startswith(("#", "data:")) for reference in references)
    assert not re.search(r"@import|url\((?!#)", text)


def test_each_plot_is_a_png_beside_the_page(plain):
    text = plain.report_file.read_text(encoding="utf-8")
    names = sorted(path.stem for path in plain.report_plots.glob("*.png"))
    assert names == sorted(re.findall(r'<figure class="card" id="([^"]*)"', text))
    expected = {"recall_at_k", "ndcg_at_k", "validation", "loss", "ranks", "popularity_calibration", "index"}
    assert expected | {"items_by_popularity"} <= set(names)
    for path in plain.report_plots.glob("*.png"):
        assert num_colours(path.read_bytes()) > 20, path


def test_missing_files_are_named_with_the_program_that_writes_them(plain, tmp_path):
    shutil.copytree(plain.path, tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    for path in (workdir.intervals_file, workdir.slices_file, workdir.metrics_file):
        path.unlink()
    records = Records.read(workdir)
    assert (records.systems, records.ks("recall")) == ([], [])
    assert curves.curves_over_k(records) == [] and bars.slice_bars(records, METRIC) == []
    exact = CurvePoint("exact", "", 0, 0, 0, 1682, 1.0, 1.0, 170.0)
    certificate = Certificate(10, 0.99, 1.0, 1.0, 0, True, "", exact, (exact,))
    found = Findings(5, 5, 9, None, {}, None, certificate, examples=[])
    text = page.build(Config(), records, found, dict.fromkeys(("results", *SECTIONS), ()))
    for program in ("experiments.evaluate", "experiments.baselines"):
        assert f"python -m {program}" in text
    assert "No user of the test part is in train" in text and "Curves over k need several lengths" in text


@pytest.mark.slow
def test_five_users_without_titles_times_or_validation_have_a_report(tmp_path):
    rows = ["user_id,item_id", *(f"u{u},i{(u + i) % 6}" for u in range(5) for i in range(4))]
    (tmp_path / "events.csv").write_text("\n".join(rows) + "\n")
    config = Config()
    config.data.interactions = str(tmp_path / "events.csv")
    config.data.split.validation_fraction = 0.0
    config.train.batch_size, config.train.epochs = 4, 1
    config.evaluate.ks = config.evaluate.top_k_accuracies = (2,)
    workdir = make(tmp_path / "run", config)
    names = {path.stem for path in workdir.report_plots.iterdir()}
    assert "validation" not in names and "loss" in names
    assert "Unnamed run" in workdir.report_file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_program_writes_the_page_that_the_run_wrote_but_for_times(plain, tmp_path):
    shutil.copytree(plain.path, tmp_path / "run")
    before = Workdir(tmp_path / "run").report_file
    result = started("report", f"--workdir={tmp_path / 'run'}")
    assert (result.returncode, result.stdout) == (0, f"report: {before}\n"), result.stderr
    written, plain_text = (w.read_text(encoding="utf-8") for w in (before, plain.report_file))
    untimed = [
        re.sub(r'<section id="index">.*?</section>|[0-9.e+-]+ µs a query', "", t, flags=re.S)
        for t in (written, plain_text)
    ]
    assert untimed[0] == untimed[1]


def test_an_untrained_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no trained model yet; experiments.train makes one"):
        Records.read(Workdir(tmp_path))
