"""The registry of tasks."""

import pytest

from tda.data.kinds import ImageKind, ImageTextKind
from tda.data.tasks import TASKS, task_named
from tda.gradients.objectives import Classification, NextToken, Pairing
from tda.system.errors import UserError


def test_tasks_of_the_study():
    assert list(TASKS)[:5] == ["digits3", "mnist3", "mnist", "cifar10", "cifar2"]
    found = {
        name: (len(task.classes), task.kind.channels, task.kind.size, task.epochs, task.test_per_class)
        for name, task in TASKS.items()
        if isinstance(task.kind, ImageKind)
    }
    expected = {"digits3": (3, 1, 28, 15, 50), "mnist3": (3, 1, 28, 15, 300), "cifar10": (10, 3, 32, 30, 50)}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_entry_is_consistent(task):
    assert len(task.classes) == len(task.class_names)
    if isinstance(task.kind, ImageKind):
        assert len(task.kind.mean) == len(task.kind.std) == task.kind.channels and min(task.kind.std) > 0
    written = task.name in ("webnlg", "webnlg_facts", "webnlg_smollm2", "pararel", "pararel_questions")
    paired = task.name in ("flickr8k", "own_pairs")
    assert task.objective == (NextToken() if written else Pairing() if paired else Classification())
    assert isinstance(task.kind, ImageTextKind) == paired
    assert task.epochs > 0 and task.test_per_class > 0
    assert TASKS[task.name] is task is task_named(task.name)


def test_only_cifar10_is_centred():
    kinds = {name: task.kind for name, task in TASKS.items()}
    assert kinds["digits3"].mean == kinds["mnist3"].mean == (0.0,) and kinds["mnist3"].std == (1.0,)
    assert kinds["cifar10"].mean == kinds["cifar10"].std == (0.5, 0.5, 0.5)


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown task imagenet; known tasks are digits3, mnist3"):
        task_named("imagenet")
