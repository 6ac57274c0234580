"""Photographs in class folders as torchvision's classifiers take them, whatever kind of file they are, with their names."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CPU
from PIL import Image
from torchvision import transforms
from torchvision.models import get_model

from tda.features.influence_maps import Pairs
from tda.features.photographs import MEAN, STD, folder_subject
from tda.features.seed_maps import PixelStatistics
from tda.features.subjects import Subject
from tda.steps.feature_attribution import pair_table
from tda.system.errors import UserError

NETWORK, SIZE = "squeezenet1_1", 32


@pytest.fixture
def folder(root: Path) -> Path:
    """Two photographs of each of two classes in both parts, of sides 40 and 60."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(2):
                path = root / "pets" / part / name / f"{number}.PNG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    torch.save(get_model(NETWORK, weights=None, num_classes=2).state_dict(), root / "network.pt")
    return root / "pets"


def subject_of(folder: Path) -> Subject:
    return folder_subject("pets", folder, NETWORK, [str(folder.parent / "network.pt")], [], SIZE, 10, CPU)


def test_photographs_are_what_torchvision_makes_of_them(folder: Path):
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train = subject_of(folder).train
    assert train.files.tolist() == ["cat/0.PNG", "cat/1.PNG", "dog/0.PNG", "dog/1.PNG"] and train.labels.tolist() == [
        0,
        0,
        1,
        1,
    ]
    for file, found in zip(train.files, train.inputs, strict=True):
        expected = transforms.Compose(steps)(Image.open(folder / "train" / file).convert("RGB"))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_photographs_of_other_kinds_are_read_as_a_person_sees_them(folder: Path):
    """Sixteen bits, transparency over a hidden colour, and a camera held upright."""
    Image.fromarray(np.full((40, 40), 257 * 100, np.uint16)).save(folder / "train" / "cat" / "0.PNG")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(folder / "train" / "cat" / "1.PNG")
    notes, half = Image.Exif(), np.zeros((40, 40), np.uint8)
    notes[0x0112], half[:20] = 6, 255
    Image.fromarray(half).save(folder / "train" / "dog" / "0.PNG", exif=notes)
    subject = subject_of(folder)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    sixteen, transparent, upright = (subject.train.inputs[:3] * std + mean) * 255
    assert (sixteen - 100).abs().max() < 1e-3 and (transparent - 255).abs().max() < 1e-3
    assert upright[:, :, :15].max() < 1 and upright[:, :, 17:].min() > 254


def test_pairs_in_the_table_bear_their_files(folder: Path):
    subject, maps = subject_of(folder), np.ones((2, 3, SIZE, SIZE), np.float32)
    pairs = Pairs(torch.tensor([3, 1]), torch.tensor([0, 2]))
    scores, predicted = np.arange(16.0).reshape(1, 4, 4), np.zeros(4, int)
    table = pair_table(subject, pairs, scores, predicted, PixelStatistics(maps, None, None), "norm")
    assert list(table.columns[:7]) == [
        "test_idx", "test_file", "test_class", "predicted", "train_idx", "train_file", "train_class",
    ]  # fmt: skip
    assert table.test_file.tolist() == ["cat/0.PNG", "dog/0.PNG"] and table.train_file.tolist() == ["dog/1.PNG", "cat/1.PNG"]


def emptied(folder: Path) -> None:
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()


def piped(folder: Path) -> None:
    (folder.parent / "network.pt").unlink()
    os.mkfifo(folder.parent / "network.pt")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (emptied, "hold different class folders"),
        (
            lambda folder: (folder / "test").rename(folder / "tests"),
            "pets/test is missing; put a folder of images for each class",
        ),
        (lambda folder: (folder / "test" / "cat" / "0.PNG").write_text("text"), "picture .*test/cat/0.PNG cannot be decoded"),
        (lambda folder: (folder / "test" / "cat" / "a.gif").touch(), "picture .*test/cat/a.gif cannot be decoded"),
        (piped, "cannot read .*network.pt: it is a pipe"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(folder: Path, prepare, words: str):
    prepare(folder)
    with pytest.raises(UserError, match=words):
        for make in subject_of(folder).seeds[0]:
            make()
