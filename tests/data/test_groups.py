"""Groups of a user's own: a column of a parquet file, groups.csv beside folders of images; what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tda.data.dataset_library import LibrarySource
from tda.system.errors import UserError

NAMES = ("one", "two")


def source(group_column: str | None) -> LibrarySource:
    return LibrarySource("pets", "image", "label", NAMES, 1, 8, group_column)


@pytest.fixture
def folder(root: Path) -> Path:
    found = root / "data" / "pets"
    for part in ("train", "test"):
        for name in NAMES:
            (found / part / name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(np.full((8, 8), number, np.uint8)).save(found / part / name / f"{number}.png")
    return found


def rows(part: str) -> list[str]:
    return [f"{part}/{name}/{number}.png,{name} {number % 2}" for name in NAMES for number in range(3)]


def test_groups_of_folders_follow_their_files(folder: Path):
    assert source(None).pool("train").groups is None
    lines = [*rows("test"), *reversed(rows("train"))]
    (folder / "groups.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    for part in ("train", "test"):
        assert source(None).pool(part).groups.tolist() == ["one 0", "one 1", "one 0", "two 0", "two 1", "two 0"]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "groups.csv is missing; write it with the columns file and group"),
        ("file,group\ntrain/one/0.png,a\n", "has no line for train/one/1.png"),
        ("file,group\ntrain/one/0.png,a\ntrain/one/0.png,b\n", "names train/one/0.png more than once"),
        ("file;group\ntrain/one/0.png;a\n", "line 2 of .*groups.csv lacks a file or a group"),
        ("file,group\ntrain/one/0.png,\n", "line 2 of .*groups.csv lacks a file or a group"),
        (b"\xff\xfe\x00f", "cannot be read as text"),
    ],
)
def test_a_wrong_file_of_groups_is_refused(folder: Path, content: str | bytes | None, words: str):
    if content is not None:
        (folder / "groups.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words):
        source("group").pool("train")


def write_table(root: Path, **columns: list) -> None:
    table = root / "data" / "pets"
    table.mkdir()
    picture = table / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    content = pd.DataFrame({"image": [picture.read_bytes()] * 4, "label": ["one", "two"] * 2, **columns})
    content.to_parquet(table / "train.parquet")


@pytest.mark.parametrize("values, expected", [(list("abba"), list("abba")), ([3, 1, 1, 0], list("3110"))])
def test_groups_of_a_table(root: Path, values: list, expected: list[str]):
    write_table(root, place=values)
    assert source("place").pool("train").groups.tolist() == expected
    assert source(None).pool("train").groups is None
    with pytest.raises(UserError, match="has no column site; its columns are image, label, place"):
        source("site").pool("train")


@pytest.mark.parametrize("values", [["a", None, "b", "c"], [1.0, float("nan"), 2.0, 3.0], ["a", "", "b", "c"]])
def test_a_row_without_a_group_is_named(root: Path, values: list):
    write_table(root, place=values)
    with pytest.raises(UserError, match="row 1 of .*pets holds no group in column place"):
        source("place").pool("train")
