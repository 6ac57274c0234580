"""Maps on disk."""

from pathlib import Path

import numpy as np

from tda.features.map_files import save_arrays


def test_arrays_are_read_back_by_numpy_and_the_same_ones_are_the_same_bytes(tmp_path: Path):
    arrays = {"mean": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32), "train_idx": np.array([4, 1])}
    for name in ("first", "second"):
        save_arrays(tmp_path / name / "maps.npz", arrays)
    with np.load(tmp_path / "first" / "maps.npz") as found:
        assert sorted(found) == ["mean", "train_idx"]
        for name, expected in arrays.items():
            assert found[name].dtype == expected.dtype
            np.testing.assert_array_equal(found[name], expected)
    assert (tmp_path / "first" / "maps.npz").read_bytes() == (tmp_path / "second" / "maps.npz").read_bytes()
