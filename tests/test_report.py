"""The report: what it measures, what it shows, and what a browser makes of it."""

import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from configs import synthetic
from experiments.export import build_index
from experiments.report import bars, curves, findings, page, palette, tables, write_report
from experiments.report.records import Records
from experiments.train import train
from experiments.workdir import Workdir, load_data
from retrieval import phases
from retrieval.config import Config
from retrieval.data.interactions import Table
from retrieval.index import HnswIndex

HOSTILE = ["<script>hacked=1</script>", '"><img src=x onerror=hacked=1>', "a & b $x^2$ </svg>", "映画 'ü' #0a63b5"]
KS = (5, 10, 20)
METRIC = "excluding_seen/ndcg_at_10"


def make(path, config):
    """Trains a run and writes its report; returns its folder."""
    workdir = Workdir(path)
    dataset = load_data(config, workdir)
    train(config, dataset, workdir)
    trained = phases.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
    add_records(workdir)
    write_report(config, dataset, trained, build_index(config, trained), workdir)
    return workdir


def add_records(workdir, values=(*HOSTILE, "a value that is much too long for its place")):
    """Writes what evaluation and baselines write, with invented numbers."""
    names = [f"excluding_seen/{metric}_at_{k}" for metric in ("ndcg", "recall", "coverage") for k in KS]
    systems = {"test": 0.4, "popularity": 0.2, "ease": 0.39, "<b>own": 0.1}
    figures = {f"{system}/{name}": level for system, level in systems.items() for name in names}
    workdir.add_metrics(figures)
    intervals = {name: [0.9 * value, 1.1 * value] for name, value in figures.items()}
    workdir.intervals_file.write_text(json.dumps(intervals))
    common = {"of": "candidates", "column": HOSTILE[0], "num_queries": 7, "num_relevant": 9}
    slices = [
        common | {"system": system, "value": value, "figures": {METRIC: 0.3}, "intervals": {METRIC: [0.2, 0.4]}}
        for value in values
        for system in ("test", "popularity")
    ]
    workdir.slices_file.write_text(json.dumps(slices))


def hostile_config(folder):
    """Returns a config of a small data set whose texts try to become code."""
    pairs = [(f"<i>{u}", f"c{(u + 5 * i) % 30}") for u in range(40) for i in range(8)]
    rows = ["user_id,item_id", *(f"{u},{c}" for u, c in pairs)]
    (folder / "events.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    titles = [HOSTILE[i % len(HOSTILE)].replace('"', '""') for i in range(30)]
    items = ["item_id,name,genre", *(f'c{i},"{t}","{t}|plain"' for i, t in enumerate(titles))]
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    config = Config(name=HOSTILE[1])
    config.data.interactions, config.data.candidates = str(folder / "events.csv"), str(folder / "items.csv")
    config.data.columns.title = "name"
    config.train.batch_size, config.train.epochs = 32, 2
    config.evaluate.top_k_accuracies = (1, 5)
    return config


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return make(folder / "run", hostile_config(folder))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    config = synthetic.get_config()
    config.train.epochs = 3
    return make(tmp_path_factory.mktemp("plain") / "run", config)


def test_groups_hold_equal_shares_of_train_and_shares_count_what_falls_into_them():
    counts = np.array([50.0, 10.0, 10.0, 10.0, 10.0, 10.0, 0.0], np.float32)
    found = findings.calibrate(counts, np.array([0, 6, 6, 1]), {"test": np.array([[0, 0], [6, -1]])})
    assert found.sizes.tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 1, 2]  # by the middle of what a candidate takes of train
    np.testing.assert_allclose(found.train, [0, 0, 0.5, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.1], atol=1e-7)
    np.testing.assert_allclose(found.test, [0, 0, 0.25, 0, 0, 0.25, 0, 0, 0, 0.5])
    np.testing.assert_allclose(found.lists["test"], [0, 0, 2 / 3, 0, 0, 0, 0, 0, 0, 1 / 3])


def test_a_candidate_has_the_colour_of_its_rarest_common_value():
    genres = np.array(["Drama|Comedy", "Drama", "Drama|War", "", "Comedy"])
    by_genre, by_popularity = findings.groupings(Table(np.arange(5), {"genres": genres}), np.arange(5))
    assert by_genre.names == ["Drama", "Comedy", "War", "other"]
    assert by_genre.groups.tolist() == [1, 0, 2, 3, 1]
    assert by_popularity.groups.tolist() == [0, 0, 1, 2, 3]
    assert [g.column for g in findings.groupings(Table(np.arange(5)), np.arange(5))] == ["popularity"]


def test_the_plane_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    counts = rng.permutation(50).astype(np.float32)
    laid_out = findings.lay_out(vectors, counts, Table(np.arange(50)))
    order = np.argsort(-counts)
    unit = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
    scatter = np.linalg.eigvalsh(np.cov(unit.T, bias=True) * 50)[::-1]
    np.testing.assert_allclose((laid_out.points**2).sum(axis=0), scatter[:2], rtol=1e-5)
    assert laid_out.explained == pytest.approx(scatter[:2].sum() / scatter.sum(), rel=1e-5)
    assert laid_out.titles.tolist() == order.astype(str).tolist()


@pytest.mark.parametrize("num_candidates", [1, 3, 50])
def test_exact_search_is_the_last_point_and_finds_all(num_candidates):
    vectors = np.random.default_rng(0).normal(size=(num_candidates, 4)).astype(np.float32)
    index = HnswIndex.build(vectors, M=4, ef_construction=20, ef=25, seed=0)
    found = findings.search_curve(index, vectors)
    assert (found[-1].ef, found[-1].recall) == (num_candidates, 1.0)
    assert [s.ef for s in found[:-1]] == [ef for ef in (10, 20, 25, 40) if ef < num_candidates]
    assert all(s.milliseconds > 0 for s in found)


def test_the_systems_stand_in_one_order_and_unknown_ones_behind(plain):
    assert Records.read(plain).systems == ["test", "ease", "popularity", "<b>own"]
    assert Records.read(plain).ks("recall") == list(KS)


def test_the_best_of_a_column_is_the_highest_and_of_mean_ranks_the_lowest():
    def best(name, **values):
        figures = {f"{system}/excluding_seen/{name}": value for system, value in values.items()}
        html = tables.systems_table(Records([], figures, {}, [], {}, ("final", 1)), [f"excluding_seen/{name}"], True)
        return re.findall(r'class="best"[^>]*>([^<]*)<', html)

    assert best("auc", test=0.5, ease=0.7, random=float("nan")) == ["0.7000"]
    assert best("mean_rank", test=30.0, ease=20.0) == ["20.0"]
    assert best("auc", test=0.5) == []


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


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_page_names_nothing_outside_itself(name, request):
    text = request.getfixturevalue(name).report_file.read_text(encoding="utf-8")
    references = re.findall(r"""<[a-z][^>]*?\s(?:src|href|xlink:href|action|srcset)=["']?([^"'\s>]*)""", text)
    assert all(reference.startswith(("#", "data:")) for reference in references)
    assert not re.search(r"@import|url\((?!#)", text)


def test_each_figure_is_a_png_beside_the_page(plain):
    text = plain.report_file.read_text(encoding="utf-8")
    names = sorted(path.stem for path in plain.report_figures.glob("*.png"))
    assert names == sorted(re.findall(r'<figure class="card" id="([^"]*)"', text))
    expected = {"recall_at_k", "ndcg_at_k", "validation", "loss", "ranks", "popularity_calibration", "index"}
    assert expected | {"candidates_by_popularity"} <= set(names)
    for path in plain.report_figures.glob("*.png"):
        assert num_colours(path.read_bytes()) > 20, path


def test_what_is_not_there_yet_is_named_with_the_program_that_adds_it(plain, tmp_path):
    shutil.copytree(plain.path, tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    for path in (workdir.intervals_file, workdir.slices_file, workdir.metrics_file):
        path.unlink()
    records = Records.read(workdir)
    assert (records.systems, records.ks("recall")) == ([], [])
    assert curves.curves_over_k(records) == [] and bars.slice_bars(records, METRIC) == []
    text = page._results(records, []) + page._slices(records, METRIC, [])
    for program in ("experiments.evaluate", "experiments.baselines"):
        assert f"python -m {program}" in text


def test_five_users_without_titles_times_or_validation_have_a_report(tmp_path):
    rows = ["user_id,item_id", *(f"u{u},i{(u + i) % 6}" for u in range(5) for i in range(4))]
    (tmp_path / "events.csv").write_text("\n".join(rows) + "\n")
    config = Config()
    config.data.interactions = str(tmp_path / "events.csv")
    config.data.split.validation_fraction = 0.0
    config.train.batch_size, config.train.epochs = 4, 1
    config.evaluate.ks = config.evaluate.top_k_accuracies = (2,)
    workdir = make(tmp_path / "run", config)
    names = {path.stem for path in workdir.report_figures.iterdir()}
    assert "validation" not in names and "loss" in names
    assert "Unnamed run" in workdir.report_file.read_text(encoding="utf-8")


def test_the_program_writes_the_page_that_the_run_wrote_but_for_times(plain, tmp_path):
    shutil.copytree(plain.path, tmp_path / "run")
    before = Workdir(tmp_path / "run").report_file
    command = [sys.executable, "-m", "experiments.report", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent.parent)
    assert (result.returncode, result.stdout) == (0, f"report: {before}\n"), result.stderr
    ours, theirs = (w.read_text(encoding="utf-8") for w in (before, plain.report_file))
    untimed = [
        re.sub(r'<section id="index">.*?</section>|[0-9.e-]+ ms a query', "", t, flags=re.S) for t in (ours, theirs)
    ]
    assert untimed[0] == untimed[1]


def test_an_untrained_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no trained model yet; experiments.train makes one"):
        Records.read(Workdir(tmp_path))


def hexadecimal(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def contrast(first, second):
    """Returns the contrast ratio of WCAG 2.1 of two colours in sRGB."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def num_colours(png):
    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    return len(image.getcolors(image.width * image.height))


FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files"
)
TEXTS = """
document.querySelectorAll("details").forEach(d => d.open = true);
const texts = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join("").trim();
  const box = e.getBoundingClientRect();
  if (!own || !box.width || ["SCRIPT", "STYLE", "title"].includes(e.tagName)) continue;
  let ground = e;
  while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  const style = getComputedStyle(e);
  const ink = e instanceof SVGElement ? style.fill : style.color;
  const a = (e.closest("svg") ?? e).getBoundingClientRect();
  const out = Math.max(a.left - box.left, box.right - a.right, a.top - box.top, box.bottom - a.bottom);
  texts.push([own, ink, getComputedStyle(ground).backgroundColor, out]);
}
return texts;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that logs what it requests; required where the environment says CI."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if "CI" not in os.environ:
        pytest.importorskip("selenium")
        if not (chromium and driver):
            pytest.skip("there is no chromium with its driver: apt-get install chromium chromium-driver")
    assert chromium and driver, "CI needs chromium and chromium-driver"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as browser:
        yield browser


def show(browser, workdir, width=1200, scheme="light"):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for log in ("browser", "performance"):
        browser.get_log(log)  # empties it
    browser.get(workdir.report_file.as_uri())


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_browser_has_no_errors_and_asks_for_nothing_else(browser, name, request):
    workdir = request.getfixturevalue(name)
    show(browser, workdir)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith("data:")] == [workdir.report_file.as_uri()]


def test_every_plot_has_content(browser, plain):
    show(browser, plain)
    plots = browser.find_elements("css selector", ".plot")
    assert len(plots) == len(list(plain.report_figures.iterdir()))
    for plot in plots:
        assert plot.size["width"] > 300 and plot.size["height"] > 60
        assert len(plot.find_elements("css selector", "path, use")) > 5
        assert num_colours(plot.screenshot_as_png) > 20


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_texts_are_legible_inside_their_plots_and_the_page_is_no_wider_than_the_screen(browser, plain, width, scheme):
    show(browser, plain, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    texts = browser.execute_script(TEXTS)
    assert len(texts) > 200
    for text, ink, ground, outside in texts:
        colours = [tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, ground)]
        assert contrast(*colours) >= 4.5, text
        assert outside <= 2, text


def test_light_and_dark_follow_the_system_and_the_button(browser, plain):
    ground = "return getComputedStyle(document.body).backgroundColor"
    show(browser, plain, scheme="light")
    light = browser.execute_script(ground)
    browser.find_element("id", "theme").click()
    dark = browser.execute_script(ground)
    show(browser, plain, scheme="dark")
    assert browser.execute_script(ground) == dark != light
    browser.find_element("id", "theme").click()
    assert browser.execute_script(ground) == light


def test_hostile_texts_are_shown_and_do_nothing(browser, hostile):
    show(browser, hostile)
    assert browser.execute_script("return window.hacked === undefined")
    assert browser.find_elements("css selector", "img, main script, main b, h1 *, iframe") == []
    assert browser.find_element("css selector", "h1").text == HOSTILE[1]
    titles = browser.execute_script("return [...document.querySelectorAll('svg title')].map(t => t.textContent)")
    assert set(HOSTILE) <= set(titles)
    for text in HOSTILE:
        assert browser.execute_script(
            "return document.querySelector('#examples').textContent.includes(arguments[0])", text
        )


def test_a_mark_tells_its_title_when_pointed_at(browser, plain):
    show(browser, plain)
    mark = "document.querySelector('.plot title').parentElement"
    over = "dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    settled = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"  # scrolling hides what is shown
    browser.execute_async_script(f"{mark}.scrollIntoView(); {settled}")
    browser.execute_script(f"{mark}.{over}")
    title = browser.execute_script(f"return {mark}.querySelector('title').textContent")
    assert browser.find_element("id", "tip").text == title
    browser.execute_script(f"document.body.{over}")
    assert not browser.find_element("id", "tip").is_displayed()
