"""Blocks within a memory budget give what the whole gives, with and without features, and say what float16 loses."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CPU
from trak_programs import DIMENSION, TARGETS, TRAIN, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.system.memory import release
from tda.trak import TRAKer, ridge
from tda.trak.arrays import read_array, write_array
from tda.trak.score_computers import BasicScoreComputer

SMALLEST = 24 * DIMENSION**2 + 24 * DIMENSION * 64
"""Bytes of the smallest budget for the tiny programs: blocks of 64 rows."""


def data() -> tuple:
    return image_model(), states(), image_data(TRAIN), image_data(TARGETS, seed=1)


def whole_scores(rows: list[np.ndarray], targets: list[np.ndarray], q: list[np.ndarray], lam: float | None) -> np.ndarray:
    """The definition, all at once in float64."""
    products = []
    for left, right in zip(rows, targets, strict=True):
        chosen = (left**2).sum(axis=1).mean() if lam is None else lam
        products.append(left @ np.linalg.solve(left.T @ left + chosen * np.eye(left.shape[1]), right.T))
    return np.mean(products, axis=0) * np.mean(q, axis=0)[:, None]


@pytest.mark.parametrize("ridge_size", [None, 0.5])
@pytest.mark.parametrize("solved", [False, True])
def test_scores_by_blocks_of_rows_and_targets_are_the_definition(solved: bool, ridge_size: float | None):
    generator = np.random.default_rng(0)
    rows, targets = ([generator.standard_normal((count, 6)) for _ in range(2)] for count in (200, 11))
    q, parts = [generator.random(200) for _ in range(2)], []
    for left, right, factor in zip(rows, targets, q, strict=True):
        if solved:
            right_sides = ridge.SolvedTargets(right, ridge.factor(left, ridge_size, CPU, 24 * 36 + 24 * 6 * 64))
            parts.append(ridge.ModelParts(left, factor, right_sides))
        else:
            blocks = [block for _, block in ridge.features(left, ridge_size, CPU, 24 * 36 + 24 * 6 * 64)]
            assert len(blocks) == 4
            parts.append(ridge.ModelParts(np.concatenate(blocks), factor, ridge.Targets(right)))
    found, places = np.empty((200, 11)), []
    for place, values in ridge.scores(parts, np.dtype(np.float64), CPU, memory_budget=5000):
        found[place] = values
        places.append(place)
    assert len(places) > 10
    np.testing.assert_allclose(found, whole_scores(rows, targets, q, ridge_size), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-13), (np.float32, 1e-13), (np.float16, 2e-6)])
def test_the_factor_of_many_rows_is_that_of_their_products(dtype: type, error: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ridge, "_PANEL", 4)
    rows = np.random.default_rng(0).standard_normal((9000, 11)).astype(dtype)
    found = ridge.factor(rows, 3.0, CPU, memory_budget=24 * 11**2 + 24 * 11 * 2500)
    expected = rows.astype(float).T @ rows.astype(float) + 3.0 * np.eye(11)
    assert (np.triu(found, 1) == 0).all()
    assert np.abs(found @ found.T - expected).max() <= error * expected.max()


def test_a_program_within_a_budget_and_without_features_gives_the_same_scores(tmp_path: Path):
    expected = scores_of(*data(), save_dir=tmp_path / "plain")
    for name, options in {
        "budget": {"memory_budget": 24 * 20 * DIMENSION + 16 * 20**2 + SMALLEST},
        "lean": {"keep_features": False, "memory_budget": SMALLEST},
    }.items():
        found = scores_of(*data(), save_dir=tmp_path / name, **options)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert list((tmp_path / "lean").rglob("features_*")) == []
    (factor, *_) = (tmp_path / "lean").rglob("factor_mean_diagonal.npy")
    assert read_array(factor).shape == (DIMENSION, DIMENSION)


def test_the_same_folder_serves_with_and_without_features(tmp_path: Path):
    scores = [scores_of(*data(), save_dir=tmp_path, exp_name=f"keep {keep}", keep_features=keep) for keep in (True, False)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-10, atol=1e-12)


def test_a_budget_without_room_is_refused_before_anything_is_computed(tmp_path: Path):
    with pytest.raises(UserError, match=rf"memory_budget of {SMALLEST - 1:,} bytes is too small .* give {SMALLEST:,} or more"):
        TRAKer(image_model(), "image_classification", 5, tmp_path, device="cpu", proj_dim=DIMENSION, memory_budget=SMALLEST - 1)
    assert not list(tmp_path.iterdir())


def test_what_needs_features_is_refused_without_them(tmp_path: Path):
    class Own(BasicScoreComputer):
        def get_x_xtx_inv(self, grads, xtx):
            return grads

    options = {"device": "cpu", "proj_dim": DIMENSION, "keep_features": False}
    with pytest.raises(UserError, match="leave out keep_features=False"):
        TRAKer(image_model(), "image_classification", 5, tmp_path, score_computer=Own, **options)
    traker = TRAKer(image_model(), "image_classification", 5, tmp_path, **options)
    with pytest.raises(UserError, match="del_grads would delete"):
        traker.finalize_features(del_grads=True)


def test_float16_keeps_numbers_of_examples_in_float32_and_counts_what_it_loses(tmp_path: Path, caplog):
    checkpoint = {name: tensor.clone() for name, tensor in image_model().state_dict().items()}
    images, labels = image_data(TRAIN).tensors
    # Gradients of the last layer's weights shrink with the features below it.
    checkpoint["0.weight"] *= 1e-6
    checkpoint["0.bias"] *= 1e-6
    checkpoint["1.weight"] *= 1e-4
    checkpoint["1.bias"] *= 1e-4
    checkpoint["1.running_mean"] *= 0
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=200, use_half_precision=True)
    traker.load_checkpoint(checkpoint, model_id=0)
    traker.featurize((images, labels), num_samples=TRAIN)
    rows = np.asarray(traker._rows.gradients)
    lost = int(read_array(tmp_path / "0" / "lost.npy").sum())
    assert lost > 0 and rows.dtype == np.float16
    assert read_array(tmp_path / "0" / "out_to_loss.npy").dtype == np.float32
    with caplog.at_level(logging.INFO, "tda.trak"):
        traker.finalize_features()
    share = f"{100 * lost / rows.size:.2g} % of the entries of the gradients"
    assert any(share in record.getMessage() for record in caplog.records)


def test_what_rounding_leaves_of_nothing_is_not_lost_to_float16(tmp_path: Path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    # In float64 the same rows have entries of 1e-17 where these have some of 1e-9.
    traker = TRAKer(model, "image_classification", 40, tmp_path, device="cpu", proj_dim=32, use_half_precision=True)
    traker.load_checkpoint(model.state_dict(), 0)
    batch = torch.randn(40, 16), torch.randint(3, (40,))
    assert (traker.project(batch).abs().numpy() < 1e-8).any()
    traker.featurize(batch, num_samples=40)
    assert read_array(tmp_path / "0" / "lost.npy").sum() == 0


def resident(path: Path) -> int:
    """Bytes of this process's memory that are pages of a file."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split()[0].count("-") == 1 and not line.endswith("kB"):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells which pages are in memory")
def test_what_was_read_of_a_file_is_no_longer_this_process_s_memory(tmp_path: Path):
    path = tmp_path / "rows.npy"
    write_array(path, (4096, 256), np.dtype(np.float32), [(slice(0, 4096), np.ones((4096, 256), np.float32))])
    array = read_array(path)
    assert float(array.sum()) == 4096 * 256 and resident(path) > 2**21
    release(array[10:20])
    assert resident(path) == 0 and float(array[7, 3]) == 1
    ridge.squared_norms(array)
    list(ridge.features(array, 1.0, CPU))
    assert resident(path) == 0
