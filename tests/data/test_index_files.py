"""Index files: how they are drawn, and which ones are refused."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKOUT

from tda.data.index_files import draw_subset, read_indices, read_subset, write_subset
from tda.data.pools import Pool
from tda.data.tasks import TASKS, task_named
from tda.experiments.folders import subset_file
from tda.settings import SubsetGeneration
from tda.steps import subset_generation
from tda.system.errors import UserError

DIGITS = task_named("digits3")


def small_pool() -> Pool:
    """40 examples whose labels are 0, 1, 2, 3, 0, 1, ...: class 3 is not of the task."""
    return Pool(np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 4)


def write_indices(root: Path, text: str, size: int = 2) -> Path:
    path = subset_file("digits3", "train", size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_subset_is_balanced_and_without_repetition():
    drawn = draw_subset(DIGITS, small_pool(), 5, draw_seed=0)
    assert drawn.shape == (15,) and len(set(drawn.tolist())) == 15
    assert (small_pool().labels[drawn] == np.tile([0, 1, 2], 5)).all()


@pytest.mark.parametrize("task", ["digits3", "mnist3", "cifar10"])
def test_committed_subsets_are_nested_and_balanced_in_number(task: str):
    folder = CHECKOUT / "data" / "subset_indices" / task
    read = {size: (folder / f"train_{size}pc.txt").read_text().split() for size in (10, 20, 50)}
    assert set(read[10]) < set(read[20]) < set(read[50])
    assert [len(set(indices)) for indices in read.values()] == [size * len(TASKS[task].classes) for size in (10, 20, 50)]


def test_larger_draw_contains_the_smaller_one_and_the_seed_matters():
    draws = [draw_subset(DIGITS, small_pool(), size, draw_seed=0).tolist() for size in (1, 4, 10)]
    assert draws[1][:3] == draws[0] and draws[2][:12] == draws[1]
    assert draw_subset(DIGITS, small_pool(), 4, draw_seed=1).tolist() != draws[1]


def test_size_larger_than_the_class_is_refused():
    with pytest.raises(UserError, match="class 0 of digits3 has 10 examples in the train part, fewer than the 11 asked for"):
        draw_subset(DIGITS, small_pool(), 11, draw_seed=0)


@pytest.mark.parametrize("size", [0, -3])
def test_size_below_one_is_refused(root: Path, size: int):
    with pytest.raises(UserError, match=f"at least 1 example per class, not {size}"):
        write_subset(DIGITS, "train", size, draw_seed=0, force=False)


def test_existing_file_is_checked_and_kept_unless_forced(root: Path):
    path = subset_file("digits3", "train", 2)
    drawn = path.read_text()
    assert not write_subset(DIGITS, "train", 2, draw_seed=5, force=False)
    assert path.read_text() == drawn
    assert write_subset(DIGITS, "train", 2, draw_seed=5, force=True)
    assert path.read_text() != drawn
    path.write_text("1\n1\n")
    with pytest.raises(UserError, match="more than once"):
        write_subset(DIGITS, "train", 2, draw_seed=0, force=False)


def test_file_in_another_order_is_read_as_it_is(root: Path):
    write_indices(root, "8 5\n6\n9 4 10\n")
    assert read_subset(DIGITS, "train", 2, small_pool()).tolist() == [8, 5, 6, 9, 4, 10]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0\n1\n2\n4\n5\n40\n", "holds index 40, but the train part of digits3 has indices 0 to 39"),
        ("0\n1\n2\n4\n5\n-1\n", "holds index -1, but"),
        ("0\n1\n2\n4\n5\n4\n", "holds index 4 more than once"),
        ("0\n1\n2\n4\n5\n7\n", "holds index 7, whose class 3 is not one of digits3"),
        ("0\n1\n2\n4\n5\n8\n", "has 3 examples of class 0 instead of 2"),
        ("0\n1\n2\n", "has 1 examples of class 0 instead of 2"),
        ("", "holds no index"),
        ("0\n1\ntwo\n", "cannot be read as text with one index a line"),
        ("0.5\n", "cannot be read as text with one index a line"),
        ("99999999999999999999\n", "cannot be read as text with one index a line"),
    ],
    ids=["too large", "negative", "repeated", "class", "many", "few", "empty", "word", "fraction", "overflow"],
)
def test_wrong_file_is_refused_by_name(root: Path, text: str, words: str):
    path = write_indices(root, text)
    with pytest.raises(UserError) as caught:
        read_subset(DIGITS, "train", 2, small_pool())
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)


def test_file_that_is_not_text_is_refused(root: Path):
    subset_file("digits3", "train", 2).write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="train_2pc.txt cannot be read as text"):
        read_subset(DIGITS, "train", 2, small_pool())


def test_missing_file_names_the_script_that_draws_it(root: Path):
    with pytest.raises(UserError, match=r"train_7pc.txt is missing; .* --task digits3 --num_per_class 7"):
        read_subset(DIGITS, "train", 7, small_pool())


def test_indices_of_the_wrong_split_are_refused(root: Path):
    """A published list for CIFAR-10 indexes the other part: balanced there, not here."""
    path = subset_file("digits3", "train", 50)
    path.write_text(subset_file("digits3", "test", 50).read_text())
    with pytest.raises(UserError, match="its indices would fit test_50pc.txt"):
        read_subset(DIGITS, "train", 50, DIGITS.load("train"))


def test_indices_of_any_number_and_balance_are_read_as_they_stand(tmp_path: Path):
    path = tmp_path / "some.txt"
    path.write_text("5\n0\n4\n")
    found = read_indices(path, DIGITS, "train", small_pool())
    assert found.dtype == np.int64 and found.tolist() == [5, 0, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is missing; put it there or name another file"),
        ("", "holds no index"),
        ("40", "holds index 40, but the train part of digits3 has indices 0 to 39"),
        ("5 5", "holds index 5 more than once"),
        ("3", "holds index 3, whose class 3 is not one of digits3"),
    ],
)
def test_wrong_file_of_any_number_is_refused_by_name(tmp_path: Path, text: str | None, words: str):
    path = tmp_path / "some.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_indices(path, DIGITS, "train", small_pool())
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)


def test_a_seed_of_the_draw_that_is_none_is_refused(root: Path):
    with pytest.raises(UserError, match="--draw_seed -1 is no seed; choose 0 or more"):
        subset_generation.main(SubsetGeneration(task="digits3", num_per_class=4, draw_seed=-1))
