"""The report in a headless browser."""

import json
import os
import re
import shutil

import pytest
from report_cases import HOSTILE, contrast, hostile_config, make, num_colours, plain_config


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return make(folder / "run", hostile_config(folder))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make(tmp_path_factory.mktemp("plain") / "run", plain_config())


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
    assert len(plots) == len(list(plain.report_plots.iterdir()))
    for plot in plots:
        assert plot.size["width"] > 300 and plot.size["height"] > 60
        assert len(plot.find_elements("css selector", "path, use")) > 5
        assert num_colours(plot.screenshot_as_png) > 20


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_texts_are_legible_inside_their_plots_and_the_page_fits_the_screen(browser, name, request, width, scheme):
    show(browser, request.getfixturevalue(name), width, scheme)
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
