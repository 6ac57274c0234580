"""The page in a real browser, opened from its file: what it shows, filters and sorts, and that it asks nobody for anything."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, run_here
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from synthetic import HOSTILE, all_scores, content_for, page_of, study_of

PROGRAMS = [shutil.which(name) for name in ("chromium", "chromedriver")]
pytestmark = pytest.mark.skipif(
    None in PROGRAMS, reason="chromium and chromedriver (Debian: chromium-driver) are not installed"
)
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1360,1000""".split()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    with tempfile.TemporaryDirectory() as folder:
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(PROGRAMS[1]))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def results(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny experiment, its page among them."""
    root = tmp_path_factory.mktemp("page") / "root"
    shutil.copytree(trained_root, root)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(root))
        chosen = {"model": "cnn", "task": "digits3", "num_per_class": 2}
        run_here("run_tda.py", methods={"grad_dot": {}, "grad_cos": {}, "repsim": {}}, **chosen)
        run_here("run_compute_pvalues.py", **chosen)
        run_here("run_correlation_analysis.py", **chosen)
        run_here("run_report.py", **chosen)
    return root / "results" / EXPERIMENT.name


@pytest.fixture
def page(browser: webdriver.Chrome, results: Path) -> webdriver.Chrome:
    return opened(browser, results / "report.html")


def opened(browser: webdriver.Chrome, path: Path) -> webdriver.Chrome:
    """The browser with a page that was opened anew; what earlier ones logged is forgotten."""
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    loaded = "return document.readyState === 'complete' && location.href.startsWith(arguments[0])"
    wait(browser, lambda: browser.execute_script(loaded, path.as_uri()))
    return browser


def go(browser: webdriver.Chrome, view: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f'nav a[href="#{view}"]').click()
    wait(browser, lambda: browser.find_element(By.ID, f"view-{view}").is_displayed())


def wait(browser: webdriver.Chrome, until: Callable[[], bool]) -> None:
    """A browser follows a new address after the command that gave it has ended."""
    passing = (StaleElementReferenceException,)
    WebDriverWait(browser, 30, 0.02, ignored_exceptions=passing).until(lambda _: until())


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    select = Select(browser.find_element(By.ID, name))
    (number,) = [place for place, option in enumerate(select.options) if option.get_property("value") == value]
    select.select_by_index(number)


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("%", "").replace("–", "nan"))


def cells(browser: webdriver.Chrome, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def shown_indices(browser: webdriver.Chrome, grid: str) -> list[int]:
    buttons = browser.find_elements(By.CSS_SELECTOR, f"#{grid} button")
    return [int(button.get_attribute("data-index")) for button in buttons]


def requests_of(browser: webdriver.Chrome) -> list[str]:
    """Addresses that pages asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def test_every_view_opens_without_a_complaint_and_asks_nobody(page: webdriver.Chrome, results: Path):
    for view in ("explorer", "training", "data", "provenance", "overview"):
        go(page, view)
    assert complaints(page) == []
    outside = [url for url in requests_of(page) if not url.startswith(("data:", "blob:"))]
    assert outside == [(results / "report.html").as_uri()]


def test_charts_are_drawn_as_vectors(page: webdriver.Chrome):
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, "#histograms svg")) == 3)
    matrix = pd.read_csv(page.current_url.removeprefix("file://").replace("report.html", "correlation_spearman_mean.csv"))
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    drawn = np.array([number(text) for text in cells(page, "#correlations-table td")]).reshape(3, 3)
    np.testing.assert_allclose(drawn, matrix[["grad_cos", "grad_dot", "repsim"]].to_numpy(), atol=0.0051)
    assert len(page.find_elements(By.CSS_SELECTOR, "#correlations svg rect")) >= 9


def test_the_table_of_methods_shows_the_summary_and_sorts(page: webdriver.Chrome, results: Path):
    summary = pd.read_csv(results / "summary.csv").set_index(["method", "checkpoints"])
    for checkpoints in (5, 2):
        choose(page, "summary-checkpoints", str(checkpoints))
        for method in ("grad_dot", "grad_cos", "repsim"):
            (share,) = cells(page, f'tr[data-method="{method}"] td[data-key="share_reliable"]')
            assert number(share) == pytest.approx(100 * summary.loc[(method, checkpoints), "share_q_below_level"], abs=0.051)
    heading = page.find_element(By.XPATH, "//table[@id='methods']//button[text()='mean p']")
    for better_first in (True, False):
        heading.click()
        values = [number(text) for text in cells(page, '#methods td[data-key="mean_p"]')]
        assert values == sorted(values, reverse=not better_first)


def test_twenty_random_pairs_show_the_numbers_of_the_tables(page: webdriver.Chrome, results: Path):
    go(page, "explorer")
    tables = {
        (method, k): pd.read_csv(results / f"qvalues_{method}_across_{k}_ckpts.csv", index_col="train_idx")
        for method in ("grad_dot", "grad_cos", "repsim")
        for k in (1, 5)
    }
    generator = np.random.default_rng(0)
    for _ in range(20):
        method, k = list(tables)[generator.integers(len(tables))]
        test = int(generator.choice(tables[method, k].columns))
        page.execute_script("location.hash = arguments[0]", f"explorer?test={test}&a={method}&k={k}&n=10")
        wait(page, lambda test=test: f"#{test}," in page.find_element(By.CSS_SELECTOR, "#test-head h3").text)
        wait(page, lambda k=k: page.find_element(By.ID, "checkpoints").get_property("value") == str(k))
        wait(page, lambda method=method: page.find_element(By.ID, "method-a").get_property("value") == method)
        rows = page.find_elements(By.CSS_SELECTOR, "#test-lists tr[data-position]")
        row = rows[generator.integers(len(rows))]
        train = int(row.find_element(By.CSS_SELECTOR, "button.name").get_attribute("data-index"))
        q = number(row.find_element(By.CSS_SELECTOR, "td.q").text.split()[0])
        assert q == float(f"{tables[method, k].loc[train, str(test)]:.3g}")
        scores = [
            pd.read_parquet(results / "tda_scores" / method / str(seed) / f"attribution_epoch_{epoch}.parquet")
            for seed in range(3)
            for epoch in range(16 - k, 16)
        ]
        mean = np.mean([table.set_index("train_idx").loc[train, f"z_test_{test}"] for table in scores])
        assert number(row.find_element(By.CSS_SELECTOR, "td.mean").text.split()[0]) == pytest.approx(mean, rel=0.006)


def test_the_pair_by_every_method_is_that_of_the_tables(page: webdriver.Chrome, results: Path):
    go(page, "explorer")
    page.find_element(By.CSS_SELECTOR, "#test-lists tr[data-position] button.name").click()
    test, train = (
        int(shown_indices(page, "test-grid")[0]),
        page.execute_script("return new URLSearchParams(location.hash.split('?')[1]).get('train')"),
    )
    for row in page.find_elements(By.CSS_SELECTOR, "#pair-table tbody tr"):
        method = row.get_attribute("data-method")
        table = pd.read_csv(results / f"qvalues_{method}_across_5_ckpts.csv", index_col="train_idx")
        shown = number(row.find_elements(By.CSS_SELECTOR, "td")[1].text)
        assert shown == pytest.approx(table.loc[int(train), str(test)], rel=0.006)


def test_search_filters_and_orders_of_test_examples(page: webdriver.Chrome):
    go(page, "explorer")
    values = page.execute_script("return Values.test")
    everything = shown_indices(page, "test-grid")
    assert everything == sorted(values["index"])[:96] and "of 150" in page.find_element(By.ID, "test-count").text
    page.find_element(By.ID, "test-after").click()
    assert shown_indices(page, "test-grid") == sorted(values["index"])[96:]
    search = page.find_element(By.ID, "test-search")
    search.send_keys(f"#{values['index'][7]}")
    assert shown_indices(page, "test-grid") == [values["index"][7]]
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    choose(page, "test-class", "2")
    of_class = {index for index, label in zip(values["index"], values["label"], strict=True) if label == 2}
    assert set(shown_indices(page, "test-grid")) == of_class
    choose(page, "test-class", "")
    wrong = {values["index"][position] for position, bad in zip(values["listed"], values["wrong"], strict=True) if bad}
    choose(page, "test-filter", "misclassified")
    assert set(shown_indices(page, "test-grid")) == set(sorted(wrong)[:96])
    choose(page, "test-filter", "methods disagree")
    few = shown_indices(page, "test-grid")
    assert 0 < len(few) <= 20
    choose(page, "test-filter", "all")
    place = {values["index"][position]: place for place, position in enumerate(values["listed"])}
    share = values["share"][page.find_element(By.ID, "method-a").get_property("value")]
    for order, key, sign in (
        ("most reliable first", share, -1),
        ("least reliable first", share, 1),
        ("most disagreement first", values["disagreement"], -1),
    ):
        choose(page, "test-order", order)
        numbers = [sign * key[place[index]] for index in shown_indices(page, "test-grid")]
        assert numbers == sorted(numbers)


def test_the_most_reliably_harmful_are_those_of_least_q(page: webdriver.Chrome, results: Path):
    go(page, "explorer")
    choose(page, "method-a", "grad_dot")
    choose(page, "by", "q")
    test = shown_indices(page, "test-grid")[0]
    q = pd.read_csv(results / "qvalues_grad_dot_across_5_ckpts.csv", index_col="train_idx")[str(test)]
    names = page.find_elements(By.CSS_SELECTOR, "#test-lists button.name")
    assert len(names) == 6
    for rows in page.find_elements(By.CSS_SELECTOR, "#test-lists table"):
        found = [q.loc[int(name.get_attribute("data-index"))] for name in rows.find_elements(By.CSS_SELECTOR, "button.name")]
        assert found == sorted(found)


def test_two_methods_stand_side_by_side(page: webdriver.Chrome):
    go(page, "explorer")
    choose(page, "method-a", "grad_dot")
    choose(page, "method-b", "repsim")
    assert cells(page, "#test-lists .panel h3") == ["Grad-Dot", "RepSim"]
    assert cells(page, "#test-lists h4")[2].startswith("+ most alike")


def test_a_training_example_is_seen_the_other_way_around(page: webdriver.Chrome, results: Path):
    go(page, "training")
    choose(page, "train-method", "grad_dot")
    train = shown_indices(page, "train-grid")[0]
    table = pd.read_csv(results / "qvalues_grad_dot_across_5_ckpts.csv", index_col="train_idx")
    for row in page.find_elements(By.CSS_SELECTOR, "#train-lists tr[data-position]")[:3]:
        test = row.find_element(By.CSS_SELECTOR, "button.name").get_attribute("data-index")
        assert number(row.find_element(By.CSS_SELECTOR, "td.q").text.split()[0]) == float(f"{table.loc[train, test]:.3g}")
    assert len(cells(page, "#train-methods tbody tr")) == 3
    assert "Self-influence" in page.find_element(By.ID, "train-head").text


def test_the_candidates_are_searched_and_downloaded(page: webdriver.Chrome):
    go(page, "data")
    choose(page, "candidates-filter", "all")
    assert len(cells(page, "#candidates-table tbody tr")) == 6
    lines = page.execute_script("return Data.csv()").splitlines()
    assert len(lines) == 7 and lines[0].startswith("index,label,looks_wrong") and "grad_dot_verdict" in lines[0]
    index = page.execute_script("return Values.train.index[2]")
    page.find_element(By.ID, "candidates-search").send_keys(str(index))
    assert any(str(index) in row for row in cells(page, "#candidates-table tbody tr"))


def test_the_keyboard_reaches_everything(page: webdriver.Chrome):
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the content"
    go(page, "explorer")
    first = page.find_element(By.CSS_SELECTOR, '#test-grid button[aria-selected="true"]')
    page.execute_script("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_RIGHT)
    second = page.switch_to.active_element
    assert second.get_attribute("data-index") == str(shown_indices(page, "test-grid")[1])
    second.send_keys(Keys.ENTER)
    assert f"#{second.get_attribute('data-index')}" in page.find_element(By.CSS_SELECTOR, "#test-head h3").text
    rows: list[WebElement] = page.find_elements(By.CSS_SELECTOR, "#test-lists button.name")
    rows[0].send_keys(Keys.ENTER)
    assert page.find_elements(By.ID, "pair-table")


def test_a_link_opens_what_it_names(browser: webdriver.Chrome, results: Path):
    index = 12
    opened(browser, results / "report.html")
    browser.get("about:blank")
    browser.get(f"{(results / 'report.html').as_uri()}#explorer?test={index}&a=grad_cos&b=grad_dot&k=2&n=10")
    assert f"#{index}" in browser.find_element(By.CSS_SELECTOR, "#test-head h3").text
    assert cells(browser, "#test-lists .panel h3") == ["Grad-Cos", "Grad-Dot"]
    assert browser.find_element(By.ID, "checkpoints").get_property("value") == "2"
    browser.execute_script("location.hash = 'data?cut=%E4'")
    wait(browser, lambda: browser.find_element(By.ID, "view-data").is_displayed())
    assert complaints(browser) == []


def test_a_narrow_window_does_not_scroll_sideways(browser: webdriver.Chrome, results: Path):
    narrow = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        opened(browser, results / "report.html")
        for view in ("overview", "explorer", "training", "data", "provenance"):
            browser.execute_script("location.hash = arguments[0]", view)
            wait(browser, lambda view=view: browser.find_element(By.ID, f"view-{view}").is_displayed())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360, view
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("kind", ["image", "text", "both"])
def test_hostile_names_and_texts_are_shown_as_text(
    kind: str, browser: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = study_of(kind)
    path = tmp_path / "hostile.html"
    path.write_text(page_of(study, content_for(study, all_scores(study), monkeypatch, tmp_path)), encoding="utf-8")
    opened(browser, path)
    for view in ("explorer", "training", "data", "provenance", "overview"):
        go(browser, view)
    go(browser, "explorer")
    choose(browser, "method-b", "repsim")
    assert browser.title.startswith("cnn_digits3_2pc") and complaints(browser) == []
    assert (
        browser.execute_script("return document.querySelectorAll('#test-head script, #test-lists script, b > b').length") == 0
    )
    everything = browser.find_element(By.ID, "view-explorer").text
    assert HOSTILE[0] in everything and HOSTILE[1] in everything
    assert "⟨U+202E⟩back⟨U+202C⟩" in everything
    if kind != "image":
        assert f"{HOSTILE[0]} and more" in everything
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests_of(browser))


def test_two_experiments_stand_beside_each_other(browser: webdriver.Chrome, results: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(results.parents[1]))
    other = results.parent / "cnn_digits3_2pc_pool"
    other.mkdir()
    for name in ("summary.csv", "manifest.json"):
        shutil.copy(results / name, other)
    (other / "correlation_spearman_mean.csv").write_text("method,grad_cos,loo\ngrad_cos,1,-0.9\nloo,-0.9,1\n")
    line = run_here("run_report.py", experiment=None, compare=(EXPERIMENT.name, other.name))
    path = results / f"comparison_with_{other.name}.html"
    assert str(path.parent) in line and path.name in line
    opened(browser, path)
    assert complaints(browser) == [] and len(cells(browser, "#methods tbody tr")) == 3
    shown = browser.find_elements(By.CSS_SELECTOR, "#methods tbody tr:first-child td")
    assert shown[0].text == shown[1].text and number(shown[2].text) == 0
    assert len(browser.find_elements(By.CSS_SELECTOR, "#reliable svg circle")) == 6
    (point,) = browser.find_elements(By.CSS_SELECTOR, "#agreement svg circle")
    (name,) = browser.find_elements(By.CSS_SELECTOR, "#agreement svg [aria-label='y-axis tick label']")
    assert point.rect["x"] > name.rect["x"] + name.rect["width"]
    assert [url for url in requests_of(browser) if not url.startswith("data:")] == [path.as_uri()]
