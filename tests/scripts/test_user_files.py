"""Methods and tasks of the user's own, dropped into a folder: every step takes them, as a user runs it, with no other edit."""

from pathlib import Path

import numpy as np
import pandas as pd
from conftest import assert_refused, run_script

METHOD = '''
"""How alike the labels are."""

import torch

from tda.methods.registry import Attribution, per_member, register


@register("same_label", "Same label", "nobody, 2026", sign="positive = same label", noise=0.1)
@per_member
def same_label(member, train, test, noise: float) -> Attribution:
    """1 where the labels are the same, with noise.

    noise: standard deviation of what the member's seed adds.
    """
    generator = torch.Generator().manual_seed(member.seed)
    same = (train.labels[:, None] == test.labels).double()
    return Attribution(same + noise * torch.randn(same.shape, generator=generator))
'''
TASK = '''
"""The bundled digits 7 and 9."""

from dataclasses import replace

from tda.data.tasks import task_named

TASK = replace(
    task_named("digits3"), name="sevens", title="7 or 9", classes=(7, 9), class_names=("7", "9"), epochs=6, test_per_class=5
)
'''
CHOSEN = ("--task", "sevens", "--num_per_class", 3)


def done_by(script: str, *arguments: object, root: Path) -> str:
    done = run_script(script, *arguments, root=root)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_new_method_and_new_task_in_every_step(root: Path):
    for name, text in (("methods/own_method.py", METHOD), ("tasks/own_task.py", TASK)):
        (root / name).parent.mkdir()
        (root / name).write_text(text)
    done_by("run_subset_generation.py", *CHOSEN, root=root)
    done_by("run_cnn_training.py", *CHOSEN, root=root)
    assert "wrote 15 score files" in done_by("run_tda.py", *CHOSEN, "--methods", "same_label", root=root)
    arguments = ("--methods", "all", "--same_label.noise", 0.1, "--help")
    assert "--same_label.noise" in done_by("run_tda.py", *CHOSEN, *arguments, root=root)
    done_by("run_tda.py", *CHOSEN, "--methods", "grad_dot", root=root)
    done_by("run_compute_pvalues.py", *CHOSEN, root=root)
    done_by("run_correlation_analysis.py", *CHOSEN, root=root)
    assert "same_label" in done_by("run_show_summary.py", *CHOSEN, root=root)
    results = root / "results" / "cnn_sevens_3pc"
    assert pd.read_parquet(results / "tda_scores" / "same_label" / "2" / "attribution_epoch_6.parquet").shape == (6, 11)
    p_values = pd.read_csv(results / "pvalues_same_label_across_5_ckpts.csv", index_col="train_idx")
    assert p_values.shape == (6, 10) and ((p_values >= 0) & (p_values <= 1)).all(axis=None)
    matrix = pd.read_csv(results / "correlation_spearman_mean.csv", index_col=0)
    assert list(matrix.columns) == ["grad_dot", "same_label"] and np.isfinite(matrix).all(axis=None)
    refused = run_script("run_tda.py", *CHOSEN, "--methods", "same_label", "--same_label.noise", 0.2, root=root)
    assert_refused(refused, "does not belong here: of its settings, noise is 0.1")
    (root / "methods" / "own_method.py").write_text(METHOD.replace("import torch\n", "import tortch\n"))
    refused = run_script("run_tda.py", *CHOSEN, "--methods", "same_label", root=root)
    assert_refused(refused, "methods/own_method.py cannot be loaded: line 4: No module named 'tortch'")
    # What does not need the file does not ask for it.
    done_by("run_compute_pvalues.py", *CHOSEN, root=root)
