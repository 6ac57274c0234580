"""The planted patch, and the study on digits: maps lie on the patch where it was learned, and not where it was not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_refused, run_script

from tda.errors import UserError
from tda.features.shortcut import Patch, ShortcutExperiment, plant
from tda.subsets import Split, write_subset
from tda.tasks import task_named


def test_a_patch_has_its_colour_and_place_on_the_first_images_of_its_class():
    task = task_named("cifar10")
    train = Split(torch.zeros(8, 3, 32, 32), torch.tensor([1, 0, 1, 0, 1, 1, 0, 1]), torch.arange(8))
    planted, chosen = plant(train, Patch((1.0, 0.0, 0.25), size=3, row=-4, column=2, label=1, share=0.4), task)
    assert chosen.tolist() == [0, 2]
    expected = torch.zeros(3, 32, 32)
    expected[:, 28:31, 2:5] = torch.tensor([1.0, -1.0, -0.5])[:, None, None]
    for position in range(8):
        torch.testing.assert_close(planted.images[position], expected if position in (0, 2) else torch.zeros(3, 32, 32))
    assert not train.images.any()


def test_a_grey_image_gets_the_largest_of_the_colours():
    task = task_named("digits3")
    found = Patch((0.5, 0.75, 0.0), size=2, row=0, column=0).on(torch.zeros(1, 1, 28, 28), task)
    assert found.sum() == 4 * 0.75 and (found[0, 0, :2, :2] == 0.75).all()


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (Patch(row=26), "does not lie inside the 28x28 images of digits3"),
        (Patch(label=3), "class 3 is none of digits3"),
        (Patch(share=0.0), "share of patched training images"),
    ],
)
def test_an_impossible_patch_is_refused(patch: Patch, words: str):
    train = Split(torch.zeros(3, 1, 28, 28), torch.arange(3), torch.arange(3))
    with pytest.raises(UserError, match=words):
        plant(train, patch, task_named("digits3"))


def test_the_study_finds_the_patch_where_it_was_learned(root: Path):
    write_subset(task_named("digits3"), "train", 40, draw_seed=0, force=False)
    arguments = ["--num_per_class", 40, "--num_test", 6, "--smoothing_copies", 4, "--device", "cpu", "--scores", "grad_cos"]
    done = run_script("run_shortcut_study.py", *arguments, root=root)
    assert done.returncode == 0, done.stderr
    folder = ShortcutExperiment("cnn", "digits3", 40).results.path
    misread = pd.read_csv(folder / "shortcut_misread.csv").set_index("models").misread
    assert misread["with the patch"] > misread["without the patch"] + 0.2
    table = pd.read_csv(folder / "shortcut_merits.csv")
    rows = table[table.seeds_averaged & table.smoothed & (table.map == "grad_cos")]
    curve = rows.set_index(["models", "training_images"]).area_under_curve
    assert curve["with the patch", "influential"] > 0.8
    assert curve["with the patch", "influential"] > curve["without the patch", "influential"] + 0.15
    with np.load(folder / "shortcut_maps.npz") as arrays:
        assert arrays["grad_cos, smoothed, influential images, models with the patch"].shape[1:] == (1, 28, 28)
    for name in ("shortcut_maps", "shortcut_merits"):
        assert (folder / f"{name}.png").exists() and (folder / f"{name}.pdf").exists()
    assert_refused(run_script("run_shortcut_study.py", *arguments, "--patch_size", 40, root=root), "does not lie inside")
    again = run_script("run_shortcut_study.py", *arguments, "--patch_size", 6, root=root)
    assert_refused(again, "trained on other examples")
