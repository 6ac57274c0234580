"""The scripts of the ViT study on tiny transformers: every file is there, a second run changes nothing, bytes are the same."""

import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from conftest import EXPERIMENT, Ensemble, assert_refused, contents, run_here, run_script, temporary_files

METHODS = ["ats", "grad_cos", "grad_dot", "if", "if_lissa", "loo"]
SCORING = [f"tda_vit_scripts/run_vit_{name}.py" for name in ("loo", "ats", "if", "gd_and_gc")]
PRODUCTS = ("models/**/*.safetensors", "results/**/*.parquet")

pytestmark = [pytest.mark.dealt_first, pytest.mark.parametrize("ensemble", ["vit"], indirect=True)]


def test_study_from_fine_tuning_to_correlations(ensemble: Ensemble):
    results = ensemble.study.results
    assert "trained 0 seeds, kept 3" in run_here("run_vit_finetuning.py", num_per_class=2)
    written = [run_here(script, num_per_class=2) for script in SCORING]
    assert ["wrote 15" in line for line in written] == [True, True, False, False]
    for script in ("run_compute_pvalues.py", "run_correlation_analysis.py"):
        run_here(script, experiment=results.name)
    for method in METHODS:
        table = pd.read_parquet(results.score_file(method, 2, 15))
        assert table.shape == (6, 151) and np.isfinite(table).all(axis=None)
    matrix = pd.read_csv(results.path / "correlation_spearman_mean.csv", index_col=0)
    assert list(matrix.index) == METHODS
    assert len(pd.read_csv(results.path / "summary.csv")) == len(METHODS) * 5
    before = contents(ensemble.root, *PRODUCTS)
    assert all("wrote 0 score files" in run_here(script, num_per_class=2) for script in SCORING)
    shutil.rmtree(results.score_folder("grad_dot") / "1")
    shutil.rmtree(ensemble.study.experiment.seed_folder(1))
    assert "trained 1 seeds, kept 2" in run_here("run_vit_finetuning.py", num_per_class=2)
    done = run_script(SCORING[3], "--num_per_class", 2, "--seed_id", 1, root=ensemble.root)
    assert done.returncode == 0, done.stderr
    assert contents(ensemble.root, *PRODUCTS) == before and temporary_files(ensemble.root) == []


def test_kept_s_test_scores_new_examples(ensemble: Ensemble):
    indices = ensemble.root / "new.txt"
    indices.write_text("\n".join(map(str, ensemble.study.train.indices.tolist())))
    done = run_here("tda_vit_scripts/run_vit_s_test.py", num_per_class=2, seed_id=0, new_indices=str(indices))
    assert "wrote 1 s_test files" in done
    run_here("tda_vit_scripts/run_vit_if.py", num_per_class=2, seed_id=0)
    results = ensemble.study.results
    new = pd.read_parquet(results.new_example_file("if", 0, 15)).set_index("train_idx")
    own = pd.read_parquet(results.score_file("if", 0, 15)).set_index("train_idx")
    np.testing.assert_allclose(new, own, rtol=2e-2, atol=2e-3 * own.abs().max(axis=None))


def test_base_that_changed_is_refused(ensemble: Ensemble):
    """The embedded base was pre-trained anew, otherwise: its members are of no use."""
    folder = ensemble.root / "models" / "bases" / EXPERIMENT.task
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({name: w + 1 for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    done = run_script(SCORING[3], "--num_per_class", 2, root=ensemble.root)
    assert_refused(done, "was fine-tuned with base_sha256", "run_vit_finetuning.py")
