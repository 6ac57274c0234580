"""Grad-Dot and Grad-Cos of a fine-tuned ViT-Base over 500 x 500 images of cifar10, against the plain published loop.

The network is ViT-Base's exact configuration (12 layers of width 768, 197 tokens, LoRA of rank 16 on queries and values).
Its weights are random, as they do not matter to time and memory, and so are the adapters' second factors, which would be zero
before fine-tuning. The plain loop computes the training gradient of every pair anew; it runs on a sample of pairs, and its time
is scaled.
Writes benchmarks/results/vit_base.json.
"""

from dataclasses import dataclass
from functools import partial

import common
import torch
from common import Outcome, contender, in_child, relative_error, repeat, rounded
from torch import Tensor, nn
from torch.utils.data import DataLoader


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    num_train: int = 500
    """Training images, of the subset of 50 per class."""
    num_test: int = 500
    """Test images."""
    sample_train: int = 5
    """Training images of the pairs that the plain loop computes."""
    sample_test: int = 2
    """Test images of the pairs that the plain loop computes."""


def write_base(folder: str) -> None:
    """ViT-Base with random weights and its image processor, as save_pretrained writes them."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    from tda.models.vit_base import silence_transformers

    silence_transformers()
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig()).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def member_and_splits(folder: str, device: str, num_train: int, num_test: int, whole_images: bool):
    """The model, and the first training and test images as it takes them: embedded tokens, or pixel values."""
    from tda.experiments.folders import Experiment
    from tda.models.fine_tuning import AdapterTuning
    from tda.models.model_state import trained_parameters
    from tda.training.study import open_study

    study = open_study(Experiment("vit", "cifar10", 50), device, AdapterTuning(base=folder, random_crop=whole_images))
    model = study.new_model().to(study.device)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trained_parameters(model).items():
        if "lora_B" in name:
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    few = study.train[:num_train], study.test[:num_test]
    return model, *(partial(study.inputs, split) for split in few)


@contender
def this_project(folder: str, device: str, num_train: int, num_test: int, sample_train: int, sample_test: int) -> Outcome:
    """Inputs, then inner products and norms of all pairs."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.system.devices import prepare_process

    prepare_process()
    model, train_inputs, test_inputs = member_and_splits(folder, device, num_train, num_test, whole_images=False)
    input_seconds, (train, test) = repeat(lambda: (train_inputs(), test_inputs()), 1, warm_up=0)
    left, right = (train.inputs, train.labels), (test.inputs, test.labels)
    seconds, kernel = repeat(lambda: gradient_kernel(model, left, right), 1, warm_up=0)
    facts = {"seconds_of_inputs": rounded(input_seconds[0]), "trained_parameters": trained_count(model)}
    if device.startswith("cuda"):
        facts["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    norms = kernel.left_norms[:sample_train, None] * kernel.right_norms[:sample_test]
    dots = kernel.cross[:sample_train, :sample_test]
    return Outcome(seconds, {"dots": as_array(dots), "cosines": as_array(dots / norms)}, facts)


@contender
def plain_loop(folder: str, device: str, sample_train: int, sample_test: int) -> Outcome:
    """The published loop over a sample of pairs."""
    import plain

    model, train_inputs, test_inputs = member_and_splits(folder, device, sample_train, sample_test, whole_images=True)
    train, test = (DataLoader(plain.in_memory(inputs())) for inputs in (train_inputs, test_inputs))
    seconds, (dots, cosines) = repeat(lambda: plain.pair_scores(model, train, test), 1, warm_up=0)
    return Outcome(seconds, {"dots": as_array(dots), "cosines": as_array(cosines)})


def trained_count(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def as_array(tensor: Tensor):
    """A numpy array on the CPU."""
    return tensor.detach().cpu().numpy()


def main(settings: Settings) -> str:
    """Measure and write the result."""
    with common.temporary_root() as root:
        folder = str(root / "vit_base")
        write_base(folder)
        sample = {"sample_train": settings.sample_train, "sample_test": settings.sample_test}
        shared = {"folder": folder, "device": settings.device} | sample
        ours = in_child("this_project", **shared, num_train=settings.num_train, num_test=settings.num_test)
        theirs = in_child("plain_loop", **shared)
    scale = settings.num_train * settings.num_test / (settings.sample_train * settings.sample_test)
    rows = [
        ours.row(f"gradient kernel, {settings.num_train} x {settings.num_test}"),
        theirs.row("plain published loop", scale, f"{settings.sample_train} x {settings.sample_test} pairs ran"),
    ]
    content = {
        "rows": rows,
        "speedup": rounded(rows[1]["seconds"] / rows[0]["seconds"], 3),
        "relative_error": {name: relative_error(ours.arrays[name], theirs.arrays[name]) for name in ("dots", "cosines")},
    }
    if max(content["relative_error"].values()) > 1e-3:
        raise RuntimeError(f"the scores disagree: {content['relative_error']}")
    return f"wrote {common.write_result('vit_base', settings.device, content, ('transformers', 'peft'))}"


if __name__ == "__main__":
    common.run(Settings, main)
