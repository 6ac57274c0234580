"""What frozen stages make of images: computed once for each block, shared by subsets, never of other images or weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tda.experiments.folders import frozen_outputs_file
from tda.models import frozen_outputs as module
from tda.models.frozen_outputs import frozen_outputs
from tda.system.errors import UserError

CPU = torch.device("cpu")
INFO = {"base_sha256": "abc", "trained": "head"}


class Counting(nn.Module):
    """Doubles images; counts those that it sees, over all its copies."""

    seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return 2 * images


@pytest.fixture(autouse=True)
def small_blocks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    Counting.seen.clear()


def outputs(images: Tensor, stages: nn.Module | None = None, **info: object) -> Tensor:
    return frozen_outputs("tiny", stages or Counting(), images, INFO | info, CPU)


def test_each_block_is_computed_once_and_a_larger_subset_takes_the_smaller_one_s(root: Path):
    images = torch.randn(10, 3, 5, 5)
    assert torch.equal(outputs(images[:8]), 2 * images[:8]) and Counting.seen == [4, 4]
    assert torch.equal(outputs(images[:8]), 2 * images[:8]) and Counting.seen == [4, 4]
    assert torch.equal(outputs(images), 2 * images) and Counting.seen == [4, 4, 2]
    assert len(list((root / "models" / "tiny" / "frozen").glob("*.safetensors"))) == 3


def test_other_images_weights_or_choices_are_computed_anew():
    images = torch.randn(4, 3, 5, 5)
    outputs(images)
    other = images.clone()
    other[3, 2, 4, 4] += 1e-6
    for changed, info in ((other, {}), (images, {"base_sha256": "abd"}), (images, {"trained": "upper"})):
        before = len(Counting.seen)
        assert torch.equal(outputs(changed, **info), 2 * changed) and len(Counting.seen) == before + 1


def test_a_damaged_or_exchanged_file_is_computed_again(root: Path):
    images = torch.randn(8, 3, 5, 5)
    expected = outputs(images)
    first, second = sorted((root / "models" / "tiny" / "frozen").glob("*.safetensors"))
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.rename(second.with_suffix(".kept"))
    assert torch.equal(outputs(images), expected) and len(Counting.seen) == 4
    second.write_bytes(first.read_bytes())
    assert torch.equal(outputs(images), expected) and len(Counting.seen) == 5


def test_a_killed_computation_goes_on_with_its_block():
    class Killed(Counting):
        def forward(self, images: Tensor) -> Tensor:
            if len(self.seen) == 1:
                raise KeyboardInterrupt
            return super().forward(images)

    images = torch.randn(8, 3, 5, 5)
    with pytest.raises(KeyboardInterrupt):
        outputs(images, Killed())
    assert torch.equal(outputs(images), 2 * images) and Counting.seen == [4, 4]


def test_what_is_not_finite_is_refused_and_not_kept(root: Path):
    with pytest.raises(UserError, match="the frozen layers of tiny give NaN or infinity; choose another --base"):
        outputs(torch.full((2, 3, 5, 5), torch.inf))
    assert not list((root / "models" / "tiny" / "frozen").glob("*.safetensors"))


def test_files_lie_below_the_model_s_folder(root: Path):
    assert frozen_outputs_file("tiny", "abc") == root / "models" / "tiny" / "frozen" / "abc.safetensors"
