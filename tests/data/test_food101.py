"""Food-101's first ten classes: from parquet files, as torchvision lays them out, and where neither is there."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tda.data.food101 import FOOD101_10
from tda.data.tasks import task_named
from tda.system.errors import UserError

TASK = task_named("food101_10")


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 48, 3), value, np.uint8)).save(path, quality=95)
    return path


def test_parquet_files_are_read_and_brought_to_size(root: Path):
    folder = root / "data" / "food101_10"
    rows = []
    for number, name in enumerate(reversed(FOOD101_10)):
        content = picture(root / "one.jpg", 20 * number).read_bytes()
        rows.append({"image": {"bytes": content, "path": f"{name}/{number}.jpg"}, "label": name})
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "test.parquet")
    pool = TASK.load("test")
    assert pool.labels.tolist() == list(range(9, -1, -1))
    assert pool.examples_at([0, 9]).shape == (2, 128, 128, 3) and pool.examples_at([9]).mean() == pytest.approx(180, abs=2)
    assert pool.files[0] == "food101_10/test.parquet: breakfast_burrito/0.jpg"


@pytest.fixture
def published(root: Path) -> Path:
    folder, listed = root / "data" / "food-101", {}
    for value, name in enumerate(("apple_pie", "zucchini", *FOOD101_10[1:])):
        listed[name] = [f"{name}/{number}" for number in (7, 3)]
        for each in listed[name]:
            picture(folder / "images" / f"{each}.jpg", 10 * value)
    (folder / "meta").mkdir()
    (folder / "meta" / "train.json").write_text(json.dumps(listed))
    return folder


def test_the_published_folder_is_read_by_its_official_split(published: Path):
    pool = TASK.load("train")
    assert pool.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert pool.files[:3] == [f"food-101/images/{name}.jpg" for name in ("apple_pie/7", "apple_pie/3", "baby_back_ribs/7")]
    assert pool.examples_at([2]).mean() == pytest.approx(20, abs=2) and pool.examples_at([2]).shape == (1, 128, 128, 3)
    with pytest.raises(UserError, match="test.json is missing"):
        TASK.load("test")


@pytest.mark.parametrize("content", ["[1]", "no json", '{"apple_pie": ["apple_pie/7"]}'])
def test_a_wrong_list_is_refused(published: Path, content: str):
    (published / "meta" / "train.json").write_text(content)
    with pytest.raises(UserError, match="train.json does not list the pictures of each class"):
        TASK.load("train")


def test_without_data_the_sentence_says_how_to_get_them(root: Path):
    with pytest.raises(UserError, match="torchvision.datasets.Food101.*hub: ethz/food101"):
        TASK.load("train")
