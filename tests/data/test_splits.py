"""Splits: what the indices name, as tensors of any kind, placed, cast, chosen and known by their content."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_texts import CLASSES, TOKENS, encode

from tda.data.index_files import write_subset
from tda.data.pools import Pool
from tda.data.splits import Split, load_split, split_of_indices
from tda.data.tasks import Task, task_named
from tda.experiments.folders import subset_file
from tda.system.errors import UserError

CPU = torch.device("cpu")
DIGITS = task_named("digits3")


def texts_and_pictures() -> Split:
    """Five examples of every kind of tensor: token ids, a mask, floating pixels."""
    generator = torch.Generator().manual_seed(0)
    tokens = encode(["the cat", "a dog runs", "bird", "the cat sleeps", "a bird sings"])
    inputs = tokens | {"pixel_values": torch.rand(5, 2, 3, 4, generator=generator)}
    return Split(inputs, torch.tensor([0, 1, 2, 0, 2]), torch.tensor([7, 3, 9, 8, 1]))


def test_split_holds_what_the_indices_name(root: Path):
    split, pool = load_split(DIGITS, "train", 2), DIGITS.load("train")
    indices = [int(line) for line in subset_file("digits3", "train", 2).read_text().split()]
    assert split.inputs.shape == (6, 1, 28, 28) and split.inputs.dtype == torch.float32
    assert split.indices.tolist() == indices and split.labels.tolist() == [0, 1, 2, 0, 1, 2]
    for image, index in zip(split.inputs, indices, strict=True):
        np.testing.assert_array_equal((image[0] * 255).round().numpy(), pool.examples[index, :, :, 0])
    assert 0 <= split.inputs.min() and split.inputs.max() <= 1
    assert len(load_split(DIGITS, "test")) == 150


@pytest.mark.parametrize("task", [CLASSES, TOKENS], ids=["classes", "tokens"])
def test_split_of_texts_holds_what_the_indices_name(root: Path, task: Task):
    write_subset(task, "train", 2, draw_seed=0, force=False)
    split, pool = load_split(task, "train", 2), task.load("train")
    expected = encode(pool.examples[split.indices.numpy()].tolist())
    assert split.inputs.keys() == expected.keys() and len(split) == 6
    assert all(torch.equal(part, expected[name]) for name, part in split.inputs.items())
    assert pool.labels[split.indices].tolist() == [0, 1, 2, 0, 1, 2]
    if task is CLASSES:
        assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
    else:
        assert torch.equal(split.labels, expected["input_ids"].masked_fill(expected["attention_mask"] == 0, -100))


def test_labels_count_the_classes_of_the_task(root: Path):
    pool = Pool(np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 4)
    kind = replace(DIGITS.kind, mean=(0.5,), std=(0.5,))
    names = ("three", "one")
    odd = replace(DIGITS, name="odd", classes=(3, 1), class_names=names, load=lambda part: pool, kind=kind)
    write_subset(odd, "train", 2, draw_seed=0, force=False)
    split = load_split(odd, "train", 2)
    assert split.labels.tolist() == [0, 1, 0, 1]
    assert (pool.labels[split.indices] == [3, 1, 3, 1]).all()
    assert (split.inputs == -1).all()


def test_truth_and_groups_follow_the_examples_and_are_no_part_of_what_is_trained_on(root: Path):
    labels, truth = np.arange(40) % 4, (np.arange(40) + (np.arange(40) < 20)) % 4
    groups = np.array([f"group {index}" for index in range(40)])
    plain = Pool(np.zeros((40, 28, 28, 1), np.uint8), labels)
    known = replace(plain, true_labels=truth, groups=groups.tolist())
    base = replace(DIGITS, name="odd", classes=(3, 1), class_names=("three", "one"))
    odd, told = (replace(base, load=lambda part, pool=pool: pool) for pool in (plain, known))
    write_subset(odd, "train", 8, draw_seed=0, force=False)
    split = load_split(told, "train", 8)
    expected = [{3: 0, 1: 1}.get(truth[index], -1) for index in split.indices.tolist()]
    assert split.true_labels.tolist() == expected and {-1, 0, 1} == set(expected)
    assert split.groups.tolist() == groups[split.indices].tolist() and split.groups.dtype.kind == "U"
    for found, rows in ((split[[5, 2]], [5, 2]), (split.cast(torch.float64)[3:], range(3, 16)), (split.to(CPU), range(16))):
        assert found.true_labels.tolist() == [expected[row] for row in rows]
        assert found.groups.tolist() == [split.groups[row] for row in rows]
    unknown = load_split(odd, "train", 8)
    assert unknown.true_labels is None and unknown.groups is None and unknown.fingerprint == split.fingerprint
    assert unknown[[1]].true_labels is None and unknown[[1]].groups is None


def test_split_of_an_index_file_of_any_balance(root: Path, tmp_path: Path):
    drawn, path = load_split(DIGITS, "train", 3), tmp_path / "some.txt"
    path.write_text("\n".join(str(int(index)) for index in drawn.indices[[4, 0, 3, 6]]))
    found = split_of_indices(DIGITS, "train", path)
    assert found.fingerprint == drawn[[4, 0, 3, 6]].fingerprint
    with pytest.raises(UserError, match="nowhere.txt is missing"):
        split_of_indices(DIGITS, "train", tmp_path / "nowhere.txt")


def test_chosen_examples_keep_their_order_in_every_part():
    split = texts_and_pictures()
    for positions, expected in (([3, 0], [3, 0]), (slice(1, 4), [1, 2, 3]), (torch.tensor([4, 4]), [4, 4])):
        found = split[positions]
        assert found.labels.tolist() == split.labels[expected].tolist()
        assert found.indices.tolist() == split.indices[expected].tolist() and len(found) == len(expected)
        for name, part in split.inputs.items():
            assert torch.equal(found.inputs[name], part[expected])


def test_batches_cover_every_example_in_order():
    split = texts_and_pictures()
    batches = list(split.batches(2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels)
    for name, part in split.inputs.items():
        assert torch.equal(torch.cat([inputs[name] for inputs, _ in batches]), part)


def test_cast_leaves_token_ids_masks_labels_and_indices_alone():
    split = texts_and_pictures()
    found = split.cast(torch.float64)
    assert {name: part.dtype for name, part in found.inputs.items()} == {
        "input_ids": torch.int64,
        "attention_mask": torch.int64,
        "pixel_values": torch.float64,
    }
    assert torch.equal(found.inputs["pixel_values"], split.inputs["pixel_values"].double())
    assert torch.equal(found.inputs["input_ids"], split.inputs["input_ids"])
    assert found.labels is split.labels and found.indices is split.indices


def test_placed_pictures_lie_as_kernels_take_them_and_stay_the_same():
    split = texts_and_pictures()
    found = split.to(torch.device("cpu"))
    assert found.device == split.device == torch.device("cpu")
    assert found.inputs["pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert found.inputs["input_ids"].is_contiguous()
    assert all(torch.equal(found.inputs[name], part) for name, part in split.inputs.items())
    assert found.fingerprint == split.fingerprint


def test_fingerprint_sees_every_part_and_no_layout(root: Path):
    for split in (load_split(DIGITS, "train", 2), texts_and_pictures()):
        assert split.to(torch.device("cpu")).fingerprint == split.fingerprint and len(split.fingerprint) == 64
        parts = {"labels": split.labels, "indices": split.indices}
        changed = [replace(split, **{name: part + (torch.arange(len(part)) == 0)}) for name, part in parts.items()]
        inputs = split.inputs if isinstance(split.inputs, dict) else {"": split.inputs}
        for name, part in inputs.items():
            other = part.clone()
            other.view(-1)[0] += 1
            changed.append(replace(split, inputs=split.inputs | {name: other} if name else other))
        assert len({split.fingerprint} | {other.fingerprint for other in changed}) == len(changed) + 1


def test_fingerprint_sees_the_names_of_the_parts_and_not_their_order():
    split = texts_and_pictures()
    turned = replace(split, inputs=dict(reversed(split.inputs.items())))
    renamed = replace(split, inputs={f"other_{name}": part for name, part in split.inputs.items()})
    assert turned.fingerprint == split.fingerprint != renamed.fingerprint
