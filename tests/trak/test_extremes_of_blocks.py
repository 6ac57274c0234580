"""The highest and lowest scores of each target, found block by block, are those of the sorted whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trak_programs import DIMENSION, TARGETS, TRAIN, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.top_examples import extremes_of_blocks


def blocks_of(values: np.ndarray, height: int, width: int):
    for first in range(0, values.shape[1], width):
        for start in range(0, len(values), height):
            rows, columns = slice(start, min(start + height, len(values))), slice(first, min(first + width, values.shape[1]))
            yield (rows, columns), values[rows, columns]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(0, 9))
def test_extremes_are_those_of_a_stable_sort(count: int, targets: int, k: int, height: int, width: int, seed: int):
    # Few different values, so that there are many equal ones.
    values = np.random.default_rng(seed).integers(-3, 4, (count, targets)).astype(np.float32)
    found = extremes_of_blocks(blocks_of(values, height, width), k, targets)
    for sign, positions, scores in ((-1, found.helpful, found.helpful_scores), (1, found.harmful, found.harmful_scores)):
        order = np.argsort(sign * values, axis=0, kind="stable")[:k]
        np.testing.assert_array_equal(positions, order)
        np.testing.assert_array_equal(scores, np.take_along_axis(values, order, axis=0))


def test_a_score_that_is_no_number_is_named():
    values = np.zeros((7, 3))
    values[5, 2] = np.nan
    with pytest.raises(UserError, match="score of training example 5 for target 2 is not a finite number"):
        extremes_of_blocks(blocks_of(values, 2, 2), 1, 3)
    with pytest.raises(UserError, match="must be at least 1"):
        extremes_of_blocks([], 0, 3)


@pytest.mark.parametrize("keep_features", [True, False])
def test_traker_finds_the_extremes_of_its_scores(tmp_path: Path, keep_features: bool):
    model, train, targets = image_model(), image_data(TRAIN), image_data(TARGETS, seed=1)
    scores = scores_of(model, states(), train, targets, save_dir=tmp_path, keep_features=keep_features).numpy()
    options = {"device": "cpu", "proj_dim": DIMENSION, "keep_features": keep_features}
    traker = TRAKer(model, "image_classification", TRAIN, tmp_path, **options)
    found = traker.top_examples("quickstart", k=4)
    order = np.argsort(-scores, axis=0, kind="stable")
    np.testing.assert_array_equal(found.helpful, order[:4])
    np.testing.assert_array_equal(found.harmful, order[::-1][:4])
    np.testing.assert_allclose(found.helpful_scores, np.take_along_axis(scores, order[:4], axis=0), rtol=1e-12)
    assert found.harmful_scores.shape == (4, TARGETS) and isinstance(torch.from_numpy(found.harmful), torch.Tensor)
    np.testing.assert_array_equal(traker.top_examples("quickstart", k=10**12).helpful, order)
    with pytest.raises(UserError, match="k is 0"):
        traker.top_examples("quickstart", k=0)
