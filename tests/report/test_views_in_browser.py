"""Views in a real browser: the table of training examples that should perhaps go, where there are many, and paper."""

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from synthetic import all_scores, content_for, page_of, study_of
from test_in_browser import browser as browser
from test_in_browser import choose, complaints, go, opened
from test_in_browser import pytestmark as pytestmark

from tda.report import sampling

LAST_COLUMN = "return [...at('candidates-table').tBodies[0].rows].map((row) => Number([...row.cells].at(-1).dataset.value))"


def test_all_candidates_are_sorted_and_stay_so_when_they_are_searched(
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    study = study_of("image", trains=520, tests=2)
    path = tmp_path / "many.html"
    path.write_text(page_of(study, content_for(study, all_scores(study), monkeypatch, tmp_path)), encoding="utf-8")
    go(opened(browser, path), "data")
    heading = browser.find_elements(By.CSS_SELECTOR, "#candidates-table thead button")[-1]
    heading.click()
    choose(browser, "candidates-filter", "all")
    every = browser.execute_script(LAST_COLUMN)
    assert len(every) == 520 and every == sorted(every)
    search = browser.find_element(By.ID, "candidates-search")
    search.send_keys("10")
    some = browser.execute_script(LAST_COLUMN)
    assert 10 < len(some) < 520 and some == sorted(some)
    search.send_keys("no such example")
    heading.click()
    assert complaints(browser) == []


def test_candidates_of_a_sample_are_called_one(
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sampling, "_MOST_TRAINS", 5)
    study = study_of("image", trains=9, tests=2)
    path = tmp_path / "sample.html"
    path.write_text(page_of(study, content_for(study, all_scores(study), monkeypatch, tmp_path)), encoding="utf-8")
    go(opened(browser, path), "data")
    assert "tells of 5 of the 9 training examples" in browser.find_element(By.ID, "candidates-source").text
    assert browser.find_element(By.ID, "candidates-count").text.endswith("of 5 examples")


def test_paper_is_light_whatever_the_appearance(
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    study = study_of("image")
    path = tmp_path / "paper.html"
    path.write_text(page_of(study, content_for(study, all_scores(study), monkeypatch, tmp_path)), encoding="utf-8")
    choose(opened(browser, path), "theme", "dark")
    ink = "return getComputedStyle(document.body).color"
    on_screen = browser.execute_script(ink)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert on_screen == "rgb(233, 236, 240)" and browser.execute_script(ink) == "rgb(22, 25, 29)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        choose(browser, "theme", "")
