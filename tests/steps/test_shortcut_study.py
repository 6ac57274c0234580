"""The shortcut study as a user runs it, on digits that a patch misleads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHECKOUT, assert_refused, run_script

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment

ARGUMENTS = ["--num_per_class", 10, "--patched_share", 1.0, "--num_test", 4, "--num_train", 2]
ARGUMENTS += ["--patched_class", 2, "--patch_row", 20, "--patch_column", 2]
ARGUMENTS += ["--smoothing_copies", 2, "--device", "cpu"]


@pytest.fixture
def study_root(root: Path) -> Path:
    """Ten images a class, and the first three of the project's own seeds."""
    torch.save(torch.load(CHECKOUT / "random_seeds.pt", weights_only=True)[:3], root / "random_seeds.pt")
    write_subset(task_named("digits3"), "train", 10, draw_seed=0, force=False)
    return root


def area_under_curve(values: np.ndarray, inside: np.ndarray) -> float:
    """The share of (pixel inside, pixel outside) in which the former has the larger value."""
    larger = values[inside][:, None] - values[~inside][None]
    return float(((larger > 0) + 0.5 * (larger == 0)).mean())


def test_maps_lie_on_the_patch_only_where_it_was_learned(study_root: Path):
    pytest.importorskip("captum")
    done = run_script("run_shortcut_study.py", *ARGUMENTS, root=study_root)
    assert done.returncode == 0, done.stderr
    folder = Experiment("cnn", "digits3", 10, variant="shortcut").results.path
    keys = ["map", "models", "training_images", "smoothed", "seeds_averaged"]
    area = pd.read_csv(folder / "shortcut_merits.csv").set_index(keys).area_under_curve
    misread = pd.read_csv(folder / "shortcut_misread.csv").set_index("models").misread
    assert misread["with the patch"] > 2 * misread["without the patch"]
    learned = area["grad_dot", "with the patch", "influential", True, True]
    assert learned > 0.8 and learned - area["grad_dot", "without the patch", "influential", True, True] > 0.25
    with np.load(folder / "shortcut_maps.npz") as found:
        assert found["patch"].sum() == 25 and found["patch"][20:25, 2:7].all()
        for score in ("grad_cos", "grad_dot"):
            maps = found[f"{score}, plain, influential images, models with the patch"]
            expected = np.mean([area_under_curve(np.abs(own).max(0), found["patch"]) for own in maps])
            assert area[score, "with the patch", "influential", False, True] == pytest.approx(expected, rel=1e-4)
    for name in ("shortcut_merits", "shortcut_maps"):
        assert (folder / f"{name}.png").exists() and (folder / f"{name}.pdf").exists()


def test_a_patch_that_misleads_nobody_is_said(study_root: Path):
    refused = run_script("run_shortcut_study.py", *ARGUMENTS, "--patch_size", 1, "--num_seeds", 1, root=study_root)
    assert_refused(refused, "the patch misleads no test image")


def test_models_that_take_no_images_are_refused(study_root: Path):
    write_subset(task_named("digits3"), "train", 2, draw_seed=0, force=False)
    refused = run_script("run_shortcut_study.py", "--model", "vit", "--num_per_class", 2, root=study_root)
    assert_refused(refused, "--model vit cannot be taught a patch")
