"""Tasks from files of the user's own: looked up by name, and refused in one sentence that names the file."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tda.data.index_files import write_subset
from tda.data.pools import Pool
from tda.data.splits import load_split
from tda.data.tasks import TASKS, task_named
from tda.system.errors import UserError

FEW_DIGITS = """
from dataclasses import replace

from tda.data.tasks import task_named

TASK = replace(task_named("digits3"), name="few_digits", test_per_class=4)
"""


@pytest.fixture
def own_tasks(root: Path) -> Path:
    folder = root / "tasks"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["few_digits.py", "another_name.py"])
def test_task_of_a_file_is_a_task_like_any_other(own_tasks: Path, name: str):
    (own_tasks / name).write_text(FEW_DIGITS)
    (own_tasks / "broken.py").write_text("def broken(:\n")
    task = task_named("few_digits")
    assert (task.name, task.test_per_class, task.kind) == ("few_digits", 4, TASKS["digits3"].kind)
    assert task is task_named("few_digits")
    write_subset(task, "test", 4, draw_seed=0, force=False)
    assert load_split(task, "test").labels.bincount().tolist() == [4, 4, 4]


def test_changed_file_is_loaded_anew(own_tasks: Path):
    path = own_tasks / "few_digits.py"
    for number, count in enumerate((4, 5)):
        path.write_text(FEW_DIGITS.replace("=4", f"={count}"))
        os.utime(path, ns=(number, number))
        assert task_named("few_digits").test_per_class == count


def test_unknown_task_lists_those_of_files(own_tasks: Path):
    (own_tasks / "few_digits.py").write_text(FEW_DIGITS)
    with pytest.raises(UserError, match="unknown task many_digits; known tasks are digits3, .*, few_digits$"):
        task_named("many_digits")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n", r"few_digits.py cannot be loaded: line 1 is no Python, "),
        (FEW_DIGITS.replace("digits3", "digits4"), r"few_digits.py cannot be loaded: line 6: unknown task digits4"),
        ("import nothing_of_the_kind\n", r"few_digits.py cannot be loaded: line 1: No module named"),
        ("TASK = 3\n", r"few_digits.py cannot be used: it defines no TASK"),
        ("", r"few_digits.py cannot be used: it defines no TASK"),
    ],
)
def test_file_that_cannot_be_used_is_named(own_tasks: Path, text: str, words: str):
    (own_tasks / "few_digits.py").write_text(text)
    with pytest.raises(UserError, match=f"^{own_tasks}/{words}"):
        task_named("few_digits")
    with pytest.raises(UserError, match=f"^unknown task many_digits; {own_tasks}/{words}.*; known tasks are digits3, "):
        task_named("many_digits")
    assert task_named("digits3") is TASKS["digits3"]


def test_taken_name_is_refused(own_tasks: Path):
    (own_tasks / "digits3.py").write_text(FEW_DIGITS.replace("few_digits", "digits3"))
    with pytest.raises(UserError, match="tasks/digits3.py names its task digits3, as tda/data/tasks.py does"):
        task_named("digits3")


LOADED = """
import numpy as np

from tda.data.kinds import ImageKind, TextKind
from tda.data.pools import Pool
from tda.data.tasks import Task

images, labels = np.zeros((8, 4, 4, 1), dtype=np.uint8), np.arange(8) % 2


def load(part):
    return {returned}


TASK = Task("loaded", "loaded", (0, 1), ("even", "odd"), epochs={epochs}, test_per_class=2, load=load, kind={kind})
"""


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("Pool(images, {}['label'])", r"its load fails in .*tasks/loaded.py: line 12: there is no 'label'$"),
        ("(images, labels)", r"its load in .*tasks/loaded.py returns a tuple instead of a Pool$"),
        ("Pool(images, labels / 2)", r"labels of a Pool are whole numbers \(n,\), not float64 \(8,\)"),
        ("Pool(images, labels[:, None])", r"not int64 \(8, 1\)"),
        ("Pool(images, labels[:5])", r"a Pool has 5 labels but 8 examples"),
        ("Pool((images, images[:5]), labels)", r"a Pool has 8 labels but 5 examples"),
        ("Pool(list(images), labels)", r"the examples of a Pool are in a list"),
        ("Pool(images, labels, files=['a'])", r"a Pool has 8 labels but 1 files"),
        ("Pool(images / 255, labels)", r"an image is float64 \(4, 4, 1\), not uint8 \(4, 4, 1\)"),
        ("Pool(images.transpose(0, 3, 1, 2), labels)", r"an image is uint8 \(1, 4, 4\), not uint8 \(4, 4, 1\)"),
        ("Pool(images[..., 0], labels)", r"an image is uint8 \(4, 4\), not"),
    ],
)
def test_what_load_does_wrong_is_told_in_one_sentence(own_tasks: Path, returned: str, words: str):
    kind = "ImageKind(1, 4, (0.5,), (0.5,))"
    (own_tasks / "loaded.py").write_text(LOADED.format(returned=returned, kind=kind, epochs=2))
    with pytest.raises(UserError, match=words):
        task = task_named("loaded")
        write_subset(task, "train", 2, draw_seed=0, force=False)
        load_split(task, "train", 2)


@pytest.mark.parametrize("kept", [list, torch.tensor, lambda labels: pd.Series(labels, index=[2, 0, 1, 3])])
def test_labels_may_be_a_list_a_tensor_or_a_column(kept: Callable):
    pool = Pool(np.zeros((4, 4, 4, 1), dtype=np.uint8), kept([0, 1, 1, 0]))
    assert pool.labels[np.array([2, 3, 0])].tolist() == [1, 0, 0]


def test_columns_of_a_shuffled_table_are_taken_by_position():
    table = pd.DataFrame({"text": list("abcd"), "label": [0, 1, 1, 0]}, index=[2, 0, 3, 1])
    pool = Pool((table["text"], table["text"].str.upper()), table["label"], files=table["text"])
    texts, capitals = pool.examples_at(np.array([2, 0]))
    assert [*texts, *capitals, *pool.files_at([2, 0])] == ["c", "a", "C", "A", "c", "a"]


@pytest.mark.parametrize(
    ("kind", "epochs", "words"),
    [
        ("ImageKind(1, 4, (0.5,) * 3, (0.5,))", 2, r"line 15: images of 1 channels have as many means and stds"),
        (
            "ImageKind(1, 4, (0.5,), (0.0,))",
            2,
            r"line 15: images of 1 .* stds above 0, not mean \(0.5,\) and std \(0.0,\)",
        ),
        ("ImageKind(1, 4, (0.5,), (0.5,))", 0, r"line 15: task loaded cannot be trained for 0 epochs"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_as_it_is_loaded(own_tasks: Path, kind: str, epochs: int, words: str):
    (own_tasks / "loaded.py").write_text(LOADED.format(returned="Pool(images, labels)", kind=kind, epochs=epochs))
    with pytest.raises(UserError, match=words):
        task_named("loaded")


def test_a_single_class_is_refused(own_tasks: Path):
    one = 'name="few_digits", classes=(0,), class_names=("zero",)'
    (own_tasks / "few_digits.py").write_text(FEW_DIGITS.replace('name="few_digits"', one))
    with pytest.raises(UserError, match="line 6: task few_digits has one class, of which a classifier has nothing to learn"):
        task_named("few_digits")


@pytest.mark.parametrize("name", ["my pets", "own/pets", "../pets", "-pets", ""])
def test_a_name_that_no_folder_or_argument_can_have_is_refused(own_tasks: Path, name: str):
    (own_tasks / "pets.py").write_text(FEW_DIGITS.replace("few_digits", name))
    with pytest.raises(UserError, match=f"pets.py cannot be loaded: line 6: a task cannot be named '{name}'; use letters"):
        task_named("pets")


@pytest.mark.parametrize("name", ["größe", "हिन्दी", "cafe\u0301_2.1-b"])
def test_a_name_may_be_of_any_script(own_tasks: Path, name: str):
    (own_tasks / "named.py").write_text(FEW_DIGITS.replace("few_digits", name))
    assert task_named(name).name == name


def test_missing_values_are_no_texts(own_tasks: Path):
    texts = "Pool(np.array(['a', 'b', 'c', float('nan')] * 2, dtype=object), labels)"
    kind = "TextKind(lambda texts: {'ids': 1 / 0}, None)"
    (own_tasks / "loaded.py").write_text(LOADED.format(returned=texts, kind=kind, epochs=2))
    task = task_named("loaded")
    with pytest.raises(UserError, match="an example is the float nan, not a text"):
        task.kind.inputs(task.load("train").examples)
    with pytest.raises(UserError, match="encode of its kind fails in .*loaded.py: line 15: division by zero"):
        task.kind.inputs(["a"])
