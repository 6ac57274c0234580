"""MNIST and CIFAR-10 as a user may have them: published, packed, damaged, incomplete, unreadable. Small stand-ins for both."""

import gzip
import hashlib
import os
import pickle
import re
import shutil
import struct
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets
from torchvision.datasets import CIFAR10

from tda.data import downloads
from tda.data.downloads import MNIST_MD5, cifar10, mnist
from tda.experiments.folders import data_folder
from tda.system.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision downloads nothing."""

    def fail(*arguments: object, **keywords: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", fail)
    monkeypatch.setattr(datasets.utils, "_urlretrieve", fail)
    monkeypatch.setattr(datasets.utils, "_get_redirect_url", fail)


@pytest.fixture
def digits(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/MNIST/raw with four small files in the published format, unpacked."""
    folder = data_folder() / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in MNIST_MD5:
        numbers = (IMAGES if "images" in name else LABELS)[: None if "train" in name else 3]
        content = struct.pack(f">{1 + numbers.ndim}i", 2048 + numbers.ndim, *numbers.shape) + numbers.tobytes()
        (folder / name).write_bytes(content)
        monkeypatch.setitem(downloads.MNIST_MD5, name, hashlib.md5(content).hexdigest())
    return folder


def packed(path: Path) -> Path:
    """The same file as it is published."""
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


def test_unpacked_files_are_read(digits: Path):
    train, test = mnist("train"), mnist("test")
    np.testing.assert_array_equal(train.examples_at(range(7))[..., 0], IMAGES)
    assert train.labels.tolist() == LABELS.tolist() and train.labels.dtype == np.int64
    np.testing.assert_array_equal(test.examples[..., 0], IMAGES[:3])
    assert test.examples.flags.writeable


@pytest.mark.parametrize("count", [1, 4])
def test_published_files_are_read_without_unpacking_them(digits: Path, count: int):
    for name in list(MNIST_MD5)[:count]:
        packed(digits / name)
    before = sorted(path.name for path in digits.iterdir())
    np.testing.assert_array_equal(mnist("train").examples[..., 0], IMAGES)
    assert mnist("test").labels.tolist() == LABELS[:3].tolist()
    assert sorted(path.name for path in digits.iterdir()) == before


@pytest.mark.parametrize("spoil", [lambda content: content[:-9], lambda content: b"no archive", lambda content: b""])
def test_damaged_published_file_is_named(digits: Path, spoil):
    path = packed(digits / "train-labels-idx1-ubyte")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        UserError, match="train-labels-idx1-ubyte.gz is damaged .* put the published one there, or delete .*MNIST"
    ):
        mnist("train")


def test_the_advice_for_a_damaged_file_works(digits: Path, monkeypatch: pytest.MonkeyPatch):
    """Deleting what the sentence says leads to a download, not to another refusal."""
    whole = digits.parent.with_name("whole")
    shutil.copytree(digits.parent, whole)
    (digits / "train-images-idx3-ubyte").write_bytes(b"damaged")
    with pytest.raises(UserError) as caught:
        mnist("train")
    shutil.rmtree(re.search(r"delete (\S+) and", str(caught.value)).group(1))

    def download(dataset: datasets.MNIST) -> None:
        shutil.copytree(whole, Path(dataset.root) / "MNIST")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    np.testing.assert_array_equal(mnist("train").examples[..., 0], IMAGES)


def test_the_advice_for_no_files_and_no_network_works(digits: Path):
    kept = {name: (digits / name).read_bytes() for name in MNIST_MD5}
    shutil.rmtree(digits.parent)
    with pytest.raises(
        UserError, match="cannot be downloaded; put train-images.* into .*MNIST/raw .*as published will do"
    ) as caught:
        mnist("train")
    folder = Path(re.search(r"into (\S+)", str(caught.value)).group(1))
    folder.mkdir(parents=True)
    for name, content in kept.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(mnist("train").examples[..., 0], IMAGES)


def test_missing_file_is_named(digits: Path):
    (digits / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is missing; put it there, or delete .*MNIST so that"):
        mnist("test")


@pytest.fixture
def pictures(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/cifar-10-batches-py with a training and a test batch of four pictures in the published format."""
    folder = data_folder() / CIFAR10.base_folder
    folder.mkdir()
    batch = {"data": COLOURS.reshape(4, -1), "labels": [3, 5, 3, 5]}
    md5 = {}
    for name, content in {"data_batch_1": batch, "test_batch": batch, "batches.meta": {"label_names": ["a"] * 10}}.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    return folder


def archived(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published archive in place of the folder."""
    archive = data_folder() / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    shutil.rmtree(folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def test_pictures_are_read(pictures: Path):
    pool = cifar10("train")
    np.testing.assert_array_equal(pool.examples, COLOURS.transpose(0, 2, 3, 1))
    assert pool.labels.tolist() == [3, 5, 3, 5]


def test_published_archive_is_unpacked_without_a_network(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    archive = archived(pictures, monkeypatch)
    before = archive.read_bytes()
    assert cifar10("train").labels.tolist() == [3, 5, 3, 5]
    assert archive.read_bytes() == before and pictures.is_dir() and not list(data_folder().glob(".download-*"))


def test_damaged_archive_is_named_and_left_alone(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    archive = archived(pictures, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-5])
    before = archive.read_bytes()
    with pytest.raises(UserError, match="cifar-10-python.tar.gz is damaged .* or delete .*cifar-10-python.tar.gz and run"):
        cifar10("train")
    assert archive.read_bytes() == before and not pictures.exists()


def test_absent_pictures_may_be_put_there_as_published(pictures: Path):
    shutil.rmtree(pictures)
    with pytest.raises(
        UserError, match="put data_batch_1, .* into .*cifar-10-batches-py, or cifar-10-python.tar.gz into .*data"
    ):
        cifar10("train")


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_damaged_missing_and_unreadable_are_told_apart(pictures: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    path = pictures / name
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        opened = open

        def refuse(wanted: object, *arguments: object, **options: object) -> object:
            if str(wanted) == str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return opened(wanted, *arguments, **options)

        patch.setattr("builtins.open", refuse)
        with pytest.raises(UserError) as caught:
            cifar10("train")
        assert f"cannot read {path}: permission is denied" in str(caught.value) and "delete" not in str(caught.value)
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match=f"{path} is damaged .* or delete {pictures} and run"):
        cifar10("train")
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing; put it there, or delete {pictures}"):
        cifar10("train")
    os.mkfifo(path)
    with pytest.raises(UserError, match=f"cannot read {path}: it is a pipe"):
        cifar10("train")


def test_unreadable_digits_are_not_called_damaged(digits: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(UserError, match="cannot read .*train-images-idx3-ubyte: permission is denied") as caught:
            mnist("train")
        assert "delete" not in str(caught.value)
    (digits / "train-images-idx3-ubyte").unlink()
    os.mkfifo(digits / "train-images-idx3-ubyte")
    with pytest.raises(UserError, match="train-images-idx3-ubyte: it is a pipe"):
        mnist("train")
