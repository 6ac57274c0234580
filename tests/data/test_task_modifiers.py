"""Names of tasks with planted faults: what they stand for, whatever subset is drawn, and which are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import assert_refused, run_here, run_script
from tiny_texts import CLASSES, TOKENS

from tda.data.index_files import write_subset
from tda.data.splits import Split, load_split
from tda.data.task_modifiers import modified, taken_apart
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.system.errors import UserError
from tda.training.members import load_member
from tda.training.study import open_study


def drawn(name: str, num_per_class: int, part: str = "train") -> Split:
    task = task_named(name)
    count = num_per_class if part == "train" else task.test_per_class
    write_subset(task, part, count, draw_seed=0, force=False)
    return load_split(task, part, num_per_class if part == "train" else None)


def test_names_are_taken_apart_from_the_end():
    assert taken_apart("mnist3_flipped20") == ("mnist3", "flipped", 20)
    assert taken_apart("mnist3_patched50_flipped7") == ("mnist3_patched50", "flipped", 7)
    assert taken_apart("mnist3_flipped7_whole") == ("mnist3_flipped7", "whole", 100)
    assert taken_apart("own_images") is taken_apart("flipped20") is taken_apart("whole") is None


@pytest.mark.parametrize("end", ["flipped", "flipped0", "flipped100", "patched101", "patched05"])
def test_shares_out_of_range_are_refused(end: str):
    with pytest.raises(UserError, match=f"task digits3_{end} must end in {end[:7]} and a share in per cent"):
        task_named(f"digits3_{end}")


def test_whole_takes_no_number_and_changes_no_example():
    with pytest.raises(UserError, match="digits3_whole learns from all examples, and takes no number"):
        task_named("digits3_whole5")
    plain, whole = task_named("digits3_flipped20"), task_named("digits3_flipped20_whole")
    assert whole == replace(plain, name="digits3_flipped20_whole", title=whole.title, learns_all=True)


def test_the_same_training_example_is_wrong_in_every_subset(root: Path):
    plain = task_named("digits3").load("train").labels
    small, large = (drawn("digits3_flipped20", size) for size in (5, 40))
    assert small.labels.bincount().tolist() == [5, 5, 5] and large.labels.bincount().tolist() == [40, 40, 40]
    for split in (small, large):
        assert (split.true_labels.numpy() == plain[split.indices]).all()
    wrong = {int(index) for index in large.indices[large.labels != large.true_labels]}
    assert 12 <= len(wrong) <= 36
    for index, label, truth in zip(small.indices.tolist(), small.labels.tolist(), small.true_labels.tolist(), strict=True):
        assert (label != truth) == (index in wrong)
    test = drawn("digits3_flipped20", 0, "test")
    assert test.true_labels is None and test.fingerprint == drawn("digits3", 0, "test").fingerprint


def test_half_of_every_class_carries_the_patch_in_the_test_part(root: Path):
    task = task_named("digits3_patched60")
    assert task_named("digits3_patched60") is task
    pool = task.load("test")
    for name in task.class_names:
        carry, rest = (int((pool.groups == f"{name}, {end}").sum()) for end in ("patch", "no patch"))
        assert abs(carry - rest) <= 1 and carry > 20
    train = task.load("train")
    assert {"0, patch", "0, no patch", "1, no patch", "2, no patch"} < set(train.groups) and "1, patch" not in train.groups
    split = drawn("digits3_patched60", 40)
    carries = split.groups == "0, patch"
    assert 15 < carries.sum() < 33 and (split.inputs[carries][:, 0, 2:6, 2:6] == 1).all()
    assert split.true_labels is None


def test_faults_are_combined(root: Path):
    split = drawn("digits3_patched60_flipped10", 30)
    assert split.true_labels is not None and split.groups is not None
    of_class_0 = split.true_labels.numpy() == 0
    assert all(group.startswith("0, ") == zero for group, zero in zip(split.groups.tolist(), of_class_0, strict=True))


def test_texts_take_wrong_labels_and_no_patch(root: Path):
    task = modified(CLASSES, "texts_flipped50", "flipped", 50)
    assert (task.load("train").true_labels == CLASSES.load("train").labels).all()
    with pytest.raises(UserError, match="task texts_patched50 cannot be: a patch is planted in images"):
        modified(CLASSES, "texts_patched50", "patched", 50)
    with pytest.raises(UserError, match="labels are flipped where each example has one class"):
        modified(TOKENS, "texts_flipped50", "flipped", 50)


def test_a_modifier_of_the_users_own_task(root: Path):
    (root / "tasks").mkdir()
    definition = "from dataclasses import replace\nfrom tda.data.tasks import task_named\n"
    definition += 'TASK = replace(task_named("digits3"), name="few_digits", test_per_class=4)\n'
    (root / "tasks" / "few_digits.py").write_text(definition)
    assert task_named("few_digits_flipped30").test_per_class == 4
    with pytest.raises(UserError, match="unknown task no_digits; known tasks are"):
        task_named("no_digits_flipped30")


def test_scripts_take_the_names(root: Path):
    drawn("digits3_flipped20", 3)
    drawn("digits3_flipped20", 0, "test")
    run_here("run_cnn_training.py", task="digits3_flipped20", num_per_class=3, num_seeds=1)
    experiment = Experiment("cnn", "digits3_flipped20", 3)
    study = open_study(experiment, "cpu")
    assert load_member(study, 0, 15).info["data"] == study.train.fingerprint
    assert replace(study.train, true_labels=None).fingerprint == study.train.fingerprint


def test_script_refuses_a_share_in_one_sentence(root: Path):
    done = run_script("run_subset_generation.py", "--task", "digits3_flipped120", root=root)
    assert_refused(done, "digits3_flipped120", "1 to 99")
