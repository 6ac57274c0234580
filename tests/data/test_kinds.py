"""Kinds of input: what models are trained on, and what a person sees of it."""

import numpy as np
import pytest
import torch
from tiny_texts import LENGTH, VOCABULARY, decode, encode

from tda.data.index_files import write_subset
from tda.data.kinds import ImageKind, ImageTextKind, TextKind, normalised, shown_inputs
from tda.data.pools import Pool
from tda.data.splits import load_split
from tda.data.tasks import Task

GREY = ImageKind(channels=1, size=4, mean=(0.25,), std=(0.5,))
COLOURED = ImageKind(channels=3, size=4, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
TEXTS = TextKind(encode, decode)
BOTH = ImageTextKind(COLOURED, TEXTS)


def pictures(count: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)


@pytest.mark.parametrize("kind", [GREY, COLOURED], ids=["grey", "coloured"])
def test_pictures_are_scaled_and_normalised_by_channel(kind: ImageKind):
    images = pictures(3, kind.channels)
    found = kind.inputs(images)
    assert found.shape == (3, kind.channels, 4, 4) and found.dtype == torch.float32 and found.is_contiguous()
    for n, c, y, x in ((0, 0, 0, 0), (2, kind.channels - 1, 3, 1), (1, 0, 2, 3)):
        expected = (images[n, y, x, c] / 255 - kind.mean[c]) / kind.std[c]
        assert float(found[n, c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_one_mean_serves_all_channels():
    images = pictures(2, 3)
    assert torch.equal(normalised(images, (0.5,), (0.25,)), normalised(images, (0.5,) * 3, (0.25,) * 3))


@pytest.mark.parametrize("kind", [GREY, COLOURED], ids=["grey", "coloured"])
def test_picture_is_shown_as_it_was(kind: ImageKind):
    images = pictures(3, kind.channels)
    picture, text = shown_inputs(kind, kind.inputs(images), 1)
    assert text is None and picture.shape == ((4, 4) if kind is GREY else (4, 4, 3))
    np.testing.assert_allclose(picture, images[1, :, :, 0] / 255 if kind is GREY else images[1] / 255, atol=1e-6)
    outside, _ = kind.shown(torch.full((kind.channels, 4, 4), 99.0))
    assert (outside == 1).all() and (kind.shown(torch.full((kind.channels, 4, 4), -99.0))[0] == 0).all()


@pytest.mark.parametrize("container", [list, np.array], ids=["list", "array"])
def test_texts_are_token_ids_with_a_mask(container):
    found = TEXTS.inputs(container(["the cat sleeps", "a dog runs fast here now not"]))
    assert found.keys() == {"input_ids", "attention_mask"} and found["input_ids"].dtype == torch.int64
    words = "the cat sleeps".split(), "a dog runs fast here now".split()
    for row, mask, expected in zip(found["input_ids"], found["attention_mask"], words, strict=True):
        assert row.tolist() == [VOCABULARY[word] for word in expected] + [0] * (LENGTH - len(expected))
        assert mask.tolist() == [1] * len(expected) + [0] * (LENGTH - len(expected))
    assert shown_inputs(TEXTS, found, 0) == (None, "the cat sleeps")
    assert shown_inputs(TEXTS, found, 1) == (None, "a dog runs fast here now")


def test_pictures_with_texts_stand_beside_each_other():
    images, texts = pictures(2, 3), ["the cat", "a dog runs"]
    found = BOTH.inputs((images, texts))
    assert list(found) == ["pixel_values", "input_ids", "attention_mask"]
    assert torch.equal(found["pixel_values"], COLOURED.inputs(images))
    assert all(torch.equal(part, found[name]) for name, part in TEXTS.inputs(texts).items())
    picture, text = shown_inputs(BOTH, found, 1)
    np.testing.assert_allclose(picture, images[1] / 255, atol=1e-6)
    assert text == "a dog runs"
    assert "pixels" in ImageTextKind(COLOURED, TEXTS, "pixels").inputs((images, texts))


def test_task_of_pictures_with_texts_is_drawn_like_any_other(root):
    images, labels = pictures(12, 3), np.arange(12) % 2
    texts = np.array([f"the {word}" for word in ["cat", "dog", "bird"] * 4])
    task = Task("pairs", "pairs", (0, 1), ("even", "odd"), 1, 2, lambda part: Pool((images, texts), labels), BOTH)
    write_subset(task, "train", 3, draw_seed=0, force=False)
    split = load_split(task, "train", 3)
    assert len(split) == 6 and split.labels.tolist() == [0, 1] * 3
    for place, index in enumerate(split.indices.tolist()):
        picture, text = shown_inputs(task.kind, split.inputs, place)
        np.testing.assert_allclose(picture, images[index] / 255, atol=1e-6)
        assert text == texts[index] and split.labels[place] == index % 2
