"""The digits are scikit-learn's own, with and without its loader."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tda.data import bundled_digits as module
from tda.data.bundled_digits import bundled_digits


def test_digits_are_the_bundle_s_enlarged():
    bundle = load_digits()
    for split, positions in (("test", range(0, 1797, 3)), ("train", [k for k in range(1797) if k % 3])):
        pool = bundled_digits(split)
        assert pool.labels.dtype == np.int64 and pool.labels.tolist() == bundle.target[list(positions)].tolist()
        small = torch.from_numpy(bundle.images[list(positions)] * 255 / 16)[:, None]
        large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
        np.testing.assert_array_equal(pool.examples[..., 0], large[:, 0].round().numpy())


def test_another_layout_of_the_package_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    expected = bundled_digits("test")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    module._enlarged.cache_clear()
    found = bundled_digits("test")
    np.testing.assert_array_equal(found.examples, expected.examples)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_what_a_caller_changes_is_its_own():
    first = bundled_digits("test")
    first.examples[:], first.labels[:] = 0, 0
    assert bundled_digits("test").examples.any() and bundled_digits("test").labels.any()
