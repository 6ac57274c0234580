"""Statements on the page: those of present checkpoints, their tokens' shares, and that their texts are only texts."""

import json
from pathlib import Path

import pytest
from synthetic import EXPERIMENT, HOSTILE, all_scores, content_for, page_of, study_of

from tda.report.statements import read_statements
from tda.system.errors import UserError

ROW = {"direction": "helps", "train_idx": 7, "file": None, "mean": 0.5, "std": 0.1, "q": 0.01, "text": HOSTILE[1]}
PRESENT = {(0, 1): {"sha256": "a"}, (1, 1): {"sha256": "b"}}


def statement(prompt: str, checkpoints: list[list[str]]) -> dict:
    rows = [ROW | {"shares": [0.75, -0.25]}, ROW | {"direction": "opposes", "shares": None, "q": None}]
    return {
        "prompt": prompt,
        "continuation": HOSTILE[0],
        "tokens": ["one", " two"],
        "log_probabilities": [-0.5, -1.25],
        "said": ["one two", "other", "one two"],
        "seeds": 3,
        "checkpoints": checkpoints,
        "methods": [{"method": "grad_dot", "title": "Grad-Dot", "sign": "positive = helpful", "rows": rows}],
    }


def write(root: Path, name: str, content: object) -> Path:
    path = EXPERIMENT.results.path / "text_attributions" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return tmp_path


def test_statements_of_present_checkpoints_in_the_order_of_prompts(root: Path):
    write(root, "1", statement("b", [["a"], ["b"]]))
    write(root, "2", statement("a", [["b"]]))
    write(root, "3", statement("c", [["a"], ["gone"]]))
    found = read_statements(EXPERIMENT.results, PRESENT)
    assert [each["prompt"] for each in found] == ["a", "b"]
    assert found[0]["said_by"] == [("one two", 2), ("other", 1)] and found[0]["chances"] == [("one", -0.5), (" two", -1.25)]
    shared, without = found[0]["methods"][0]["rows"]
    assert shared["cells"] == [("one", 0.75, "helps", 5), (" two", -0.25, "opposes", 2)] and without["cells"] == []
    write(root, "4", {"prompt": "x"})
    with pytest.raises(UserError, match="4.json is damaged; delete it and run run_text_attribution.py again"):
        read_statements(EXPERIMENT.results, PRESENT)


def test_the_page_shows_them_as_texts(root: Path, monkeypatch: pytest.MonkeyPatch):
    study, scores = study_of("text"), all_scores(study_of("text"))
    without = page_of(study, content_for(study, scores, monkeypatch, root))
    assert 'href="#statements"' not in without and "view-statements" not in without
    write(root, "1", statement(HOSTILE[2], []))
    page = page_of(study, content_for(study, scores, monkeypatch, root))
    assert 'href="#statements"' in page and "Statements and the training texts behind them" in page
    view = page[page.index('id="view-statements"') : page.index('id="view-data"')]
    assert "<script>document" not in view and "&lt;script&gt;document" in view and "0.75" in view
    assert "said" in view.lower() and "(2)" in view
