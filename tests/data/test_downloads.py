"""Raw data: the bundled digits, the real MNIST and CIFAR-10, and what happens when files are missing or damaged."""

import os
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import contents
from torchvision import datasets

from tda.data import downloads
from tda.data.bundled_digits import bundled_digits
from tda.data.downloads import MNIST_MD5, cifar10, mnist
from tda.data.food101 import food101_10
from tda.data.human_labels import cifar10n
from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.experiments.folders import data_folder
from tda.system.errors import UserError


def test_bundled_digits_are_split_once_and_for_all():
    train, test = bundled_digits("train"), bundled_digits("test")
    assert train.examples.shape == (1198, 28, 28, 1) and test.examples.shape == (599, 28, 28, 1)
    assert train.examples.dtype == np.uint8 and train.labels.dtype == np.int64
    assert train.examples.max() == 255 and train.examples.min() == 0
    assert test.labels[:4].tolist() == [0, 3, 6, 9] and train.labels[:4].tolist() == [1, 2, 4, 5]


def test_bundled_digits_are_brought_to_size_bilinearly():
    from sklearn.datasets import load_digits

    small = torch.from_numpy(load_digits().images[1])[None, None]
    expected = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear")[0, 0] * 255 / 16
    assert np.abs(bundled_digits("train").examples[0, :, :, 0] - expected.numpy()).max() <= 0.5


def refuse_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments, **keywords):
        raise urllib.error.URLError("no route to host")

    for module in (datasets.mnist, datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)


@pytest.mark.parametrize(
    ("load", "names"),
    [(mnist, ["MNIST", "MNIST/raw", *MNIST_MD5]), (cifar10, ["CIFAR10", "cifar-10-batches-py", "data_batch_3"])],
)
def test_absent_and_offline_is_one_sentence_with_the_files(root: Path, monkeypatch: pytest.MonkeyPatch, load, names: list[str]):
    refuse_download(monkeypatch)
    with pytest.raises(UserError) as caught:
        load("train")
    assert all(name in str(caught.value) for name in names) and str(data_folder()) in str(caught.value)
    left = [path.name for path in data_folder().iterdir() if not path.name.endswith(".lock")]
    assert left == ["subset_indices"]


def test_missing_file_beside_others_is_named_and_nothing_is_downloaded(root: Path, monkeypatch: pytest.MonkeyPatch):
    refuse_download(monkeypatch)
    folder = data_folder() / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in list(MNIST_MD5)[:3]:
        (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is missing; put it there, or delete .*MNIST"):
        mnist("train")


def test_download_is_moved_into_place_whole(root: Path, monkeypatch: pytest.MonkeyPatch):
    class Fake:
        def __init__(self, folder: str, train: bool, download: bool):
            target = Path(folder) / "set"
            target.mkdir()
            (target / "a").write_text("content")

    downloads._download_when_absent(Fake, data_folder() / "set", [data_folder() / "set" / "a"])
    assert contents(data_folder() / "set", "*") == {"a": b"content"}
    assert not list(data_folder().glob(".download-*"))


def test_damaged_mnist_file_is_named(root: Path):
    folder = data_folder() / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in MNIST_MD5:
        (folder / name).write_bytes(b"not what was published")
    with pytest.raises(UserError, match="train-images-idx3-ubyte is damaged"):
        mnist("train")


def test_damaged_cifar_file_is_named(real_root: Path, real_data: Path):
    folder = data_folder() / "cifar-10-batches-py"
    folder.unlink()
    folder.mkdir()
    for path in (real_data / "cifar-10-batches-py").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "data_batch_5").unlink()
    shutil.copy(real_data / "cifar-10-batches-py" / "test_batch", folder / "data_batch_5")
    with pytest.raises(UserError, match="cifar-10-batches-py/data_batch_5 is damaged"):
        cifar10("train")


@pytest.mark.parametrize("task", ["mnist3", "cifar10"])
def test_real_data_match_the_committed_index_files(real_root: Path, task: str):
    for size in (10, 20, 50):
        split = load_split(task_named(task), "train", size)
        assert split.labels.bincount().tolist() == [size] * (3 if task == "mnist3" else 10)
    test = load_split(task_named(task), "test")
    assert test.inputs.shape == ((900, 1, 28, 28) if task == "mnist3" else (500, 3, 32, 32))
    low, high = (0.0, 1.0) if task == "mnist3" else (-1.0, 1.0)
    assert test.inputs.min() == low and test.inputs.max() == high


def beside_unpack(*parts: str) -> Path:
    """A file of the folder that holds the program that lays data out; skips where there is none."""
    path = Path(os.environ.get("TDA_UNPACK", "")).resolve().parent.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"{'/'.join(parts)} does not lie beside the program that TDA_UNPACK names")
    return path


def test_real_people_s_labels_are_wrong_as_often_as_published(real_root: Path):
    file = real_root / "data" / "cifar10n" / "human_labels.parquet"
    file.parent.mkdir()
    file.symlink_to(beside_unpack("cifar10", "human_labels.parquet"))
    for labels, share in (("aggregate", 0.0901), ("random", 0.1723), ("worst", 0.4021)):
        pool = cifar10n(labels, "train")
        assert (pool.labels != pool.true_labels).mean() == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("size, per_class", [("px64", 250), ("px128", 125)])
def test_real_dishes_of_any_size_are_brought_to_size(real_root: Path, size: str, per_class: int):
    folder = real_root / "data" / "food101_10"
    folder.mkdir()
    (folder / "test.parquet").symlink_to(beside_unpack("food101_10", size, "test.parquet"))
    pool = food101_10("test")
    assert np.bincount(pool.labels).tolist() == [per_class] * 10
    assert pool.examples_at([0, 2 * per_class]).shape == (2, 128, 128, 3)
