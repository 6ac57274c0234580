"""The planted patch."""

import pytest
import torch

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.features.shortcut import Patch, plant
from tda.system.errors import UserError


def test_a_patch_has_its_colour_and_place_on_the_first_images_of_its_class():
    task = task_named("cifar10")
    train = Split(torch.zeros(8, 3, 32, 32), torch.tensor([1, 0, 1, 0, 1, 1, 0, 1]), torch.arange(8))
    planted, chosen = plant(train, Patch((1.0, 0.0, 0.25), size=3, row=-4, column=2, label=1, share=0.4), task)
    assert chosen.tolist() == [0, 2]
    expected = torch.zeros(3, 32, 32)
    expected[:, 28:31, 2:5] = torch.tensor([1.0, -1.0, -0.5])[:, None, None]
    for position in range(8):
        torch.testing.assert_close(planted.inputs[position], expected if position in (0, 2) else torch.zeros(3, 32, 32))
    assert not train.inputs.any()


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
