"""Pictures of a split in one image, and its texts."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import HOSTILE, study_of

from tda.data.kinds import ImageKind
from tda.data.splits import Split
from tda.report.pictures import Sheet, shortened, shown_examples


def opened(sheet: Sheet) -> np.ndarray:
    head, _, content = sheet.url.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_cell_of_a_sheet_is_its_example(channels: int):
    study = study_of("image")
    pictures = torch.rand(7, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    split = Split(pictures, torch.zeros(7, dtype=torch.int64), torch.arange(7))
    task = study.task.__class__(**{**vars(study.task), "kind": ImageKind(channels, 5, (0.0,) * channels, (1.0,) * channels)})
    positions = np.array([6, 0, 3, 4])
    sheet = shown_examples(task, split, positions).sheet
    whole = opened(sheet)
    assert sheet.cell == (5, 5) and whole.shape[:2] == (sheet.rows * 5, sheet.columns * 5)
    for slot, position in enumerate(positions):
        top, left = slot // sheet.columns * 5, slot % sheet.columns * 5
        expected = np.rint(pictures[position].numpy().transpose(1, 2, 0) * 255).squeeze()
        np.testing.assert_array_equal(whole[top : top + 5, left : left + 5], expected)


def test_a_sheet_that_is_too_large_is_compressed():
    study = study_of("image")
    pictures = torch.rand(40, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    split = Split(pictures, torch.zeros(40, dtype=torch.int64), torch.arange(40))
    task = study.task.__class__(**{**vars(study.task), "kind": ImageKind(1, 64, (0.0,), (1.0,))})
    large = shown_examples(task, split, np.arange(40))
    small = shown_examples(task, split, np.arange(40), sheet_budget=120_000)
    assert large.sheet.url.startswith("data:image/png") and small.sheet.url.startswith("data:image/jpeg")
    assert len(small.sheet.url) < len(large.sheet.url)


def test_large_pictures_are_scaled_down_and_keep_their_shape():
    task = study_of("image").task
    pictures = torch.rand(2, 1, 128, 64)
    kind = ImageKind(1, 128, (0.0,), (1.0,))
    task = task.__class__(**{**vars(task), "kind": kind})
    sheet = shown_examples(task, Split(pictures, torch.zeros(2, dtype=torch.int64), torch.arange(2)), np.arange(2)).sheet
    assert sheet.cell == (32, 64) and sheet.smooth


@pytest.mark.parametrize(
    ("kind", "has_picture", "has_text"), [("image", True, False), ("text", False, True), ("both", True, True)]
)
def test_a_kind_shows_what_it_has(kind: str, has_picture: bool, has_text: bool):
    study = study_of(kind)
    shown = shown_examples(study.task, study.test, np.arange(3))
    assert (shown.sheet is not None, shown.texts is not None) == (has_picture, has_text)
    assert not has_text or shown.texts[:2] == [f"{HOSTILE[number]} and more" for number in range(2)]


def test_long_texts_are_shortened():
    assert shortened("a" * 800) == "a" * 800
    assert len(shortened("b" * 900)) == 800 and shortened("b" * 900).endswith(" …")
