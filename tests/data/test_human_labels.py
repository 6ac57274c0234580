"""CIFAR-10N: human labels beside the clean ones, on a stand-in of six images; files that are not of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tda.data import human_labels
from tda.data.pools import Pool
from tda.data.tasks import task_named
from tda.system.errors import UserError

CLEAN = np.array([6, 9, 9, 4, 1, 1], dtype=np.int64)
COLUMNS = {
    "clean_label": CLEAN,
    "aggre_label": np.array([6, 9, 9, 4, 1, 3]),
    "random_label1": np.array([6, 9, 0, 4, 1, 1]),
    "worse_label": np.array([0, 9, 0, 4, 2, 1]),
}


@pytest.fixture
def file(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/cifar10n/human_labels.parquet of a CIFAR-10 of six training images and one test image."""
    images = np.zeros((6, 32, 32, 3), np.uint8)
    pools = {"train": Pool(images, CLEAN), "test": Pool(images[:1], CLEAN[:1])}
    monkeypatch.setattr(human_labels, "cifar10", pools.__getitem__)
    path = root / "data" / "cifar10n" / "human_labels.parquet"
    path.parent.mkdir()
    write(path, **COLUMNS)
    return path


def write(path: Path, **columns: np.ndarray) -> None:
    pd.DataFrame({name: column.astype(np.int8) for name, column in columns.items()}).to_parquet(path)


@pytest.mark.parametrize("name, column", [("aggregate", "aggre_label"), ("random", "random_label1"), ("worst", "worse_label")])
def test_the_labels_are_those_of_people_and_the_truth_is_the_published_one(file: Path, name: str, column: str):
    task = task_named(f"cifar10n_{name}")
    pool = task.load("train")
    assert (pool.labels == COLUMNS[column]).all() and pool.labels.dtype == np.int64 and (pool.true_labels == CLEAN).all()
    assert task.load("test").true_labels is None and len(task.load("test").labels) == 1


def test_a_missing_file_is_named_with_where_its_labels_come_from(file: Path):
    file.unlink()
    with pytest.raises(UserError, match="human_labels.parquet is missing; .*UCSC-REAL/cifar-10-100n"):
        task_named("cifar10n_worst").load("train")
    assert len(task_named("cifar10n_worst").load("test").labels) == 1


@pytest.mark.parametrize(
    "columns, words",
    [
        ({**COLUMNS, "clean_label": CLEAN[::-1]}, "is not of CIFAR-10's training part as it is published"),
        ({name: column[:5] for name, column in COLUMNS.items()}, "is not of CIFAR-10's training part"),
        ({"clean_label": CLEAN}, "has no column worse_label of whole numbers"),
        ({**COLUMNS, "worse_label": CLEAN + 1}, "holds labels outside of 0 to 9 in column worse_label"),
    ],
)
def test_a_file_of_other_images_is_refused(file: Path, columns: dict, words: str):
    write(file, **columns)
    with pytest.raises(UserError, match=words):
        task_named("cifar10n_worst").load("train")


def test_a_damaged_file_is_refused(file: Path):
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="is not a whole parquet file"):
        task_named("cifar10n_worst").load("train")
