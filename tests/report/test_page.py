"""The page of an experiment: its numbers are the statistics, every text is text, and it is no larger than it may be."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKOUT
from synthetic import EXPERIMENT, HOSTILE, all_scores, block_in, content_for, page_of, study_of, values_in

from tda.experiments.folders import ResultsFolder
from tda.report.overview import scoring_seconds
from tda.report.page import command, digits, rendered
from tda.report.provenance import files_of
from tda.report.sampling import LISTED
from tda.statistics.pair_statistics import pair_statistics
from tda.system.errors import UserError
from tda.system.files import sha256


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def made(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> tuple:
    study = study_of(kind, **sizes)
    scores = all_scores(study)
    return study, scores, page_of(study, content_for(study, scores, monkeypatch, root))


def test_listed_numbers_are_the_statistics(root: Path, monkeypatch: pytest.MonkeyPatch):
    study, scores, page = made("image", root, monkeypatch)
    values = values_in(page)
    assert values["checkpoints"] == [1, 2] and values["complete"] == 12
    assert [method["name"] for method in values["methods"]] == ["loo", "grad_dot", "repsim"]
    assert [method["helpful"] for method in values["methods"]] == [True, True, False]
    generator = np.random.default_rng(0)
    for _ in range(20):
        method, k = generator.choice(list(scores)), int(generator.integers(1, 3))
        statistics = pair_statistics(scores[method], k)
        content = block_in(page, f"test-{method}-{k}")
        count = 2 * LISTED * len(values["test"]["listed"])
        mean, std, q = np.frombuffer(content[: 12 * count], "<f4").reshape(3, -1, 2 * LISTED)
        positions = np.frombuffer(content[12 * count : 16 * count], "<i4").reshape(-1, 2 * LISTED)
        place = int(generator.integers(len(positions)))
        rank = int(generator.choice(np.flatnonzero(positions[place] >= 0)))
        pair = positions[place, rank], values["test"]["listed"][place]
        assert mean[place, rank] == np.float32(statistics.mean[pair]) and std[place, rank] == np.float32(statistics.std[pair])
        assert q[place, rank] == np.float32(statistics.q_value[pair])


def test_both_directions_name_the_same_pairs(root: Path, monkeypatch: pytest.MonkeyPatch):
    """With nine training examples every pair is listed for its test example."""
    _, scores, page = made("image", root, monkeypatch)
    values = values_in(page)
    statistics = pair_statistics(scores["loo"], 2)
    for direction, mean in (("test", statistics.mean.T), ("train", statistics.mean)):
        listed = values[direction]["listed"]
        content, count = block_in(page, f"{direction}-loo-2"), 2 * LISTED * len(listed)
        positions = np.frombuffer(content[12 * count : 16 * count], "<i4").reshape(-1, 2 * LISTED)
        for place, example in enumerate(listed):
            found = sorted(p for p in positions[place].tolist() if p >= 0)
            row = mean[example]
            wanted = [p for p in np.argsort(-row)[:LISTED] if row[p] > 0] + [p for p in np.argsort(row)[:LISTED] if row[p] < 0]
            assert found == sorted(wanted)


class Elements(HTMLParser):
    """Every element of a page, and the texts that are not code."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("kind", ["image", "text", "both"])
def test_hostile_names_and_texts_stay_text(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch):
    _, _, page = made(kind, root, monkeypatch)
    assert HOSTILE[0] not in page and "</script><b>" not in page and "49 " not in page.split('id="values"')[0]
    parsed = Elements(page)
    scripts = [attributes for tag, attributes in parsed.elements if tag == "script"]
    kinds = [attributes.get("type") for attributes in scripts]
    assert kinds.count("application/json") == 2 and kinds.count(None) == 2 + 10
    assert not any(tag == "b" and not attributes and "bold" in attributes for tag, attributes in parsed.elements)
    values = values_in(page)
    assert values["class_names"] == list(HOSTILE) and values["task"] == HOSTILE[0]
    assert HOSTILE[0] in " ".join(parsed.texts)
    assert values["test"]["file"][1] == f"test/{HOSTILE[1]}/1.png"
    assert kind == "image" or values["train"]["texts"][0] == f"{HOSTILE[0]} and more"


def test_nothing_is_fetched(root: Path, monkeypatch: pytest.MonkeyPatch):
    """No address of a picture, a style or code, and a policy that forbids what a mistake would add."""
    _, _, page = made("both", root, monkeypatch)
    parsed = Elements(page)
    links = [attributes[key] for _, attributes in parsed.elements for key in ("src", "href") if attributes.get(key)]
    assert links and not any(re.match(r"[a-z]+:|//", link) for link in links)
    (policy,) = [attributes["content"] for _, attributes in parsed.elements if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert set(re.findall(r"url\(\W?(\w+)", page.partition("</head>")[0])) == {"data"}


def test_a_large_experiment_is_sampled_and_says_so(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.report.content.PAGE_LIMIT", 1_900_000)
    monkeypatch.setattr("tda.report.content.MOST_SHOWN", 100)
    monkeypatch.setattr("tda.report.content._LARGE_SHEET", 10_000)
    _, _, page = made("image", root, monkeypatch, trains=90, tests=300)
    values = values_in(page)
    assert len(page.encode()) <= 1_900_000
    assert values["checkpoints"] == [2] and len(values["train"]["listed"]) == 90 and values["train"]["shown"] is None
    assert 50 <= len(values["test"]["listed"]) < 300 and len(values["test"]["index"]) == 300
    assert values["test"]["shown"] == sorted(values["test"]["listed"])[:100]
    assert 0 in values["test"]["listed"], "the misread test example is in the sample"
    assert "a sample" in page.partition('id="values"')[0]


def test_a_page_beyond_the_limit_is_refused():
    with pytest.raises(UserError, match="the page would have 0.5 MB"):
        rendered(
            "comparison.html",
            100,
            (),
            names=("a", "b"),
            command="",
            about=[{"name": "a", "parts": {}, "common": {}}],
            columns=[],
            rows=[],
            values={},
        )


def test_files_are_grouped_by_pattern_and_linked_by_quoted_names(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(root))
    folder = ResultsFolder(EXPERIMENT.name)
    (folder.path / "tda_scores" / "loo" / "0").mkdir(parents=True)
    (folder.path / "tda_scores" / "loo" / "0" / "attribution_epoch_1.parquet").write_bytes(b"")
    for name in (
        "summary.csv",
        "qvalues_loo_across_1_ckpts.csv",
        "pvalues_single_draw_loo_across_1_ckpts.csv",
        "own #1 'x'.csv",
    ):
        (folder.path / name).write_bytes(b"")
    groups = {group["pattern"]: group for group in files_of(folder)}
    assert set(groups) == {"summary.csv", "qvalues_*.csv", "pvalues_single_draw_*.csv", "*", "tda_scores/"}
    assert groups["*"]["links"] == [("own #1 'x'.csv", "own%20%231%20%27x%27.csv")]
    assert groups["tda_scores/"]["count"] == 1


def test_seconds_of_scoring_are_those_of_the_whole_or_of_all_shares(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.report.overview.read_manifest", lambda folder: {"steps": STEPS})
    assert scoring_seconds(ResultsFolder("x")) == {"loo": 5.0, "if": 3.0}


STEPS = {
    "training": {"wall_seconds": 1.0},
    "scoring loo, seed 0": {"wall_seconds": 9.0},
    "scoring loo": {"wall_seconds": 5.0},
    "scoring if, seed 0": {"wall_seconds": 1.0},
    "scoring if, seed 1": {"wall_seconds": 2.0},
}


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "number", "–"),
        (0.81566, "percent", "81.6 %"),
        (-0.001, "correlation", "0.00"),
        (-0.25, "correlation", "−0.25"),
        (12.6, "seconds", "13"),
        (1.26, "seconds", "1.3"),
        (0.0, "number", "0"),
        (1.09e-06, "number", "1.09e−6"),
        (2e-17, "number", "2e−17"),
        (123456.0, "number", "1.23e5"),
        (1234.0, "number", "1230"),
        (0.00123456, "number", "0.00123"),
    ],
)
def test_numbers_have_three_digits(value: float | None, form: str, text: str):
    assert digits(value, form) == text


def test_the_command_that_makes_the_page_again_is_one_that_a_shell_takes():
    assert command("run_report.py", {"compare": ("a b", "c")}) == "python run_report.py --compare 'a b' c"


def test_the_libraries_are_the_files_that_their_packages_hold():
    folder = CHECKOUT / "tda" / "report" / "vendor"
    rows = re.findall(r"^\| `(\S+)` \|.*\| ([0-9a-f]{64}) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {path.name for path in folder.glob("*.js")}
    assert all(sha256((folder / name).read_bytes()) == expected for name, expected in rows)
    assert all((folder / f"{name.partition('.')[0]}.LICENSE").exists() for name, _ in rows)


def test_agreement_with_leave_one_out_tells_its_checkpoints(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(root))
    folder = EXPERIMENT.results.path
    folder.mkdir(parents=True)
    same = [f"spearman_{name}{end}" for name in ("seed", "mean", "std", "p_value") for end in ("", "_low", "_high")]
    other = ["spearman_other_run", "mean_of_halves", "std_of_halves", "p_value_of_halves"]
    for name, columns in (("agreement_with_loo", same), ("agreement_between_runs", other)):
        rows = [",".join(["grad_dot", str(k), *["0.5"] * len(columns)]) for k in (1, 2)]
        (folder / f"{name}.csv").write_text("\n".join([",".join(["method", "checkpoints", *columns]), *rows]))
    _, _, page = made("image", root, monkeypatch)
    assert "A run’s score is the mean over its last 2 checkpoints." in page
