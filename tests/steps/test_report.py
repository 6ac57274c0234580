"""The step that makes the page: from scores on disk to a file, what it refuses, and what the summary says of it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SEEDS, Ensemble, copied, run_here, settings_of

from tda.data.splits import Split
from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import read_manifest, step
from tda.features.map_files import save_arrays
from tda.report import members
from tda.report.comparison import comparison_values
from tda.report.members import members_say
from tda.report.provenance import steps_of
from tda.scores.fresh_scores import score_identities
from tda.scores.score_files import load_score_file, save_scores
from tda.settings import Report
from tda.system.arguments import parse
from tda.system.errors import UserError
from tda.training.evaluation import evaluate

EXPERIMENT = Experiment("cnn", "digits3", 2)
CHOSEN = {"model": "cnn", "task": "digits3", "num_per_class": 2}
METHODS = {"grad_dot": {}, "repsim": {}}


@pytest.fixture(scope="module")
def scored_results(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the tiny ensemble, scores of two methods and their p-values, to be copied, never changed."""
    with copied(trained_root, tmp_path_factory.mktemp("scored") / "root") as root:
        run_here("run_tda.py", methods=METHODS, **CHOSEN)
        run_here("run_compute_pvalues.py", **CHOSEN)
    return root / "results"


@pytest.fixture
def scored(ensemble: Ensemble, scored_results: Path) -> Ensemble:
    """The tiny ensemble with these results."""
    shutil.copytree(scored_results, ensemble.root / "results", dirs_exist_ok=True)
    return ensemble


def test_the_page_is_made_again_to_the_same_bytes_and_is_named_first(scored: Ensemble):
    results = scored.study.results.path
    missing = run_here("run_show_summary.py", **CHOSEN)
    assert missing.startswith("no report yet; make it by\n  run_report.py --experiment cnn_digits3_2pc\n")
    line = run_here("run_report.py", **CHOSEN)
    page = (results / "report.html").read_bytes()
    assert line.startswith("wrote report.html (") and f"in {results}; open it" in line
    run_here("run_report.py", **CHOSEN)
    assert (results / "report.html").read_bytes() == page
    record = read_manifest(scored.study.results)["steps"]["report"]
    assert set(record["made_from"]) == set(METHODS) and set(record["files"]) == {"report.html"}
    said = run_here("run_show_summary.py", **CHOSEN)
    assert said.splitlines()[1].strip() == str(results / "report.html")
    assert all(len(line) <= 100 for line in said.splitlines() if str(results) not in line)
    assert f"{2 * 5:>7}  qvalues_*.csv" in said and "run_correlation_analysis.py" in page.decode()


def test_maps_and_candidates_are_shown_where_they_are(scored: Ensemble):
    results = scored.study.results.path
    train, test = int(scored.train.indices[1]), int(scored.test.indices[3])
    mean = np.array([[[[0.5, -2.0], [0.0, 1.0]]]], dtype=np.float32)
    hashes = np.array([member.info["sha256"] for member in scored.members(14, 15)])
    arrays = {"train_idx": np.array([train]), "test_idx": np.array([test]), "mean": mean, "checkpoints": hashes}
    save_arrays(results / "feature_attribution" / "maps_grad_cos.npz", arrays)
    for name, others in (("earlier", {"checkpoints": np.array([hashes[0], "0" * 64])}), ("unknown", {})):
        unlike = {key: values for key, values in arrays.items() if key != "checkpoints"} | others
        save_arrays(results / "feature_attribution" / f"maps_{name}.npz", unlike)
    rows = {"index": [train], "class": ["=1+1"], "grad_dot_mean": [np.nan], "grad_dot_verdict": ["harmful"], "is_wrong": [True]}
    pd.DataFrame(rows).to_csv(results / "removal_candidates.csv", index=False)
    run_here("run_report.py", **CHOSEN)
    page = (results / "report.html").read_text()
    assert f'"largest": 2.0, "score": "grad_cos", "start": 0, "test": {test}, "train": {train}' in page
    assert f'"rows": [[{train}, "=1+1", null, "harmful", true]]' in page
    assert '"score": "earlier"' not in page and '"score": "unknown"' not in page
    (results / "feature_attribution" / "maps_grad_cos.npz").write_bytes(b"no arrays")
    with pytest.raises(UserError, match="maps_grad_cos.npz is damaged"):
        run_here("run_report.py", **CHOSEN)


def test_a_page_of_the_seeds_that_are_scored_says_of_how_many(ensemble: Ensemble):
    torch.save(torch.tensor([*SEEDS, 44]), ensemble.root / "random_seeds.pt")
    run_here("run_cnn_training.py", **CHOSEN)
    run_here("run_tda.py", methods=METHODS, num_seeds=3, **CHOSEN)
    run_here("run_compute_pvalues.py", num_seeds=3, **CHOSEN)
    run_here("run_correlation_analysis.py", num_seeds=3, **CHOSEN)
    page = ensemble.study.results.path / "report.html"
    with pytest.raises(UserError, match=r"summary.csv of cnn_digits3_2pc is of 3 seeds, not of 4; run .* --num_seeds 4 first"):
        run_here("run_report.py", num_seeds=4, **CHOSEN)
    with pytest.raises(UserError, match=r"--num_seeds 5 is out of range: random_seeds.pt holds 4 seeds"):
        run_here("run_report.py", num_seeds=5, **CHOSEN)
    assert not page.exists()
    run_here("run_report.py", num_seeds=3, **CHOSEN)
    told = page.read_text()
    assert "<strong>3 members</strong> one a seed, trained alike; the first of 4 that are trained</li>" in told
    assert "Over 3 seeds, " in told and "of other numbers of seeds" not in told
    run_here("run_report.py", **CHOSEN)
    assert page.read_text() == told
    steps = {step["name"]: step["seeds"] for step in steps_of(ensemble.study.results)}
    assert steps["p-values"] == steps["correlations"] == 3 and steps["training"] == 4

    run_here("run_tda.py", methods=METHODS, **CHOSEN)
    run_here("run_compute_pvalues.py", num_seeds=3, **CHOSEN)
    run_here("run_correlation_analysis.py", **CHOSEN)
    run_here("run_report.py", num_seeds=3, **CHOSEN)
    note = (
        "of other numbers of seeds</strong> correlations between methods (4); run their steps with <code>--num_seeds 3</code>"
    )
    assert note in page.read_text()


def test_members_are_asked_what_they_predict(scored: Ensemble):
    say = members_say(scored.study, [0, 1, 2])
    (member,) = scored.members(15, seed_id=1)
    test: Split = scored.study.inputs(scored.study.test)
    evaluation = evaluate(member.model, member.objective, test)
    np.testing.assert_allclose(say.test.losses[1], evaluation.losses, rtol=1e-5, atol=1e-7)
    assert (say.test.predicted[1] == evaluation.predictions.numpy()).all()
    assert np.isclose(say.test.right[1].mean(), member.info["test_accuracy"])
    scores = run_self_scores(scored, member)
    np.testing.assert_allclose(say.self_influence[1], scores, rtol=1e-4)


@pytest.mark.parametrize("ensemble", ["vit"], indirect=True)
def test_frozen_weights_count_where_gradients_are_too_dear(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    (member,) = ensemble.members(15)
    examples, trained = len(ensemble.study.train), sum(part.numel() for part in member.state.parameters.values())
    whole = sum(parameter.numel() for parameter in member.model.parameters())
    assert trained < whole
    monkeypatch.setitem(members._MOST_GRADIENTS, "cpu", examples * whole - 1)
    assert members_say(ensemble.study, [0]).self_influence is None
    monkeypatch.setitem(members._MOST_GRADIENTS, "cpu", examples * whole)
    assert members_say(ensemble.study, [0]).self_influence.shape == (1, examples)


def run_self_scores(scored: Ensemble, member) -> np.ndarray:
    """Grad-Dot of each training example with itself."""
    from tda.debiasing.wrong_labels import self_influence
    from tda.methods.registry import load_method

    return self_influence(load_method("grad_dot"), member, scored.train).numpy()


def test_a_page_needs_a_summary_of_the_scores_that_are_there(ensemble: Ensemble):
    run_here("run_tda.py", methods=METHODS, **CHOSEN)
    with pytest.raises(UserError, match=r"summary.csv is missing; run run_compute_pvalues.py"):
        run_here("run_report.py", **CHOSEN)
    run_here("run_compute_pvalues.py", **CHOSEN)
    shutil.rmtree(ensemble.study.results.path / "tda_scores" / "repsim")
    with pytest.raises(UserError, match=r"summary.csv is not of the scores that are there now"):
        run_here("run_report.py", **CHOSEN)
    assert not (ensemble.study.results.path / "report.html").exists()


def test_two_experiments_are_named_by_two_words(capsys: pytest.CaptureFixture):
    settings = settings_of("run_report.py")
    assert parse(settings, "", ["--compare", "a", "b"]).compare == ("a", "b")
    assert isinstance(settings, Report) and settings.compare is None
    for arguments in (
        ["--compare", "a"],
        ["--compare", "a", "b", "--experiment", "c"],
        ["--compare", "a", "b", "--num_seeds", "3"],
    ):
        with pytest.raises(SystemExit) as end:
            parse(settings, "", arguments)
        assert end.value.code == 2
    assert "expected 2 arguments" in capsys.readouterr().err


def test_an_experiment_beside_itself_or_one_that_is_not_there_is_refused(root):
    with pytest.raises(UserError, match="--compare names a twice"):
        run_here("run_report.py", experiment=None, compare=("a", "a"))
    with pytest.raises(UserError, match=r"a/summary.csv is missing"):
        run_here("run_report.py", experiment=None, compare=("a", "b"))


def test_a_comparison_shows_no_tables_of_scores_that_are_no_longer_there(scored: Ensemble):
    folder = scored.study.results.path
    run_here("run_correlation_analysis.py", **CHOSEN)
    shutil.copytree(folder, folder.with_name("before"), ignore=shutil.ignore_patterns("tda_scores"))
    both = {"experiment": None, "compare": (folder.name, "before")}
    run_here("run_report.py", **both)
    shown = (folder / "comparison_with_before.html").read_text()
    shutil.rmtree(scored.study.results.score_folder("repsim"))
    with pytest.raises(UserError, match="cnn_digits3_2pc/summary.csv is not of the scores that are there now"):
        run_here("run_report.py", **both)
    assert (folder / "comparison_with_before.html").read_text() == shown
    run_here("run_compute_pvalues.py", **CHOSEN)
    overview = comparison_values([scored.study.results, ResultsFolder("before")])["values"]["charts"]
    assert [bool(charts["correlations"]["mean"]) for charts in overview] == [False, True]


def test_tables_of_scores_that_are_no_longer_there_are_left_out(scored: Ensemble):
    run_here("run_correlation_analysis.py", **CHOSEN)
    run_here("run_report.py", **CHOSEN)
    page = scored.study.results.path / "report.html"
    command = "run_correlation_analysis.py --experiment cnn_digits3_2pc"
    assert command not in page.read_text()
    for path in scored.study.results.score_folder("repsim").glob("*/*.parquet"):
        values, train, test, info = load_score_file(path)
        save_scores(path, values + train[:, None], train, test, info)
    run_here("run_compute_pvalues.py", **CHOSEN)
    run_here("run_report.py", **CHOSEN)
    assert command in page.read_text()
    run_here("run_correlation_analysis.py", **CHOSEN)
    run_here("run_report.py", **CHOSEN)
    assert command not in page.read_text()


def test_facts_pairs_and_candidates_of_scores_that_are_no_longer_there_are_left_out(scored: Ensemble):
    """What steps that need other tasks would have left, and their records, with the scores that they say they are of."""
    folder, experiment = scored.study.results.path, scored.study.experiment
    current = score_identities(experiment)
    means = {"seed_id": ["mean"], "pairs": [7654]} | {
        f"{kind}_recall_{k}": [0.5] for kind in ("text", "image") for k in (1, 5, 10)
    }
    shares = {f"{name}{end}": [0.5] for name in ("mrr", "recall") for end in ("", "_low", "_high")}
    tables = {
        "fact tracing": ("fact_tracing", {"method": ["repsim"], "facts": [4321], "found": [3]} | shares),
        "pair removal": ("retrieval", means),
        "data debiasing": ("removal_candidates", {"index": [1], "verdict": ["to_be_removed"]}),
    }
    for shown, identity in ((True, current["repsim"]), (False, "0" * 64)):
        for kind, (name, columns) in tables.items():
            with step(experiment, kind, {}, {}) as record:
                pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
                record.files, record.made_from = [folder / f"{name}.csv"], {"repsim": identity}
        run_here("run_report.py", **CHOSEN)
        page = (folder / "report.html").read_text()
        assert [word in page for word in ("4321", "7654", "to_be_removed")] == [shown] * 3
