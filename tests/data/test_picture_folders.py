"""Pictures of the user's own in class folders and parquet files: what is read, what is refused, and which file an index is."""

import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import assert_refused, run_script
from PIL import Image

from tda.data.dataset_library import LibrarySource
from tda.data.index_files import read_subset, write_subset
from tda.data.picture_folders import pictures_in, printable
from tda.data.splits import load_split, split_of_indices
from tda.data.tasks import task_named
from tda.experiments.folders import subset_file
from tda.system.errors import UserError

NAMES = ("zero", "one", "two")
SOURCE = LibrarySource("own_images", "image", "label", NAMES, 1, 28)
TASK = task_named("own_images")


def write(path: Path, value: int) -> Path:
    """A picture of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (28, 28), value).save(path)
    return path


@pytest.fixture
def folder(root: Path) -> Path:
    """data/own_images with twelve pictures a class and part; the grey level of a picture is its class's times its number."""
    for split in ("train", "test"):
        for label, name in enumerate(NAMES):
            for number in range(12):
                write(root / "data" / "own_images" / split / name / f"{number:02}.png", 20 * label + number)
    return root / "data" / "own_images"


def test_files_come_by_class_and_path_and_say_who_they_are(folder: Path):
    pool = SOURCE.pool("train")
    assert pool.files[:2] == ["own_images/train/one/00.png", "own_images/train/one/01.png"]
    assert pool.labels.tolist() == [1] * 12 + [2] * 12 + [0] * 12
    assert pool.examples_at([0, 13, 35])[:, 0, 0, 0].tolist() == [20, 41, 11]
    assert len(pool.examples) == 36 and pool.files_at([35]).tolist() == ["own_images/train/zero/11.png"]


def test_classes_may_be_links_nested_upper_case_and_of_any_letters(folder: Path, root: Path):
    write(root / "elsewhere" / "a.PNG", 201)
    write(root / "elsewhere" / "deep" / "er" / "b.Jpeg", 202)
    (folder / "train" / "three").symlink_to(root / "elsewhere")
    (root / "elsewhere" / "deep" / "round").symlink_to(root / "elsewhere")
    write(folder / "train" / "größe 漢字" / 'ä, "1" $x$.png', 203)
    source = LibrarySource("own_images", "image", "label", ("three", "größe 漢字"), 1, 28)
    pool = source.pool("train")
    found = [pool.files[k] for k in np.flatnonzero(pool.labels < 2)]
    assert found == [
        'own_images/train/größe 漢字/ä, "1" $x$.png',
        "own_images/train/three/a.PNG",
        "own_images/train/three/deep/er/b.Jpeg",
    ]
    assert pool.examples_at(np.flatnonzero(pool.labels < 2))[:, 0, 0, 0].tolist() == [203, 201, 202]
    # The same letters in the other of Unicode's two spellings, as macOS keeps names.
    spelt = LibrarySource("own_images", "image", "label", (unicodedata.normalize("NFD", "größe 漢字"),), 1, 28)
    assert (spelt.pool("train").labels == 0).sum() == 1


def test_hidden_files_and_notes_beside_pictures_are_no_pictures(folder: Path):
    before = SOURCE.pool("train").files
    for name in ("zero/.DS_Store", "zero/._00.png", "zero/Thumbs.db", "zero/notes.txt", "labels.csv", ".hidden/a.png"):
        (folder / "train" / name).parent.mkdir(exist_ok=True)
        (folder / "train" / name).write_bytes(b"no picture")
    assert SOURCE.pool("train").files == before


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps no such names")
def test_names_that_are_no_utf8_are_shown_and_read(folder: Path):
    odd = os.fsdecode(b"\xff\n.png")
    write(folder / "train" / "zero" / "12.png", 77).rename(folder / "train" / "zero" / odd)
    pool = SOURCE.pool("train")
    assert pool.files[-1] == "own_images/train/zero/\\udcff\\n.png" and pool.examples_at([36])[0, 0, 0, 0] == 77
    "".join(pool.files).encode()


def emptied(folder: Path) -> None:
    for path in (folder / "train" / "two").iterdir():
        path.unlink()


def flat(folder: Path) -> None:
    for path in list((folder / "train").glob("*/*.png")):
        path.rename(folder / "train" / f"{path.parent.name}{path.name}")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (emptied, "the train part of .*own_images has no examples of class two; its classes are one, zero"),
        (flat, "picture .*train/one00.png lies outside a folder of its class; put it into .*train/<class>/"),
        (lambda folder: write(folder / "train" / "a.png", 1), "picture .*train/a.png lies outside a folder of its class"),
        (lambda folder: (folder / "train" / "zero" / "a.dcm").touch(), "zero/a.dcm is no picture of a known kind .*convert it"),
        (lambda folder: (folder / "train" / "zero" / "a.png").symlink_to("nowhere"), "zero/a.png of .* is missing"),
        (lambda folder: os.mkfifo(folder / "train" / "zero" / "a.png"), "cannot read .*zero/a.png: it is a pipe"),
        (
            lambda folder: (folder / "train" / "zero" / "a.png").write_text("text"),
            "zero/a.png of .*own_images cannot be decoded",
        ),
        (lambda folder: (folder / "train.parquet").touch(), "holds the folder train and train.parquet too; move one"),
        (lambda folder: (folder / "train").rename(folder / "Train"), "the train part of .* holds neither a folder train nor"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_a_sentence(folder: Path, prepare: Callable, words: str):
    prepare(folder)
    with pytest.raises(UserError, match=words):
        pool = SOURCE.pool("train")
        pool.examples_at(range(len(pool.labels)))


def test_folder_of_empty_folders_is_refused(tmp_path: Path):
    (tmp_path / "zero").mkdir()
    with pytest.raises(UserError, match="holds no pictures in folders of their classes"):
        pictures_in(tmp_path)


def test_folder_that_may_not_be_read_is_not_called_empty(folder: Path, monkeypatch: pytest.MonkeyPatch):
    listed = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "one":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match="cannot read .*train/one: permission is denied; mend that"):
        SOURCE.pool("train")


def parquet(root: Path, cells: list, labels: list, **columns: list) -> LibrarySource:
    folder = root / "data" / "packed"
    folder.mkdir(exist_ok=True)
    pd.DataFrame({"image": cells, "label": labels, **columns}).to_parquet(folder / "train.parquet")
    return LibrarySource("packed", "image", "label", ("cat", "dog"), 1, 28)


def test_rows_of_parquet_files_say_who_they_are(root: Path, folder: Path):
    contents = [path.read_bytes() for path in sorted((folder / "train").glob("*/*.png"))[:4]]
    labels = ["dog", "cat", "dog", "cat"]
    named = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(contents[:2])]
    source = parquet(root, named + [{"bytes": content, "path": None} for content in contents[2:]], labels)
    pool = source.pool("train")
    assert pool.files == [
        "packed/train.parquet: 0.png",
        "packed/train.parquet: 1.png",
        "packed/train.parquet, row 2",
        "packed/train.parquet, row 3",
    ]
    assert pool.examples_at([3, 0])[:, 0, 0, 0].tolist() == [23, 20] and pool.labels.tolist() == [1, 0, 1, 0]
    assert parquet(root, contents, labels).pool("train").files[1] == "packed/train.parquet, row 1"


def test_pieces_of_a_parquet_file_are_put_together_in_order(root: Path, folder: Path):
    contents = [path.read_bytes() for path in sorted((folder / "train").glob("*/*.png"))[:4]]
    (root / "data" / "packed" / "data").mkdir(parents=True)
    for piece, rows in enumerate((slice(0, 3), slice(3, 4))):
        frame = pd.DataFrame({"image": contents[rows], "label": ["cat", "dog", "cat", "dog"][rows]})
        frame.to_parquet(root / "data" / "packed" / "data" / f"train-0000{piece}-of-00002.parquet")
    pool = LibrarySource("packed", "image", "label", ("cat", "dog"), 1, 28).pool("train")
    assert pool.files[3] == "packed/data/train-00001-of-00002.parquet, row 0" and pool.examples_at([3])[0, 0, 0, 0] == 23


@pytest.mark.parametrize(
    ("cells", "labels", "words"),
    [
        ([1, 2], ["cat", "dog"], "column image of .*packed holds int64, not pictures"),
        ([[1, 2], [3, 4]], ["cat", "dog"], "column image of .*packed holds list<.*>, not pictures"),
        (["a.png", "b.png"], ["cat", "dog"], "column image of .*packed holds .*string, not pictures"),
        ([b"", b"\x89PNG"], ["cat", "dog"], "picture in row 0 of .*packed cannot be decoded"),
        ([{"bytes": None, "path": "/etc/hostname"}] * 2, ["cat", "dog"], "row 0 of .*packed holds no picture in column image"),
        ([None, b""], ["cat", "dog"], "row 0 of .*packed holds no picture in column image"),
        ([b"", b""], ["cat", None], "row 1 of .*packed holds no label in column label"),
        ([b"", b""], [0.5, 1.5], "row 0 of .*packed holds a float in column label"),
    ],
)
def test_columns_of_something_else_are_refused(root: Path, cells: list, labels: list, words: str):
    with pytest.raises(UserError, match=words):
        parquet(root, cells, labels).pool("train").examples_at([0, 1])


def test_damaged_parquet_file_is_named_and_a_pipe_is_not_waited_for(root: Path):
    source = parquet(root, [b"", b""], ["cat", "dog"])
    path = root / "data" / "packed" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="packed/train.parquet is not a whole parquet file; write or download it again"):
        source.pool("train")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="cannot read .*packed/train.parquet: it is a pipe"):
        source.pool("train")


def test_an_index_leads_to_a_file(folder: Path, root: Path):
    """In the index file itself, in a table of the whole part, and in the split that is loaded."""
    done = run_script("run_subset_generation.py", "--task", "own_images", "--num_per_class", 2, root=root)
    assert done.returncode == 0, done.stderr
    path = subset_file("own_images", "train", 2)
    table = pd.read_csv(path.with_name("files_train.csv")).set_index("index")
    assert list(table.columns) == ["class", "file"] and len(table) == 36
    lines = path.read_text().splitlines()
    split = load_split(TASK, "train", 2)
    assert len(lines) == len(split) == 6
    examples = zip(lines, split.indices.tolist(), split.labels.tolist(), split.files, split.inputs, strict=True)
    for line, index, label, file, image in examples:
        assert line == f"{index}  # {file}" and table.file[index] == file and table["class"][index] == NAMES[label]
        assert int(image[0, 0, 0] * 255 + 0.5) == 20 * label + int(Path(file).stem)
    assert split[[1, 0]].files.tolist() == split.files[[1, 0]].tolist() and split[:2].to(split.device).files is not None
    assert pd.read_csv(path.with_name("files_test.csv")).shape == (36, 3)
    # Other tools read the indices as before.
    assert np.loadtxt(path, dtype=int).tolist() == split.indices.tolist()
    assert split_of_indices(TASK, "train", path).files.tolist() == split.files.tolist()


def test_files_that_came_or_went_are_noticed(folder: Path):
    """A new picture in front shifts every index: the drawn ones must not silently become others."""
    write_subset(TASK, "train", 2, draw_seed=0, force=False)
    write(folder / "train" / "one" / "000.png", 5)
    with pytest.raises(UserError, match=r"index \d+ of .*train_2pc.txt was own_images/train/.* and is now own_images/train/"):
        load_split(TASK, "train", 2)
    with pytest.raises(UserError, match="draw again with run_subset_generation.py --task own_images --force"):
        write_subset(TASK, "train", 2, draw_seed=0, force=False)
    assert write_subset(TASK, "train", 2, draw_seed=0, force=True)
    assert len(load_split(TASK, "train", 2)) == 6
    (folder / "train" / "one" / "000.png").unlink()
    with pytest.raises(UserError, match="was own_images/train/"):
        load_split(TASK, "train", 2)


def test_class_with_too_few_pictures_is_named_with_its_count(folder: Path, root: Path):
    (folder / "train" / "two" / "00.png").unlink()
    done = run_script("run_subset_generation.py", "--task", "own_images", "--num_per_class", 12, root=root)
    assert_refused(done, "class two of own_images has 11 examples in the train part", "(zero 12, one 12, two 11)", "at most 11")
    for name in ("00.png", "01.png", "02.png"):
        (folder / "test" / "one" / name).unlink()
    done = run_script("run_subset_generation.py", "--task", "own_images", "--num_per_class", 2, root=root)
    assert_refused(done, "class one of own_images has 9 examples in the test part", "lower test_per_class of the task")


def test_unbalanced_classes_give_balanced_subsets(folder: Path):
    for number in range(3, 12):
        (folder / "train" / "two" / f"{number:02}.png").unlink()
    write_subset(TASK, "train", 3, draw_seed=0, force=False)
    assert read_subset(TASK, "train", 3, SOURCE.pool("train")).shape == (9,)
    assert load_split(TASK, "train", 3).labels.bincount().tolist() == [3, 3, 3]


def test_printable_is_one_line_of_utf8():
    assert printable("a\u2028b\tc") == "a\\u2028b\\tc" and printable("größe 漢字 $x$.png") == "größe 漢字 $x$.png"
