"""Planted faults: how many, in which examples, and that nothing else changes."""

import numpy as np
import pytest
import torch

from tda.data.kinds import normalised
from tda.data.planted import with_patch, with_wrong_labels
from tda.data.pools import Pool
from tda.data.tasks import task_named
from tda.features.shortcut import Patch

LABELS = np.tile([4, 7, 2, 9], 250)
CLASSES = (7, 4, 2)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_a_share_of_each_class_is_labelled_as_another_of_the_classes(share: float):
    pool = with_wrong_labels(Pool(np.zeros((1000, 8, 8, 1), np.uint8), LABELS), CLASSES, share)
    assert (pool.true_labels == LABELS).all() and pool.labels is not LABELS
    for label in CLASSES:
        given = pool.labels[label == LABELS]
        assert (given != label).sum() == round(share * 250) and set(given) <= set(CLASSES)
    assert (pool.labels[LABELS == 9] == 9).all()


def test_wrong_labels_are_each_as_likely_and_are_nested_in_larger_shares():
    plain = Pool(np.zeros((3000, 1, 1, 1), np.uint8), np.zeros(3000, dtype=np.int64))
    few, many = (with_wrong_labels(plain, (0, 1, 2, 3), share).labels for share in (0.5, 0.9))
    counts = np.bincount(many)
    assert abs(counts[1:] - 900).max() < 3 * np.sqrt(2700 * 2 / 9)
    assert (few[few != 0] == many[few != 0]).all()


def test_what_is_known_to_be_true_stays_the_truth():
    truth = np.roll(LABELS, 1)
    pool = with_wrong_labels(Pool(np.zeros((1000, 1, 1, 1), np.uint8), LABELS, true_labels=truth), CLASSES, 0.1)
    assert pool.true_labels is truth


@pytest.mark.parametrize("channels, side", [(3, 32), (1, 28), (3, 128)])
def test_the_patch_is_that_of_the_shortcut_study_in_proportion(channels: int, side: int):
    images = np.random.default_rng(0).integers(0, 200, (12, side, side, channels), dtype=np.uint8)
    labels = np.repeat([0, 1], 6)
    pool = with_patch(Pool(images, labels), (0, 1), ("sky", "sea"), (0.5, 0.0))
    carries = np.array(["no patch" not in group for group in pool.groups])
    assert carries[:6].sum() == 3 and not carries[6:].any()
    assert set(pool.groups) == {"sky, patch", "sky, no patch", "sea, no patch"}
    found = pool.examples_at(np.arange(12))
    size, start = round(side * 5 / 32), round(side * 2 / 32)
    task = task_named("cifar10" if channels == 3 else "digits3")
    if task.kind.size == side:
        patch = Patch(size=size, row=start, column=start)
        expected = patch.on(normalised(images, task.kind.mean, task.kind.std), task)
        drawn = normalised(found, task.kind.mean, task.kind.std)
        torch.testing.assert_close(drawn[carries], expected[carries], rtol=0, atol=1e-6)
    inside = np.zeros((side, side), dtype=bool)
    inside[start : start + size, start : start + size] = True
    np.testing.assert_array_equal(found[~carries], images[~carries])
    np.testing.assert_array_equal(found[carries][:, ~inside], images[carries][:, ~inside])
    assert (found[carries][:, inside] == ([255, 0, 0] if channels == 3 else [255])).all()
    np.testing.assert_array_equal(pool.examples_at([7, 0]), found[[7, 0]])
    assert images.max() < 200 and len(pool.examples) == 12


def test_images_of_other_classes_carry_no_patch():
    pool = with_patch(Pool(np.zeros((1000, 16, 16, 3), np.uint8), LABELS), (4, 2), ("a", "b"), (1.0, 0.5))
    groups, counts = np.unique(pool.groups, return_counts=True)
    expected = {"a, patch": 250, "b, patch": 125, "b, no patch": 125, "other classes, no patch": 500}
    assert dict(zip(groups.tolist(), counts.tolist(), strict=True)) == expected
