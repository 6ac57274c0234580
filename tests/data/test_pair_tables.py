"""Pictures with texts from parquet and CSV tables: which text of which picture, what leads to it, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tda.data.kinds import ImageKind
from tda.data.pair_tables import PairSource
from tda.data.splits import load_split
from tda.data.tasks import pairs_from_library, task_named
from tda.system.errors import UserError

SOURCE = PairSource("snaps", "image", "captions", 0, 3, 4)


def png(colour: tuple[int, int, int]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture
def folder(root: Path) -> Path:
    found = root / "data" / "snaps"
    (found / "images").mkdir(parents=True)
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 255, 0))):
        (found / "images" / f"{name}.png").write_bytes(png(colour))
    return found


def colours(pictures: np.ndarray) -> list[list[int]]:
    return pictures[:, 0, 0].tolist()


def write_parquet(folder: Path, part: str = "train", **columns: list) -> None:
    images = [{"bytes": png((10 * row, 0, 0)), "path": f"{row}.png"} for row in range(len(next(iter(columns.values()))))]
    pd.DataFrame({"image": images} | columns).to_parquet(folder / f"{part}.parquet")


def test_lists_of_texts_in_a_parquet_file(folder: Path):
    write_parquet(folder, captions=[["a red dog .", "dog"], ["a cat ", "cat"], ["x", "y"]])
    pool = SOURCE.pool("train")
    pictures, texts = pool.examples_at(np.array([2, 1]))
    assert texts.tolist() == ["x", "a cat"] and colours(pictures) == [[20, 0, 0], [10, 0, 0]]
    assert pool.labels.tolist() == [0, 0, 0] and pool.files[1] == "snaps/train.parquet, row 1: 1.png"
    second = PairSource("snaps", "image", "captions", 1, 3, 4).pool("train")
    assert second.examples[1].tolist() == ["dog", "cat", "y"]


def test_numbered_columns(folder: Path):
    write_parquet(folder, caption_0=["a", "b"], caption_1=["c", "d"])
    assert PairSource("snaps", "image", "captions", 1, 3, 4).pool("train").examples[1].tolist() == ["c", "d"]


def test_a_table_of_paths_with_several_rows_a_picture(folder: Path):
    rows = ["image,captions", "images/b.png,green", "images/a.png,red", "images/b.png,like grass"]
    (folder / "train.csv").write_text("\n".join(rows))
    pool = SOURCE.pool("train")
    assert pool.examples[1].tolist() == ["green", "red"]
    assert colours(pool.examples_at([0, 1])[0]) == [[0, 255, 0], [255, 0, 0]]
    assert pool.files[0] == "snaps/train.csv, line 2: images/b.png"
    with pytest.raises(UserError, match="train.csv, line 3 has 1 texts, so that there is no text 1"):
        PairSource("snaps", "image", "captions", 1, 3, 4).pool("train")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: write_parquet(folder, words=["a"]), "has no column captions"),
        (lambda folder: write_parquet(folder, captions=["a", " "]), "row 1 holds an empty text in column captions"),
        (lambda folder: write_parquet(folder, captions=[["a"], []]), "row 1 has 0 texts"),
        (lambda folder: (folder / "train.csv").write_text("image,captions\n,red"), "line 2 holds no picture"),
        (lambda folder: (folder / "train.csv").write_text("file,captions\nx,red"), "has no column image"),
        (lambda folder: None, "cannot be read"),
    ],
)
def test_what_is_no_pair_is_refused_by_row(folder: Path, write: Callable[[Path], object], words: str):
    write(folder)
    with pytest.raises(UserError, match=words):
        SOURCE.pool("train")


def test_a_missing_picture_is_named(folder: Path):
    (folder / "train.csv").write_text("image,captions\nimages/c.png,blue")
    with pytest.raises(UserError, match=r"picture of snaps/train.csv, line 2: images/c.png is missing"):
        SOURCE.pool("train").examples_at([0])


def test_an_entry_of_ones_own(folder: Path):
    from tda.data.index_files import write_subset

    for part, count in (("train", 6), ("test", 4)):
        write_parquet(folder, part, captions=[f"number {row} of some" for row in range(count)])
    kind = ImageKind(3, 4, (0.5,) * 3, (0.5,) * 3)
    task = pairs_from_library("snaps", kind, tokenizer=300, length=12, name="snaps", title="", epochs=1, test_per_class=2)
    for part, count in (("train", 4), ("test", 2)):
        write_subset(task, part, count, draw_seed=0, force=False)
    split = load_split(task, "train", 4)
    assert set(split.inputs) == {"pixel_values", "input_ids", "attention_mask"} and split.labels.tolist() == [[0, 0]] * 4
    assert split.inputs["pixel_values"].shape == (4, 3, 4, 4)
    shown = {task.kind.shown({name: part[row] for name, part in split.inputs.items()})[1] for row in range(4)}
    assert shown == {f"number {index} of some" for index in split.indices.tolist()}


def test_built_in_tasks_have_pictures_and_texts():
    for name in ("flickr8k", "own_pairs"):
        task = task_named(name)
        assert task.kind.image.size == 112 and task.classes == (0,) and task.objective.compares_examples


def test_rows_with_the_same_picture_are_one_pair(folder: Path):
    pictures = [{"bytes": png((colour, 0, 0)), "path": None} for colour in (10, 20, 10)]
    pd.DataFrame({"image": pictures, "captions": ["first", "other", "second"]}).to_parquet(folder / "train.parquet")
    pool = SOURCE.pool("train")
    assert pool.examples[1].tolist() == ["first", "other"]
