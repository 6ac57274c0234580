"""Tasks from files of the user's own: looked up by name, and refused in one sentence that names the file."""

import os
from pathlib import Path

import pytest

from tda.data.index_files import write_subset
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
    with pytest.raises(UserError, match=words):
        task_named("few_digits")
    assert task_named("digits3") is TASKS["digits3"]


def test_taken_name_is_refused(own_tasks: Path):
    (own_tasks / "digits3.py").write_text(FEW_DIGITS.replace("few_digits", "digits3"))
    with pytest.raises(UserError, match="tasks/digits3.py names its task digits3, as tda/data/tasks.py does"):
        task_named("digits3")
