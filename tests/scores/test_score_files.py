"""Score files: readable with pandas alone, exact, and refused when they are not whole or not of the same kind."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tda.experiments.folders import ResultsFolder
from tda.scores.score_files import SIGN, load_score_file, load_scores, methods_on_disk, save_scores
from tda.system.errors import UserError

FOLDER = ResultsFolder("cnn_digits3_2pc")
TRAIN, TEST = np.array([7, 3, 9]), np.array([40, 2, 11, 5])


def values(seed_id: int = 0, epoch: int = 1) -> np.ndarray:
    return np.random.default_rng([seed_id, epoch]).normal(size=(3, 4)).astype(np.float32)


def save(seed_id: int, epoch: int, content: np.ndarray | None = None, **changes) -> Path:
    metadata = {
        "method": "loo",
        "seed_id": seed_id,
        "epoch": epoch,
        "experiment": FOLDER.name,
        "data": {"train": "a", "test": "b"},
        "settings": {"damping": 0.005},
    }
    path = FOLDER.score_file("loo", seed_id, epoch)
    save_scores(path, values(seed_id, epoch) if content is None else content, TRAIN, TEST, metadata | changes)
    return path


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return tmp_path


def test_file_is_read_back_bit_for_bit_and_by_pandas():
    path = save(0, 1)
    found, train, test, metadata = load_score_file(path)
    assert found.dtype == np.float32 and np.array_equal(found, values())
    assert train.tolist() == TRAIN.tolist() and test.tolist() == TEST.tolist()
    assert metadata["sign"] == SIGN and metadata["settings"] == {"damping": 0.005}
    table = pd.read_parquet(path)
    assert list(table.columns) == ["train_idx", "z_test_40", "z_test_2", "z_test_11", "z_test_5"]
    assert table["train_idx"].tolist() == TRAIN.tolist()
    np.testing.assert_array_equal(table["z_test_11"], values()[:, 2])


def test_same_scores_are_the_same_bytes():
    first = save(0, 1).read_bytes()
    assert save(0, 1, np.asfortranarray(values().astype(np.float64))).read_bytes() == first


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_value_that_is_not_finite_is_named_and_nothing_is_written(value: float):
    wrong = values().astype(np.float64)
    wrong[1, 2] = value
    with (
        np.errstate(over="ignore"),
        pytest.raises(UserError, match="method loo, seed 0, epoch 1 for training example 3 and test example 11 is not"),
    ):
        save(0, 1, wrong)
    assert not FOLDER.path.exists()


@pytest.mark.parametrize("size", [0, 3, 200, -30])
def test_truncated_file_is_refused(size: int):
    path = save(0, 1)
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(UserError, match="attribution_epoch_1.parquet is not a whole score file"):
        load_score_file(path)


def test_every_flipped_bit_of_a_value_is_noticed():
    path = save(0, 1)
    table, metadata = pq.read_table(path), pq.read_table(path).schema.metadata
    column = table.column(2).to_numpy().copy()
    column.view(np.uint32)[1] ^= 1
    pq.write_table(table.set_column(2, "z_test_2", pa.array(column)).replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match="is damaged: its values do not match its checksum"):
        load_score_file(path)


def test_other_parquet_file_is_refused(tmp_path: Path):
    path = tmp_path / "other.parquet"
    pd.DataFrame({"train_idx": [1], "z_test_3": [0.5]}).to_parquet(path)
    with pytest.raises(UserError, match="other.parquet is not a whole score file"):
        load_score_file(path)


def test_scores_of_all_members_are_in_order():
    for seed_id in (10, 2):
        for epoch in (11, 9, 10):
            save(seed_id, epoch)
    found = load_scores(FOLDER, "loo")
    assert found.seed_ids == [2, 10] and found.epochs == [9, 10, 11] and found.values.shape == (2, 3, 3, 4)
    for i, seed_id in enumerate(found.seed_ids):
        for j, epoch in enumerate(found.epochs):
            assert np.array_equal(found.values[i, j], values(seed_id, epoch))


def test_folder_that_is_no_seed_id_is_named():
    save(0, 1)
    path = FOLDER.score_file("loo", 0, 1)
    shutil.copytree(path.parent, path.parent.parent / "copy of 0")
    with pytest.raises(UserError, match="copy of 0/attribution_epoch_1.parquet does not lie where a score file does"):
        load_scores(FOLDER, "loo")


def test_missing_member_is_named():
    save(0, 1), save(0, 2), save(1, 1)
    with pytest.raises(UserError, match=r"loo/1/attribution_epoch_2.parquet is missing; run the script of loo again"):
        load_scores(FOLDER, "loo")


def test_swapped_files_are_noticed():
    save(0, 1), save(0, 2)
    shutil.copy(FOLDER.score_file("loo", 0, 1), FOLDER.score_file("loo", 0, 2))
    with pytest.raises(UserError, match="attribution_epoch_2.parquet holds the scores of another member"):
        load_scores(FOLDER, "loo")


@pytest.mark.parametrize(
    "changes", [{"data": {"train": "x", "test": "b"}}, {"settings": {"damping": 1}}, {"experiment": "cnn_digits3_3pc"}]
)
def test_files_of_other_data_or_settings_are_noticed(changes: dict):
    save(0, 1), save(1, 1, **changes)
    with pytest.raises(UserError, match="was computed from other data or settings than its neighbours"):
        load_scores(FOLDER, "loo")


def test_methods_are_found_on_disk():
    with pytest.raises(UserError, match="there are no scores below .*tda_scores; run a scoring script"):
        methods_on_disk(FOLDER)
    path = save(0, 1)
    (FOLDER.score_folder("empty") / "0").mkdir(parents=True)
    other = FOLDER.score_file("ats", 3, 4)
    other.parent.mkdir(parents=True)
    shutil.copy(path, other)
    assert methods_on_disk(FOLDER) == ["ats", "loo"]
