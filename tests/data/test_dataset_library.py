"""Tasks through the datasets library: folders of images and parquet files, offline; what is refused."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_here, run_script
from PIL import Image

from tda.data.bundled_digits import bundled_digits
from tda.data.dataset_library import LibrarySource
from tda.data.pools import Pool
from tda.data.splits import load_split
from tda.data.tasks import TASKS, task_named
from tda.system.errors import UserError

NAMES = ("zero", "one", "two", "three")
SOURCE = LibrarySource("own_images", "image", "label", ("zero", "one", "two"), 1, 28)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be opened."""

    def refuse(*arguments: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def digits(split: str, per_class: int) -> dict[str, list[np.ndarray]]:
    pool = bundled_digits(split)
    return {name: list(pool.examples[pool.labels == label][:per_class, :, :, 0]) for label, name in enumerate(NAMES)}


def write_images(root: Path, per_class: int = 12) -> Path:
    """The bundled digits 0 to 3 as PNG files in data/own_images/<split>/<class>/."""
    folder = root / "data" / "own_images"
    for split in ("train", "test"):
        for name, images in digits(split, per_class).items():
            (folder / split / name).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(folder / split / name / f"{number:03}.png")
    return folder


def check(pool: Pool, split: str) -> None:
    """Every image is there under its class, bit for bit; the classes that the task leaves out come last."""
    expected = digits(split, 12)
    assert len(pool.examples) == len(pool.labels) == 48
    for label, name in enumerate(NAMES):
        found = pool.examples[np.flatnonzero(pool.labels == label)]
        assert found.dtype == np.uint8 and found.shape == (12, 28, 28, 1)
        np.testing.assert_array_equal(found[..., 0], expected[name])


@pytest.mark.parametrize("split", ["train", "test"])
def test_folder_of_images_is_read(root: Path, split: str):
    write_images(root)
    check(SOURCE.pool(split), split)


def test_parquet_files_with_other_columns_are_read(root: Path):
    write_images(root)
    folder = root / "data" / "packed"
    folder.mkdir()
    for split in ("train", "test"):
        paths = sorted((root / "data" / "own_images" / split).glob("*/*.png"))
        cells = [{"bytes": path.read_bytes(), "path": None} for path in paths]
        frame = pd.DataFrame({"picture": cells, "kind": [path.parent.name for path in paths]})
        frame.to_parquet(folder / f"{split}.parquet")
    source = replace(SOURCE, path="packed", image_column="picture", label_column="kind")
    for split in ("train", "test"):
        check(source.pool(split), split)


def test_images_are_brought_to_the_entry_s_size_and_channels(root: Path):
    folder = root / "data" / "own_images"
    for split in ("train", "test"):
        for name in NAMES:
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (50, 40), (10, 200, 30)).save(folder / split / name / "a.png")
    coloured = replace(SOURCE, channels=3, image_size=16).pool("train").examples[[0, 3]]
    assert coloured.shape == (2, 16, 16, 3) and (coloured == np.array([10, 200, 30])).all()
    assert SOURCE.pool("train").examples[[0]].shape == (1, 28, 28, 1)


def test_registered_task_runs_through_the_steps(root: Path):
    """Subsets, training, scores: as for any other task."""
    write_images(root)
    assert (
        "wrote 2 index files"
        in run_script("run_subset_generation.py", "--task", "own_images", "--num_per_class", 2, root=root).stdout
    )
    split = load_split(task_named("own_images"), "test")
    assert split.inputs.shape == (30, 1, 28, 28) and split.labels.bincount().tolist() == [10, 10, 10]
    chosen = {"task": "own_images", "num_per_class": 2, "seed_id": 0}
    run_here("run_cnn_training.py", **chosen)
    assert "wrote 10 score files" in run_here("tda_cnn_scripts/run_cnn_gd_and_gc.py", **chosen)


def spoil(path: Path) -> None:
    path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("prepare", "source", "words"),
    [
        (lambda folder: None, replace(SOURCE, path="nothing"), "data/nothing is missing; put images there as train/<class>"),
        (lambda folder: None, replace(SOURCE, label_column="kind"), "has no column kind; its columns are image, label"),
        (
            lambda folder: None,
            replace(SOURCE, class_names=("zero", "four")),
            "no examples of class four; its classes are one, three, two, zero",
        ),
        (lambda folder: spoil(folder / "train" / "zero" / "000.png"), SOURCE, "of .*own_images cannot be decoded"),
    ],
    ids=["folder", "column", "class", "image"],
)
def test_what_is_missing_or_damaged_is_named(root: Path, prepare: Callable, source: LibrarySource, words: str):
    prepare(write_images(root))
    with pytest.raises(UserError, match=words):
        pool = source.pool("train")
        pool.examples[np.arange(len(pool.examples))]


def test_a_parquet_file_without_rows_is_refused(root: Path):
    folder = root / "data" / "packed"
    folder.mkdir()
    pd.DataFrame({"image": [], "label": []}).to_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match="packed/train.parquet holds no rows; fill or remove it"):
        replace(SOURCE, path="packed").pool("train")


def test_folder_without_a_split_is_refused(root: Path):
    (root / "data" / "own_images" / "only" / "zero").mkdir(parents=True)
    Image.new("L", (28, 28)).save(root / "data" / "own_images" / "only" / "zero" / "a.png")
    with pytest.raises(UserError, match="the test part of .*own_images cannot be read"):
        SOURCE.pool("test")


def test_hub_entries_name_columns_and_are_refused_in_one_sentence_offline(root: Path, monkeypatch: pytest.MonkeyPatch):
    assert {"mnist3_hub", "cifar10_hub", "own_images"} <= set(TASKS)
    assert task_named("cifar10_hub").classes == task_named("cifar10").classes
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run_script("run_subset_generation.py", "--task", "mnist3_hub", root=root)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "the hub's data set ylecun/mnist cannot be read" in done.stderr and "with a network" in done.stderr
