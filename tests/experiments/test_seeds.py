"""The file of the ensemble's seeds."""

from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT, SEEDS

from tda.experiments.folders import seeds_file
from tda.experiments.seeds import load_seeds
from tda.system.errors import UserError


def test_committed_seeds_are_ten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(CHECKOUT))
    assert len(set(load_seeds())) == 10


def test_seeds_are_those_of_the_file_in_its_order(root: Path):
    assert load_seeds() == list(SEEDS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.tensor([1.0, 2.0]), "does not hold a one-dimensional LongTensor"),
        (torch.tensor([[1, 2]]), "does not hold a one-dimensional LongTensor"),
        (torch.tensor([], dtype=torch.int64), "does not hold a one-dimensional LongTensor"),
        ([1, 2], "does not hold a one-dimensional LongTensor"),
        (torch.tensor([1, 2, 1]), "holds a seed twice"),
    ],
)
def test_other_content_is_refused(root: Path, content: object, words: str):
    torch.save(content, seeds_file())
    with pytest.raises(UserError, match=words):
        load_seeds()


def test_missing_and_damaged_file_are_refused(root: Path):
    whole = seeds_file().read_bytes()
    seeds_file().write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="random_seeds.pt cannot be read"):
        load_seeds()
    seeds_file().unlink()
    with pytest.raises(UserError, match="random_seeds.pt is missing"):
        load_seeds()
