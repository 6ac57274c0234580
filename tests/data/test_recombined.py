"""Tasks made of others: classes merged two by two, and images of two data sets."""

import numpy as np
import pytest
import torch

from tda.data.index_files import write_subset
from tda.data.kinds import ImageKind
from tda.data.pools import Pool
from tda.data.recombined import mixed, recombined_of
from tda.data.splits import load_split
from tda.data.tasks import Task, task_named
from tda.system.errors import UserError


def test_names():
    assert recombined_of("digits3_merged") == ("digits3",)
    assert recombined_of("digits3_mixed_mnist3") == ("digits3", "mnist3")
    assert recombined_of("digits3") is recombined_of("own_images") is None


def test_merged_classes_and_what_they_were(root):
    task = task_named("digits3_merged")
    assert task.classes == (0, 1) and task.class_names == ("0 or 1", "2") and task_named("digits3_merged") is task
    write_subset(task, "train", 8, draw_seed=0, force=False)
    split = load_split(task, "train", 8)
    assert split.labels.bincount().tolist() == [8, 8]
    plain = task_named("digits3").load("train").labels
    for label, index, group in zip(split.labels.tolist(), split.indices.tolist(), split.groups.tolist(), strict=True):
        assert group == str(plain[index]) and label == plain[index] // 2


def test_merging_after_planting_knows_the_truth_of_the_merged_classes():
    pool = task_named("digits3_flipped20_merged").load("train")
    plain = task_named("digits3").load("train")
    assert (pool.true_labels == np.where(plain.labels < 3, plain.labels // 2, -1)).all()
    assert 0 < (pool.true_labels != pool.labels).mean() < 0.2


def pictures(value: int, size: int, channels: int, labels: list[int]) -> Pool:
    return Pool(np.full((len(labels), size, size, channels), value, dtype=np.uint8), np.array(labels))


def task_of(name: str, pool: Pool, classes: tuple[int, ...], size: int, channels: int) -> Task:
    kind = ImageKind(channels, size, (0.0,) * channels, (1.0,) * channels)
    return Task(name, name, classes, tuple(map(str, classes)), 1, 1, lambda part: pool, kind)


def test_mixed_images_have_the_first_tasks_size_and_channels_and_as_many_of_each():
    first = task_of("first", pictures(30, 8, 3, [5, 5, 5, 7, 9]), (5, 7), 8, 3)
    second = task_of("second", pictures(200, 6, 1, [0, 1, 1, 0, 2]), (0, 1, 2), 6, 1)
    task = mixed(first, second, "first_mixed_second")
    pool = task.load("train")
    assert pool.labels.tolist() == [0, 0, -1, 1, -1, 0, 1, -1, 0, -1]
    assert pool.groups.tolist() == ["first"] * 5 + ["second"] * 5
    images = pool.examples_at(np.array([6, 0, 8]))
    assert images.shape == (3, 8, 8, 3) and images.dtype == np.uint8
    assert images[0].min() == images[0].max() == 200 and images[1].max() == 30 and images[2].min() == 200
    assert torch.isfinite(task.kind.inputs(images)).all()


def test_what_cannot_be_is_refused():
    two = task_of("two", pictures(0, 4, 1, [0, 1]), (0, 1), 4, 1)
    three = task_of("three", pictures(0, 4, 1, [0, 1, 2]), (0, 1, 2), 4, 1)
    with pytest.raises(UserError, match="two has 2 classes, fewer than three"):
        mixed(three, two, "three_mixed_two")
    with pytest.raises(UserError, match="cifar2_merged cannot be: classes are merged two by two"):
        task_named("cifar2_merged")
    with pytest.raises(UserError, match="unknown task nothing"):
        task_named("nothing_merged")
