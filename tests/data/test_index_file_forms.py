"""Index files that other people wrote: what they would fit, and what is no file."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tda.data.index_files import draw_subset, read_indices, read_subset
from tda.data.tasks import task_named
from tda.experiments.folders import subset_file
from tda.system.errors import UserError

DIGITS = task_named("digits3")


def write_indices(part: str, size: int, indices: np.ndarray, end: str = "\n") -> Path:
    path = subset_file("digits3", part, size)
    path.write_text(end.join(map(str, indices)))
    return path


def read(part: str, size: int) -> np.ndarray:
    return read_subset(DIGITS, part, size, DIGITS.load(part))


def drawn(part: str, size: int) -> np.ndarray:
    return draw_subset(DIGITS, DIGITS.load(part), size, draw_seed=3)


def test_indices_of_another_size_say_which_file_they_fit(root: Path):
    write_indices("train", 2, drawn("train", 4))
    with pytest.raises(
        UserError, match=r"train_2pc.txt has 4 examples of class 0 instead of 2; its indices would fit train_4pc.txt"
    ):
        read("train", 2)


def test_indices_of_the_other_part_say_which_file_they_fit(root: Path):
    write_indices("train", 10, drawn("test", 10))
    with pytest.raises(UserError, match="train_10pc.txt .*; its indices would fit test_10pc.txt$"):
        read("train", 10)
    write_indices("test", 50, drawn("train", 50))
    with pytest.raises(
        UserError, match="test_50pc.txt holds index .* has indices 0 to 598; its indices would fit train_50pc.txt$"
    ):
        read("test", 50)


def test_indices_that_fit_no_part_say_what_they_are(root: Path):
    pool = DIGITS.load("train")
    uneven = np.concatenate([np.flatnonzero(pool.labels == label)[:count] for label, count in ((0, 3), (1, 1), (2, 2))])
    write_indices("train", 2, uneven)
    with pytest.raises(UserError) as caught:
        read("train", 2)
    assert "has 3 examples of class 0 instead of 2; its indices fit no part of digits3" in str(caught.value)
    assert "0 3, 1 1, 2 2 in the train part" in str(caught.value) and "in the test part" in str(caught.value)


def test_a_part_that_cannot_be_had_is_left_out_of_the_search(root: Path):
    def load(part: str) -> object:
        if part == "test":
            raise UserError("not here")
        return DIGITS.load(part)

    write_indices("train", 2, drawn("train", 3))
    task = replace(DIGITS, load=load)
    with pytest.raises(UserError, match="would fit train_3pc.txt"):
        read_subset(task, "train", 2, task.load("train"))


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t", "\n\n", "  # what it shows\n"])
def test_other_line_ends_and_comments_are_read(root: Path, end: str):
    indices = drawn("train", 2)
    path = write_indices("train", 2, indices, end)
    assert read("train", 2).tolist() == indices.tolist()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read("train", 2).tolist() == indices.tolist()


def test_pipes_and_devices_are_refused_instead_of_waited_for(root: Path):
    path = subset_file("digits3", "train", 2)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="train_2pc.txt: it is a pipe, and a file is needed"):
        read("train", 2)
    with pytest.raises(UserError, match="/dev/zero: it is a device, and a file is needed"):
        read_indices(Path("/dev/zero"), DIGITS, "train", DIGITS.load("train"))
    with pytest.raises(UserError, match="a folder stands where the file should be"):
        read_indices(root, DIGITS, "train", DIGITS.load("train"))


def test_refused_index_file_is_not_called_damaged(root: Path, monkeypatch: pytest.MonkeyPatch):
    pool = DIGITS.load("train")

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError) as caught:
        read_subset(DIGITS, "train", 2, pool)
    assert "train_2pc.txt: permission is denied" in str(caught.value) and "delete" not in str(caught.value)
